"""The options of each command, and how what is typed there is read.

`of_NAME` adds those of the command NAME to its parser; the others are what several share.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from services.control.methods import (
    FLOW_SORTS,
    LEVELS,
    MAX_FLOWS,
    MAX_INTERVAL,
    MAX_LOG_LINES,
    MIN_INTERVAL,
    TRANSPORTS,
)
from services.version import PYTHONS

PROXY = "127.0.0.1:1080"
"""Where the client's proxy listens, unless another place is named."""


def json_too(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def viewing(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON, for scripts")
    how.add_argument("--watch", nargs="?", type=_every, const=1.0, metavar="SECONDS",
                     help="look again every second, or every SECONDS")  # fmt: skip


def _every(text: str) -> float:
    seconds = _seconds(text)
    if seconds < 0.1:
        raise argparse.ArgumentTypeError("not more often than every 0.1 seconds")
    return seconds


def of_role(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role", choices=("gateway", "client"), help="which service (default: what runs)"
    )


_REQUEST = (
    "the request's id, its unique beginning, or the digits that the device shows "
    "(default: the only one that waits)"
)


def of_approve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", metavar="ID|CODE", help=_REQUEST)
    parser.add_argument("--rules", metavar="TEMPLATE", dest="template",
                        help="what it may do: rules by name")  # fmt: skip
    of_rules_given(parser)
    json_too(parser)


def of_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="NAME|ID",
                        help="the device's name, its id, or the beginning of that")  # fmt: skip
    of_rules_given(parser)
    parser.add_argument("--resume", action="store_const", const=False, dest="paused",
                        help="end the pause")  # fmt: skip
    parser.add_argument("--template", metavar="NAME",
                        help="these rules by name, in place of those that are there")  # fmt: skip
    parser.add_argument("--clear", action="store_true",
                        help="take away what is there: everything is allowed")  # fmt: skip
    json_too(parser)


def of_templates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME",
                        help="make or change it, by the options (default: show all)")  # fmt: skip
    of_rules_given(parser, until=False)
    parser.add_argument("--remove", action="store_true",
                        help="remove it; one that was shipped is as it came")  # fmt: skip
    json_too(parser)


def of_rules_given(parser: argparse.ArgumentParser, until: bool = True) -> None:
    parser.add_argument("--quota", metavar="QUOTA",
                        help="how much it may move: 1GB/day, 10GB/week down on mon from 04:00, "
                        "50GB/month on 15, 2GB in all")  # fmt: skip
    parser.add_argument("--limit-up", metavar="RATE", help="how fast it may send: 5mbit")
    parser.add_argument("--limit-down", metavar="RATE", help="how fast it may receive: 20mbit")
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--for", metavar="LENGTH", dest="length",
                      help="how long from now: 2h, 1h30m, 3d")  # fmt: skip
    if until:
        ends.add_argument("--until", metavar="TIME", help="until when: 18:30, or 2030-01-31 18:30")
    parser.add_argument("--hours", action="append", metavar="SPAN",
                        help="when it may be used: mon-fri 07:00-21:00; repeatable")  # fmt: skip
    parser.add_argument("--deny", action="append", dest="destinations", type=_denied,
                        metavar="WHERE",
                        help="what it may not reach: 10.0.0.0/8, tcp 25, name ads.example, set "
                        "mail, all; repeatable, the first that fits decides")  # fmt: skip
    parser.add_argument("--allow", action="append", dest="destinations", type=_allowed,
                        metavar="WHERE",
                        help="what it may reach, though a later --deny has it")  # fmt: skip
    parser.add_argument("--destinations", metavar="FILE", dest="file",
                        help="those in a file, a line each (allow tcp 443, deny all); -: from "
                        "standard input")  # fmt: skip
    parser.add_argument("--no-destinations", action="store_true",
                        help="it may reach everything again")  # fmt: skip
    parser.add_argument("--flows", metavar="N", help="how many connections at a time")
    parser.add_argument("--pause", action="store_const", const=True, dest="paused",
                        help="stop it for now")  # fmt: skip


def of_usage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", metavar="NAME|ID",
                        help="the device's name, its id, or the beginning of that "
                        "(default: all)")  # fmt: skip
    parser.add_argument("--by", choices=("hour", "day", "month"), help="a line for each of these")
    parser.add_argument("--since", metavar="WHEN",
                        help="how far back: 6h, 7d, 4w, or a day: 2026-11-01")  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON, for scripts")
    how.add_argument("--csv", action="store_true", help="print CSV, for a spreadsheet")


