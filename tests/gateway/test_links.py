"""Links speak the gateway's words: what is behind them is theirs alone."""

from __future__ import annotations

import ast
from pathlib import Path

import gateway
from gateway.link import Link

GATEWAY = Path(gateway.__file__).parent
LINKS = {"link.py", "stream_link.py", "datagram_link.py"}
"""Those that drive a session of VSHP's."""


def sessions_used(text: str) -> list[int]:
    """The lines on which something's `session` is taken."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and node.attr == "session"
    ]


def test_no_session_is_used_outside_the_links() -> None:
    used = {
        str(path.relative_to(GATEWAY)): lines
        for path in GATEWAY.rglob("*.py")
        if (lines := sessions_used(path.read_text()))
    }
    assert used.keys() == LINKS, used


def test_what_all_links_have_names_no_session() -> None:
    assert not any("session" in name for name in vars(Link))
