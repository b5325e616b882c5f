"""`vpnshare settings`, `get` and `set`: of the services that run, or else of the file."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from cli.asking import ask_for_word, hide_from_others
from cli.services import dial, running
from control import paths
from control.errors import Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.output import Column, complain, paint, print_json, print_table, printable
from control.schema import Setting
from services import account
from services import config as conf
from services.config import SETTINGS, ConfigError, find, load, written


def settings(args: argparse.Namespace) -> int:
    shown = _found(args.role, args.key)
    if args.json:
        print_json(shown)
        return Exit.OK
    print_table(
        [Column("SETTING"), Column("VALUE", shrink=True), Column("FROM", 2), Column("", 1),
         Column("WHAT IT IS", 3, shrink=True)],
        ((s.key, _shown(s), s.source, _note(s), s.help) for s in shown),
        "There is no setting.",
    )  # fmt: skip
    return Exit.OK


def get(args: argparse.Namespace) -> int:
    """The value alone, as `set` takes it."""
    _known(args.key)
    [setting] = _found(None, args.key)
    if args.json:
        print_json(setting)
    elif setting.secret:
        raise ControlError(
            Code.REFUSED, f"{setting.key} is a secret: its value is not shown.",
            f"Whether it is set: vpnshare settings {setting.key}",
        )  # fmt: skip
    else:
        print(printable(_plain(setting.value)))
    return Exit.OK


def _found(role: str | None, key: str | None) -> list[Setting]:
    """All settings, or those that are called so: one, or a section's. Raises `ControlError`.

    What no service that runs has is as the file has it, as with `set`.
    """
    known: dict[str, Setting] = {}
    try:
        for service in running(role):
            with service:
                for setting in service.call("settings"):
                    known.setdefault(setting.key, setting)
        if role is None and not any(key.startswith("console.") for key in known):
            # The whole machine's gateway has none of the console's.
            for setting in _of_file():
                if setting.key.startswith("console."):
                    known.setdefault(setting.key, setting)
        shown = _called(list(known.values()), key)
    except ServiceUnavailable:
        shown = []
    if not shown and not (shown := _called(_of_file(), key)) and key is not None:
        _known(key)
    return shown


def _called(known: list[Setting], key: str | None) -> list[Setting]:
    """Those whose name or section is `key`; all of them for None."""
    section = None if key is None else f"{key.removesuffix('.')}."
    return [s for s in known if section is None or f"{s.key}.".startswith(section)]


def _known(key: str) -> conf.Setting:
    """Raises `ControlError`."""
    try:
        return find(key)
    except ConfigError as exc:
        raise ControlError(Code.NOT_FOUND, str(exc), "See: vpnshare settings") from None


def change(args: argparse.Namespace) -> int:
    if (args.value is None) is not args.default:
        complain("Give a value, or --default.", f"vpnshare set {args.key} VALUE")
        return Exit.USAGE
    setting = _changed(args.key, _given(args.key, args.value))
    for each in setting.unwritten:
        complain(each.found, each.advice)
    if args.json:
        print_json(setting)
        return Exit.OK
    empty = setting.value in ("", [], {}) and not setting.kept
    print(f"{setting.key} is {'empty' if empty else _shown(setting)} now.")
    if setting.key == "console.keys":
        for problem in _keymap_problems(setting.value):
            complain(problem)
    if setting.pending:
        print(paint("It counts from the service's next start.", "dim"))
    if setting.danger and setting.value:
        complain(f"Mind what this means: {setting.help}.", f"vpnshare set {setting.key} --default")
    if setting.note:
        complain(setting.note, f"Back to the default: vpnshare set {setting.key} --default")
    return Exit.OK


def _given(key: str, value: str | None) -> str | None:
    """The value as it was given; a secret is asked for, or else kept from others' eyes."""
    secret = any(known.name == key and known.secret for known in SETTINGS)
    if not secret or not value:
        return value
    if value == "-":
        return ask_for_word(key)
    hide_from_others(value)
    if sys.stderr.isatty():
        complain(
            "It stands in the shell's history now, and others could read it.",
            f"To be asked for it instead: vpnshare set {key} -",
        )
    return value


def _keymap_problems(keys: dict[str, str]) -> list[str]:
    """What the console will say of them; nothing where it is not installed."""
    try:
        from tui.actions import keymap_problems
    except ModuleNotFoundError:
        return []
    return keymap_problems(keys)


def _changed(key: str, value: str | None) -> Setting:
    """Change it in every service that runs and has it; in the file, if none does."""
    done: Setting | None = None
    for role in paths.ROLES:
        try:
            with dial(role) as service:
                done = service.call("set", key=key, value=value)
        except ServiceUnavailable:
            continue
        except ControlError as exc:
            if exc.code != Code.NOT_FOUND:
                raise
    if done is not None:
        return done
    from services.settings import record, told, write

    known = _known(key)
    for role in _roles_of(known):
        with account.instance(role) as place:
            written: Any = write(place.config, known, value)
    given = known.default if written is None else written
    return told(record(known, given, "default" if written is None else "file"))


def _roles_of(setting: conf.Setting) -> list[str]:
    """Whose files have it, where each service has one: a console reads its person's."""
    if setting.section == "console":
        return ["client"]
    return [role for role in paths.ROLES if setting.section in conf.SECTIONS[role]]


def _of_file() -> list[Setting]:
    from services.settings import record

    found = {}
    for role in paths.ROLES:
        with account.instance(role) as place:
            try:
                found[role] = load(place.config)
            except ConfigError as exc:
                raise ControlError(Code.FAILED, str(exc)) from None
    shown = []
    for s in SETTINGS:
        config, key = found[_roles_of(s)[0]], (s.section, s.key)
        shown.append(record(s, config[key], "file" if key in config.given else "default"))
    return shown


def _note(setting: Setting) -> str:
    if setting.pending:
        return "after a restart"
    return "" if setting.live else "needs a restart"


def _shown(setting: Setting) -> str:
    """The value for a person to read."""
    return "set" if setting.kept else spelled(setting.value)


def _plain(value: Any) -> str:
    """A value as `set` takes it: nothing where there is nothing."""
    if isinstance(value, list):
        return ",".join(value)
    return "" if value in ("", {}) else spelled(value)


def spelled(value: Any) -> str:
    """A value as a person writes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(value) or "-"
    if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
        return json.dumps(value)
    if isinstance(value, dict):
        return " ".join(f"{name}={given}" for name, given in value.items()) or "-"
    if isinstance(value, float):
        return written(value)
    return str(value) if value != "" else "-"