def _denied(text: str) -> str:
    return f"deny {text}"


def _allowed(text: str) -> str:
    return f"allow {text}"


def of_one(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("id", metavar="NAME|ID",
                        help=f"the {what}'s name, its id, or the beginning of that")  # fmt: skip
    json_too(parser)


def of_deny(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("id", nargs="?", metavar="ID|CODE", help=_REQUEST)
    which.add_argument("--all", action="store_true", help="every device that waits")
    parser.add_argument("--undo", action="store_true",
                        help="take a denial back: the latest, or this request's")  # fmt: skip
    json_too(parser)


def _limit(most: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        if not text.isdigit() or int(text) > most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {most}")
        return int(text)

    return check


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 86400")
    return value


def of_status(parser: argparse.ArgumentParser) -> None:
    of_role(parser)
    viewing(parser)


def of_doctor(parser: argparse.ArgumentParser) -> None:
    of_role(parser)
    json_too(parser)


def of_check(parser: argparse.ArgumentParser) -> None:
    family = parser.add_mutually_exclusive_group()
    family.add_argument("--ipv4", action="store_true", help="look at IPv4 only")
    family.add_argument("--ipv6", action="store_true", help="look at IPv6 only")
    of_role(parser)
    json_too(parser)


def of_relisten(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--drop", action="store_true", help="close all links, too: every device reconnects"
    )
    json_too(parser)


def of_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", action="store_true", help="stay until a device has asked, and approve it here"
    )
    parser.add_argument("--no-qr", action="store_true", help="print the URI only")
    parser.add_argument(
        "--seconds", type=float, default=120.0, metavar="N",
        help="how long the code is good, 120 at most (default: 120)",
    )  # fmt: skip
    json_too(parser)


def of_wireguard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=("show", "add", "renew", "invite"),
        default="show",
        help="add: make a device for a WireGuard app; renew: give one another key; invite: a "
             "config for a device that makes its own key (default: show them)",
    )  # fmt: skip
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="what to call the device; for renew, its name or id"
    )
    parser.add_argument("--conf", metavar="FILE", help="write the config there, as a file")
    parser.add_argument("--png", metavar="FILE", help="write the QR code there, as a picture")
    parser.add_argument(
        "--key", metavar="PUBKEY",
        help="the device's own public key: the config has no private one",
    )  # fmt: skip
    parser.add_argument("--endpoint", metavar="HOST[:PORT]",
                        help="where the device shall look for this gateway")  # fmt: skip
    parser.add_argument("--no-qr", action="store_true", help="print the config only")
    json_too(parser)


def of_rename(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="NAME|ID",
                        help="the device's name, its id, or the beginning of that")  # fmt: skip
    parser.add_argument("label", metavar="LABEL", help="the new name")
    json_too(parser)


def of_flows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sort", choices=FLOW_SORTS, default="rate", metavar="COLUMN",
                        help=f"one of {', '.join(FLOW_SORTS)} (default: rate)")  # fmt: skip
    parser.add_argument("--reverse", action="store_true", help="the least first")
    parser.add_argument("--filter", default="", metavar="WORDS", help="flows that contain these")
    parser.add_argument("--limit", type=_limit(MAX_FLOWS), default=50, metavar="N",
                        help="at most N (default: 50)")  # fmt: skip
    parser.add_argument("--peer", metavar="NAME|ID",
                        help="of this device only; on the client: of this program")  # fmt: skip
    of_role(parser)
    viewing(parser)


def of_counters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", nargs="?", default="", metavar="PART",
                        help="those with this in their name only")  # fmt: skip
    of_role(parser)
    json_too(parser)


def of_connect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="*",
        metavar="-|URI|HOST|GATEWAY",
        help="- to be asked for a pairing URI (or have it read from a pipe), "
        "HOST:PORT (an address or a name), usb for the phone on the cable, or a "
        "known gateway (default: the last; if there is none, one that is near)",
    )
    parser.add_argument(
        "--scan",
        action="store_true",
        help="read the gateway's QR code with this machine's camera (zbarcam)",
    )
    parser.add_argument("--transport", choices=TRANSPORTS, default="auto", help="(default: auto)")
    consent = parser.add_mutually_exclusive_group()
    consent.add_argument("--code", metavar="DIGITS",
                         help="by address: the digits that the gateway's screen shows for the "
                         "attempt that waits")  # fmt: skip
    consent.add_argument(
        "--yes",
        action="store_true",
        help="by address: do not compare digits. Whoever answers is believed",
    )
    parser.add_argument("--wait", type=_seconds, metavar="SECONDS",
                        help="give up after so long; 0: do not wait (default: 60, and longer "
                        "while the owner is asked)")  # fmt: skip
    of_open_on_failure(parser)
    json_too(parser)


