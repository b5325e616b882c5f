"""Commands that look at the tunnel from the receiving side: endpoints, history."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from cli.services import dial
from control.exits import Exit
from control.output import Column, duration, print_json, print_table, size
from control.schema import Endpoint, LinkRecord

_OUTCOMES = {
    "won": "won",
    "slower": "slower",
    "refused": "refused",
    "timed_out": "timed out",
    "unreachable": "unreachable",
    "untried": "not needed",
}


def endpoints(args: argparse.Namespace) -> int:
    """Where the gateway may be reached, and what became of each try."""
    return _list(args, "endpoints", (
        Column("ENDPOINT", shrink=True),
        Column("KIND", 2),
        Column("OUTCOME"),
        Column("TOOK", 1, right=True),
        Column("WHEN", 3),
        Column("WHY", 4, shrink=True),
    ), _endpoint, "No endpoint was tried yet. Connect first: vpnshare connect")  # fmt: skip


def history(args: argparse.Namespace) -> int:
    """The links since the service began."""
    return _list(args, "history", (
        Column("BEGAN"),
        Column("BY", 1, shrink=True),
        Column("FOR", right=True),
        Column("AWAY BEFORE", 3, right=True),
        Column("SESSION", 2),
        Column("BYTES", 4, right=True),
        Column("GATEWAY", 5, shrink=True),
        Column("ENDED", shrink=True),
    ), _link, "There was no link yet. Connect first: vpnshare connect")  # fmt: skip


def _list(
    args: argparse.Namespace,
    method: str,
    columns: tuple[Column, ...],
    row: Callable[..., tuple[str, ...]],
    empty: str,
) -> int:
    with dial("client") as service:
        if args.json:
            print_json(service.call_raw(method))
            return Exit.OK
        records = service.call(method)
    print_table(columns, (row(record) for record in records), empty)
    return Exit.OK


def _endpoint(record: Endpoint) -> tuple[str, ...]:
    outcome = _OUTCOMES.get(record.outcome, record.outcome)
    return (
        record.endpoint,
        record.kind,
        "in use" if record.in_use else outcome,
        "-" if record.took is None else f"{record.took * 1000:.0f} ms",
        "-" if record.at is None else f"{duration(time.time() - record.at)} ago",
        record.reason or "-",
    )


def _session(record: LinkRecord) -> str:
    if not record.resumed:
        return "new"
    return "resumed" if record.flows is None else f"resumed, {record.flows} flows"


def _link(record: LinkRecord) -> tuple[str, ...]:
    stamp = "%H:%M:%S" if time.time() - record.began_at < 86_400 else "%Y-%m-%d %H:%M"
    return (
        time.strftime(stamp, time.localtime(record.began_at)),
        record.endpoint,
        duration(record.seconds),
        "-" if record.away is None else f"{record.away:.1f} s",
        _session(record),
        size(record.from_tunnel_bytes + record.to_tunnel_bytes),
        record.gateway,
        record.sentence or "in use",
    )
