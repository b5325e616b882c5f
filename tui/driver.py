"""Textual's terminal driver with an input thread that sleeps until there is input.

Textual 8.2.8 looks ten times a second whether it shall end: on a phone that is
ten wake-ups a second for a console that nobody touches. This one waits for the
terminal and for a pipe that is written to when it shall end. After input it
looks on for a while, since a lone Escape is known by what does not follow it.

What is shown leaves by a thread of our own. Textual's would end at the first
write that fails, and the console would then wait for ever for room in its queue;
a terminal that takes nothing (a link that has died under it) must hold up neither
SIGTERM nor the end.

The package pins the Textual it was written for.
"""

from __future__ import annotations

import codecs
import os
import select
import sys
import time
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Any, TextIO

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

from control.encoding import REPLACING
from tui import terminal

TICK = 0.1
"""Seconds between two looks for a sequence that was not finished."""
SETTLED = 0.5
"""Seconds after the last input when no sequence can be unfinished any more."""
CHUNK = 4096
"""Bytes read at once."""
MAX_WAITING = 30
"""Texts that wait for the terminal; who has one more to show waits, too."""
GRACE = 1.0
"""Seconds a terminal that takes nothing is waited for when the console ends."""


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


class Writer(Thread):
    """Writes to the terminal, in order, what it is given.

    Past a write that failed everything is swallowed. Texts are encoded for the locale:
    what its encoding does not have is replaced.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(daemon=True, name="console-output")
        self._descriptor = file.fileno()
        self._encoding = file.encoding or "utf-8"
        self._texts: SimpleQueue[str | None] = SimpleQueue()
        self._room = Semaphore(MAX_WAITING)
        self._lost = False

    def write(self, text: str) -> None:
        """Have `text` written; wait for room, unless the console is to end."""
        while not self._lost and not self._room.acquire(timeout=TICK):
            self._lost = terminal.terminated()
        if not self._lost:
            self._texts.put(text)

    def run(self) -> None:
        """Write until told to stop."""
        while (text := self._texts.get()) is not None:
            data = text.encode(self._encoding, REPLACING)
            try:
                while data and not self._lost:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                self._lost = True
            self._room.release()

    def stop(self) -> None:
        """Wait until all is written, but not for a terminal that takes nothing."""
        self._texts.put(None)
        self.join(GRACE)
        self._lost = True


class IdleDriver(LinuxDriver):
    """The driver; what it does with input is Textual's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._writer: Writer | None = None
        self._ending = WakingEvent()
        self.exit_event = self._ending

    def start_application_mode(self) -> None:
        assert sys.__stdout__ is not None
        # Standard output, as every other command: errors may be kept apart from it.
        self._writer = Writer(sys.__stdout__)
        self._writer.start()
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def write(self, data: str) -> None:
        if self._writer is not None:
            self._writer.write(data)

    def close(self) -> None:
        super().close()
        if self._writer is not None:
            self._writer.stop()

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
