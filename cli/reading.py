"""Commands that only look: status, requests, peers, leases, flows, gateways, logs, version."""

from __future__ import annotations

import argparse
import json
import time

from cli.services import dial, running
from control import words
from control.codec import to_json
from control.exits import Exit
from control.methods import MAX_LOG_LINES
from control.oneshot import OneShot
from control.output import (
    Column,
    digits,
    duration,
    paint,
    print_facts,
    print_json,
    print_table,
    printable,
    rate,
    size,
    standard_output,
    tell,
)
from control.schema import (
    API_VERSION,
    ClientStatus,
    GatewayStatus,
    KillSwitch,
    LogLine,
    Unwritten,
)
from control.versions import differ
from services.counted import meaning
from services.version import running as own_version

_LOOKS: dict[words.Tone, tuple[str, str]] = {
    "ok": ("●", "green"),
    "busy": ("◆", "cyan"),
    "warn": ("▲", "yellow"),
    "danger": ("▲", "red"),
    "bad": ("✗", "red"),
    "off": ("○", "dim"),
}


def state_word(state: tuple[str, words.Tone]) -> str:
    """A state as glyph, word and colour."""
    glyph, colour = _LOOKS[state[1]]
    return paint(f"{glyph} {printable(state[0])}", colour)


def status(args: argparse.Namespace) -> int:
    services = running(args.role)
    if args.json:
        answers = {service.role: service.call_raw("status") for service in services}
        print_json(answers if len(services) > 1 else next(iter(answers.values())))
        return Exit.OK
    for number, service in enumerate(services):
        if number:
            print()
        record = service.call("status")
        if isinstance(record, GatewayStatus):
            _print_gateway(record)
        else:
            _print_client(record)
        if told := differ(service.role, service.hello.version, own_version()):
            tell("▲ " + " ".join(told), "yellow")
    return Exit.OK


def _print_gateway(status: GatewayStatus) -> None:
    vpn = status.vpn
    where = " ".join(filter(None, (vpn.interface, f"({vpn.kind})" if vpn.kind else None)))
    families = [name for name, on in (("IPv4", vpn.ipv4), ("IPv6", vpn.ipv6)) if on]
    print(paint(f"Gateway {printable(status.name)}", "bold"))
    print(f"{paint('state', 'dim')}        {state_word(words.sharing(status))}")
    print(f"{paint('VPN', 'dim')}          {state_word(words.vpn(status))}")
    print_facts(
        [
            ("interface  ", where or None),
            ("carries    ", " and ".join(families) or None),
            ("reason     ", vpn.reason),
            ("devices    ", f"{status.connected} connected, {status.peers} approved"),
            ("requests   ", str(status.requests) if status.requests else None),
            ("flows      ", str(status.flows)),
            (
                "up         ",
                f"{size(status.from_tunnel_bytes)}, now {rate(status.from_tunnel_rate)}",
            ),
            ("down       ", f"{size(status.to_tunnel_bytes)}, now {rate(status.to_tunnel_rate)}"),
            ("egress     ", _proof(status)),
            ("wake lock  ", None if status.wake_lock == "none" else status.wake_lock),
            ("listening  ", ", ".join(status.listen) or None),
            ("fingerprint", status.fingerprint),
            ("running    ", f"{duration(status.uptime)}, pid {status.pid}"),
        ]
    )
    if status.bypass:
        print(paint("▲ Bypass is on: traffic may leave outside the VPN.", "yellow"))
    for alarm in status.alarms:
        print(paint(f"▲ {printable(alarm)}", "yellow"))
    _print_unwritten(status.unwritten)


def _print_unwritten(unwritten: list[Unwritten]) -> None:
    for each in unwritten:
        print(paint(f"▲ {printable(each.found)}\n  {printable(each.advice)}", "yellow"))


def _proof(status: GatewayStatus) -> str | None:
    """The VPN interface's counters beside ours, once they have been compared."""
    proof = status.egress
    if proof.looks < 2 or proof.age is None:
        return None
    verdict = "does not agree" if proof.alarms else "agrees"
    return (
        f"{verdict}: the VPN carried {size(proof.interface_sent)} out and "
        f"{size(proof.interface_received)} in, we {size(proof.sent)} and {size(proof.received)} "
        f"({duration(proof.age)} ago)"
    )


