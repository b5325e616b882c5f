"""A package that is missing is got by a command that reaches the program's own Python."""

from __future__ import annotations

import ast
import os
import shlex
import sys
from pathlib import Path

import pytest

from cli.main import main
from control import lacking
from control.exits import Exit
from reach import mdns
from services.trust import rooms

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_is_of_this_very_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(sys.prefix).st_uid)
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert shlex.split(lacking.install("x")) == [sys.executable, "-m", "pip", "install", "x"]
    monkeypatch.setattr(sys, "executable", "/my apps/python")
    assert lacking.install("x") == "'/my apps/python' -m pip install x"


def test_roots_environment_is_changed_by_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "prefix", "/")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert lacking.install("x").startswith("sudo ")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1000")
    assert lacking.install("x").startswith("sudo "), "whoever reads it came by sudo"
    monkeypatch.delenv("SUDO_UID")
    assert not lacking.install("x").startswith("sudo ")


def test_termux_has_packages_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFIX", "/data/data/com.termux/files/usr")
    assert lacking.install("cryptography") == "pkg install python-cryptography"
    assert lacking.install("qrcode").endswith("-m pip install qrcode")


def test_what_discovery_lacks_is_told_and_nothing_that_was_not_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.discovering.own_addresses", lambda: ["192.0.2.1"])
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with pytest.raises(mdns.DiscoveryUnavailable, match="needs the package zeroconf"):
        mdns.load()
    assert main(["discover", "--seconds", "0.1"]) == Exit.FAILED
    out, err = capsys.readouterr()
    assert lacking.install("zeroconf") in err
    assert "No gateway" not in out + err


def test_nobody_gives_another_advice() -> None:
    """A bare `pip install` goes to another Python, and fails on the distributions' own."""
    for room in rooms(ROOT):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    bare = "pip install" in node.value and path.name != "lacking.py"
                    assert not bare, f"{path}:{node.lineno}: use control.lacking"
