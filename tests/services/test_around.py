"""Paths, logs, readiness: the small things around the services."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from control import paths
from control.methods import LogsParams
from services import logs, readiness


@pytest.mark.parametrize(
    ("env", "uid", "config", "socket_path"),
    [
        ({"VPNSHARE_HOME": "/h"}, 1000, "/h/config.toml", "/h/gateway.sock"),
        (
            {"PREFIX": "/data/data/com.termux/files/usr"}, 1000,
            "/data/data/com.termux/files/usr/etc/vpnshare/config.toml",
            "/data/data/com.termux/files/usr/var/run/vpnshare/gateway.sock",
        ),
        ({}, 0, "/etc/vpnshare/config.toml", "/run/vpnshare/gateway.sock"),
        (
            {"HOME": "/home/u"}, 1000, "/home/u/.config/vpnshare/config.toml",
            "/home/u/.local/state/vpnshare/run/gateway.sock",
        ),
        (
            {"HOME": "/home/u", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/run/user/1000"},
            1000, "/c/vpnshare/config.toml", "/run/user/1000/vpnshare/gateway.sock",
        ),
        (
            {"HOME": "/home/u", "XDG_CONFIG_HOME": "relative"}, 1000,
            "/home/u/.config/vpnshare/config.toml",
            "/home/u/.local/state/vpnshare/run/gateway.sock",
        ),
        (
            {"RUNTIME_DIRECTORY": "/run/vpnshare-tv:/run/other"}, 0,
            "/etc/vpnshare/config.toml", "/run/vpnshare-tv/gateway.sock",
        ),
    ],
)  # fmt: skip
def test_paths(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], uid: int, config: str, socket_path: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    found = paths.find(env)
    assert (str(found.config), str(found.socket("gateway"))) == (config, socket_path)


def test_folders_are_private(tmp_path: Path) -> None:
    place = paths.find({"VPNSHARE_HOME": str(tmp_path / "a" / "b")})
    place.make()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def record(message: str, level: int = logging.INFO, error: bool = False) -> logging.LogRecord:
    info = None
    if error:
        try:
            raise ValueError("secret\x1b[2J details")
        except ValueError:
            info = sys.exc_info()
    return logging.LogRecord("gateway.link", level, "f.py", 1, message, None, info)


def test_what_strangers_sent_cannot_steer_the_terminal() -> None:
    text = logs.HumanFormatter().format(record("hello \x1b[2J\u202e\n\x9b5i" + "x" * 9999))
    assert text.isprintable() and len(text) < 2200
    assert "\\x1b[2J\\u202e\\x0a" in text


def test_json_lines() -> None:
    text = logs.JsonFormatter().format(record("a\nb", logging.ERROR, error=True))
    line = json.loads(text)
    assert line["level"] == "error" and line["message"] == "a\\x0ab"
    assert line["error"].startswith("ValueError: secret") and "\n" not in text


def test_the_ring_keeps_the_last_lines() -> None:
    ring = logs.Ring(3)
    for number in range(5):
        ring.handle(record(f"line {number}", logging.INFO if number % 2 else logging.WARNING))

    def shown(**params: Any) -> tuple[list[str], int]:
        page = ring.page(LogsParams(**params))
        assert (page.oldest, page.newest) == (3, 5)
        return [line.message for line in page.lines], page.left_out

    assert shown() == (["line 2", "line 3", "line 4"], 0)
    assert shown(limit=1) == (["line 4"], 2)
    assert shown(level="warning") == (["line 2", "line 4"], 0)
    assert shown(limit=0) == ([], 3)
    assert shown(after=4) == (["line 4"], 0)
    assert shown(after=9) == ([], 0)
    assert shown(filter="LINE 3 info") == (["line 3"], 0)
    assert [line.seq for line in ring.page(LogsParams()).lines] == [3, 4, 5]


def test_an_empty_ring() -> None:
    page = logs.Ring(3).page(LogsParams())
    assert (page.lines, page.left_out, page.oldest, page.newest) == ([], 0, 1, 0)


def test_traces_go_to_the_crash_file_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "gateway.crash.log"
    handler = logs.CrashFile(path)
    handler.handle(record("fine"))
    assert not path.exists()
    handler.handle(record("broken", error=True))
    assert "Traceback" in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    shown = logs.HumanFormatter(path).format(record("broken", error=True))
    assert "Traceback" not in shown and str(path) in shown
    path.write_bytes(b"x" * (logs.MAX_CRASH_FILE + 1))
    handler.handle(record("again", error=True))
    assert path.stat().st_size < 4096
    logs.CrashFile(tmp_path / "nowhere" / "x").handle(record("broken", error=True))


def lines(descriptor: int) -> logs.Lines:
    handler = logs.Lines(descriptor)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


def test_a_log_that_nobody_reads_is_not_waited_for() -> None:
    reader, writer = os.pipe()
    handler = lines(writer)
    for _ in range(200):
        handler.handle(record("x" * 1000))
    kept = os.read(reader, 1 << 20)
    assert set(kept.split(b"\n")) == {b"x" * 1000, b""}
    handler.handle(record("again"))
    lost = 200 - kept.count(b"\n")
    told = f"{lost} lines of this log could not be written\nagain\n"
    assert lost > 100 and os.read(reader, 1 << 20).decode() == told
    handler.handle(record("y" * 9000))
    assert len(os.read(reader, 1 << 20)) == select.PIPE_BUF
    os.close(reader)
    handler.handle(record("nobody is there"))
    os.close(writer)
    handler.handle(record("closed"))


def test_a_log_without_room_is_no_failure() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        handler = lines(full.fileno())
        for _ in range(3):
            handler.handle(record("x"))
        assert handler._lost == 3


@pytest.mark.parametrize("abstract", [False, True])
def test_sd_notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@vpnshare-test-{tmp_path.name}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        readiness.notify("READY=1", "STATUS=fine")
        assert manager.recv(100) == b"READY=1\nSTATUS=fine"
    readiness.notify("STOPPING=1")  # nobody listens: no error