def _print_client(status: ClientStatus) -> None:
    lease = status.lease
    print(paint(f"Client {printable(status.label)}", "bold"))
    print(f"{paint('state', 'dim')}        {state_word(words.client(status))}")
    print_facts(
        [
            ("reason     ", status.reason),
            ("code       ", digits(status.code) if status.code else None),
            ("gateway    ", status.gateway),
            ("identity   ", status.gateway_fingerprint),
            ("by         ", status.endpoint),
            ("proxy      ", status.proxy),
            ("interface  ", status.interface),
            ("addresses  ", f"{lease.ipv4}, {lease.ipv6}" if lease else None),
            ("resolver   ", ", ".join(lease.dns) if lease else None),
            (
                "up         ",
                f"{size(status.to_tunnel_bytes)}, now {rate(status.to_tunnel_rate)}"
                if lease
                else None,
            ),
            (
                "down       ",
                f"{size(status.from_tunnel_bytes)}, now {rate(status.from_tunnel_rate)}"
                if lease
                else None,
            ),
            ("quota left ", None if status.quota_left is None else size(status.quota_left)),
            ("round trip ", f"{status.rtt_ms:.1f} ms" if status.rtt_ms is not None else None),
            (
                "connected  ",
                duration(status.connected_for) if status.connected_for is not None else None,
            ),
            ("kill switch", _kill_switch(status.kill_switch, status.outlet)),
            ("opened by  ", status.kill_switch.opened_by),
            ("beside it  ", _beside(status.kill_switch)),
            ("fingerprint", status.fingerprint),
            ("running    ", f"pid {status.pid}"),
        ]
    )
    if status.shut_out:
        print(paint(f"▲ {printable(status.shut_out)}", "yellow"))
    _print_unwritten(status.unwritten)


def _kill_switch(switch: KillSwitch, outlet: str) -> str:
    """State, since when, and what holds."""
    if outlet in words.ASIDE and not switch.rules:
        return f"does not apply. {words.ASIDE[outlet]}"
    weaker = "; OPENS ON FAILURE (--open-on-failure)" if switch.open_on_failure else ""
    word, _ = words.kill_switch(switch)
    if not switch.rules:
        return f"{word}: nothing is in force{weaker}"
    since = "" if switch.since_at is None else f" for {duration(time.time() - switch.since_at)}"
    rules = "1 rule" if len(switch.rules) == 1 else f"{len(switch.rules)} rules"
    return f"{word}{since}, by {words.held_by(switch.strict)} ({rules}){weaker}"


def _beside(switch: KillSwitch) -> str | None:
    """What goes beside the tunnel, counted and named."""
    if not switch.rules:
        return None
    return f"{len(switch.beside)}: {', '.join(switch.beside)}" if switch.beside else "nothing"


def requests(args: argparse.Namespace) -> int:
    with dial("gateway") as service:
        if args.json:
            print_json(service.call_raw("requests"))
            return Exit.OK
        waiting = service.call("requests")
    print_table(
        [
            Column("ID"),
            Column("DEVICE", shrink=True),
            Column("CODE"),
            Column("VIA", 2),
            Column("FROM", 3),
            Column("PLATFORM", 5),
            Column("FINGERPRINT", 4),
            Column("LEFT", 1, right=True),
        ],
        (
            (r.id, r.label, digits(r.code) if r.code else "-", r.via, r.address, r.platform,
             r.fingerprint, duration(r.expires_in))
            for r in waiting
        ),
        "No device is waiting.",
    )  # fmt: skip
    return Exit.OK


