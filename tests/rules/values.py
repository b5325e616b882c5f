"""Rules as Hypothesis makes them: each by itself what can be written."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from hypothesis import strategies as st

from rules.sets import SETS
from rules.value import (
    ALL_NAMES,
    MAX_LIMIT,
    MAX_QUOTA,
    MIN_LIMIT,
    Destination,
    Direction,
    Period,
    Protocol,
    Quota,
    Rules,
    Span,
    Target,
    Verdict,
)

minutes = st.integers(0, 1439)


@st.composite
def quotas(draw: st.DrawFn) -> Quota:
    period = draw(st.sampled_from(list(Period)))
    return Quota(
        draw(st.integers(1, MAX_QUOTA)),
        draw(st.sampled_from(list(Direction))),
        period,
        0 if period is Period.TOTAL else draw(minutes),
        draw(st.integers(0, 6)) if period is Period.WEEK else 0,
        draw(st.integers(1, 31)) if period is Period.MONTH else 1,
    )


@st.composite
def spans(draw: st.DrawFn) -> Span:
    days = draw(st.sets(st.integers(0, 6), min_size=1))
    begins = draw(minutes)
    ends = draw(st.integers(1, 1440).filter(lambda end: end != begins))
    return Span(tuple(sorted(days)), begins, ends)


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network | IPv6Network:
    version = draw(st.sampled_from([4, 6]))
    bits = 32 if version == 4 else 128
    length = draw(st.integers(0, bits))
    place = draw(st.integers(0, 2**bits - 1)) >> (bits - length) << (bits - length)
    network = ip_network((place.to_bytes(bits // 8, "big"), length))
    # Such a one is read as the IPv4 network that it is.
    mapped = version == 6 and length >= 96 and place >> 32 == 0xFFFF
    return ip_network("2001:db8::/32") if mapped else network


@st.composite
def ports(draw: st.DrawFn) -> tuple[tuple[int, int], ...]:
    edges = sorted(draw(st.sets(st.integers(1, 32767), max_size=16)))
    doubled = [edge * 2 for edge in edges]
    return tuple(zip(doubled[::2], doubled[1::2], strict=False))


labels = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)


@st.composite
def targets(draw: st.DrawFn) -> Target:
    if not draw(st.integers(0, 9)):
        return Target(name=ALL_NAMES)
    if draw(st.booleans()):
        names = [*draw(st.lists(labels, max_size=3)), draw(st.sampled_from(["example", "test"]))]
        return Target(name=draw(st.sampled_from([".", ".".join(names)])))
    protocol = draw(st.sampled_from(list(Protocol)))
    ranges = () if protocol is Protocol.ICMP else draw(ports())
    return Target(draw(st.none() | networks()), "", protocol, ranges)


destinations = st.builds(Destination, st.sampled_from(list(Verdict)), targets()) | st.builds(
    Destination, st.sampled_from(list(Verdict)), shipped=st.sampled_from(list(SETS))
)

limits = st.none() | st.integers(MIN_LIMIT, MAX_LIMIT)

rules = st.builds(
    Rules,
    quota=st.none() | quotas(),
    limit_up=limits,
    limit_down=limits,
    until=st.none() | st.floats(1, 1e11),
    hours=st.lists(spans(), max_size=5).map(tuple),
    paused=st.booleans(),
    destinations=st.lists(destinations, max_size=8).map(tuple),
    max_flows=st.none() | st.integers(1, 65535),
)
