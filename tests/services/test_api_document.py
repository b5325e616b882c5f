"""docs/api.md and docs/api.json are made from the schema; a change that breaks a reader is seen."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control.methods import CLIENT, GATEWAY
from docs import api
from docs.api_judge import breaks

DOCS = Path(__file__).resolve().parents[2] / "docs"
MAKE = "run: python -m docs.api"
STORED = json.loads((DOCS / "api.json").read_text())


def test_nothing_breaks_who_reads_the_stored_version() -> None:
    now = api.described()
    assert now["api"] >= STORED["api"]
    if now["api"] == STORED["api"]:
        assert breaks(STORED, now) == [], "or raise API_VERSION"


def test_both_files_are_of_this_schema() -> None:
    assert api.described() == STORED, MAKE
    assert api.page() == (DOCS / "api.md").read_text(), MAKE


def test_the_page_has_all_of_it() -> None:
    text = (DOCS / "api.md").read_text()
    for role, table in (("gateway", GATEWAY), ("client", CLIENT)):
        section = text.partition(f"## Methods of the {role}\n")[2].partition("\n## ")[0]
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
        assert [row[0].strip("|` ") for row in rows] == sorted(table)
        for row in rows:
            method = table[row[0].strip("|` ")]
            assert row[1] == method.help and row[4] == method.permission.value
            assert row[5].startswith("yes") == method.topic
    headings = {line[4:].lower() for line in text.splitlines() if line.startswith("### ")}
    links = {part.partition(")")[0] for part in text.split("](#")[1:]}
    assert links <= headings and len(links) > 30


Change = Callable[[dict[str, Any]], object]
PEER, STATUS = "Peer", "GatewayStatus"
BREAKING: dict[str, tuple[Change, str]] = {
    "a method goes": (lambda d: d["methods"]["gateway"].pop("peers"), "gateway.peers"),
    "a topic goes": (lambda d: d["methods"]["client"]["flows"].update(topic=False), "client.flows"),
    "reading needs more": (
        lambda d: d["methods"]["gateway"]["dns"].update(permission="write"), "gateway.dns"),
    "a field goes": (lambda d: d["records"][PEER].pop("label"), "gateway.peers[].label"),
    "a field far below goes": (
        lambda d: d["records"]["Unwritten"].pop("advice"), "gateway.status.unwritten[].advice"),
    "a type changes": (
        lambda d: d["records"][PEER].update(connected="string"), "gateway.peers[].connected"),
    "a whole number is none": (
        lambda d: d["records"][STATUS].update(peers="number"), "gateway.status.peers"),
    "a field may be null": (
        lambda d: d["records"][PEER].update(label="string | null"), "gateway.peers[].label"),
    "a list is none": (
        lambda d: d["methods"]["gateway"]["peers"].update(result="Peer"), "gateway.peers"),
    "another record": (
        lambda d: d["methods"]["gateway"]["peers"].update(result="list[Lease]"),
        "gateway.peers[].platform"),
    "a parameter goes": (lambda d: d["params"]["FlowsParams"].pop("sort"), "gateway.flows(sort)"),
    "a parameter is demanded": (
        lambda d: d["params"]["FlowsParams"]["limit"].update(required=True),
        "gateway.flows(limit)"),
    "a new one is demanded": (
        lambda d: d["params"]["IdParams"].update(why={"type": "string", "required": True}),
        "gateway.deny(why)"),
    "a parameter is narrower": (
        lambda d: d["params"]["PairParams"]["seconds"].update(type="integer"),
        "gateway.pair(seconds)"),
    "null is refused": (
        lambda d: d["params"]["FlowsParams"]["peer"].update(type="string"), "gateway.flows(peer)"),
    "a choice goes": (
        lambda d: d["params"]["FlowsParams"]["sort"]["choices"].remove("idle"),
        "gateway.flows(sort)"),
    "choices where any text went": (
        lambda d: d["params"]["FlowsParams"]["filter"].update(choices=["tcp"]),
        "gateway.flows(filter)"),
    "an error's code changes": (lambda d: d["errors"].update(busy=80), "errors.busy"),
    "a kind of event goes": (lambda d: d["events"].remove("asked"), "events.asked"),
}  # fmt: skip
FINE: dict[str, Change] = {
    "a method": lambda d: d["methods"]["gateway"].update(
        more={"permission": "read", "topic": True, "params": "NoParams", "result": "Peer"}),
    "a topic": lambda d: d["methods"]["gateway"]["doctor"].update(topic=True),
    "a field": lambda d: d["records"][PEER].update(colour="string"),
    "never null any more": lambda d: d["records"]["Lease"].update(transport="string"),
    "a number is whole": lambda d: d["records"][STATUS].update(uptime="integer"),
    "a parameter with a default": lambda d: d["params"]["FlowsParams"].update(
        more={"type": "string", "required": False}),
    "a parameter takes more": lambda d: d["params"]["FlowsParams"]["limit"].update(type="number"),
    "a parameter takes null": lambda d: d["params"]["FlowsParams"]["sort"].update(
        type="string | null"),
    "a parameter need not be given": lambda d: d["params"]["IdParams"]["id"].update(required=False),
    "a choice": lambda d: d["params"]["FlowsParams"]["sort"]["choices"].append("name"),
    "reading suffices": lambda d: d["methods"]["gateway"]["share"].update(permission="read"),
    "an error": lambda d: d["errors"].update(tired=10),
    "an event": lambda d: d["events"].append("slept"),
    "a record has another name": lambda d: (
        d["records"].update(Device=d["records"].pop(PEER)),
        d["methods"]["gateway"]["peers"].update(result="list[Device]")),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKING)
def test_what_breaks_a_reader_is_told(name: str) -> None:
    change, where = BREAKING[name]
    after = copy.deepcopy(STORED)
    change(after)
    told = breaks(STORED, after)
    assert any(each.startswith(f"{where}:") for each in told), told


@pytest.mark.parametrize("name", FINE)
def test_what_is_added_is_fine(name: str) -> None:
    after = copy.deepcopy(STORED)
    FINE[name](after)
    assert after != STORED
    assert breaks(STORED, after) == []


def test_the_generator_writes_nothing_that_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = copy.deepcopy(STORED)
    stored["records"][PEER]["gone"] = "string"
    (tmp_path / "api.json").write_text(json.dumps(stored))
    monkeypatch.setattr(api, "HERE", tmp_path)
    assert api.main() == 1
    assert "gateway.peers[].gone: the field is gone" in capsys.readouterr().err
    assert json.loads((tmp_path / "api.json").read_text()) == stored
    assert not (tmp_path / "api.md").exists()
    (tmp_path / "api.json").write_text(json.dumps(stored | {"api": 0}))
    assert api.main() == 0, "another version may be different"
    assert json.loads((tmp_path / "api.json").read_text()) == STORED