def peers(args: argparse.Namespace) -> int:
    with dial("gateway") as service:
        if args.json:
            print_json(service.call_raw("peers"))
            return Exit.OK
        known = service.call("peers")
    now = time.time()
    print_table(
        [
            Column("ID"),
            Column("DEVICE", shrink=True),
            Column("STATE"),
            Column("RULES"),
            Column("SEEN", 1),
            Column("TODAY", 2, right=True),
            Column("IN ALL", 3, right=True),
            Column("PLATFORM", 5),
            Column("FINGERPRINT", 4),
        ],
        (
            (
                p.id,
                p.label,
                "revoked" if p.revoked else "connected" if p.connected else "away",
                words.allowed(p)[0] or "-",
                "now" if p.connected else f"{duration(now - p.last_seen_at)} ago",
                size(p.from_tunnel_today + p.to_tunnel_today),
                size(p.from_tunnel_bytes + p.to_tunnel_bytes),
                p.platform,
                p.fingerprint,
            )
            for p in known
        ),
        "No device was approved yet. Let one in with: vpnshare pair",
    )
    return Exit.OK


def leases(args: argparse.Namespace) -> int:
    with dial("gateway") as service:
        if args.json:
            print_json(service.call_raw("leases"))
            return Exit.OK
        given = service.call("leases")
    print_table(
        [
            Column("ID"),
            Column("DEVICE", shrink=True),
            Column("ADDRESS"),
            Column("IPV6", 6),
            Column("BY", 2),
            Column("FROM", 5),
            Column("UP", 1, right=True),
            Column("DOWN", 1, right=True),
            Column("NOW", 3, right=True),
            Column("RTT", 4, right=True),
            Column("FLOWS", 3, right=True),
        ],
        (
            (
                lease.id,
                lease.label,
                lease.ipv4,
                lease.ipv6,
                (lease.transport or "?") if lease.connected else "away",
                lease.endpoint or "-",
                size(lease.from_tunnel_bytes),
                size(lease.to_tunnel_bytes),
                rate(lease.from_tunnel_rate + lease.to_tunnel_rate),
                f"{lease.rtt_ms:.1f} ms" if lease.rtt_ms is not None else "-",
                str(lease.flows),
            )
            for lease in given
        ),
        "No device holds a lease.",
    )
    for lease in given:
        if lease.shut_out:
            print(paint(f"▲ {printable(lease.label)} {printable(lease.shut_out)}.", "yellow"))
    return Exit.OK


def flows(args: argparse.Namespace) -> int:
    descending = _biggest_first(args.sort) is not args.reverse
    params = {
        "sort": args.sort,
        "descending": descending,
        "filter": args.filter,
        "limit": args.limit,
        "peer": args.peer,
    }
    with running(args.role)[0] as service:
        if args.json:
            print_json(service.call_raw("flows", **params))
            return Exit.OK
        page = service.call("flows", **params)
    mine = service.role == "client"
    print_table(
        [
            Column("ID", 4, right=True),
            Column("PROTO"),
            Column("TO", shrink=True),
            Column("PROGRAM" if mine else "DEVICE", 1, shrink=True),
            Column("STATE", 3),
            Column("UP", 2, right=True),
            Column("DOWN", 2, right=True),
            Column("NOW", 1, right=True),
            Column("AGE", 3, right=True),
            Column("FROM", 5, shrink=True),
            Column("OUT BY", 4),
        ],
        (
            (
                str(f.id),
                f.protocol,
                words.destination(f),
                f.label,
                f.state,
                size(f.to_tunnel_bytes if mine else f.from_tunnel_bytes) if f.counted else "-",
                size(f.from_tunnel_bytes if mine else f.to_tunnel_bytes) if f.counted else "-",
                rate(f.from_tunnel_rate + f.to_tunnel_rate) if f.counted else "-",
                duration(f.age),
                f.source,
                f.device or "-",
            )
            for f in page.flows
        ),
        "No flow." if not page.total else "No flow is shown.",
    )
    if len(page.flows) < page.total:
        print(paint(f"{len(page.flows)} of {page.total} flows", "dim"))
    return Exit.OK


def _biggest_first(sort: str) -> bool:
    return sort.endswith(("_bytes", "_rate")) or sort in ("rate", "bytes")