def of_join(parser: argparse.ArgumentParser) -> None:
    of_connect(parser)
    parser.add_argument("--no-console", action="store_true", help="connect only")


def of_discover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=_seconds, default=3.0, metavar="N",
                        help="listen for so long (default: 3)")  # fmt: skip
    json_too(parser)


def of_usb(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=("list", "forget"), default="list",
        help="forget: remove the key that phones know this device by (default: list the phones)",
    )  # fmt: skip
    json_too(parser)


def of_logs(parser: argparse.ArgumentParser) -> None:
    of_role(parser)
    parser.add_argument("-n", "--limit", type=_limit(MAX_LOG_LINES), default=50, metavar="N",
                        help="the last N lines (default: 50)")  # fmt: skip
    parser.add_argument("--level", choices=LEVELS, default="debug", help="lines of at least this")
    parser.add_argument("--filter", default="", metavar="WORDS", help="lines that contain these")
    parser.add_argument("--device", default="", metavar="NAME",
                        help="what happened to devices of this name (or id)")  # fmt: skip
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    json_too(parser)


def of_service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", choices=LEVELS[:4], help="least level (default: info)")
    parser.add_argument("--log-format", choices=("human", "json"), help="(default: human)")


def of_sharing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", action="append", metavar="HOST:PORT",
                        help="where clients connect; repeatable (default: 0.0.0.0:47800 "
                        "and [::]:47800)")  # fmt: skip
    parser.add_argument("--vpn-interface", metavar="NAME", help="the VPN (default: find it)")
    parser.add_argument("--name", help="shown to clients (default: the host's name)")


def of_gateway(parser: argparse.ArgumentParser) -> None:
    of_sharing(parser)
    parser.add_argument("--share", action="store_true", help="start sharing at once")
    of_service(parser)


def of_client(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interface", metavar="NAME", help="the virtual NIC (default: vshp0...)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--proxy", metavar="ADDRESS:PORT", nargs="?", const=PROXY,
                        help="a SOCKS and HTTP proxy in place of a network interface; needs no "
                        f"root (default: {PROXY})")  # fmt: skip
    parser.add_argument(
        "--pac", action="store_true", help="the proxy hands out a proxy file to browsers"
    )
    parser.add_argument("--label", help="shown to the gateway (default: the host's name)")
    parser.add_argument("--no-offload", action="store_true", help="no segmentation offload")
    parser.add_argument("--no-dns", action="store_true", help="leave the resolver alone")
    parser.add_argument("--no-routes", action="store_true", help="set addresses only, no routes")
    parser.add_argument("--kill-switch", action="store_true",
                        help="the kill switch by the firewall, too")  # fmt: skip
    kind.add_argument("--private", action="store_true",
                        help="without root: a network of its own, for `vpnshare run`")  # fmt: skip
    parser.add_argument("--while-used", action="store_true",
                        help="with --private: end with the last command in it")  # fmt: skip
    of_open_on_failure(parser)
    of_service(parser)


def of_run(parser: argparse.ArgumentParser) -> None:
    of_private(parser)
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what to run, with its words"
    )


def of_private(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--to", metavar="-|URI|HOST|GATEWAY",
        help="the gateway, as for connect: - to be asked for a pairing URI, an address, a name, "
        "usb, a known gateway (default: the last; if there is none, one that is near)",
    )  # fmt: skip
    which.add_argument("--join", action="store_true",
                       help="only into the network of a command that runs")  # fmt: skip
    parser.add_argument("--transport", choices=TRANSPORTS, default="auto", help="(default: auto)")
    parser.add_argument(
        "--yes", action="store_true",
        help="by address: do not compare digits. Whoever answers is believed",
    )  # fmt: skip
    parser.add_argument("--wait", type=_seconds, metavar="SECONDS",
                        help="give up after so long (default: 60, and longer while the owner is "
                        "asked)")  # fmt: skip


