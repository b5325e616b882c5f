"""How people write rules: text to value, and the value's own spelling back.

Each `read_` raises `RuleRefused` with a sentence that names a right way; each `spell_` gives
the text that the `read_` takes for exactly that value. Sizes and rates count in thousands
(`MB`, `mbit`), or in 1,024 with an i (`MiB`). Times are the gateway's local ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from ipaddress import IPv4Network, IPv6Network, ip_network

from rules.sets import SETS
from rules.value import (
    ALL_NAMES,
    EVERYTHING,
    MAX_LIMIT,
    MAX_PORT_RANGES,
    MAX_QUOTA,
    MIN_LIMIT,
    MINUTES_A_DAY,
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

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_TEXT = 400
"""Characters of one rule's text: the longest that means something is shorter."""
MAX_LENGTH = 10 * 366 * 86400
"""Seconds of a length, ten years."""

_DIRECTIONS = frozenset(map(str, Direction))
_VERDICTS = frozenset(map(str, Verdict))
_PROTOCOLS = frozenset(map(str, Protocol))
_DECIMAL = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_NUMBER = r"(\d{1,20}(?:\.\d{1,20})?)"
_SIZE = re.compile(_NUMBER + r"\s*([kmgtp]?)(i?)b?", re.ASCII)
_RATE = re.compile(_NUMBER + r"\s*([kmgt]?)(i?)bits?(?:/s|ps)?", re.ASCII)
_PIECE = re.compile(r"(\d{1,9})\s*(w|d|h|min|m|s)", re.ASCII)
_SECONDS = {"w": 7 * 86400, "d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}
_TIME = re.compile(r"(\d{1,2}):(\d\d)", re.ASCII)
_PORTS = re.compile(r"\d{1,5}(?:-\d{1,5})?(?:,\d{1,5}(?:-\d{1,5})?)*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


class RuleRefused(ValueError):
    """A rule that was not taken: nothing has changed. Its text is a sentence for people."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name
        """Of the reason, stable: `size_unreadable`, `hours_overlap`..."""


def read_size(text: str) -> int:
    """Bytes: `500MB`, `1.5GB`, `2GiB`."""
    found = _SIZE.fullmatch(_bounded(text).lower())
    if found is None or text.strip().isdecimal():
        raise RuleRefused("size_unreadable", f"{_shown(text)} is no size: write it like 1GB.")
    size = _scaled(found)
    if size is None:
        raise RuleRefused("size_unreadable", f"{_shown(text)} is no whole number of bytes.")
    return size


def spell_size(size: int) -> str:
    return _spelled(size, ("B", "kB", "MB", "GB", "TB", "PB"))


def read_rate(text: str) -> int:
    """Bits per second: `20mbit`, `512kbit/s`, `1gbit`."""
    found = _RATE.fullmatch(_bounded(text).lower())
    rate = None if found is None else _scaled(found)
    if rate is None:
        raise RuleRefused("rate_unreadable", f"{_shown(text)} is no speed: write it like 20mbit.")
    return checked_rate(rate)


def checked_rate(rate: int) -> int:
    """A limit within its bounds. Raises `RuleRefused`."""
    if rate < MIN_LIMIT:
        raise RuleRefused(
            "limit_too_low",
            f"At {rate} bit/s nothing would work: give at least {spell_rate(MIN_LIMIT)}, or pause.",
        )
    if rate > MAX_LIMIT:
        raise RuleRefused(
            "limit_never_applies", f"No link is faster than {spell_rate(MAX_LIMIT)}: leave it out."
        )
    return rate


def spell_rate(rate: int) -> str:
    return _spelled(rate, ("bit", "kbit", "mbit", "gbit", "tbit"))


def read_length(text: str) -> int:
    """Seconds: `2h`, `1h30m`, `45min`, `2d`, `1w`."""
    bare = "".join(_bounded(text).lower().split())
    pieces = _PIECE.findall(bare)
    if not pieces or "".join(number + unit for number, unit in pieces) != bare:
        raise RuleRefused(
            "length_unreadable", f"{_shown(text)} is no length: write it like 2h or 1h30m."
        )
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in pieces)
    if seconds == 0:
        raise RuleRefused("length_zero", "A length of nothing would end at once.")
    if seconds > MAX_LENGTH:
        raise RuleRefused(
            "length_too_long", f"{_shown(text)} is more than ten years: leave it out."
        )
    return seconds


def read_moment(text: str, now: datetime) -> datetime:
    """Local time, naive: `18:30` (the next one after `now`), or `2030-01-31 18:30`."""
    words = _bounded(text).replace("T", " ").split()
    try:
        if len(words) == 1 and ":" in words[0]:
            moment = datetime.combine(now.date(), _time_of_day(words[0]))
            return moment if moment > now else moment + timedelta(days=1)
        day, hour = words
        return datetime.combine(date.fromisoformat(day), _time_of_day(hour))
    except (ValueError, OverflowError):
        raise RuleRefused(
            "time_unreadable", f"{_shown(text)} is no time: write 18:30, or 2030-01-31 18:30."
        ) from None


def read_quota(text: str) -> Quota:
    """`1GB/day`, `10GB/week down on mon from 04:00`, `50GB/month on 15`, `2GB` (in all)."""
    head, *words = _bounded(text).lower().split()[:12] or [""]
    size, slash, word = head.partition("/")
    if not slash and words and words[0].startswith("/"):
        slash, word = "/", words.pop(0)[1:]
    try:
        period = Period(word) if slash else Period.TOTAL
    except ValueError:
        raise RuleRefused(
            "quota_period_unknown", f"{_shown(word)} is no period: day, week, month or total."
        ) from None
    count = read_size(size)
    if count == 0:
        raise RuleRefused(
            "quota_zero", "A quota of nothing lets nothing through: pause it instead."
        )
    if count > MAX_QUOTA:
        raise RuleRefused("quota_never_applies", f"Nobody moves {size}: leave the quota out.")
    direction, begins, weekday, day = Direction.BOTH, 0, 0, 1
    while words:
        word = words.pop(0)
        value = words.pop(0) if word in ("from", "on") and words else ""
        if word in _DIRECTIONS:
            direction = Direction(word)
        elif word == "from" and period is not Period.TOTAL:
            begins = _minute(value)
        elif word == "on" and period is Period.WEEK:
            weekday = _day(value)
        elif word == "on" and period is Period.MONTH and value.isdecimal() and len(value) < 3:
            day = int(value)
        else:
            raise RuleRefused(
                "quota_unreadable",
                f"{_shown(word)} has no place in that quota: write it like 1GB/day, "
                "10GB/week down on mon from 04:00, or 50GB/month on 15.",
            )
    if not 1 <= day <= 31:
        raise RuleRefused("day_unknown", f"No month has a day {day}: 1 to 31.")
    return Quota(count, direction, period, begins, weekday, day)


def spell_quota(quota: Quota) -> str:
    words = [f"{spell_size(quota.bytes)}/{quota.period}"]
    if quota.direction is not Direction.BOTH:
        words.append(quota.direction)
    if quota.weekday:
        words.append(f"on {DAYS[quota.weekday]}")
    if quota.day != 1:
        words.append(f"on {quota.day}")
    if quota.begins:
        words.append(f"from {spell_minute(quota.begins)}")
    return " ".join(words)


def read_span(text: str) -> Span:
    """`mon-fri 07:00-21:00`, `sat,sun 09:00-01:00` (the next day's), `fri`, `07:00-21:00`."""
    words = _bounded(text).lower().split()
    if not 1 <= len(words) <= 2 or (len(words) == 2 and ":" not in words[1]):
        raise _span_unreadable(text)
    hours = words.pop() if ":" in words[-1] else "00:00-24:00"
    days: set[int] = set()
    for piece in words.pop().split(",") if words else ["mon-sun"]:
        first, dash, last = piece.partition("-")
        begin = _day(first)
        end = _day(last) if dash else begin
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    begins, dash, ends = hours.partition("-")
    if not dash:
        raise _span_unreadable(text)
    span = Span(tuple(sorted(days)), _minute(begins), _minute(ends, MINUTES_A_DAY))
    if span.begins == span.ends or span.begins == MINUTES_A_DAY:
        raise RuleRefused("span_empty", f"{_shown(text)} is no time at all: write 00:00-24:00.")
    # Midnight as an end is that of the day that ends.
    return span if span.ends else Span(span.days, span.begins, MINUTES_A_DAY)


def spell_span(span: Span) -> str:
    pieces: list[str] = []
    days = list(span.days)
    while days:
        run = [days.pop(0)]
        while days and days[0] == run[-1] + 1:
            run.append(days.pop(0))
        pieces.append(DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}")
    return f"{','.join(pieces)} {spell_minute(span.begins)}-{spell_minute(span.ends)}"


def read_destination(text: str) -> Destination:
    """`deny 10.0.0.0/8`, `allow 192.0.2.1 tcp 443`, `deny udp 1000-2000,53`, `deny port 25`,
    `deny name ads.example`, `deny set mail`, `deny all`."""
    words = _bounded(text).split()
    if len(words) < 2 or words[0].lower() not in _VERDICTS:
        raise RuleRefused(
            "destination_unreadable",
            f"{_shown(text)} is no destination: write it like deny 10.0.0.0/8, "
            "deny name ads.example, or allow tcp 443.",
        )
    verdict, rest = Verdict(words[0].lower()), words[1:]
    match [word.lower() for word in rest]:
        case ["all"]:
            return Destination(verdict)
        case ["name", name]:
            return Destination(verdict, Target(name=read_name(name)))
        case ["set", name]:
            if name not in SETS:
                raise RuleRefused(
                    "set_unknown", f"There is no set {_shown(name)}; there is {', '.join(SETS)}."
                )
            return Destination(verdict, shipped=name)
    return Destination(verdict, _read_target(rest, text))


def spell_destination(entry: Destination) -> str:
    target = entry.target
    if entry.shipped:
        words = ["set", entry.shipped]
    elif target == EVERYTHING:
        words = ["all"]
    elif target.name:
        words = ["name", "*" if target.name == ALL_NAMES else target.name]
    else:
        words = [] if target.network is None else [_spell_network(target.network)]
        if target.protocol is not Protocol.ANY:
            words.append(target.protocol)
        if target.ports:
            words += ["port", ",".join(_spell_range(*ports) for ports in target.ports)]
    return " ".join((entry.verdict, *words))


def read_name(text: str) -> str:
    """A host's name as `Target.name` has it, from what people write: `*.Ads.example.`, or `*`."""
    if text.strip() == "*":
        return ALL_NAMES
    bare = text.strip().lower().removeprefix("*.").removesuffix(".")
    try:
        name = bare if bare.isascii() else bare.encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise RuleRefused(
            "name_unreadable", f"{_shown(text)} is no name of a host: write it like ads.example."
        )
    if labels[-1].isdecimal():
        raise RuleRefused(
            "name_is_address", f"{_shown(text)} looks like an address: leave the word name out."
        )
    return name


def spell_minute(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _read_target(words: Sequence[str], text: str) -> Target:
    left = list(words)
    network = _network(left[0])
    if network is not None:
        left.pop(0)
    protocol = Protocol.ANY
    if left and left[0].lower() in _PROTOCOLS:
        protocol = Protocol(left.pop(0).lower())
    if left and left[0].lower() in ("port", "ports"):
        left.pop(0)
        if not left:
            raise RuleRefused("ports_unreadable", "Which port? Write it like: deny tcp port 25.")
    ports: tuple[tuple[int, int], ...] = ()
    if left and _PORTS.fullmatch(left[0]):
        ports = _ports(left.pop(0))
    if ports and protocol is Protocol.ICMP:
        raise RuleRefused("ports_unreadable", "Pings have no ports.")
    if left and len(words) == 1 and "." in left[0]:
        # One word alone that is nothing else.
        return Target(name=read_name(left[0]))
    if left:
        known = f": write set {left[0]}" if left[0].lower() in SETS else ""
        raise RuleRefused(
            "destination_unreadable", f"{_shown(left[0])} has no place in {_shown(text)}{known}."
        )
    target = Target(network, "", protocol, ports)
    if target == EVERYTHING:
        raise RuleRefused("destination_unreadable", "For everything, write all.")
    return target


def _network(word: str) -> IPv4Network | IPv6Network | None:
    """None where the word is no address at all."""
    if not re.fullmatch(r"[0-9a-fA-F:.]+(?:/\d+)?", word, re.ASCII) or not (
        ":" in word or word.count(".") == 3 or "/" in word
    ):
        return None
    try:
        network = ip_network(word, strict=False)
    except ValueError:
        if ":" in word or "/" in word or word.replace(".", "").isdecimal():
            raise RuleRefused(
                "network_unreadable", f"{_shown(word)} is no address: write it like 10.0.0.0/8."
            ) from None
        return None
    if "/" in word and str(ip_network(word.partition("/")[0]).network_address) != str(
        network.network_address
    ):
        raise RuleRefused(
            "network_has_host_bits",
            f"{word} is an address in a network: write {network}, or the address alone.",
        )
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((int(mapped), network.prefixlen - 96))
    return network


def _spell_network(network: IPv4Network | IPv6Network) -> str:
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if whole else str(network)


def _ports(word: str) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for piece in word.split(","):
        first, dash, last = piece.partition("-")
        low, high = int(first), int(last if dash else first)
        if not 1 <= low <= high <= 65535:
            raise RuleRefused("ports_unreadable", f"{piece} is no port: 1 to 65535, low-high.")
        found.append((low, high))
    found.sort()
    joined = [found[0]]
    for low, high in found[1:]:
        if low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    if len(joined) > MAX_PORT_RANGES:
        raise RuleRefused(
            "too_many_ports", f"More than {MAX_PORT_RANGES} ranges of ports: make two of it."
        )
    return tuple(joined)


def _spell_range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _day(word: str) -> int:
    for number, name in enumerate(_LONG_DAYS):
        if len(word) >= 3 and name.startswith(word):
            return number
    raise RuleRefused("day_unknown", f"{_shown(word)} is no day: {', '.join(DAYS)}.")


_LONG_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _minute(text: str, last: int = MINUTES_A_DAY - 1) -> int:
    found = _TIME.fullmatch(text)
    minute = -1 if found is None else int(found[1]) * 60 + int(found[2])
    if found is None or int(found[2]) > 59 or not 0 <= minute <= last:
        raise RuleRefused(
            "time_unreadable", f"{_shown(text)} is no time of day: write it like 07:00."
        )
    return minute


def _time_of_day(text: str) -> time:
    minute = _minute(text)
    return time(minute // 60, minute % 60)


def _span_unreadable(text: str) -> RuleRefused:
    return RuleRefused(
        "span_unreadable", f"{_shown(text)} are no hours: write them like mon-fri 07:00-21:00."
    )


def _scaled(found: re.Match[str]) -> int | None:
    """The number in its unit, where that is whole."""
    number, prefix, binary = found.groups()
    if binary and not prefix:
        return None
    value = Fraction(number) * (1024 if binary else 1000) ** _DECIMAL[prefix]
    return int(value) if value.denominator == 1 else None


def _spelled(value: int, units: Sequence[str]) -> str:
    """The shortest exact decimal form."""
    best = f"{value}{units[0]}"
    for power, unit in enumerate(units):
        whole, rest = divmod(value, 1000**power)
        fraction = f"{rest:0{3 * power}}".rstrip("0") if rest else ""
        text = f"{whole}.{fraction}{unit}" if fraction else f"{whole}{unit}"
        if whole and len(text) <= len(best):
            best = text
    return best


def _bounded(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise RuleRefused("text_too_long", f"A rule has at most {MAX_TEXT} characters.")
    return text.strip()


def _shown(text: str) -> str:
    """As far as a sentence has room for it, with nothing that moves a cursor."""
    return repr(text[:60])


def summary(rules: Rules, local_of: Callable[[float], datetime], length: str = "") -> str:
    """Rules in one line, as people write them; empty where everything is allowed.

    `local_of` gives the gateway's local time, naive, of a Unix time; `length` is a template's.
    """
    return "; ".join(
        f"{_ABOUT.get(name, '')}{text}" for name, text in texts(rules, local_of, length).items()
    )


def texts(rules: Rules, local_of: Callable[[float], datetime], length: str = "") -> dict[str, str]:
    """The rules that are there, by field, each as people write it; destinations are counted."""
    count = len(rules.destinations)
    until = "" if rules.until is None else f"{local_of(rules.until):%Y-%m-%d %H:%M}"
    found = {
        "paused": "paused" if rules.paused else "",
        "quota": "" if rules.quota is None else spell_quota(rules.quota),
        "limit_up": "" if rules.limit_up is None else spell_rate(rules.limit_up),
        "limit_down": "" if rules.limit_down is None else spell_rate(rules.limit_down),
        "until": f"until {until}" if until else f"for {length}" if length else "",
        "hours": ", ".join(map(spell_span, rules.hours)),
        "destinations": f"{count} destination{'' if count == 1 else 's'}" if count else "",
        "max_flows": "" if rules.max_flows is None else f"{rules.max_flows} flows",
    }
    return {name: text for name, text in found.items() if text}


_ABOUT = {"limit_up": "up ", "limit_down": "down "}
