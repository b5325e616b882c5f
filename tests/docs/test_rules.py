"""docs/rules.md: its commands are taken, its sets are those that are shipped."""

from __future__ import annotations

import re
import shlex
import tomllib
from datetime import datetime
from pathlib import Path

from cli.commands import COMMANDS, parser_for
from cli.rules import change_of
from rules.encoding import FIELDS, Moment, changed, to_json
from rules.sets import SETS
from rules.templates import check_template
from rules.value import MAX_DESTINATIONS, NO_RULES, Rules

TEXT = (Path(__file__).resolve().parents[2] / "docs/rules.md").read_text()
MOMENT = Moment(1.8e9, datetime.fromtimestamp, datetime.timestamp)
LINES = re.findall(r"^vpnshare (.*?)(?: +#.*)?$", TEXT, re.MULTILINE)


def test_every_command_is_taken_and_means_something() -> None:
    named: set[str] = set()
    for line in LINES:
        name, *words = shlex.split(line)
        command = next(each for each in COMMANDS if each.name == name)
        args = parser_for(command).parse_args(words)
        if args.file is None:
            change = change_of(args)
            rules = changed(Rules(max_flows=7, paused=True), change, MOMENT)
            assert not change or rules != NO_RULES
            named |= to_json(rules).keys()
    assert len(LINES) > 15 and named == set(FIELDS)


def test_every_spelling_of_the_table_is_taken() -> None:
    found = re.findall(r"^\| (\w+) \| (`-.*?) \|", TEXT, re.MULTILINE)
    assert len(found) == len(FIELDS) - 1, "both directions of speed are one line"
    parser = parser_for(next(each for each in COMMANDS if each.name == "rules"))
    for _, spellings in found:
        option = ""
        for text in re.findall(r"`(.+?)`", spellings):
            words = shlex.split(text)
            option = words[0] if words[0].startswith("--") else option
            given = words if words[0] == option else [option, *words]
            if given not in (["--deny"], ["--allow"], ["--destinations", "FILE"]):
                changed(NO_RULES, change_of(parser.parse_args(["tablet", *given])), MOMENT)


def test_sets_and_bounds_are_those_of_the_program() -> None:
    sentence = re.search(r"Sets that are shipped: (.*)", TEXT)
    assert sentence is not None
    assert re.findall(r"`([a-z-]+)` \(", sentence[1]) == list(SETS)
    assert f"Up to {MAX_DESTINATIONS:,} entries" in TEXT


def test_the_template_in_the_file_is_one() -> None:
    block = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    for name, template in tomllib.loads(block[1])["gateway"]["templates"].items():
        assert check_template(name, template) != NO_RULES
