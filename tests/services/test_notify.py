"""The notification: one program at a time, the newest text, and nothing when idle."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from control import programs as programs_module
from services import notify
from services.notify import DesktopBackend, Notifier, TermuxBackend, find_backend


class FakeBackend:
    """Records what it was told to show; slow on demand."""

    def __init__(self) -> None:
        self.shown: list[str | None] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def show(self, text: str, on_stop: Callable[[], None]) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.shown.append(text)

    async def remove(self) -> None:
        self.shown.append(None)

    async def alert(self, text: str) -> None:
        if self.error is not None:
            raise self.error
        self.shown.append(f"! {text}")

    async def ask(self, text: str) -> None:
        if self.error is not None:
            raise self.error
        self.shown.append(f"? {text}")


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "INTERVAL", 0.0)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("no_pause")
async def test_a_burst_costs_two() -> None:
    backend = FakeBackend()
    notifier = Notifier(backend)
    backend.gate.clear()
    for count in range(50):
        notifier.show(f"{count} devices")
        await asyncio.sleep(0)
    backend.gate.set()
    await settle()
    assert backend.shown == ["0 devices", "49 devices"]
    notifier.show("49 devices")
    notifier.show(None)
    await settle()
    assert backend.shown == ["0 devices", "49 devices", None]
    await notifier.stop()
    assert backend.shown[-2:] == ["49 devices", None]


@pytest.mark.usefixtures("no_pause")
async def test_stop_removes_what_is_there() -> None:
    backend = FakeBackend()
    notifier = Notifier(backend)
    notifier.show("1 device")
    await settle()
    await notifier.stop()
    assert backend.shown == ["1 device", None]


@pytest.mark.usefixtures("no_pause")
async def test_it_can_be_turned_off_and_on() -> None:
    backend = FakeBackend()
    notifier = Notifier(backend)
    notifier.enable(False)
    notifier.show("1 device")
    await settle()
    assert backend.shown == []
    notifier.enable(True)
    await settle()
    notifier.enable(False)
    await settle()
    assert backend.shown == ["1 device", None]


async def test_an_alarm_is_told_whatever_else() -> None:
    backend = FakeBackend()
    notifier = Notifier(backend)
    notifier.enable(False)
    notifier.alert("it leaks")
    await settle()
    backend.error = TimeoutError()
    notifier.alert("again")
    await settle()
    assert backend.shown == ["! it leaks"]


@pytest.mark.usefixtures("no_pause")
async def test_a_device_that_asks_is_told_unless_the_owner_will_not_hear_it() -> None:
    backend = FakeBackend()
    notifier = Notifier(backend)
    for name in ("TV", "Tablet", "Laptop"):
        notifier.ask(f"{name} asks")
    await settle()
    backend.error = OSError("no")
    notifier.ask("nobody hears it")
    await settle()
    backend.error = None
    notifier.ask("TV asks again")
    await settle()
    notifier.requests = False
    notifier.ask("unheard")
    await settle()
    await notifier.stop()
    assert backend.shown == ["? Laptop asks", "? TV asks again"]


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("error", [OSError("no"), TimeoutError()])
async def test_a_backend_that_fails_is_not_asked_again(error: Exception) -> None:
    backend = FakeBackend()
    backend.error = error
    notifier = Notifier(backend)
    notifier.show("1 device")
    await settle()
    backend.error = None
    notifier.show("2 devices")
    await settle()
    await notifier.stop()
    assert backend.shown == []


def program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


async def test_termux(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The button's command runs in an empty environment and reaches this instance."""
    monkeypatch.setenv("PREFIX", "/data/data/com.termux/files/usr")
    monkeypatch.setenv("VPNSHARE_HOME", str(tmp_path))
    log = tmp_path / "log"
    assert find_backend() is None
    program(programs, "termux-notification", f'printf "%s\\n" "$@" >>{log}')
    program(programs, "termux-notification-remove", f"echo removed $1 >>{log}")
    backend = find_backend()
    assert isinstance(backend, TermuxBackend)
    await backend.show("2 devices connected", lambda: None)
    lines = log.read_text().splitlines()
    assert "--ongoing" in lines and "2 devices connected" in lines
    button = lines[lines.index("--button1-action") + 1]
    child = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", button, env={}, cwd="/", stderr=subprocess.PIPE
    )
    _, said = await child.communicate()
    assert "The gateway service is not running." in said.decode()
    await backend.remove()
    assert log.read_text().endswith("removed vpnshare\n")
    await backend.alert("it leaks")
    lines = log.read_text().splitlines()
    assert "vpnshare-alarm" in lines and lines[-1] == "it leaks"
    await backend.ask("TV asks")
    lines = log.read_text().splitlines()
    assert "vpnshare-request" in lines and lines[-1] == "TV asks"


async def test_a_strangers_name_is_no_markup_on_a_desktop(programs: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    program(programs, "notify-send", f'printf "%s\\n" "$@" >>{log}')
    await DesktopBackend().ask('<a href="x">TV</a> & co asks')
    assert (
        log.read_text().splitlines()[-1] == "&lt;a href=&quot;x&quot;&gt;TV&lt;/a&gt; &amp; co asks"
    )


async def test_a_program_that_hangs_is_ended(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs_module, "TIMEOUT", 0.2)
    program(programs, "termux-notification", "exec sleep 600")
    with pytest.raises(TimeoutError):
        await TermuxBackend().show("text", lambda: None)


async def test_desktop(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_backend() is None, "no desktop session"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    monkeypatch.setenv("DISPLAY", ":0")
    fifo = tmp_path / "button"
    log = tmp_path / "log"
    program(
        programs,
        "notify-send",
        f'echo "$*" >>{log}; echo 7; case "$*" in *stop=Stop*) exec cat {fifo};; esac',
    )
    os.mkfifo(fifo)
    backend = find_backend()
    assert isinstance(backend, DesktopBackend)
    pressed = asyncio.Event()
    await backend.show("1 device", pressed.set)
    await backend.show("2 devices", pressed.set)
    assert "--replace-id=7" in log.read_text().splitlines()[1]
    await asyncio.to_thread(fifo.write_text, "stop\n")
    await asyncio.wait_for(pressed.wait(), 10)
    await backend.remove()
    assert "Sharing has stopped." in log.read_text()
