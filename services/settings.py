"""Settings as a running service shows and changes them.

A change is checked, applied, and then written into `config.toml` by way of the ledger:
what the owner wants is in force whatever the disk says, and what could not be written
waits there and is told. What cannot be applied (an address that cannot be listened on) is
not written.
Comments and order in the file stay as their owner wrote them. An option of the
command line goes before the file until the setting is changed here: then the
owner's latest word counts.

What cannot change live waits for the next start, and is shown as pending.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control import schema as s
from control.errors import Code, ControlError
from control.methods import SetParams
from control.paths import WHOLE
from services import config as conf
from services.config import SECTIONS, Between, Config, ConfigError, OneOf, Setting
from services.ledger import Ledger, Unwritable
from services.room import refusal
from storage import own

if TYPE_CHECKING:
    from gateway.vpn.snapshot import Interface

_TRUE = frozenset({"true", "on", "yes", "1"})
_FALSE = frozenset({"false", "off", "no", "0"})

Place = tuple[str, str]
Apply = Callable[[Config, Place], None]
"""Make the running service follow: all settings as they are now, and which one is new.

Raises `ControlError` when it cannot, and has changed nothing then."""


class Settings:
    """The settings of one running service."""

    def __init__(
        self,
        role: str,
        path: Path,
        config: Config,
        options: Mapping[Place, Any] | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """`config` is the file's; `options` are those of the command line, which go before it."""
        self._ledger = Ledger() if ledger is None else ledger
        self.apply: Apply = lambda config, place: None
        self._path = path
        self._file = dict(config.given)
        self._options = dict(options or {})
        # A console is a person's, and reads that person's file: not that of a service for many.
        sections = [each for each in SECTIONS[role] if each != "console" or path != WHOLE.config]
        self._settings = [each for each in conf.SETTINGS if each.section in sections]
        self.interfaces: Callable[[], Sequence[Interface]] = _look
        """Looks which ones this host has now."""
        self._started = self.config
        """What the service began with: settings that are not live are still like this."""

    @property
    def config(self) -> Config:
        """File and options together."""
        return Config(self._file | self._options)

    def read(self) -> list[s.Setting]:
        """All settings of this service."""
        config = self.config
        return [self._record(setting, config) for setting in self._settings]

    def set(self, params: SetParams) -> s.Setting:
        """Change one: check, apply, write. Raises `ControlError`."""
        try:
            setting = conf.find(params.key)
        except ConfigError as exc:
            raise ControlError(Code.NOT_FOUND, str(exc), "See: vpnshare settings") from None
        if setting not in self._settings:
            raise ControlError(Code.NOT_FOUND, f"{setting.name} is a setting of the other service.")
        place = setting.section, setting.key
        before = self._file, self._options
        value = None if params.value is None else accept(setting, params.value)
        _changed(self._path, setting, value)  # a file that cannot be changed is said now
        self._file = {name: old for name, old in self._file.items() if name != place}
        if value is not None:
            self._file[place] = value
        self._options = {name: old for name, old in self._options.items() if name != place}
        config = self.config
        if setting.live:
            try:
                self.apply(config, place)
            except ControlError:
                self._file, self._options = before
                raise
        self._ledger.put(
            (self._path, setting.name),
            f"the setting {setting.name}",
            self._path,
            partial(self._write, setting),
        )
        waiting = [each for each in self._ledger.unwritten if each.place == self._path]
        told = [s.Unwritten(each.sentence, each.fix) for each in waiting]
        return replace(self._record(setting, config), unwritten=told)

    def _write(self, setting: Setting) -> None:
        """Have the file agree. Raises `Unwritable`."""
        value = self._file.get((setting.section, setting.key))
        try:
            text, changed = _changed(self._path, setting, value)
            if changed != text:
                _replace(self._path, changed, setting.secret)
        except OSError as exc:
            raise Unwritable(*refusal(exc, self._path)) from exc
        except ControlError as exc:
            raise Unwritable(exc.message, exc.hint or "Mend the file.") from exc

    def _record(self, setting: Setting, config: Config) -> s.Setting:
        place = setting.section, setting.key
        value = config[place]
        given = "option" if place in self._options else "file" if place in self._file else "default"
        pending = not setting.live and value != self._started[place]
        return told(record(setting, value, given, pending), self.interfaces)


def _look() -> Sequence[Interface]:
    from services.interfaces import look

    return look()


