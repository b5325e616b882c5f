"""IPv4 addresses that an IPv6 address only spells: pure."""

from __future__ import annotations


def spelled_ipv4(host: bytes) -> list[bytes]:
    """The IPv4 addresses that an IPv6 one would reach by translation or tunnelling."""
    inner: list[bytes] = []
    if host[:12] == bytes(10) + b"\xff\xff" or host[:12] == bytes(12):
        # IPv4-mapped and IPv4-compatible (RFC 4291 2.5.5).
        inner.append(host[12:])
    elif host[:12] == bytes(8) + b"\xff\xff\x00\x00":
        # IPv4-translated (RFC 7915 / 2765).
        inner.append(host[12:])
    elif host[:4] == b"\x00\x64\xff\x9b":
        # NAT64: the well-known prefix (RFC 6052) and the local-use 64:ff9b:1::/48 (RFC 8215),
        # whose operators choose any of RFC 6052's lengths.
        candidates = [host[12:]]
        if host[4:6] == b"\x00\x01":
            candidates += [host[6:8] + host[9:11], host[7:8] + host[9:12], host[9:13]]
            # Where the prefix is another length these are zeros, which reach nothing.
            candidates = [address for address in candidates if address[0]]
        inner.extend(candidates)
    elif host[:2] == b"\x20\x02":
        # 6to4 (RFC 3056).
        inner.append(host[2:6])
    elif host[:4] == b"\x20\x01\x00\x00":
        # Teredo (RFC 4380 4): the server, and the client's address complemented.
        inner.extend((host[4:8], bytes(b ^ 0xFF for b in host[12:])))
    if host[8:12] in (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"):
        # ISATAP (RFC 5214 6.1).
        inner.append(host[12:])
    return inner
