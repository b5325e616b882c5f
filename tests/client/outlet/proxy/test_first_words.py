"""A program waits for the far host, so what it asks for leaves before all else is done."""

from __future__ import annotations

import gc
import select
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from client.outlet.proxy.dialer import Dialer
from client.outlet.proxy.handles import Bound
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.place import ProxyPlace, listen
from client.reconnect import Ending
from eventloop.poller import running_poller
from netstack.tcp_segment import SYN
from tests.client.outlet.proxy.link_log import LinkLog
from tests.fakes.ports import free_port
from tests.vshp.dialogue import LEASE

HOST = bytes((192, 0, 2, 80))
FLAGS = 20 + 13
"""Where they are in an IPv4 packet with TCP."""


class Outbox:
    """A `Carrier` that keeps what was pushed, and what stood in the stack's heap by then."""

    def __init__(self) -> None:
        self.poller = running_poller()
        self.writer = LinkLog(offload=True)
        self.offload = True
        self.received_packets_bytes = 0
        self.sent_packets_bytes = 0
        self.dialer: Dialer | None = None
        self.pushed: list[tuple[int, float | None]] = []
        self.sizes: list[int] = []

    def push(self) -> None:
        assert self.dialer is not None
        packets = self.writer.take()
        self.sizes.append(len(packets))
        for packet in packets:
            self.pushed.append((packet.data[FLAGS], self.dialer.stack.timers.get_timer()))

    def count(self, name: str) -> None: ...

    def wait_for_room(self) -> None: ...

    def end(self, ending: Ending) -> None: ...


async def test_a_syn_leaves_before_its_timers_are_set_and_others_do_not_hold_it_up() -> None:
    dialer, link = Dialer(), Outbox()
    link.dialer = dialer
    dialer.attach(link, replace(LEASE, offload=True))
    dialer.after_batch(dialer.now())
    assert not link.pushed

    told: list[Outcome] = []

    def outcome(what: Outcome, bound: Bound | None) -> None:
        told.append(what)

    programs = [socket.socketpair() for _ in range(3)]
    for number, (ours, _) in enumerate(programs, 1):
        dialer.connect(ours, HOST, 80, outcome)
        assert [flags for flags, _ in link.pushed] == [SYN] * number
    assert link.pushed[0][1] is None
    assert not told
    dialer.close()
    assert told == [Outcome.AWAY] * 3
    for pair in programs:
        for end in pair:
            end.close()


async def test_a_names_questions_leave_together_before_connect_returns() -> None:
    dialer, link = Dialer(), Outbox()
    link.dialer = dialer
    dialer.attach(link, replace(LEASE, offload=True))
    dialer.after_batch(dialer.now())
    link.sizes.clear()
    ours, program = socket.socketpair()
    with ours, program:
        for number in (1, 2):
            dialer.connect(ours, f"www{number}.example.com", 80, lambda what, bound: None)
            assert link.sizes == [2] * number
        dialer.close()


@pytest.mark.parametrize("kind", ["IPv4", "IPv6", "Unix"])
def test_letting_a_program_in_looks_up_no_enum(kind: str, tmp_path: Path) -> None:
    """Each look-up is four calls, and there would be two before the program is heard."""
    port = free_port()
    place = {
        "IPv4": ProxyPlace(port=port),
        "IPv6": ProxyPlace("::1", port),
        "Unix": ProxyPlace(path=str(tmp_path / "proxy")),
    }[kind]
    called: list[str] = []

    def calls(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.append(Path(frame.f_code.co_filename).name)

    with listen(place) as listener, socket.socket(listener.family) as program:
        program.connect(place.path or (place.host, place.port))
        select.select([listener], [], [])
        # What else there is to be collected is collected later: it may have finalizers.
        gc.disable()
        sys.setprofile(calls)
        try:
            sock, _ = listener.accept()
        finally:
            sys.setprofile(None)
            gc.enable()
        with sock:
            assert called and set(called) == {"socket.py"}
            assert (sock.family, sock.type) == (program.family, socket.SOCK_STREAM)
            program.sendall(b"x")
            assert sock.recv(1) == b"x"
