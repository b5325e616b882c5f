"""A link: what carries one VSHP session, and the pump between session, NIC and socket.

Theory of operation. The link is the only driver of its session. Two descriptors,
watched on the loop's fast lane (`eventloop.poller`), carry the packets:

- NIC to gateway: each packet is read straight into the session's batch, several
  per wake-up; then the batch is sealed and sent. When
  the queue to the link is used up (`room() <= 0`) the NIC is read no more until
  the socket has taken some: packets then wait in the NIC's queue, where the
  kernel's own TCP feels them.
- gateway to NIC: for each packet in what was received the session calls back,
  and it is written to the NIC from where it lies. The virtio header, where
  there is one, is the ten bytes before it. Over a stream `walk` goes over a record's
  frames first and takes the packets that are like others before.

  What may not enter this device (`ingress`) is dropped first.

A NIC that refuses a packet (a stranger's garbage, a full queue) loses that
packet, and a counter says so; nothing is raised. Life-cycle events go to the
owner. A link that ends says why, once, and is done; the NIC lives on for the
next link. `stream_link` and `datagram_link` are the two kinds.
"""

from __future__ import annotations

import asyncio
import os
import select
from time import monotonic

from client.driver import LinkOwner
from client.ingress import IPV4_START, IPV6_HEADER, Ingress, ipv4_head, ipv6_pair
from client.model import TransportEndpoint
from client.nic import VNET_HEADER_SIZE, Nic
from client.reconnect import Ending
from client.walk import ZERO_HEADER, known_into_nic
from eventloop.poller import running_poller
from sealing.errors import ProtocolError
from vshp.config import CloseReason, LeaseConfig
from vshp.core import CLOSED, PacketHandler, PacketsHandler
from vshp.datagram_session import DatagramClientSession
from vshp.events import LinkDead, PeerClosed
from vshp.session import ClientSession
from vshp.states import State