def of_open_on_failure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--open-on-failure", action="store_true",
                        help="open the network when the gateway stays away or refuses: traffic "
                        "then leaves outside the VPN")  # fmt: skip


def of_up(parser: argparse.ArgumentParser) -> None:
    of_sharing(parser)
    parser.add_argument("--no-console", action="store_true", help="start the service only")


def of_unit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("install", "uninstall", "status"))
    parser.add_argument("--role", choices=("gateway", "client"), default="gateway",
                        help="which service (default: gateway)")  # fmt: skip
    parser.add_argument("--user", action="store_true", help="for yourself, not the whole machine")
    parser.add_argument("--share", action="store_true", help="share as soon as it starts")
    parser.add_argument("--copy", action="store_true",
                        help="run a copy that only root can change (/opt/vpnshare)")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show what would be done")
    parser.add_argument("--root", metavar="FOLDER", default="/",
                        help="write below FOLDER and run nothing: for packagers")  # fmt: skip
    json_too(parser)


def of_down(parser: argparse.ArgumentParser) -> None:
    of_role(parser)
    json_too(parser)


def of_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", metavar="KEY",
                        help="only this one, or those of a section (gateway, dns...)")  # fmt: skip
    of_doctor(parser)


def of_get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the setting, as `vpnshare settings` names it")
    json_too(parser)


def of_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the setting, as `vpnshare settings` names it")
    parser.add_argument("value", metavar="VALUE", nargs="?",
                        help="its new value; lists with commas between; for a password -: to "
                        "be asked for it")  # fmt: skip
    parser.add_argument("--default", action="store_true", help="back to the default")
    json_too(parser)


def of_console(parser: argparse.ArgumentParser) -> None:
    of_role(parser)
    parser.add_argument("--host", metavar="USER@HOST[:PORT]",
                        help="of the services on another machine, by ssh")  # fmt: skip
    parser.add_argument("--read-only", action="store_true", help="look, change nothing")


def of_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-console", action="store_true", help="stay in the foreground instead")
    parser.add_argument("--seconds", type=_seconds, metavar="N", help="end by itself after N")
    parser.add_argument("--json", action="store_true",
                        help="with --no-console: say at the end what went through")  # fmt: skip


def of_api(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", nargs="?", metavar="METHOD",
                        help="a method of the service (default: show them)")  # fmt: skip
    of_parameters(parser)
    of_role(parser)


def of_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC", help="a method that is a topic")
    of_parameters(parser)
    parser.add_argument("--interval", type=_interval, default=1.0, metavar="SECONDS",
                        help="at most a line in so long (default: 1)")  # fmt: skip
    of_role(parser)


def of_parameters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("params", nargs="?", metavar="JSON", default="{}",
                        help="its parameters, an object; -: from standard input")  # fmt: skip


def _interval(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not MIN_INTERVAL <= value <= MAX_INTERVAL:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds from {MIN_INTERVAL:g} to {MAX_INTERVAL:g}"
        )
    return value


def of_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", nargs="?", choices=("bash", "zsh", "fish"),
                        help="(default: the one that SHELL names)")  # fmt: skip
    parser.add_argument("--names", choices=("devices", "requests", "gateways", "templates"),
                        help="print the names of what is there now, for a completion")  # fmt: skip


def of_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", metavar="HOST:PORT|unix:PATH",
                        help="stay, and answer scrapes there, at /metrics")  # fmt: skip
    parser.add_argument("--token-file", metavar="FILE",
                        help="answer only who knows the token in it (Bearer)")  # fmt: skip


def nothing(parser: argparse.ArgumentParser) -> None:
    """No options."""


def of_control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probe", action="store_true", help="only say which services run")
    parser.add_argument("--role", choices=("gateway", "client"), default="gateway")


def of_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", metavar="FILE",
        help="where it goes (default: vpnshare-VERSION-MACHINE.tar here)",
    )  # fmt: skip
    parser.add_argument(
        "--machine", metavar="NAME",
        help="the other machine's, as uname -m says there: x86_64, aarch64 (default: this one's)",
    )  # fmt: skip
    parser.add_argument(
        "--python", action="append", choices=PYTHONS, metavar="VERSION",
        help="only for this one; more by giving it again (default: 3.11 to 3.14)",
    )  # fmt: skip
    json_too(parser)
