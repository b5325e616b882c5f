"""docs/hooks.md says what a hook is told, and its example does what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from control.events import KINDS, table
from control.schema import Event
from services import hooks

DOCUMENT = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
MEMBERS = ["role", "name", "version", *(field.name for field in fields(Event))]


def test_the_kinds_are_those_of_the_code() -> None:
    assert table() in DOCUMENT


def test_every_member_is_explained_and_in_the_example() -> None:
    (line,) = re.findall(r"```json\n(.*)\n```", DOCUMENT)
    example = json.loads(line)
    assert list(example) == MEMBERS
    assert example["kind"] in KINDS and example["level"] == KINDS[example["kind"]].level
    assert re.findall(r"^\| `(\w+)` \| [^|]*\|$", DOCUMENT, re.M) == MEMBERS


def test_the_bounds_are_those_of_the_code() -> None:
    assert f"It has {hooks.SECONDS:g} seconds" in DOCUMENT
    assert f"{hooks.MAX_WAITING} events wait" in " ".join(DOCUMENT.split())


@pytest.mark.parametrize("kind", ["asked", "connected"])
def test_the_example_tells_what_it_says(tmp_path: Path, kind: str) -> None:
    """With a `curl` and a `jq` of our own, which write down what they were given."""
    (script,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", DOCUMENT, re.S)
    wanted = re.findall(r"^    ([a-z_|]+)\) ;;", script, re.M)[0].split("|")
    assert set(wanted) <= KINDS.keys() and "connected" not in wanted
    (tmp_path / "curl").write_text(f"#!/bin/sh\ncat >{tmp_path}/sent\n")
    (tmp_path / "jq").write_text(
        "#!/usr/bin/python3\nimport json, sys\nprint(json.load(sys.stdin)[sys.argv[2][1:]])\n"
    )
    program = tmp_path / "hook"
    program.write_text(script)
    for name in ("curl", "jq", "hook"):
        (tmp_path / name).chmod(0o755)
    (line,) = re.findall(r"```json\n(.*)\n```", DOCUMENT)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VPNSHARE_EVENT": kind}
    subprocess.run([program], input=line, text=True, env=environment, check=True, timeout=30)
    sent = tmp_path / "sent"
    assert sent.exists() == (kind in wanted)
    assert not sent.exists() or sent.read_text() == f"{json.loads(line)['text']}\n"
