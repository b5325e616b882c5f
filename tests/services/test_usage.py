"""`vpnshare usage` and the method behind it: rows of the books, their sum, and how they look."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cli.commands import COMMANDS, parser_for
from cli.main import main
from cli.usage import moment
from control.errors import ControlError
from control.exits import Exit
from control.methods import UsageParams
from control.schema import Usage
from eventloop.clock import SYSTEM
from gateway.model import MemoryStore
from gateway.peers import NoSuchPeer, PeerRegistry
from services.usage_api import usage
from tests.fakes.services import PretendGateway

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/usage.md").read_text()
LINES = re.findall(r"^vpnshare (.*?)(?: +#.*)?$", DOCUMENT, re.MULTILINE)
HOUR, DAY = 3600, 86_400
HERE = timezone(timedelta(hours=1))
NOON = datetime(2026, 2, 10, 12, 0, tzinfo=HERE).timestamp()
Capture = pytest.CaptureFixture[str]


@dataclass
class Count:
    from_tunnel_bytes: int = 0
    to_tunnel_bytes: int = 0


@pytest.fixture(autouse=True, scope="module")
def here() -> Iterator[None]:
    """The calendar is the same wherever the test runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "HERE-1")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="module")
def registry(here: None) -> PeerRegistry:
    """A tablet with 1 up and 10 down each hour since the 1st of January, and a quiet TV."""
    registry = PeerRegistry(MemoryStore(), SYSTEM)
    tablet = registry.approve(b"t" * 32, "tablet", "android")
    tv = registry.approve(b"v" * 32, "TV", "linux")
    meter, once = Count(), Count(500, 700)
    registry.books.open(tablet.public_key, meter)
    registry.books.open(tv.public_key, once)
    start = datetime(2026, 1, 1, tzinfo=HERE).timestamp()
    hours = int(NOON - start) // HOUR + 1
    for hour in range(hours):
        meter.from_tunnel_bytes += 1
        meter.to_tunnel_bytes += 10
        registry.books.collect(start + hour * HOUR)
    return registry


def asked(registry: PeerRegistry, **params: Any) -> Usage:
    return usage(registry, UsageParams(**params), NOON + 60)


def summed(found: Usage) -> None:
    rows = found.rows
    assert found.left_out or (
        sum(row.from_tunnel_bytes for row in rows), sum(row.to_tunnel_bytes for row in rows),
    ) == (found.from_tunnel_bytes, found.to_tunnel_bytes)  # fmt: skip


def test_all_that_there_ever_was(registry: PeerRegistry) -> None:
    hours = 40 * 24 + 13
    found = asked(registry)
    summed(found)
    assert [(row.label, row.period, row.begins_at) for row in found.rows] == [
        ("tablet", "", 0.0), ("TV", "", 0.0)
    ]  # fmt: skip
    assert (found.from_tunnel_bytes, found.to_tunnel_bytes) == (hours + 500, hours * 10 + 700)
    for by in ("day", "month"):
        each = asked(registry, by=by)
        summed(each)
        assert each.to_tunnel_bytes == found.to_tunnel_bytes and not each.left_out
    latest = asked(registry, by="day", limit=3)
    assert latest.left_out == len(asked(registry, by="day").rows) - 3
    assert latest.to_tunnel_bytes == found.to_tunnel_bytes
    assert [row.period for row in latest.rows] == ["2026-02-08", "2026-02-09", "2026-02-10"]
    assert asked(registry, limit=0).left_out == 2