def counters(args: argparse.Namespace) -> int:
    found = []
    for service in [dial("gateway")] if args.device else running(args.role):
        with service:
            if args.device:
                counts = service.call("counters", id=args.device).counters
            else:
                counts = service.call("status").counters
        found += [
            {"role": service.role, "name": name, "count": count, "help": meaning(name)}
            for name, count in sorted(counts.items())
            if args.part in name
        ]
    if args.json:
        print_json(found)
        return Exit.OK
    print_table(
        [
            Column("ROLE", 1),
            Column("COUNTER"),
            Column("COUNT", right=True),
            Column("WHAT IT COUNTS", 2, shrink=True),
        ],
        ((str(c["role"]), str(c["name"]), str(c["count"]), str(c["help"])) for c in found),
        "No counter of such a name has counted anything yet.",
    )
    return Exit.OK


def gateways(args: argparse.Namespace) -> int:
    with dial("client") as service:
        if args.json:
            print_json(service.call_raw("gateways"))
            return Exit.OK
        known = service.call("gateways")
    now = time.time()
    print_table(
        [
            Column("NAME", shrink=True),
            Column("FINGERPRINT"),
            Column("SEEN", 1),
            Column("ENDPOINTS", 2, shrink=True),
        ],
        (
            (g.name, g.fingerprint, f"{duration(now - g.last_seen_at)} ago", ", ".join(g.endpoints))
            for g in known
        ),
        "No gateway is known yet. Connect with a pairing URI: vpnshare connect -",
    )
    return Exit.OK


_LEVEL_COLOURS = {"warning": "yellow", "error": "red", "critical": "red", "debug": "dim"}


def logs(args: argparse.Namespace) -> int:
    of_device = args.device and args.role is None
    service = dial("gateway") if of_device else running(args.role)[0]
    params = {"level": args.level, "filter": args.filter, "device": args.device or ""}
    page = service.call("log", limit=args.limit, **params)
    if args.json and not args.follow:
        print_json(page.lines)
        return Exit.OK
    for line in page.lines:
        _print_log(line, args.json)
    if args.follow:
        _follow(service, args.json, page.newest, params)
    return Exit.OK


FOLLOWED = 500
"""Lines of a snapshot while following; what does not fit is asked for."""


def _follow(service: OneShot, as_json: bool, last: int, params: dict[str, str]) -> None:
    """Print what is new since line `last`, until the service ends or Ctrl-C."""
    for page in service.watch("log", 0.3, None, standard_output(), limit=FOLLOWED, **params):
        if page.left_out and page.lines and page.lines[0].seq > last + 1:
            # Between the last line and this page there may be some: they are still kept.
            with dial(service.role) as other:
                page = other.call("log", limit=MAX_LOG_LINES, after=last, **params)
        if page.oldest > last + 1:
            _print_dropped(page.oldest - last - 1, as_json)
        for line in page.lines:
            if line.seq > last:
                _print_log(line, as_json)
        last = max(last, page.newest)


def _print_dropped(count: int, as_json: bool) -> None:
    """Lines that were gone before they could be read, of whatever level."""
    if as_json:
        print(json.dumps({"dropped": count}), flush=True)
    else:
        text = f"▲ {count} lines were dropped: they came faster than they were read."
        print(paint(text, "yellow"), flush=True)


def _print_log(line: LogLine, as_json: bool) -> None:
    if as_json:
        print(json.dumps(to_json(line)), flush=True)
        return
    at, now = time.localtime(line.at), time.localtime()
    # Events of earlier runs are kept: their day has to be told.
    today = at[:3] == now[:3]
    stamp = time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", at)
    colour = _LEVEL_COLOURS.get(line.level)
    level = paint(line.level, colour) if colour else line.level
    text = f"{paint(stamp, 'dim')} {level} {line.logger}: {printable(line.message)}"
    print(text, flush=True)


def version(args: argparse.Namespace) -> int:
    import platform

    python = platform.python_version()
    if args.json:
        print_json({"version": own_version(), "api": API_VERSION, "python": python})
    else:
        print(f"vpnshare {own_version()} (control API {API_VERSION}, Python {python})")
    return Exit.OK
