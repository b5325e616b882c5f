"""The terminal's input: passed on at once, and no wake-up while there is none."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.processes import wait_for, wake_ups
from tui.driver import TICK, WakingEvent

APP = """
import sys
from textual.app import App
from textual import events
from tui.driver import IdleDriver

class Keys(App):
    def get_driver_class(self):
        return IdleDriver
    def on_ready(self):
        print_("ready")
    def on_key(self, event: events.Key):
        print_(event.key)
        if event.key == "q":
            self.exit()

def print_(text):
    with open(int(sys.argv[1]), "w", closefd=False) as told:
        told.write(text + "\\n")

Keys().run()
"""


class Keys:
    """An app in a terminal that tells the keys that it gets."""

    def __init__(self) -> None:
        self._near, far = pty.openpty()
        told, tell = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", APP, str(tell)],
            stdin=far, stdout=far, stderr=far, start_new_session=True, pass_fds=[tell],
            env=os.environ | {"TERM": "xterm-256color"}, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        os.close(far)
        os.close(tell)
        self._told = told
        self._lines: list[str] = []
        self._drain = threading.Thread(target=self._read, daemon=True)
        self._drain.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while os.read(self._near, 65536):
                pass

    def type(self, data: bytes) -> None:
        os.write(self._near, data)

    def next(self, seconds: float = 10) -> str:
        """What it told next."""
        until = time.monotonic() + seconds
        while not self._lines:
            left = max(0.0, until - time.monotonic())
            assert select.select([self._told], [], [], left)[0], "it told nothing"
            # Lines are short and written at once: they come whole.
            self._lines += os.read(self._told, 4096).decode().split()
        return self._lines.pop(0)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._near)
        self._drain.join(5)
        os.close(self._told)


@pytest.fixture
def keys() -> Iterator[Keys]:
    app = Keys()
    assert app.next(30) == "ready"
    yield app
    app.close()


def test_keys_are_passed_on_and_nobody_wakes_without_them(keys: Keys) -> None:
    assert wake_ups(keys.process.pid) > 0

    def is_still() -> bool:
        before = wake_ups(keys.process.pid)
        time.sleep(15 * TICK)
        return wake_ups(keys.process.pid) - before <= 2

    # Not at once: what the terminal is asked at the start has no answer.
    wait_for(is_still, "an end of looking for input that is not there", 30.0)
    keys.type(b"a")
    assert keys.next() == "a"
    keys.type(b"\x1b[A")
    assert keys.next() == "up"
    keys.type(b"q")
    assert keys.next() == "q"
    assert keys.process.wait(10) == 0


def test_a_lone_escape_is_known_by_what_does_not_follow(keys: Keys) -> None:
    keys.type(b"\x1b")
    assert keys.next() == "escape"


def test_what_is_no_text_does_not_end_it(keys: Keys) -> None:
    keys.type(b"\xff\xfe\xc3")
    keys.type("ü".encode()[:1])
    time.sleep(TICK)
    keys.type("ü".encode()[1:] + b"x")
    told = ""
    while told != "x":
        told = keys.next()
    assert keys.process.poll() is None


def test_an_event_that_wakes_those_who_wait_for_descriptors() -> None:
    event = WakingEvent()
    assert select.select([event.fileno()], [], [], 0)[0] == []
    for _ in range(3):
        event.set()
        event.set()  # once more changes nothing
        assert event.is_set()
        assert select.select([event.fileno()], [], [], 0)[0]
        event.clear()
        event.clear()
        assert select.select([event.fileno()], [], [], 0)[0] == []
