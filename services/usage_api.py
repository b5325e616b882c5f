"""What devices have used, as the control API tells it: rows of the books, and their sum."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

from control import methods as m
from control import schema as s
from gateway.books import HOUR_SECONDS, Books, BookSpan, Pair
from gateway.model import PeerDevice
from gateway.peers import PeerRegistry

RECENT = 47 * HOUR_SECONDS
"""Seconds back from now that all hours are there for."""


def usage(registry: PeerRegistry, params: m.UsageParams, unix: float) -> s.Usage:
    """Raises NoSuchPeer."""
    books = registry.books
    books.collect(unix)
    peers = registry.all() if params.peer is None else [registry.find(params.peer)]
    since, rows = 0.0, list[s.UsageRow]()
    if params.since:
        since = _begin(books, params.by, params.since, unix)
    for peer in peers:
        rows += _rows(books, peer, params.by, since, unix)
    if params.by == "device":
        rows.sort(key=lambda row: -row.from_tunnel_bytes - row.to_tunnel_bytes)
        kept = rows[: params.limit]
    else:
        rows.sort(key=lambda row: row.begins_at)
        kept = rows[max(0, len(rows) - params.limit) :]
    return s.Usage(
        params.by,
        since,
        kept,
        sum(row.from_tunnel_bytes for row in rows),
        sum(row.to_tunnel_bytes for row in rows),
        len(rows) - len(kept),
        date.fromordinal(books.day_of(unix)).isoformat(),
    )


def _begin(books: Books, by: str, since: float, unix: float) -> float:
    """When the hour, day or month begins in which `since` lies."""
    if _in_hours(by, since, unix):
        return since // HOUR_SECONDS * HOUR_SECONDS
    day = date.fromordinal(books.day_of(since))
    if by == "month":
        day = day.replace(day=1)
    return books.begins(day.toordinal())


def _in_hours(by: str, since: float, unix: float) -> bool:
    return by == "hour" or (by == "device" and since > unix - RECENT)


def _rows(
    books: Books, peer: PeerDevice, by: str, since: float, unix: float
) -> Iterator[s.UsageRow]:
    def row(period: str, begins: float, used: Pair) -> s.UsageRow:
        return s.UsageRow(peer.id, peer.label, period, begins, *used)

    key = peer.public_key
    if by == "device":
        if not since:
            yield row("", 0.0, books.total(key))
        else:
            span = BookSpan.HOUR if _in_hours(by, since, unix) else BookSpan.DAY
            found = [used for begins, _, used in _periods(books, key, span) if begins >= since]
            up, down = sum(up for up, _ in found), sum(down for _, down in found)
            yield row("", since, (up, down))
    elif by == "month":
        months: dict[str, tuple[float, Pair]] = {}
        for begins, period, (up, down) in _periods(books, key, BookSpan.DAY):
            if begins >= since:
                first = books.begins(date.fromisoformat(f"{period[:7]}-01").toordinal())
                _, (up_so_far, down_so_far) = months.get(period[:7], (first, (0, 0)))
                months[period[:7]] = first, (up_so_far + up, down_so_far + down)
        for period, (first, used) in months.items():
            yield row(period, first, used)
    else:
        for begins, period, used in _periods(books, key, BookSpan(by)):
            if begins >= since:
                yield row(period, begins, used)


def _periods(books: Books, key: bytes, span: BookSpan) -> Iterator[tuple[float, str, Pair]]:
    """When each hour or day begins, its name, and what was used in it; the earliest first."""
    for at, used in books.history(key, span).items():
        if span is BookSpan.HOUR:
            begins = float(at * HOUR_SECONDS)
            name = datetime.fromtimestamp(begins).astimezone().isoformat(timespec="minutes")
            yield begins, name, used
        else:
            yield books.begins(at), date.fromordinal(at).isoformat(), used
