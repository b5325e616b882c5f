"""The NIC's port: packets read straight into the link's batch, and written from where they lie.

Theory of operation. The NIC's descriptor is watched on the loop's fast lane
(`eventloop.poller`):

- NIC to gateway: each packet is read straight into the session's batch, several
  per wake-up; then the batch is sealed and sent. While there is no room in the
  queue to the link the NIC is read no more: packets then wait in the NIC's
  queue, where the kernel's own TCP feels them.
- gateway to NIC: for each packet in what was received the session calls back,
  and it is written to the NIC from where it lies. The virtio header, where
  there is one, is the ten bytes before it. Over a stream `walk` goes over a record's
  frames first and takes the packets that are like others before.

  What may not enter this device (`ingress`) is dropped first.

A NIC that refuses a packet (a stranger's garbage, a full queue) loses that
packet, and a counter says so; nothing is raised. A NIC that is gone ends the link.
"""

from __future__ import annotations

import os
import select

from client.outlet.nic.ingress import IPV4_START, IPV6_HEADER, Ingress, ipv4_head, ipv6_pair
from client.outlet.nic.nic import VNET_HEADER_SIZE, Nic
from client.outlet.nic.walk import ZERO_HEADER, known_into_nic
from client.outlet.port import Carrier, Intake
from client.reconnect import Ending
from vshp.config import LeaseConfig
from vshp.core import PacketHandler


class NicPort:
    """Moves packets between one NIC and the link of the moment."""

    __slots__ = ("_bare", "_fd", "_ingress", "_link", "_nic", "_paused", "_scratch")

    def __init__(self, nic: Nic, ingress: Ingress) -> None:
        """Into the NIC only those packets that `ingress` lets pass. The NIC stays its owner's."""
        self._nic = nic
        self._fd = nic.fileno()
        self._ingress = ingress
        self._link: Carrier | None = None
        self._paused = False
        """Whether the NIC is not watched, though there is a link."""
        self._bare = False
        """Frames have no virtio header, though the NIC's packets have."""
        self._scratch = bytearray(VNET_HEADER_SIZE)

    def attach(self, link: Carrier, lease: LeaseConfig) -> Intake:
        """See `Port`."""
        nic = self._nic
        offload = lease.offload and nic.vnet_header
        nic.set_offload(offload, offload and lease.offload_udp and nic.offload_udp)
        self._bare = nic.vnet_header and not (offload and link.offload)
        if link is not self._link:
            self._link = link
            self._paused = False
            link.poller.watch(self._fd, self, select.EPOLLIN)
        packets = known_into_nic(
            link,
            link.count,
            self._fd,
            self._ingress.passed,
            offload,
            nic.vnet_header and not offload,
        )
        return Intake(self._into_nic(link), packets, nic.vnet_header)

    def detach(self) -> None:
        """See `Port`."""
        link, self._link = self._link, None
        if link is not None and not self._paused:
            link.poller.unwatch(self._fd)

    def room_again(self) -> None:
        """See `Port`."""
        if self._link is not None and self._paused:
            self._paused = False
            self._link.poller.watch(self._fd, self, select.EPOLLIN)

    def ready(self, mask: int, now: float) -> None:
        """The NIC has packets: take them until it is empty or the queue is long enough."""
        link = self._link
        if link is None:
            return
        fd, scratch, bare, readv = self._fd, self._scratch, self._bare, os.readv
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
                    link.count("nic__unfinished__dropped")
                elif n > VNET_HEADER_SIZE:
                    return n - VNET_HEADER_SIZE

        writer = link.writer
        writer.read_packets(read)
        if ending is not None:
            link.end(ending)
            return
        link.push()
        if writer.room() <= 0 and self._link is link:
            self._paused = True
            link.poller.unwatch(fd)
            link.wait_for_room()

    def _into_nic(self, link: Carrier) -> PacketHandler:
        """What takes packets from the gateway: a function of its own, whose names are at hand."""
        write, writev, fd, vnet_header = os.write, os.writev, self._fd, self._nic.vnet_header
        passed, judge = self._ingress.passed, self._ingress.judge

        def packet(buf: memoryview, start: int, end: int, offload: bool) -> None:
            link.received_packets_bytes += end - start
            first, pair = ipv4_head(buf, start)
            if first != IPV4_START:
                pair = None
                if first >> 4 == 6 and end - start >= IPV6_HEADER:
                    (pair,) = ipv6_pair(buf, start)
            if pair not in passed:
                why = judge(buf, start, end)
                if why is not None:
                    link.count(why)
                    return
            try:
                if offload:
                    if not vnet_header:
                        link.count("nic__offload_unsupported__dropped")
                        return
                    write(fd, buf[start - VNET_HEADER_SIZE : end])
                elif vnet_header:
                    writev(fd, (ZERO_HEADER, buf[start:end]))
                else:
                    write(fd, buf[start:end])
            except BlockingIOError:
                link.count("nic__queue_full__dropped")
            except OSError:
                link.count("nic__write_refused__dropped")

        return packet
