"""What happened is kept: in order, bounded, in the log, over a restart, whatever the disk does."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.events import EventKind as ClientKind
from control.events import KINDS, of_role
from control.methods import MAX_EVENTS, EventsParams, LogsParams
from control.schema import Event
from eventloop.clock import Clock
from gateway.journal import EventKind as GatewayKind
from sealing.happenings import Event as Happened
from services.events import MAX_FILE, MAX_TEXT, EventBook
from services.logs import Ring

CONNECTED = Happened(GatewayKind.CONNECTED, "TV (a1) connected", "a1", "TV")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.events.jsonl"


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring()
    logger = logging.getLogger("test.journal")
    logger.setLevel("INFO")
    logger.addHandler(ring)
    yield ring
    logger.removeHandler(ring)


def book(file: Path | None, wall: float = 5_000.0) -> EventBook:
    return EventBook(file, "test.journal", Clock(lambda: 77.0, lambda: wall))


def test_every_kind_that_can_be_told_has_its_meaning() -> None:
    assert set(of_role("gateway")) == set(GatewayKind)
    assert set(of_role("client")) == set(ClientKind)
    assert set(KINDS) == set(GatewayKind) | set(ClientKind)
    assert {kind.level for kind in KINDS.values()} == {"info", "warning", "error"}


def test_an_event_is_a_line_in_the_log_too(file: Path, ring: Ring) -> None:
    events = book(file)
    seen: list[Event] = []
    events.on_event = seen.append
    events.note(Happened(GatewayKind.VPN_LOST, "the VPN is lost: there is none"))
    events.note(CONNECTED)
    assert seen == events.page(EventsParams()).events
    assert seen[0] == Event(
        1, 5_000.0, 77.0, "vpn_lost", "warning", "the VPN is lost: there is none"
    )
    lines = ring.page(LogsParams()).lines
    assert [(line.level, line.message) for line in lines] == [
        ("warning", "the VPN is lost: there is none"), ("info", "TV (a1) connected"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "found"), [("", 4), ("tv", 2), ("a1", 1), ("b2", 1), ("1", 0), ("lap top", 1)]
)
def test_the_log_of_one_device(device: str, found: int, ring: Ring) -> None:
    events = book(None)
    for happened in (
        CONNECTED,
        replace(CONNECTED, device="b2", label="Attic TV"),
        replace(CONNECTED, device="c3", label="Lap Top"),
        Happened(GatewayKind.VPN_UP, "the VPN is there"),
    ):  # fmt: skip
        events.note(happened)
    assert len(ring.page(LogsParams(device=device)).lines) == found
    assert len(events.page(EventsParams(device=device)).events) == found


def test_what_happened_is_known_after_a_restart(file: Path, ring: Ring) -> None:
    first = book(file)
    for number in range(3):
        first.note(replace(CONNECTED, text=f"number {number}"))
    assert file.stat().st_mode & 0o777 == 0o600
    fresh = Ring()
    second = book(file, 9_000.0)
    fresh.restore(second.lines())
    assert [line.message for line in fresh.page(LogsParams()).lines] == [
        "number 0", "number 1", "number 2",
    ]  # fmt: skip
    assert [line.seq for line in fresh.page(LogsParams(device="TV")).lines] == [1, 2, 3]
    second.note(replace(CONNECTED, kind=GatewayKind.GIVEN_UP, text="after it"))
    page = second.page(EventsParams(limit=2))
    assert [(event.seq, event.at) for event in page.events] == [(3, 5_000.0), (4, 9_000.0)]
    assert (page.newest, page.began) == (4, 3)
    assert book(file).page(EventsParams(after=3)).events == page.events[1:]


def test_lines_of_earlier_runs_come_before_those_of_this_one(file: Path) -> None:
    book(file).note(CONNECTED)
    ring = Ring(3)
    for number in range(3):
        ring.emit(logging.LogRecord("x", logging.INFO, "", 0, f"line {number}", None, None))
    ring.restore(book(file).lines())
    page = ring.page(LogsParams())
    assert [line.message for line in page.lines] == ["line 0", "line 1", "line 2"]
    assert (page.oldest, page.newest) == (2, 4)
    ring.emit(logging.LogRecord("x", logging.INFO, "", 0, "next", None, None))
    assert ring.page(LogsParams(limit=1)).lines[0].seq == 5


def test_ring_and_file_are_bounded(file: Path) -> None:
    events = book(file)
    for _ in range(4 * MAX_EVENTS):
        events.note(replace(CONNECTED, text="x" * 5_000, device="d" * 500, label="l" * 500))
    page = events.page(EventsParams(limit=MAX_EVENTS))
    assert len(page.events) == MAX_EVENTS and page.newest == 4 * MAX_EVENTS
    assert all(len(event.text) == MAX_TEXT for event in page.events)
    assert file.stat().st_size <= MAX_FILE
    assert book(file).page(EventsParams(limit=MAX_EVENTS)).events == page.events


def test_a_file_that_somebody_has_written_is_judged_line_by_line(file: Path) -> None:
    events = book(file)
    events.note(CONNECTED)
    good = json.loads(file.read_text())
    bad: list[object] = [
        "no object", {}, good | {"kind": "no_such"}, good | {"level": "error"},
        good | {"seq": "2"}, good | {"more": 1}, good | {"seq": 1},
    ]  # fmt: skip
    text = "\n".join([*map(json.dumps, [good, *bad, good | {"seq": 9, "text": "\x1b[2Jx"}]), "{"])
    file.write_bytes(text.encode() + b"\xff\xfe\n" + b"[" * 100_000)
    found = book(file).page(EventsParams()).events
    assert [event.seq for event in found] == [1, 9]
    assert found[1].text == "\\x1b[2Jx"


def test_a_file_that_cannot_be_written_is_told_once_and_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "precious"
    elsewhere.write_text("precious")
    file = tmp_path / "gateway.events.jsonl"
    file.symlink_to(elsewhere)
    events = book(file)
    for _ in range(3):
        events.note(CONNECTED)
    assert len(events.page(EventsParams()).events) == 3 and events.unwritten == 3
    assert elsewhere.read_text() == "precious"
    told = [r for r in caplog.records if "not kept over a restart" in r.getMessage()]
    assert len(told) == 1
