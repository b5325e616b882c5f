"""The clocks are handed in: who may look at the machine's is a short list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

COMPOSERS = {
    "gateway/gateway.py", "client/client.py", "client/outlet/nic/flows.py",
    "client/outlet/proxy/flows.py", "services/events.py", "services/hooks.py",
    "services/ledger.py",
}  # fmt: skip
"""What they hand on is the machine's `Clock`, unless they are given another."""

DRIVERS = {
    "client/link.py", "client/stream_link.py", "client/datagram_link.py",
    "client/outlet/proxy/dialer.py",
}  # fmt: skip
"""Their sockets are the poller's, which tells the time by the monotonic clock; so do they where
somebody else calls."""

PROGRAMS = {"services/demo.py", "services/demo_traffic.py"}
"""Commands that run beside the services."""


def looks(tree: ast.AST) -> Iterator[str]:
    """`time.time` and `time.monotonic`, called or handed on, and the machine's `Clock`."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr="time" | "monotonic" as name):
                yield name
            case ast.ImportFrom(module="time", names=names):
                yield from (each.name for each in names if each.name in ("time", "monotonic"))
            case ast.ImportFrom(module="eventloop.clock", names=names):
                yield from (each.name for each in names if each.name == "SYSTEM")


def test_who_looks_at_the_machines_clocks() -> None:
    files = [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "client").rglob("*.py")]
    files += (ROOT / "services").glob("*.py")
    found: dict[str, set[str]] = {}
    for path in files:
        for name in looks(ast.parse(path.read_text())):
            found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    assert found.pop("SYSTEM") == COMPOSERS
    assert found.pop("time", set()) - PROGRAMS == set()
    assert found.pop("monotonic") - PROGRAMS == DRIVERS
    assert found == {}
