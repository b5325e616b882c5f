"""docs/commands.md says what the commands do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli.commands import COMMANDS, parser_for
from cli.main import main
from control.exits import MEANINGS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "commands.md").read_text()


def test_the_exit_codes_are_those_of_the_command() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", TEXT, re.M)
    assert rows == [(str(int(code)), meaning) for code, meaning in MEANINGS.items()]


def test_who_takes_no_json_is_named() -> None:
    sentence = re.search(r"These commands do not take it.*?: (.*?)\. `logs", TEXT)
    assert sentence is not None
    named = set(re.findall(r"`(\S+)`", sentence[1]))
    without = {
        command.name for command in COMMANDS if "--json" not in parser_for(command).format_usage()
    }
    assert named == without
    readme = (ROOT / "README.md").read_text()
    assert "Nearly every command takes `--json`" in readme and "docs/commands.md" in readme


def test_the_error_is_the_one_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VPNSHARE_HOME", str(tmp_path))
    monkeypatch.delenv("VPNSHARE_CALLED", raising=False)
    shown = re.search(r'^\{"error".*\}$', TEXT, re.M)
    assert shown is not None
    code = main(["requests", "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads(shown[0])
    assert code == json.loads(said.out)["error"]["exit"]
    assert said.err == (
        "vpnshare: The gateway service is not running.\n  Start sharing with: vpnshare up\n"
    )
    assert main(["requests"]) == code and capsys.readouterr().out == ""
