"""What happened, kept: the events of a service, for the console, the log and hooks.

Theory of operation. The gateway or the client tells each thing that happens; here it gets its
number and its times, becomes a line in the log, and is kept in a ring in memory, which is what
the control API reads. A file beside the state keeps the same over a restart: a line of JSON for
each event, appended, and written anew from the ring once it has grown to twice that. The file
is no book of account: a line that cannot be written is counted and not waited for, and one that
cannot be read is left out. Texts come in clean from the gateway and the client; they are bounded
and cleaned once more here, because the file may have been written by anybody.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from control.codec import CodecError, from_json, to_json
from control.events import KINDS
from control.methods import MAX_EVENTS, EventsParams
from control.schema import Event, EventPage, LogLine
from eventloop.clock import SYSTEM, Clock
from sealing.happenings import Event as Happened
from services.logs import clean, concerns
from storage import own

_log = logging.getLogger(__name__)

MAX_FILE = 1 << 20
"""Bytes of the file that are read, and the size at which it is written anew: twice a full ring
of ordinary events."""
MAX_TEXT = 400
MAX_LABEL = 64
"""Characters of an event's text, and of its other parts."""


class EventBook:
    """The latest events of one service."""

    def __init__(self, path: Path | None, logger: str, clock: Clock = SYSTEM) -> None:
        """`path`: the file, or None for none; `logger`: in whose name the log's lines are."""
        self.on_event: Callable[[Event], None] = lambda event: None
        """Told each event, after it was noted; for news, hooks and notifications."""
        self.unwritten = 0
        """Events that the file did not take."""
        self._path = path
        self._logger = logging.getLogger(logger)
        self._clock = clock
        self._events: deque[Event] = deque(_read(path), maxlen=MAX_EVENTS)
        self._began = self._events[-1].seq if self._events else 0
        self._count = self._began
        # The file may be longer than the ring, or have lines that cannot be read.
        self._size = 0
        self._rewrite()

    def note(self, happened: Happened) -> None:
        """Something has happened."""
        self._count += 1
        event = Event(
            self._count,
            round(self._clock.wall(), 3),
            round(self._clock.now(), 3),
            happened.kind[:MAX_LABEL],
            KINDS[happened.kind].level,
            clean(happened.text)[:MAX_TEXT],
            clean(happened.device)[:MAX_LABEL],
            clean(happened.label)[:MAX_LABEL],
        )
        self._events.append(event)
        self._append(event)
        extra = {"device": event.device, "label": event.label}
        level = logging.getLevelNamesMapping()[event.level.upper()]
        self._logger.log(level, "%s", event.text, extra=extra)
        self.on_event(event)

    def page(self, params: EventsParams) -> EventPage:
        """The newest of those that are asked for."""
        found = [
            event
            for event in self._events
            if event.seq > params.after and concerns(event, params.device)
        ]
        return EventPage(found[-params.limit :] if params.limit else [], self._count, self._began)

    def lines(self) -> list[LogLine]:
        """What happened before this run, as lines of the log."""
        return [
            LogLine(e.at, e.level, self._logger.name, e.text, 0, e.device, e.label)
            for e in self._events
            if e.seq <= self._began
        ]

    def _append(self, event: Event) -> None:
        if self._path is None:
            return
        data = _line(event)
        if self._size + len(data) > MAX_FILE:
            self._rewrite()
            return
        try:
            descriptor = own.open_own(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError("it took a part only")
            finally:
                os.close(descriptor)
            self._size += len(data)
        except OSError as error:
            self._lost(error)

    def _rewrite(self) -> None:
        """Have the file hold what the ring holds."""
        if self._path is None or not self._events:
            return
        data = b"".join(map(_line, self._events))
        try:
            own.replace(self._path, data, own.FILE_MODE)
        except OSError as error:
            self._lost(error)
        self._size = len(data)

    def _lost(self, error: OSError) -> None:
        self.unwritten += 1
        if self.unwritten == 1:
            _log.warning("events are not kept over a restart: %s", error.strerror or error)


def _line(event: Event) -> bytes:
    return json.dumps(to_json(event), separators=(",", ":")).encode() + b"\n"


def _read(path: Path | None) -> list[Event]:
    """The events that a file holds, in order; what cannot be read is left out."""
    if path is None:
        return []
    try:
        data = own.read(path, 2 * MAX_FILE)
    except OSError:
        return []
    found: list[Event] = []
    for line in data.splitlines():
        with contextlib.suppress(CodecError, ValueError, RecursionError):
            event: Event = from_json(Event, json.loads(line))
            after = found[-1].seq if found else 0
            # The lines go to a terminal, and their levels into the log.
            if event.kind in KINDS and event.level == KINDS[event.kind].level and event.seq > after:
                bounded = [event.text[:MAX_TEXT], event.device[:MAX_LABEL], event.label[:MAX_LABEL]]
                text, device, label = map(clean, bounded)
                found.append(
                    Event(event.seq, event.at, event.monotonic, event.kind, event.level,
                          text, device, label)
                )  # fmt: skip
    return found
