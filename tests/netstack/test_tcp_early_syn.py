"""A SYN that leaves before its connection is made is that connection's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netstack.tcp.config import TcpConfig
from netstack.tcp.connection import TcpConnection
from netstack.tcp.handshake import open_early
from netstack.tcp.states import State
from tests.netsim.out import PacketLog
from tests.netstack.tcp.dialogue import ISS, START, Dialogue

ENDS = {
    4: (bytes((10, 99, 0, 2)), 40_000, bytes((192, 0, 2, 1)), 443),
    6: (b"\xfd" + bytes(14) + b"\x02", 40_000, b"\x20\x01" + bytes(13) + b"\x01", 443),
}
PLAIN = TcpConfig(reliable=False, congestion="cubic")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        replace(PLAIN, timestamps=False),
        replace(PLAIN, sack=False),
        replace(PLAIN, window_scaling=False),
        replace(PLAIN, mss=1200, receive_window=5000),
        replace(PLAIN, receive_window=1 << 20, max_receive_window=1 << 24, ttl=9),
    ],
    ids=["all", "no timestamps", "no SACK", "no scaling", "small window", "large window"],
)
def test_it_says_and_leaves_behind_what_a_connections_own_syn_does(
    version: int, config: TcpConfig
) -> None:
    user = Dialogue()
    usual, early = PacketLog(), PacketLog()
    first = TcpConnection(version, *ENDS[version], user, config, ISS, usual)
    first.connect(START)
    opening = open_early(version, *ENDS[version], config, ISS, early, START)
    sent = early.take()
    assert sent == usual.take() and len(sent) == 1
    second = TcpConnection(
        version, *ENDS[version], user, opening.config, ISS, early, opening.writer
    )
    second.connect(START, early=True)
    assert not early.take(), "it has been sent already"
    assert second.state is State.SYN_SENT
    assert repr(second) == repr(first)
    assert second.receive_window == first.receive_window
    due = first.get_timer()
    assert due is not None and second.get_timer() == due
    for conn in (first, second):
        conn.handle_timer(due)
    again = early.take()
    assert again == usual.take() and len(again) == 1


def test_without_a_link_it_waits_for_one() -> None:
    opening = open_early(4, *ENDS[4], PLAIN, ISS, None, START)
    conn = TcpConnection(4, *ENDS[4], Dialogue(), PLAIN, ISS, None, opening.writer)
    conn.connect(START, early=True)
    assert conn.get_timer() is None
    log = PacketLog()
    conn.link_resumed(log, START + 5, True)
    conn.output(START + 5)
    assert len(log.take()) == 1
