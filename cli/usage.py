"""`vpnshare usage`: what devices have used."""

from __future__ import annotations

import argparse
import csv
import re
import sys
import time
from datetime import date, datetime

from cli.services import dial
from control.errors import Code, ControlError
from control.exits import Exit
from control.output import Column, print_json, print_table, size, tell
from control.schema import Usage, UsageRow

DAYS = 30
"""Days that a device's own table goes back, unless another time is named."""
_LENGTH = re.compile(r"([0-9]{1,6})([hdw])", re.ASCII)
_SECONDS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet takes for a formula; devices name themselves."""


def usage(args: argparse.Namespace) -> int:
    by, since = args.by, args.since
    if by is None:
        by = "device" if args.id is None else "day"
    if since is None and by == "day" and not args.csv and not args.json:
        since = f"{DAYS - 1}d"
    params = {"peer": args.id, "by": by, "since": since and moment(since, time.time())}
    with dial("gateway") as service:
        if args.json:
            print_json(service.call_raw("usage", **params))
            return Exit.OK
        found: Usage = service.call("usage", **params)
    if args.csv:
        _print_csv(found)
    else:
        _print(found)
    return Exit.OK


def moment(text: str, now: float) -> float:
    """The Unix time that `--since` says: a length back from `now`, or the beginning of a day here.

    Raises `ControlError`.
    """
    length = _LENGTH.fullmatch(text)
    try:
        if length is not None:
            return max(0.0, now - int(length[1]) * _SECONDS[length[2]])
        midnight = datetime.combine(date.fromisoformat(text), datetime.min.time()).astimezone()
        return max(0.0, midnight.timestamp())
    except (ValueError, OverflowError):
        raise ControlError(
            Code.INVALID_PARAMS, f"{text[:40]!r} says no time.",
            "Write it like 6h, 7d, 4w or 2026-11-01.",
        ) from None  # fmt: skip


def _print(found: Usage) -> None:
    dated = found.by != "device"
    columns = [
        *([Column("WHEN")] if dated else []),
        Column("DEVICE", shrink=True),
        Column("ID", 2),
        Column("UP", 1, right=True),
        Column("DOWN", 1, right=True),
        Column("BOTH", right=True),
    ]
    rows = [
        [*([_when(row)] if dated else []), row.label, row.peer_id,
         *_sizes(row.from_tunnel_bytes, row.to_tunnel_bytes)]
        for row in found.rows
    ]  # fmt: skip
    if rows:
        sums = _sizes(found.from_tunnel_bytes, found.to_tunnel_bytes)
        rows.append(["in all", *([""] if dated else []), "", *sums])
    print_table(columns, rows, "Nothing was used in that time.")
    if found.left_out:
        tell(f"{found.left_out} earlier lines are left out; they are in the sum.", "dim")


def _sizes(up: int, down: int) -> tuple[str, str, str]:
    return size(up), size(down), size(up + down)


def _when(row: UsageRow) -> str:
    """A day or month as it is, an hour in the time of here."""
    if "T" not in row.period:
        return row.period
    return datetime.fromtimestamp(row.begins_at).astimezone().strftime("%Y-%m-%d %H:%M")


def _print_csv(found: Usage) -> None:
    """A line for each row, and none for the sum: spreadsheets add."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("period", "device", "id", "up", "down"))
    for row in found.rows:
        label = f"'{row.label}" if row.label.startswith(_FORMULA) else row.label
        out.writerow((row.period, label, row.peer_id, row.from_tunnel_bytes, row.to_tunnel_bytes))
