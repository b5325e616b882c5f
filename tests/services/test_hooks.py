"""The owner's program is told of each event, and can hold up, break or learn nothing by it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from control.errors import ControlError
from control.schema import Event
from services.hooks import MAX_WAITING, Hook, judged, unfit
from tests.fakes.waiting import settle

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and another user")
EVENT = Event(7, 1_753_900_000.5, 77.0, "asked", "info", "TV (r1) asks", "r1", 'TV "$(id)"')

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Make a program of Python lines; its path."""

    def write(body: str) -> str:
        program = tmp_path / "hook"
        program.write_text(f"#!{sys.executable} -I\nimport json, os, sys, time\n{body}\n")
        program.chmod(0o700)
        return str(program)

    return write


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    hook = Hook("gateway", "Pixel")
    yield hook
    await hook.stop()


def event(number: int) -> Event:
    return Event(number, 0.0, 0.0, "connected", "info", f"number {number}")


async def idle(hook: Hook) -> None:
    await settle(lambda: hook._task is not None and hook._task.done())


async def test_it_gets_the_event_as_json_and_nothing_else(
    hook: Hook, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    monkeypatch.setenv("PYTHONPATH", "/tmp/evil")
    monkeypatch.setenv("HOME", "/home/somebody")
    out = tmp_path / "out"
    hook.path = write(
        "said = json.load(sys.stdin)\n"
        f"open({str(out)!r}, 'w').write(json.dumps([said, dict(os.environ), sys.argv[1:],\n"
        " os.getcwd(), os.getsid(0) == os.getpid()]))"
    )
    hook.tell(EVENT)
    await idle(hook)
    said, environment, arguments, folder, own_session = json.loads(out.read_text())
    version = said.pop("version")
    assert version and said == {
        "role": "gateway", "name": "Pixel", "seq": 7, "at": 1_753_900_000.5, "monotonic": 77.0,
        "kind": "asked", "level": "info", "text": "TV (r1) asks", "device": "r1",
        "label": 'TV "$(id)"',
    }  # fmt: skip
    assert arguments == [] and folder == "/" and own_session
    assert environment["VPNSHARE_EVENT"] == "asked" and environment["HOME"] == "/home/somebody"
    assert not {"SECRET_TOKEN", "PYTHONPATH"} & environment.keys()
    assert (hook.state.done, hook.state.failed, hook.state.last) == (1, 0, "")


async def test_events_come_in_order_one_at_a_time(hook: Hook, write: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hook.path = write(
        "seq = json.load(sys.stdin)['seq']\n"
        f"file = open({str(out)!r}, 'a')\n"
        "file.write(f'{seq} '); file.flush(); time.sleep(0.02); file.write(f'/{seq} ')"
    )
    for number in range(4):
        hook.tell(event(number))
    await idle(hook)
    assert out.read_text() == "0 /0 1 /1 2 /2 3 /3 "


async def test_what_comes_too_fast_is_dropped_the_oldest_first(
    hook: Hook, write: Write, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    hook.path = write(f"open({str(out)!r}, 'a').write(f\"{{json.load(sys.stdin)['seq']}} \")")
    for number in range(MAX_WAITING + 10):
        hook.tell(event(number))
    assert hook.state.dropped == 10
    hook._waiting = type(hook._waiting)(list(hook._waiting)[-2:])
    await idle(hook)
    assert out.read_text() == f"{MAX_WAITING + 8} {MAX_WAITING + 9} "


async def test_one_that_hangs_is_ended_with_its_children_and_the_next_is_told(
    write: Write, tmp_path: Path
) -> None:
    hook = Hook("gateway", seconds=1.5)
    pids = tmp_path / "pids"
    hook.path = write(
        "import signal, subprocess\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}} {{child.pid}} ')\n"
        "time.sleep(1000)"
    )
    hook.tell(event(1))
    hook.tell(event(2))
    turns = 0

    def both_ended() -> bool:
        nonlocal turns
        turns += 1
        return hook.state.failed == 2

    await settle(both_ended)
    assert turns > 20, "the loop went on meanwhile"
    assert "took more than 1.5 s" in hook.state.last
    for pid in pids.read_text().split():
        await settle(partial(ended, int(pid)))
    await hook.stop()


def ended(pid: int) -> bool:
    return not alive(pid)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_services_end_is_not_held_up(hook: Hook, write: Write, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hook.path = write(f"open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(1000)")
    hook.tell(event(1))
    hook.tell(event(2))
    await settle(lambda: pids.exists() and pids.read_text())
    async with asyncio.timeout(5):
        await hook.stop()
    await settle(lambda: not alive(int(pids.read_text())))


async def test_failures_are_counted_and_told_once(
    hook: Hook, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    hook.path = write("sys.exit(3)")
    for number in range(3):
        hook.tell(event(number))
    await idle(hook)
    assert hook.state.failed == 3 and hook.state.last == f"{hook.path} ended with 3."
    assert sum("ended with 3" in record.getMessage() for record in caplog.records) == 1
    # One that reads nothing of what it is told has not failed.
    hook.path = write("")
    hook.tell(event(4))
    await idle(hook)
    assert (hook.state.done, hook.state.last) == (1, "")


async def test_a_program_that_became_unfit_is_not_run(
    hook: Hook, write: Write, tmp_path: Path
) -> None:
    hook.path = write(f"open({str(tmp_path / 'ran')!r}, 'w')")
    os.chmod(hook.path, 0o702 | 0o100)
    hook.tell(event(1))
    await idle(hook)
    assert hook.state.failed == 1 and not (tmp_path / "ran").exists()


def test_which_programs_are_fit(write: Write, tmp_path: Path) -> None:
    path = write("")
    assert unfit(path) is None and judged(path) == path and judged("") == ""
    assert "absolute" in str(unfit("hook"))
    assert "No such file" in str(unfit(str(tmp_path / "nothing")))
    assert "not a file" in str(unfit(str(tmp_path)))
    os.chmod(path, 0o600)
    if os.geteuid():
        assert "cannot be executed" in str(unfit(path))
    os.chmod(path, 0o707)
    assert "everybody" in str(unfit(path))
    with pytest.raises(ControlError, match="everybody"):
        judged(path)


@root_only
def test_what_another_user_may_change_is_not_fit(write: Write, tmp_path: Path) -> None:
    path = write("")
    os.chmod(path, 0o600)
    assert "cannot be executed" in str(unfit(path))
    os.chmod(path, 0o770)
    os.chown(path, 0, 12345)
    assert "a group" in str(unfit(path))
    os.chmod(path, 0o700)
    os.chown(path, 12345, 0)
    assert "12345" in str(unfit(path))
    os.chown(path, 0, 0)
    folder = tmp_path / "theirs"
    folder.mkdir()
    link = folder / "hook"
    link.symlink_to(path)
    assert unfit(str(link)) is None
    os.chown(folder, 12345, 0)
    assert str(folder) in str(unfit(str(link))), "the link can be led elsewhere"