def told(setting: s.Setting, look: Callable[[], Sequence[Interface]] = _look) -> s.Setting:
    """With what is there to be named, and what is to be known of a name that is not there."""
    if setting.key not in (conf.VPN_INTERFACE, conf.LOCAL_INTERFACES):
        return setting
    from services import interfaces

    there = look()
    return replace(
        setting,
        suggestions=interfaces.suggestions(setting.key, setting.value, there),
        note=interfaces.note(setting.key, setting.value, there),
    )


def record(setting: Setting, value: Any, source: str, pending: bool = False) -> s.Setting:
    """A setting in the control API's words: of a secret, whether there is one."""
    check = setting.check
    secret = setting.secret
    return s.Setting(
        key=setting.name,
        value=setting.default if secret else value,
        default=setting.default,
        kind=_KINDS[setting.kind],
        help=setting.help,
        source=source,
        live=setting.live,
        pending=pending,
        danger=setting.danger,
        secret=secret,
        kept=secret and value != setting.default,
        choices=list(check.choices) if isinstance(check, OneOf) else [],
        low=check.low if isinstance(check, Between) else None,
        high=check.high if isinstance(check, Between) else None,
    )


_KINDS = {str: "text", bool: "bool", int: "int", float: "float", list: "list", dict: "table"}


def write(path: Path, setting: Setting, given: Any) -> Any:
    """Put a value into the file (None: take it out, back to the default); the value as checked.

    Raises `ControlError`.
    """
    value = None if given is None else accept(setting, given)
    try:
        text, changed = _changed(path, setting, value)
        if changed != text:
            _replace(path, changed, setting.secret)
    except OSError as exc:
        why, fix = refusal(exc, path)
        raise ControlError(
            Code.FAILED, f"{path} cannot be written: {why}. Nothing was changed.", fix
        ) from None
    return value


def _changed(path: Path, setting: Setting, value: Any) -> tuple[str, str]:
    """The file's text, as it is and as it is to be. Raises `ControlError`, `OSError`."""
    try:
        text = _read(path)
        conf.parse(text, str(path))
        return text, edit(text, setting, value)
    except ConfigError as exc:
        raise ControlError(Code.FAILED, str(exc), "Mend the file, then try again.") from None


def accept(setting: Setting, given: Any) -> Any:
    """The value that is meant. A text for a setting of another kind is read as people write it.

    Raises `ControlError`.
    """
    try:
        return conf.checked(setting, _from_text(setting, given))
    except ConfigError as exc:
        raise ControlError(Code.INVALID_PARAMS, str(exc)) from None


def edit(text: str, setting: Setting, value: Any) -> str:
    """The TOML text with the setting changed, or removed for None; the rest stays as it is."""
    import tomlkit

    document = tomlkit.parse(text)
    if value is None:
        if setting.section in document:
            table: Any = document[setting.section]
            if setting.key in table:
                del table[setting.key]
    else:
        if setting.section not in document:
            if text and not text.endswith("\n"):
                document.add(tomlkit.nl())
            document.add(setting.section, tomlkit.table())
        table = document[setting.section]
        table[setting.key] = value
    changed = tomlkit.dumps(document)
    expected = setting.default if value is None else value
    if conf.parse(changed, "the changed file")[setting.section, setting.key] != expected:
        raise ConfigError(
            f"The way {setting.name} stands in the file cannot be changed from here: edit it there."
        )
    return changed


def _from_text(setting: Setting, value: Any) -> Any:
    """What a person typed, as the setting's kind; anything else as it is."""
    if not isinstance(value, str) or setting.kind is str:
        return value
    text = value.strip()
    if setting.kind is bool and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    if setting.kind in (int, float):
        with contextlib.suppress(ValueError):
            return setting.kind(text)
    if setting.kind is list:
        return text.replace(",", " ").split()
    if setting.kind is dict and text.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    if setting.kind is dict:
        pairs = (pair.partition("=") for pair in text.split())
        return {name.strip(): given.strip() for name, _, given in pairs}
    return value


def _read(path: Path) -> str:
    try:
        raw = own.read(own.target(path), conf.MAX_FILE + 1)
    except FileNotFoundError:
        return ""
    if len(raw) > conf.MAX_FILE:
        raise ConfigError(f"{path} is larger than {conf.MAX_FILE} bytes: is it the right file?")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8.") from None


def _replace(path: Path, text: str, private: bool) -> None:
    """Write the whole file or nothing of it; a private one is its owner's alone from then on.

    Raises `OSError`.
    """
    own.replace(own.target(path), text.encode(), own.FILE_MODE if private else None)
