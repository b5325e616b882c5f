"""The console's own settings, followed in the file while a console is open.

Whoever changes `config.toml` (the console itself, `vpnshare set`, a service, an
editor) writes a file; a look at its time and size, once a second, costs nothing
and misses nobody. A file that cannot be read as it should is told of once, and
the settings stay as they were: an editor may be in the middle of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from control.changes import Changes
from services.config import SETTINGS, Config, ConfigError, load
from services.settings import record

_CONSOLE = [setting for setting in SETTINGS if setting.section == "console"]


class ConsoleSettings:
    """Reads one file, and then watches it."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigError`."""
        self._path = path
        self._seen = self._mark()
        self.config: Config = load(path)
        """All settings as the file has them."""

    def look(self) -> Changes:
        """What has changed since the last look."""
        mark = self._mark()
        if mark == self._seen:
            return Changes()
        self._seen = mark
        try:
            config = load(self._path)
        except ConfigError as exc:
            return Changes(problem=str(exc))
        before, self.config = self.config, config
        changed = []
        for setting in _CONSOLE:
            place = setting.section, setting.key
            if config[place] != before[place]:
                source = "file" if place in config.given else "default"
                changed.append(record(setting, config[place], source))
        return Changes(tuple(changed))

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
