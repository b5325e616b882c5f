"""Words of the command line that say nothing, in every place where a command takes one."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from cli.commands import COMMANDS, Command, parser_for
from cli.main import main
from control.exits import Exit

MAY_BE_EMPTY = frozenset({
    ("counters", "part"), ("flows", "filter"), ("logs", "filter"), ("run", "words"),
    ("set", "value"),
})  # fmt: skip
"""All that contains it; a setting's value; the words of somebody else's command."""


def _takes(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a command that take a word."""
    return [action for action in parser._actions if action.nargs != 0]


def _line(parser: argparse.ArgumentParser, empty: argparse.Action, blank: str) -> list[str]:
    """A command line in which `empty` is blank, and all else that is needed is there."""
    words = [empty.option_strings[-1], blank] if empty.option_strings else []
    placed = [each for each in _takes(parser) if not each.option_strings]
    for action in placed:
        if action is empty:
            words.append(blank)
        elif action.required or (empty in placed and placed.index(action) < placed.index(empty)):
            words.append(next(iter(action.choices)) if action.choices else "x")
    return words


PLACES = [(each, action.dest) for each in COMMANDS for action in _takes(parser_for(each))]


@pytest.mark.parametrize(
    ("command", "number"),
    [(each, number) for each in COMMANDS for number in range(len(_takes(parser_for(each))))],
    ids=lambda value: value.name if isinstance(value, Command) else str(value),
)
def test_an_empty_word_is_a_wrong_command_line(
    command: Command, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = parser_for(command)
    action = _takes(parser)[number]
    for blank in ("", "  "):
        line = _line(parser, action, blank)
        if (command.name, action.dest) in MAY_BE_EMPTY:
            given = getattr(parser.parse_args(line), action.dest)
            assert given == blank or given[-1] == blank
            continue
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(line)
        assert ended.value.code == Exit.USAGE
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.endswith(": may not be empty") or f": {blank!r} is no number " in said


def test_what_may_be_empty_is_there() -> None:
    assert {(command.name, dest) for command, dest in PLACES} >= MAY_BE_EMPTY


@pytest.mark.parametrize("line", [["rules", ""], ["usage", " "], ["counters", "--device", ""]])
def test_no_service_is_asked_about_an_empty_name(
    home: Path, line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == Exit.USAGE
    assert "argument " in (said := capsys.readouterr().err) and "may not be empty" in said
