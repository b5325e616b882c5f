"""The wake lock: taken while wanted, let go after, and never waited for in vain."""

from __future__ import annotations

from pathlib import Path

import pytest

from control import programs
from services.wake import LOCK, UNLOCK, WakeLock


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (LOCK, UNLOCK):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/log\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    (tmp_path / "log").touch()
    return tmp_path / "log"


def said(log: Path) -> list[str]:
    return log.read_text().split()


async def settle(wake: WakeLock) -> None:
    while wake._task is not None:
        await wake._task


async def test_held_while_wanted(log: Path) -> None:
    wake = WakeLock(True)
    assert wake.state == "free"
    wake.want(True)
    wake.want(True)
    await settle(wake)
    assert wake.state == "held"
    wake.enable(False)
    await settle(wake)
    assert wake.state == "free"
    wake.enable(True)
    await settle(wake)
    await wake.stop()
    assert said(log) == [LOCK, UNLOCK, LOCK, UNLOCK]


async def test_a_change_of_mind_while_the_program_runs(log: Path) -> None:
    wake = WakeLock(True)
    wake.want(True)
    wake.want(False)
    await settle(wake)
    assert wake.state == "free" and said(log) == []


async def test_elsewhere_nothing_is_run(log: Path) -> None:
    wake = WakeLock(False)
    wake.want(True)
    await wake.stop()
    assert wake.state == "none" and said(log) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("exec sleep 600", "termux-wake-lock does not answer"),
        ("exit 3", "termux-wake-lock ended with 3"),
    ],
)
async def test_what_is_wrong_is_said(
    log: Path, monkeypatch: pytest.MonkeyPatch, body: str, problem: str
) -> None:
    monkeypatch.setattr(programs, "TIMEOUT", 0.2)
    (log.parent / "bin" / LOCK).write_text(f"#!/bin/sh\n{body}\n")
    wake = WakeLock(True)
    wake.want(True)
    await settle(wake)
    assert wake.state == problem


async def test_a_missing_program_is_named(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(log.parent / "empty"))
    wake = WakeLock(True)
    wake.want(True)
    await settle(wake)
    assert wake.state == f"{LOCK} is missing"