def test_hours_days_and_months_of_a_device(registry: PeerRegistry) -> None:
    hours = asked(registry, peer="tablet", by="hour")
    assert len(hours.rows) == 48 and hours.to_tunnel_bytes == 480
    assert hours.rows[-1].begins_at == NOON
    assert datetime.fromisoformat(hours.rows[-1].period).timestamp() == NOON
    days = asked(registry, peer="tablet", by="day", since=NOON - 2 * DAY)
    assert [(row.period, row.to_tunnel_bytes) for row in days.rows] == [
        ("2026-02-08", 240), ("2026-02-09", 240), ("2026-02-10", 130)
    ]  # fmt: skip
    assert days.since == days.rows[0].begins_at == NOON - 12 * HOUR - 2 * DAY
    assert days.today == "2026-02-10"
    night = usage(registry, UsageParams(by="day"), NOON + 11 * HOUR + 3599)
    assert (night.today, usage(registry, UsageParams(), NOON + 12 * HOUR).today) == (
        "2026-02-10", "2026-02-11",
    )  # fmt: skip
    months = asked(registry, peer="tablet", by="month", since=NOON - 20 * DAY)
    assert [(row.period, row.to_tunnel_bytes) for row in months.rows] == [
        ("2026-01", 31 * 240), ("2026-02", 9 * 240 + 130)
    ]  # fmt: skip
    assert months.rows[1].begins_at == datetime(2026, 2, 1, tzinfo=HERE).timestamp()
    summed(months)
    with pytest.raises(NoSuchPeer):
        asked(registry, peer="fridge")


def test_a_device_since_then_by_hours_where_they_are_kept(registry: PeerRegistry) -> None:
    recent = asked(registry, peer="tablet", since=NOON - 3 * HOUR + 5)
    (row,) = recent.rows
    assert (row.from_tunnel_bytes, row.to_tunnel_bytes) == (4, 40)
    assert recent.since == row.begins_at == NOON - 3 * HOUR
    (row,) = asked(registry, peer="tablet", since=NOON - 9 * DAY).rows
    assert row.from_tunnel_bytes == 9 * 24 + 13, "from the beginning of that day on"
    assert asked(registry, peer="TV", since=NOON + DAY).to_tunnel_bytes == 0


def test_what_cannot_be_asked(registry: PeerRegistry) -> None:
    for wrong in ({"by": "year"}, {"limit": -1}, {"since": -1.0}, {"since": 1e300}, {"peer": ""}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            asked(registry, **wrong)


def test_how_far_back() -> None:
    assert moment("6h", NOON) == NOON - 6 * HOUR
    assert moment("2d", NOON) == NOON - 2 * DAY and moment("1w", NOON) == NOON - 7 * DAY
    assert moment("999999w", NOON) == 0.0
    assert moment("2026-02-10", 0.0) == NOON - 12 * HOUR
    for wrong in ("", "7", "d", "-2d", "7 d", "2026-02-30", "yesterday", "٣d", "7d\n", "9" * 50):
        with pytest.raises(ControlError, match="says no time"):
            moment(wrong, NOON)


def test_the_table_ends_with_the_sum(gateway: PretendGateway, capsys: Capture) -> None:
    assert main(["usage"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["DEVICE", "ID", "UP", "DOWN", "BOTH"]
    assert len(lines) == len(gateway.peers) + 2 and lines[-1].startswith("in all")
    assert main(["usage", gateway.peers[0].id, "--by", "hour", "--since", "9999w"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["WHEN", "DEVICE"] and len(lines) > 30
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d ", lines[1])
    gateway.peers.clear()
    assert main(["usage"]) == Exit.OK
    assert "Nothing was used in that time." in capsys.readouterr().out
    assert main(["usage", "nobody"]) == Exit.NOT_FOUND
    assert main(["usage", "--since", "soon"]) == Exit.USAGE


def test_json_and_csv_have_whole_bytes(gateway: PretendGateway, capsys: Capture) -> None:
    gateway.peers[0] = replace(gateway.peers[0], label='=HYPERLINK("http://x","y")')
    assert main(["usage", "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["to_tunnel_bytes"] == sum(peer.to_tunnel_bytes for peer in gateway.peers)
    assert main(["usage", "--csv"]) == Exit.OK
    head, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head == ["period", "device", "id", "up", "down"]
    assert [int(row[4]) for row in rows] == [row["to_tunnel_bytes"] for row in told["rows"]]
    assert rows[0][1].startswith("'="), "no spreadsheet takes a device's name for a formula"
    assert main(["usage", "--by", "month", "--csv", "--json"]) == Exit.USAGE


def test_the_documents_commands_are_taken() -> None:
    command = next(each for each in COMMANDS if each.name == "usage")
    taken = [parser_for(command).parse_args(shlex.split(line)[1:]) for line in LINES]
    assert len(taken) >= 7 and {args.by for args in taken} == {None, "hour", "day", "month"}
    for args in taken:
        assert args.since is None or moment(args.since, NOON) > 0