class _NicReader:
    """Takes the events of a link's NIC."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def ready(self, mask: int, now: float) -> None:
        self._link.nic_ready(now)


class Link:
    """What both kinds share: the NIC, the session's events and timer, the end."""

    __slots__ = (
        "_closed",
        "_counters",
        "_ingress",
        "_loop",
        "_nic",
        "_nic_fd",
        "_nic_paused",
        "_nic_reader",
        "_offload",
        "_owner",
        "_poller",
        "_scratch",
        "_timer",
        "_timer_at",
        "_vnet_header",
        "endpoint",
        "local_address",
        "received_packets_bytes",
        "sent_packets_bytes",
        "session",
    )

    session: ClientSession | DatagramClientSession

    def __init__(
        self,
        owner: LinkOwner,
        endpoint: TransportEndpoint,
        session: ClientSession | DatagramClientSession,
        local_address: str,
    ) -> None:
        """The handshake begins in the loop's next turn."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._poller = running_poller()
        self._ingress = Ingress()
        self._nic: Nic | None = None
        self._nic_fd = -1
        self._nic_reader = _NicReader(self)
        self._nic_paused = False
        self._vnet_header = False
        self._offload = False
        self._scratch = bytearray(VNET_HEADER_SIZE)
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._counters: dict[str, int] = {}
        self.endpoint = endpoint
        self.local_address = local_address
        self.received_packets_bytes = 0
        self.sent_packets_bytes = 0
        self.session = session
        session.on_packet = self._no_nic
        self._loop.call_soon(self._begin)

    @property
    def counters(self) -> dict[str, int]:
        """The session's and ours; names do not overlap."""
        return self.session.counters | self._counters

    def attach(self, nic: Nic, lease: LeaseConfig, ingress: Ingress) -> None:
        """See `LinkDriver`."""
        if self._closed or self._nic is nic:
            return
        self._ingress = ingress
        self._nic = nic
        self._nic_fd = nic.fileno()
        self._vnet_header = nic.vnet_header
        self.change(lease)
        self._nic_paused = False
        self._poller.watch(self._nic_fd, self._nic_reader, select.EPOLLIN)

    def detach(self) -> None:
        """See `LinkDriver`."""
        if self._nic is not None:
            if not self._nic_paused:
                self._poller.unwatch(self._nic_fd)
            self._nic = None
            self._nic_fd = -1
        self.session.on_packet = self._no_nic
        self.session.on_packets = None

    def change(self, lease: LeaseConfig) -> None:
        """See `LinkDriver`."""
        nic = self._nic
        if nic is None:
            return
        self._offload = lease.offload and nic.vnet_header
        nic.set_offload(self._offload, self._offload and lease.offload_udp and nic.offload_udp)
        self.session.on_packet = self._into_nic()
        self.session.on_packets = self._known_into_nic()

    def ping(self) -> None:
        """See `LinkDriver`."""
        now = monotonic()
        if not self._closed and self.session.peer_key is not None:
            try:
                self.session.ping(now)
            except ProtocolError:
                # Keys are not agreed on yet; the handshake's own time-out watches.
                return
            self._send()
            self._arm()

    def agree(self, code: str) -> None:
        """See `LinkDriver`."""
        session = self.session
        if not self._closed and session.state is State.CONSENT and session.code == code:
            self.session.agree(monotonic())
            self._send()
            self._arm()

    def follow(self) -> bool:
        """See `LinkDriver`."""
        raise NotImplementedError

    def fail(self, ending: Ending) -> None:
        """See `LinkDriver`."""
        if not self._closed:
            self._over(ending)

    def drop(self) -> None:
        """See `LinkDriver`."""
        self._drop()

    def close(self, reason: CloseReason) -> None:
        """See `LinkDriver`."""
        if self._closed:
            return
        if not self.session.closed:
            self.session.close(reason, monotonic())
        self._last_words()
        self._drop()

    # --- what a kind of link provides ------------------------------------------------------

    def ready(self, mask: int, now: float) -> None:
        """The poller's call: the socket has something, or room."""
        raise NotImplementedError

    def _send(self) -> None:
        """Seal and send until the socket is full or nothing is left; then `_balance`."""
        raise NotImplementedError

    def _last_words(self) -> None:
        """What the session still has to say, as far as the socket takes it at once."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """Close the socket."""
        raise NotImplementedError

    # --- the NIC ---------------------------------------------------------------------------

    def nic_ready(self, now: float) -> None:
        """The NIC has packets: take them until it is empty or the queue is long enough."""
        raise NotImplementedError

    def _take_packets(self, bare: bool) -> None:
        """`bare`: frames have no virtio header, though the NIC's packets have."""
        fd, scratch, readv = self._nic_fd, self._scratch, os.readv
        ending: Ending | None = None

        def read(view: memoryview) -> int:
            nonlocal ending
            while True:
                try:
                    n = readv(fd, (scratch, view) if bare else (view,))
                except (BlockingIOError, InterruptedError):
                    return 0
                except OSError as error:
                    ending = Ending("nic_lost", error.strerror or "", authenticated=False)
                    return 0
                if not n:
                    ending = Ending("nic_lost", authenticated=False)
                    return 0
                if not bare:
                    return n
                if scratch[0] or scratch[1]:
                    # Left in the queue from before offload was turned off: its sender's
                    # kernel sends it again, finished.
                    self._count("nic__unfinished__dropped")
                elif n > VNET_HEADER_SIZE:
                    return n - VNET_HEADER_SIZE

        self.sent_packets_bytes += self.session.writer.read_packets(read)
        if ending is not None:
            self._settle(ending)
            return
        self._send()
        self._arm()

    def _balance(self) -> None:
        """After sending: read the NIC if and only if there is room for what it has."""
        if self._nic is None:
            return
        paused = self.session.writer.room() <= 0
        if paused is not self._nic_paused:
            self._nic_paused = paused
            if paused:
                self._poller.unwatch(self._nic_fd)
            else:
                self._poller.watch(self._nic_fd, self._nic_reader, select.EPOLLIN)

    def _into_nic(self) -> PacketHandler:
        """What takes packets from the gateway: a function of its own, whose names are at hand."""
        write, writev, fd, vnet_header = os.write, os.writev, self._nic_fd, self._vnet_header
        passed, judge = self._ingress.passed, self._ingress.judge

        def packet(buf: memoryview, start: int, end: int, offload: bool) -> None:
            self.received_packets_bytes += end - start
            first, pair = ipv4_head(buf, start)
            if first != IPV4_START:
                pair = None
                if first >> 4 == 6 and end - start >= IPV6_HEADER:
                    (pair,) = ipv6_pair(buf, start)
            if pair not in passed:
                why = judge(buf, start, end)
                if why is not None:
                    self._count(why)
                    return
            try:
                if offload:
                    if not vnet_header:
                        self._count("nic__offload_unsupported__dropped")
                        return
                    write(fd, buf[start - VNET_HEADER_SIZE : end])
                elif vnet_header:
                    writev(fd, (ZERO_HEADER, buf[start:end]))
                else:
                    write(fd, buf[start:end])
            except BlockingIOError:
                self._count("nic__queue_full__dropped")
            except OSError:
                self._count("nic__write_refused__dropped")

        return packet

    def _known_into_nic(self) -> PacketsHandler:
        """The same for packets of pairs that passed before, as one loop over a record's frames:
        of small packets there are so many that each call between session and NIC counts."""
        bare = self._vnet_header and not self._offload
        return known_into_nic(
            self, self._count, self._nic_fd, self._ingress.passed, self._offload, bare
        )

    def _no_nic(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        """Before the NIC is set up, packets go nowhere."""
        self._count("nic__not_ready__dropped")

    # --- the session -----------------------------------------------------------------------

    def _begin(self) -> None:
        """Message one."""
        if not self._closed:
            self._send()
            self._arm()

    def _settle(self, ending: Ending | None) -> None:
        """After every call into the session: news, bytes, timer, end."""
        session = self.session
        while not self._closed:
            event = session.next_event()
            if event is None:
                break
            if isinstance(event, PeerClosed):
                ending = Ending(str(event.reason), event.detail, event.authenticated)
            elif isinstance(event, LinkDead):
                ending = Ending("link_dead", authenticated=False)
            else:
                self._owner.link_event(self, event)
        if self._closed:
            return
        if ending is None and session.state is CLOSED:
            ending = Ending("link_lost", authenticated=False)
        if ending is not None:
            self._last_words()
            self._over(ending)
            return
        self._send()
        self._arm()

    def _arm(self) -> None:
        """Have the loop call when the session's timer is due; a later one is checked then."""
        at = None if self._closed else self.session.get_timer()
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - monotonic()), self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        if self._closed:
            return
        now = monotonic()
        at = self.session.get_timer()
        if at is not None and at <= now:
            self.session.handle_timer(now)
        self._settle(None)

    # --- ends ------------------------------------------------------------------------------

    def _over(self, ending: Ending) -> None:
        self._drop()
        self._owner.link_over(self, ending)

    def _drop(self) -> None:
        if self._closed:
            return
        self.detach()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._let_go()

    def _count(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0) + 1
