"""Logging: lines on standard error for people or machines, the last of them in memory.

The descriptor may not take a line (no room, nobody reads): no line is waited for.

Messages may hold what strangers sent, so control and bidirectional characters
are escaped before a terminal sees them. A trace never goes to standard error:
it is appended to a file beside the state, and the line names that file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
import time
import traceback
from collections import deque
from dataclasses import replace
from pathlib import Path

from control.methods import LogsParams
from control.schema import Event, LogLine, LogPage
from storage import own

RING_SIZE = 2000
"""Lines that `vpnshare logs` can look back on."""
MAX_MESSAGE = 2000
"""Characters of a message; a stranger's text cannot fill the disk in one line."""
MAX_CRASH_FILE = 256 * 1024
"""Bytes after which the crash file starts anew."""

_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_BIDI)
}


def clean(text: str) -> str:
    """`text` with what could steer a terminal escaped, and bounded."""
    return text[:MAX_MESSAGE].translate(_ESCAPES)


class Ring(logging.Handler):
    """The last lines, for the control API."""

    def __init__(self, size: int = RING_SIZE) -> None:
        super().__init__()
        self._lines: deque[tuple[int, LogLine]] = deque(maxlen=size)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._count += 1
        line = LogLine(
            record.created,
            record.levelname.lower(),
            record.name,
            clean(record.getMessage()),
            self._count,
            clean(getattr(record, "device", "")),
            clean(getattr(record, "label", "")),
        )
        self._lines.append((record.levelno, line))

    def restore(self, lines: list[LogLine]) -> None:
        """Put lines of earlier runs before those of this one; all are numbered anew."""
        with self.lock or contextlib.nullcontext():
            levels = logging.getLevelNamesMapping()
            earlier = [(levels[line.level.upper()], line) for line in lines]
            all_lines = [*earlier, *self._lines]
            self._lines.clear()
            for seq, (level, line) in enumerate(all_lines, 1):
                self._lines.append((level, replace(line, seq=seq)))
            self._count = len(all_lines)

    def page(self, params: LogsParams) -> LogPage:
        """The newest lines that are asked for, and how many of them did not fit."""
        with self.lock or contextlib.nullcontext():
            # Other threads log, too.
            kept, newest = list(self._lines), self._count
        least = logging.getLevelNamesMapping()[params.level.upper()]
        words = params.filter.casefold().split()
        found = [
            line
            for number, line in kept
            if number >= least
            and line.seq > params.after
            and matches(line, words)
            and concerns(line, params.device)
        ]
        shown = found[-params.limit :] if params.limit else []
        oldest = kept[0][1].seq if kept else newest + 1
        return LogPage(shown, len(found) - len(shown), oldest, newest)


def matches(line: LogLine, words: list[str]) -> bool:
    """Whether all words (case folded) occur in a line."""
    if not words:
        return True
    text = f"{line.level} {line.logger} {line.message}".casefold()
    return all(word in text for word in words)


def concerns(line: LogLine | Event, device: str) -> bool:
    """Whether it is about a device whose id begins so, or whose name contains it; any for ""."""
    if not device:
        return True
    wanted = device.casefold()
    return bool(line.device or line.label) and (
        (bool(line.device) and line.device.startswith(wanted)) or wanted in line.label.casefold()
    )


class CrashFile(logging.Handler):
    """Appends the traces of unexpected failures to a file that stays small."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            keep_trace(self.path, f"{record.name}: {record.getMessage()}", record.exc_info[1])


def keep_trace(path: Path, what: str, error: BaseException) -> bool:
    """Append the trace of an unexpected failure to a file; False where that cannot be."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    trace = "".join(traceback.format_exception(error))
    try:
        descriptor = own.open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, make=True)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
            if file.tell() > MAX_CRASH_FILE:
                file.truncate(0)
            file.write(f"{stamp} {what}\n{trace}\n")
    except OSError:
        return False
    return True


class _Formatter(logging.Formatter):
    def __init__(self, crash: Path | None = None) -> None:
        super().__init__()
        self._crash = crash

    def failure(self, record: logging.LogRecord) -> str | None:
        """The exception of a record in a line."""
        if not record.exc_info or record.exc_info[1] is None:
            return None
        error = record.exc_info[1]
        return clean(f"{type(error).__name__}: {error}")


class HumanFormatter(_Formatter):
    """`2026-01-31 12:00:00 warning gateway.link: message`; the date only on a file or pipe."""

    def __init__(self, crash: Path | None = None, colour: bool = False) -> None:
        super().__init__(crash)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        style = "%H:%M:%S" if self._colour else "%Y-%m-%d %H:%M:%S"
        stamp = time.strftime(style, time.localtime(record.created))
        level = record.levelname.lower()
        if self._colour and record.levelno >= logging.WARNING:
            shade = "31" if record.levelno >= logging.ERROR else "33"
            level = f"\x1b[{shade}m{level}\x1b[0m"
        line = f"{stamp} {level} {record.name}: {clean(record.getMessage())}"
        failure = self.failure(record)
        if failure is not None:
            line += f" ({failure}" + (f"; details in {self._crash})" if self._crash else ")")
        return line


class JsonFormatter(_Formatter):
    """A JSON object a line: at, level, logger, message, and error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(record.getMessage()),
        }
        failure = self.failure(record)
        if failure is not None:
            line["error"] = failure
        return json.dumps(line)


class Lines(logging.Handler):
    """A line at a time to a descriptor that may be full, closed, or read by nobody.

    It never waits, raises or keeps anything: a log is no reason to stop. Lines that the
    descriptor does not take are counted, and the next that it takes is told how many.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self._lost:
            note = logging.LogRecord(
                __name__, logging.WARNING, "", 0,
                "%d lines of this log could not be written", (self._lost,), None,
            )  # fmt: skip
            if not self._write(self.format(note)):
                self._lost += 1
                return
            self._lost = 0
        self._lost += not self._write(self.format(record))

    def _write(self, line: str) -> bool:
        text = f"{line}\n".encode("utf-8", "backslashreplace")
        if len(text) > select.PIPE_BUF:
            text = text[: select.PIPE_BUF - 1] + b"\n"
        try:
            # A pipe or terminal that is ready takes so much without waiting (pipe(7)).
            if not self._ready.poll(0)[0][1] & select.POLLOUT:
                return False
            return os.write(self._descriptor, text) == len(text)
        except (OSError, IndexError):
            return False


def set_up(level: str, style: str, crash: Path | None) -> Ring:
    """Route all logging: standard error, ring, crash file. Returns the ring."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.setLevel(level.upper())
    stream: logging.Handler
    try:
        stream = Lines(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # not a file: replaced by somebody, or closed
        stream = logging.StreamHandler(sys.stderr)
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    stream.setFormatter(JsonFormatter(crash) if style == "json" else HumanFormatter(crash, colour))
    ring = Ring()
    root.addHandler(stream)
    root.addHandler(ring)
    if crash is not None:
        root.addHandler(CrashFile(crash))
    logging.raiseExceptions = False  # a full disk under our log is no reason to print traces
    return ring
