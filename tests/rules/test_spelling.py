"""What people write is read, spelled back exactly, and refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import spelling
from rules.sets import ABOUT, SETS
from rules.spelling import RuleRefused
from rules.value import (
    MAX_LIMIT,
    MAX_QUOTA,
    MIN_LIMIT,
    Destination,
    Direction,
    Period,
    Protocol,
    Quota,
    Span,
    Target,
    Verdict,
)
from tests.rules import values

NOW = datetime.fromisoformat("2026-11-27 18:00")
DENY, ALLOW = Verdict.DENY, Verdict.ALLOW


def refused(name: str) -> pytest.RaisesExc[RuleRefused]:
    return pytest.raises(RuleRefused, check=lambda error: error.name == name and " " in str(error))


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 10**9), ("1.5 gb", 1_500_000_000), ("2GiB", 2 << 30), ("7B", 7), ("64k", 64_000),
     ("0.5kB", 500)],
)  # fmt: skip
def test_a_size_is_read(text: str, size: int) -> None:
    assert spelling.read_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "12", "-1GB", "1,5GB", "1XB", "0.3B", "1e3B", "٣GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with refused("size_unreadable"):
        spelling.read_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20mbit", 20_000_000), ("512 kbit/s", 512_000), ("1Gbit", 10**9), ("1.5Mbits", 1_500_000),
     ("16kibit", 16_384)],
)  # fmt: skip
def test_a_rate_is_read(text: str, rate: int) -> None:
    assert spelling.read_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "name"),
    [("20", "rate_unreadable"), ("20MB", "rate_unreadable"), ("", "rate_unreadable"),
     ("0mbit", "limit_too_low"), ("7999bit", "limit_too_low"), ("2tbit", "limit_never_applies")],
)  # fmt: skip
def test_what_is_no_rate_is_refused(text: str, name: str) -> None:
    with refused(name):
        spelling.read_rate(text)


@given(st.integers(0, MAX_QUOTA))
def test_sizes_are_spelled_exactly(size: int) -> None:
    assert spelling.read_size(spelling.spell_size(size)) == size


@given(st.integers(MIN_LIMIT, MAX_LIMIT))
def test_rates_are_spelled_exactly(rate: int) -> None:
    assert spelling.read_rate(spelling.spell_rate(rate)) == rate


def test_what_is_round_is_spelled_so() -> None:
    assert spelling.spell_size(1_500_000_000) == "1.5GB"
    assert spelling.spell_size(0) == "0B"
    assert spelling.spell_rate(20_000_000) == "20mbit"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("1h30m", 5400), ("45 min", 2700), ("1w 1d", 691_200), ("30s", 30)],
)
def test_a_length_is_read(text: str, seconds: int) -> None:
    assert spelling.read_length(text) == seconds


@pytest.mark.parametrize(
    ("text", "name"),
    [("", "length_unreadable"), ("2", "length_unreadable"), ("h", "length_unreadable"),
     ("2h!", "length_unreadable"), ("-2h", "length_unreadable"), ("0h", "length_zero"),
     ("600w", "length_too_long")],
)  # fmt: skip
def test_what_is_no_length_is_refused(text: str, name: str) -> None:
    with refused(name):
        spelling.read_length(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("18:30", "2026-11-27 18:30"),
        ("18:00", "2026-11-28 18:00"),
        ("7:05", "2026-11-28 07:05"),
        ("2030-01-31 23:59", "2030-01-31 23:59"),
        ("2030-01-31T23:59", "2030-01-31 23:59"),
    ],
)
def test_a_moment_is_the_next_one(text: str, moment: str) -> None:
    assert spelling.read_moment(text, NOW) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("text", ["", "24:00", "12:60", "noon", "2030-02-30 10:00", "2030-01-31"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with refused("time_unreadable"):
        spelling.read_moment(text, NOW)


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("1GB", Quota(10**9, period=Period.TOTAL)),
        ("1GB/day", Quota(10**9)),
        ("1 GB".replace(" ", "") + " /day up from 04:00", Quota(10**9, Direction.UP, begins=240)),
        (
            "10GB/week down on wednesday from 04:30",
            Quota(10**10, Direction.DOWN, Period.WEEK, 270, 2),
        ),
        ("50GB/month on 31", Quota(5 * 10**10, period=Period.MONTH, day=31)),
    ],
)
def test_a_quota_is_read(text: str, quota: Quota) -> None:
    assert spelling.read_quota(text) == quota


@pytest.mark.parametrize(
    ("text", "name"),
    [("", "size_unreadable"), ("1GB/year", "quota_period_unknown"), ("0B/day", "quota_zero"),
     ("2000PB/day", "quota_never_applies"), ("1GB/day sideways", "quota_unreadable"),
     ("1GB from 04:00", "quota_unreadable"), ("1GB/day on mon", "quota_unreadable"),
     ("1GB/day from 24:00", "time_unreadable"), ("1GB/day from", "time_unreadable"),
     ("1GB/week on 15", "day_unknown"), ("1GB/month on 0", "day_unknown"),
     ("1GB/month on 32", "day_unknown"), ("1GB/day " + "x" * 400, "text_too_long")],
)  # fmt: skip
def test_what_is_no_quota_is_refused(text: str, name: str) -> None:
    with refused(name):
        spelling.read_quota(text)


@given(values.quotas())
def test_quotas_are_spelled_exactly(quota: Quota) -> None:
    assert spelling.read_quota(spelling.spell_quota(quota)) == quota


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("mon-fri 07:00-21:00", Span((0, 1, 2, 3, 4), 420, 1260)),
        ("sat,sun 22:00-06:00", Span((5, 6), 1320, 360)),
        ("fri-mon 10:00-24:00", Span((0, 4, 5, 6), 600, 1440)),
        ("sun 20:00-00:00", Span((6,), 1200, 1440)),
        ("07:00-21:00", Span((0, 1, 2, 3, 4, 5, 6), 420, 1260)),
        ("Saturday", Span((5,), 0, 1440)),
    ],
)
def test_a_span_is_read(text: str, span: Span) -> None:
    assert spelling.read_span(text) == span


@pytest.mark.parametrize(
    ("text", "name"),
    [("", "span_unreadable"), ("mon tue", "span_unreadable"), ("mon 7-21", "span_unreadable"),
     ("mon 07:00", "span_unreadable"), ("mon 07:00-25:00", "time_unreadable"),
     ("mon 24:00-07:00", "time_unreadable"), ("mon 07:00-07:00", "span_empty"),
     ("moon 07:00-08:00", "day_unknown"), ("mo 07:00-08:00", "day_unknown")],
)  # fmt: skip
def test_what_are_no_hours_is_refused(text: str, name: str) -> None:
    with refused(name):
        spelling.read_span(text)


@given(values.spans())
def test_spans_are_spelled_exactly(span: Span) -> None:
    assert spelling.read_span(spelling.spell_span(span)) == span


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("deny 10.0.0.0/8", Destination(DENY, Target(ip_network("10.0.0.0/8")))),
        ("deny ::ffff:10.0.0.0/104", Destination(DENY, Target(ip_network("10.0.0.0/8")))),
        ("deny ::ffff:10.1.2.3", Destination(DENY, Target(ip_network("10.1.2.3")))),
        ("deny 2001:DB8::/32", Destination(DENY, Target(ip_network("2001:db8::/32")))),
        ("allow tcp 443", Destination(ALLOW, Target(protocol=Protocol.TCP, ports=((443, 443),)))),
        (
            "allow 192.0.2.1 udp ports 53,9000-9010,9005-9011",
            Destination(
                ALLOW,
                Target(ip_network("192.0.2.1"), "", Protocol.UDP, ((53, 53), (9000, 9011))),
            ),
        ),
        ("deny port 25", Destination(DENY, Target(ports=((25, 25),)))),
        ("deny icmp", Destination(DENY, Target(protocol=Protocol.ICMP))),
        ("DENY all", Destination(DENY)),
        ("deny name *.Ads.Example.", Destination(DENY, Target(name="ads.example"))),
        ("deny ads.example", Destination(DENY, Target(name="ads.example"))),
        ("deny name bücher.example", Destination(DENY, Target(name="xn--bcher-kva.example"))),
        ("deny name *", Destination(DENY, Target(name="."))),
        ("deny name zip", Destination(DENY, Target(name="zip"))),
        ("deny name *", Destination(DENY, Target(name="."))),
        ("deny set mail", Destination(DENY, shipped="mail")),
    ],
)
def test_a_destination_is_read(text: str, entry: Destination) -> None:
    assert spelling.read_destination(text) == entry


@pytest.mark.parametrize(
    ("text", "name"),
    [("", "destination_unreadable"), ("deny", "destination_unreadable"),
     ("10.0.0.0/8", "destination_unreadable"), ("forbid 10.0.0.0/8", "destination_unreadable"),
     ("deny any", "destination_unreadable"), ("deny mail", "destination_unreadable"),
     ("deny 0.0.0.0/0 name x.example", "destination_unreadable"),
     ("deny tcp 443 80", "destination_unreadable"), ("deny name a b", "destination_unreadable"),
     ("deny 10.0.0.1/8", "network_has_host_bits"), ("deny 10.0.0.0/33", "network_unreadable"),
     ("deny 300.1.2.3", "network_unreadable"), ("deny 10/8", "network_unreadable"),
     ("deny 2001:::1", "network_unreadable"), ("deny 10.0.0", "name_is_address"),
     ("deny name 10.0.0.1", "name_is_address"), ("deny name a..b", "name_unreadable"),
     ("deny name -a.example", "name_unreadable"), ("deny name " + "a" * 64, "name_unreadable"),
     ("deny set adverts", "set_unknown"), ("deny tcp 0", "ports_unreadable"),
     ("deny tcp 65536", "ports_unreadable"), ("deny tcp 9-8", "ports_unreadable"),
     ("deny tcp port", "ports_unreadable"), ("deny icmp 8", "ports_unreadable"),
     ("deny tcp " + ",".join(str(port) for port in range(1, 40, 2)), "too_many_ports")],
)  # fmt: skip
def test_what_is_no_destination_is_refused(text: str, name: str) -> None:
    with refused(name):
        spelling.read_destination(text)


@given(values.destinations)
def test_destinations_are_spelled_exactly(entry: Destination) -> None:
    assert spelling.read_destination(spelling.spell_destination(entry)) == entry


READERS = [
    spelling.read_size,
    spelling.read_rate,
    spelling.read_length,
    spelling.read_quota,
    spelling.read_span,
    spelling.read_destination,
    spelling.read_name,
    lambda text: spelling.read_moment(text, NOW),
    lambda text: spelling.read_destination(f"deny {text}"),
    lambda text: spelling.read_quota(f"1GB/month {text}"),
    lambda text: spelling.read_span(f"mon {text}"),
]

ANY_TEXT = st.text(max_size=60) | st.text("0123456789.:/-,ab denyallowsettcpport", max_size=60)


@given(st.sampled_from(READERS), ANY_TEXT)
def test_any_text_is_read_or_refused_in_words_that_move_no_cursor(
    reader: Callable[[str], object], text: str
) -> None:
    try:
        reader(text)
    except RuleRefused as refusal:
        assert str(refusal).isprintable()
        assert len(str(refusal)) < 400


def test_every_set_has_its_words_and_is_not_empty() -> None:
    assert SETS.keys() == ABOUT.keys()
    assert all(SETS.values())
    named = [target.name for targets in SETS.values() for target in targets if target.name]
    assert [spelling.read_name(name) for name in named] == named
