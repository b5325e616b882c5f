"""What a gateway may put into this device: packets for the lease's addresses, from far hosts.

Theory of operation. Whatever is written to the NIC is, for the kernel, a packet that came in:
it is delivered to any address of this host, forwarded where forwarding is on, and its source
is believed. So each packet is looked at first. Its two addresses lie together in the header;
they are the key of a set of pairs that passed before, so a packet of a known pair costs one
look-up. A pair that is new is judged: the destination is one of the lease's, the source can be
beyond the gateway (`judgement.from_far`). What the host is may change; the set is then empty
again. IPv4 packets with options are not taken: a source route is one.

The set is bounded; when it is full it is begun anew.
"""

from __future__ import annotations

import ipaddress
import struct

from client.judgement import HostFacts, LeaseAddresses, from_far
from vshp.config import LeaseConfig

MAX_PAIRS = 4096

IPV4_START = 0x45
"""Version 4, and a header without options (RFC 791 3.1)."""
IPV4_HEADER, IPV6_HEADER = 20, 40
IPV4_HEAD, IPV6_HEAD = "B11xQ", "B7x32s"
"""What counts of a packet, in `struct`'s letters: its first byte and its pair."""
ipv4_head = struct.Struct("<" + IPV4_HEAD).unpack_from
"""First byte, and the pair as a number: 20 bytes (RFC 791 3.1)."""
ipv6_pair = struct.Struct("8x32s").unpack_from
"""The pair as bytes: 40 bytes (RFC 8200 section 3)."""


class Ingress:
    """The pairs that pass, for one lease on one host. Made once; links share it."""

    __slots__ = ("_destinations", "_facts", "_lease", "passed")

    def __init__(self) -> None:
        """Nothing passes until `admit` was called."""
        self.passed: set[int | bytes] = set()
        """Pairs, as `ipv4_head` and `ipv6_pair` find them. Always the same set."""
        self._destinations: frozenset[bytes] = frozenset()
        self._lease = LeaseAddresses()
        self._facts = HostFacts()

    def admit(self, lease: LeaseConfig | None, facts: HostFacts) -> None:
        """From now on packets of this lease pass, on a host like this."""
        self._lease = LeaseAddresses.of(lease)
        self._facts = facts
        self._destinations = frozenset(address.packed for address in self._lease.own)
        self.passed.clear()

    def judge(self, buf: memoryview, start: int, end: int) -> str | None:
        """Why a packet whose pair is not in `passed` is dropped, as its counter is named;
        None when it passes, with those like it."""
        first, size = buf[start], end - start
        pair: int | bytes
        if first == IPV4_START and size >= IPV4_HEADER:
            pair = ipv4_head(buf, start)[1]
            middle, tail = start + 16, start + 20
        elif first >> 4 == 6 and size >= IPV6_HEADER:
            pair = ipv6_pair(buf, start)[0]
            middle, tail = start + 24, start + 40
        else:
            return "ingress__malformed__dropped"
        if bytes(buf[middle:tail]) not in self._destinations:
            return "ingress__destination__dropped"
        source = ipaddress.ip_address(bytes(buf[2 * middle - tail : middle]))
        if not from_far(source, self._facts, self._lease):
            return "ingress__source__dropped"
        if len(self.passed) >= MAX_PAIRS:
            self.passed.clear()
        self.passed.add(pair)
        return None
