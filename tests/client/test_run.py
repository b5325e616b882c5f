"""The system's tools: found, run, and what is wrong with them said."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.system.run import CommandError, SystemRunner, find_program

BUSYBOX = """BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) multi-call binary.

Usage: ip [OPTIONS] address|route|link|tunnel|neigh|rule [ARGS]

OPTIONS := -f[amily] inet|inet6|link | -o[neline]
"""
"""What it says to `ip -j`, and to `ip -batch -`, as captured."""


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("argv", [["ip", "-4", "-j", "rule", "show"], ["ip", "-4", "-batch", "-"]])
def test_the_ip_of_busybox_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    program(tmp_path / "busybox", f"cat >&2 <<'END'\n{BUSYBOX}END\nexit 1")
    (tmp_path / "ip").symlink_to("busybox")
    runner = SystemRunner()
    monkeypatch.setattr(runner, "_environment", {"PATH": f"{tmp_path}:/bin", "LC_ALL": "C"})
    monkeypatch.setattr(runner, "which", lambda _: str(tmp_path / "ip"))
    with pytest.raises(CommandError) as caught:
        runner.run(argv, "rule add pref 1 table 7\n")
    assert caught.value.name == "tool_unsuitable"
    assert "BusyBox" in caught.value.message and "iproute2" in caught.value.hint


def test_a_whole_program_goes_before_busyboxs(tmp_path: Path) -> None:
    small, whole = tmp_path / "small", tmp_path / "whole"
    program(small / "busybox", "exit 1")
    (small / "ip").symlink_to("busybox")
    (small / "nft").symlink_to("busybox")
    program(whole / "ip", "exit 0")
    path = f"{small}::{whole}"
    assert find_program("ip", path) == str(whole / "ip")
    assert find_program("nft", path) == str(small / "nft")
    assert find_program("resolvectl", path) is None
