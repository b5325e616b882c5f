"""Textual's terminal driver with an input thread that sleeps until there is input.

Textual 8.2.8 looks ten times a second whether it shall end: on a phone that is
ten wake-ups a second for a console that nobody touches. This one waits for the
terminal and for a pipe that is written to when it shall end. After input it
looks on for a while, since a lone Escape is known by what does not follow it.

The package pins the Textual it was written for.
"""

from __future__ import annotations

import codecs
import os
import select
import time
from threading import Event
from typing import Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

TICK = 0.1
"""Seconds between two looks for a sequence that was not finished."""
SETTLED = 0.5
"""Seconds after the last input when no sequence can be unfinished any more."""
CHUNK = 4096
"""Bytes read at once."""


class WakingEvent(Event):
    """An event that one can wait for together with descriptors: `fileno` is readable while set."""

    def __init__(self) -> None:
        super().__init__()
        self._reader, self._writer = os.pipe()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._reader

    def set(self) -> None:
        if not self.is_set():
            super().set()
            os.write(self._writer, b"!")

    def clear(self) -> None:
        if self.is_set():
            super().clear()
            os.read(self._reader, 1)


class IdleDriver(LinuxDriver):
    """The driver; what it does with input is Textual's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ending = WakingEvent()
        self.exit_event = self._ending

    def run_input_thread(self) -> None:
        """Pass input on until the driver shall end, or the terminal has ended."""
        parser = XTermParser(self._debug)
        # What is no UTF-8 is nothing that somebody typed; it must not end the console.
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        settled = 0.0
        while True:
            timeout = TICK if time.monotonic() < settled else None
            ready, _, _ = select.select([self.fileno, self._ending.fileno()], [], [], timeout)
            if self._ending.is_set():
                return
            if ready:
                try:
                    data = os.read(self.fileno, CHUNK)
                except OSError:
                    return
                if not data:
                    return
                settled = time.monotonic() + SETTLED
                if text := decode(data):
                    for event in parser.feed(text):
                        self.process_message(event)
            for event in parser.tick():
                self.process_message(event)
