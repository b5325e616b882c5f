"""The undo journal: every change to the host is written down, with its inverse, before it is made.

Theory of operation. The file holds one JSON object a line, `{"kind": ...}`
plus what that kind's undo function needs. `record` returns only when the
line is on the disk, so a change that was made is always in the file; a line
whose change was not made is harmless, because undoing is idempotent. Undoing
runs from the last line to the first and removes the file; what could not be
undone stays in it for the next try. The same is done at start, for what a
killed process left behind.

The file says what root shall do, so it is believed only if it belongs to us
and nobody else may write it, and every undo function checks its fields.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from client.model import ClientError
from storage import own

log = logging.getLogger(__name__)

MAX_JOURNAL_BYTES = 1 << 20
"""A run writes a few hundred bytes; a file beyond this is not ours."""

Undo = Callable[[Mapping[str, Any]], None]
"""Reverses one change; no error when there is nothing to reverse; else raises ClientError."""


class Journal:
    """The changes not yet undone, durable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._undo: dict[str, Undo] = {}

    def register(self, kind: str, undo: Undo) -> None:
        """Say how entries of `kind` are undone."""
        self._undo[kind] = undo

    def record(self, kind: str, **fields: Any) -> None:
        """Write an entry down, durably. Raises ClientError `journal_unwritable`."""
        if kind not in self._undo:
            raise ValueError(f"no undo for {kind}")
        line = json.dumps({"kind": kind, **fields}) + "\n"
        try:
            fd = own.open_own(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, make=True)
            try:
                self._check_owner(os.fstat(fd))
                os.write(fd, line.encode())
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise ClientError(
                "journal_unwritable",
                f"The undo journal {self.path} cannot be written: {error.strerror}.",
                "Without it, changes to this system could not be undone after a crash; "
                "make its folder writable.",
            ) from error

    def entries(self) -> list[dict[str, Any]]:
        """What is recorded and not undone, in the order of the changes."""
        try:
            fd = own.open_own(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ClientError(
                "journal_unreadable",
                f"The undo journal {self.path} cannot be read: {error.strerror}.",
            ) from error
        with os.fdopen(fd, "rb") as file:
            self._check_owner(os.fstat(file.fileno()))
            text = file.read(MAX_JOURNAL_BYTES + 1)
        if len(text) > MAX_JOURNAL_BYTES:
            raise ClientError(
                "journal_unreadable", f"The undo journal {self.path} is not ours: it is too long."
            )
        return [entry for line in text.splitlines() if (entry := self._parse(line)) is not None]

    def undo_all(self, only: Collection[str] | None = None) -> list[ClientError]:
        """Undo the recorded changes (of the kinds in `only`), last first.

        What failed is returned and stays recorded.
        """
        failures: list[ClientError] = []
        kept: list[dict[str, Any]] = []
        for entry in reversed(self.entries()):
            kind = entry["kind"]
            try:
                if only is None or kind in only:
                    self._undo[kind](entry)
                    continue
            except ClientError as error:
                log.warning("not undone, will be tried again: %s: %s", kind, error)
                failures.append(error)
            kept.append(entry)
        self._rewrite(list(reversed(kept)))
        return failures

    def _rewrite(self, entries: list[dict[str, Any]]) -> None:
        if not entries:
            self.path.unlink(missing_ok=True)
            return
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        own.replace(self.path, lines.encode())

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        """An entry, or None for a torn line (its change was not made) or an unknown kind."""
        try:
            entry = json.loads(line)
        except ValueError:
            log.warning("the undo journal has a torn line; it is skipped")
            return None
        if isinstance(entry, dict) and entry.get("kind") in self._undo:
            return entry
        log.warning("the undo journal has an unknown entry; it is skipped")
        return None

    def _check_owner(self, status: os.stat_result) -> None:
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
            raise ClientError(
                "journal_unsafe",
                f"The undo journal {self.path} could have been written by someone else.",
                "Look at it, undo by hand what it lists, and remove it.",
            )
