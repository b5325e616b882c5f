"""The commands: name, help, examples, options, and where the work is done.

Nothing here does anything: the module named by `run` is imported only when its
command is the one given, and the parser is built for that command alone. So
`vpnshare status` pays neither for the console nor for the daemons.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from services.control import calling
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


@dataclass(frozen=True, slots=True)
class Command:
    """A command. `run` is `module:function`; the function takes the options, returns the exit."""

    name: str
    group: str
    help: str
    run: str
    options: Callable[[argparse.ArgumentParser], None]
    examples: tuple[str, ...]
    details: str = ""


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _view(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON, for scripts")
    how.add_argument("--watch", nargs="?", type=_every, const=1.0, metavar="SECONDS",
                     help="look again every second, or every SECONDS")  # fmt: skip


def _every(text: str) -> float:
    seconds = _seconds(text)
    if seconds < 0.1:
        raise argparse.ArgumentTypeError("not more often than every 0.1 seconds")
    return seconds


def _role(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role", choices=("gateway", "client"), help="which service (default: what runs)"
    )


_REQUEST = (
    "the request's id, its unique beginning, or the digits that the device shows "
    "(default: the only one that waits)"
)


def _approve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", metavar="ID|CODE", help=_REQUEST)
    parser.add_argument("--rules", metavar="TEMPLATE", dest="template",
                        help="what it may do: rules by name")  # fmt: skip
    _rule_options(parser)
    _json(parser)


def _rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="NAME|ID",
                        help="the device's name, its id, or the beginning of that")  # fmt: skip
    _rule_options(parser)
    parser.add_argument("--resume", action="store_const", const=False, dest="paused",
                        help="end the pause")  # fmt: skip
    parser.add_argument("--template", metavar="NAME",
                        help="these rules by name, in place of those that are there")  # fmt: skip
    parser.add_argument("--clear", action="store_true",
                        help="take away what is there: everything is allowed")  # fmt: skip
    _json(parser)


def _templates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME",
                        help="make or change it, by the options (default: show all)")  # fmt: skip
    _rule_options(parser, until=False)
    parser.add_argument("--remove", action="store_true",
                        help="remove it; one that was shipped is as it came")  # fmt: skip
    _json(parser)


def _rule_options(parser: argparse.ArgumentParser, until: bool = True) -> None:
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


def _usage(parser: argparse.ArgumentParser) -> None:
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


def _id(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("id", metavar="NAME|ID",
                        help=f"the {what}'s name, its id, or the beginning of that")  # fmt: skip
    _json(parser)


def _deny(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("id", nargs="?", metavar="ID|CODE", help=_REQUEST)
    which.add_argument("--all", action="store_true", help="every device that waits")
    parser.add_argument("--undo", action="store_true",
                        help="take a denial back: the latest, or this request's")  # fmt: skip
    _json(parser)


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


def _status(parser: argparse.ArgumentParser) -> None:
    _role(parser)
    _view(parser)


def _doctor(parser: argparse.ArgumentParser) -> None:
    _role(parser)
    _json(parser)


def _check(parser: argparse.ArgumentParser) -> None:
    family = parser.add_mutually_exclusive_group()
    family.add_argument("--ipv4", action="store_true", help="look at IPv4 only")
    family.add_argument("--ipv6", action="store_true", help="look at IPv6 only")
    _role(parser)
    _json(parser)


def _relisten(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--drop", action="store_true", help="close all links, too: every device reconnects"
    )
    _json(parser)


def _pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", action="store_true", help="stay until a device has asked, and approve it here"
    )
    parser.add_argument("--no-qr", action="store_true", help="print the URI only")
    parser.add_argument(
        "--seconds", type=float, default=120.0, metavar="N",
        help="how long the code is good, 120 at most (default: 120)",
    )  # fmt: skip
    _json(parser)


def _wireguard(parser: argparse.ArgumentParser) -> None:
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
    _json(parser)


def _rename(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="NAME|ID",
                        help="the device's name, its id, or the beginning of that")  # fmt: skip
    parser.add_argument("label", metavar="LABEL", help="the new name")
    _json(parser)


def _flows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sort", choices=FLOW_SORTS, default="rate", metavar="COLUMN",
                        help=f"one of {', '.join(FLOW_SORTS)} (default: rate)")  # fmt: skip
    parser.add_argument("--reverse", action="store_true", help="the least first")
    parser.add_argument("--filter", default="", metavar="WORDS", help="flows that contain these")
    parser.add_argument("--limit", type=_limit(MAX_FLOWS), default=50, metavar="N",
                        help="at most N (default: 50)")  # fmt: skip
    parser.add_argument("--peer", metavar="NAME|ID",
                        help="of this device only; on the client: of this program")  # fmt: skip
    _role(parser)
    _view(parser)


def _counters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", nargs="?", default="", metavar="PART",
                        help="those with this in their name only")  # fmt: skip
    _role(parser)
    _json(parser)


def _connect(parser: argparse.ArgumentParser) -> None:
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
    _open_on_failure(parser)
    _json(parser)


def _join(parser: argparse.ArgumentParser) -> None:
    _connect(parser)
    parser.add_argument("--no-console", action="store_true", help="connect only")


def _discover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=_seconds, default=3.0, metavar="N",
                        help="listen for so long (default: 3)")  # fmt: skip
    _json(parser)


def _usb(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=("list", "forget"), default="list",
        help="forget: remove the key that phones know this device by (default: list the phones)",
    )  # fmt: skip
    _json(parser)


def _logs(parser: argparse.ArgumentParser) -> None:
    _role(parser)
    parser.add_argument("-n", "--limit", type=_limit(MAX_LOG_LINES), default=50, metavar="N",
                        help="the last N lines (default: 50)")  # fmt: skip
    parser.add_argument("--level", choices=LEVELS, default="debug", help="lines of at least this")
    parser.add_argument("--filter", default="", metavar="WORDS", help="lines that contain these")
    parser.add_argument("--device", default="", metavar="NAME",
                        help="what happened to devices of this name (or id)")  # fmt: skip
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    _json(parser)


def _service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", choices=LEVELS[:4], help="least level (default: info)")
    parser.add_argument("--log-format", choices=("human", "json"), help="(default: human)")


def _sharing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", action="append", metavar="HOST:PORT",
                        help="where clients connect; repeatable (default: 0.0.0.0:47800 "
                        "and [::]:47800)")  # fmt: skip
    parser.add_argument("--vpn-interface", metavar="NAME", help="the VPN (default: find it)")
    parser.add_argument("--name", help="shown to clients (default: the host's name)")


def _gateway(parser: argparse.ArgumentParser) -> None:
    _sharing(parser)
    parser.add_argument("--share", action="store_true", help="start sharing at once")
    _service(parser)


def _client(parser: argparse.ArgumentParser) -> None:
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
    _open_on_failure(parser)
    _service(parser)


def _run(parser: argparse.ArgumentParser) -> None:
    _private(parser)
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what to run, with its words"
    )


def _private(parser: argparse.ArgumentParser) -> None:
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


def _open_on_failure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--open-on-failure", action="store_true",
                        help="open the network when the gateway stays away or refuses: traffic "
                        "then leaves outside the VPN")  # fmt: skip


def _up(parser: argparse.ArgumentParser) -> None:
    _sharing(parser)
    parser.add_argument("--no-console", action="store_true", help="start the service only")


def _unit(parser: argparse.ArgumentParser) -> None:
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
    _json(parser)


def _down(parser: argparse.ArgumentParser) -> None:
    _role(parser)
    _json(parser)


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", metavar="KEY",
                        help="only this one, or those of a section (gateway, dns...)")  # fmt: skip
    _doctor(parser)


def _get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the setting, as `vpnshare settings` names it")
    _json(parser)


def _set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the setting, as `vpnshare settings` names it")
    parser.add_argument("value", metavar="VALUE", nargs="?",
                        help="its new value; lists with commas between")  # fmt: skip
    parser.add_argument("--default", action="store_true", help="back to the default")
    _json(parser)


def _console(parser: argparse.ArgumentParser) -> None:
    _role(parser)
    parser.add_argument("--host", metavar="USER@HOST[:PORT]",
                        help="of the services on another machine, by ssh")  # fmt: skip
    parser.add_argument("--read-only", action="store_true", help="look, change nothing")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-console", action="store_true", help="stay in the foreground instead")
    parser.add_argument("--seconds", type=_seconds, metavar="N", help="end by itself after N")
    parser.add_argument("--json", action="store_true",
                        help="with --no-console: say at the end what went through")  # fmt: skip


def _api(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", nargs="?", metavar="METHOD",
                        help="a method of the service (default: show them)")  # fmt: skip
    _parameters(parser)
    _role(parser)


def _watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC", help="a method that is a topic")
    _parameters(parser)
    parser.add_argument("--interval", type=_interval, default=1.0, metavar="SECONDS",
                        help="at most a line in so long (default: 1)")  # fmt: skip
    _role(parser)


def _parameters(parser: argparse.ArgumentParser) -> None:
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


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", nargs="?", choices=("bash", "zsh", "fish"),
                        help="(default: the one that SHELL names)")  # fmt: skip
    parser.add_argument("--names", choices=("devices", "requests", "gateways", "templates"),
                        help="print the names of what is there now, for a completion")  # fmt: skip


def _metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", metavar="HOST:PORT|unix:PATH",
                        help="stay, and answer scrapes there, at /metrics")  # fmt: skip
    parser.add_argument("--token-file", metavar="FILE",
                        help="answer only who knows the token in it (Bearer)")  # fmt: skip


def _nothing(parser: argparse.ArgumentParser) -> None:
    """No options."""


def _control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probe", action="store_true", help="only say which services run")
    parser.add_argument("--role", choices=("gateway", "client"), default="gateway")


def _bundle(parser: argparse.ArgumentParser) -> None:
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
    _json(parser)


_READ = "services.cli.reading"
_RULES = "services.cli.rules"
_ACT = "services.cli.acting"
_RUN = "services.cli.running"
_TUNNEL = "services.cli.tunnel"

COMMANDS: tuple[Command, ...] = (
    Command(
        "up", "Start", "start sharing, and open the console", f"{_RUN}:up", _up,
        ("vpnshare up", "vpnshare up --vpn-interface tun0 --no-console"),
        "Starts a gateway service in the background if none runs, turns sharing on and opens\n"
        "the console with the pairing code. The service stays when the console is left;\n"
        "`vpnshare down` stops it.",
    ),
    Command(
        "join", "Start", "use a gateway's VPN: service, pairing, connection, console",
        "services.cli.joining:join", _join,
        ("vpnshare join", "vpnshare join -", "vpnshare join 192.168.1.20", "vpnshare join phone",
         "vpnshare join 192.168.1.20 --code 483920",
         "ssh phone vpnshare pair --json | jq -r .uri | vpnshare join -"),
        "The counterpart of `up`, on the device. It gets root's rights by sudo, starts a client\n"
        "service in the background if none runs, connects (to the last gateway; if none is known,\n"
        "to one that is near, of your choice) and opens the console. `vpnshare leave` ends it. By\n"
        "address both sides show six digits, and both have to say that they are the same: see\n"
        "`connect`.\n"
        "Ctrl-C before it is connected takes back what it began.",
    ),
    Command(
        "leave", "Start", "disconnect, and stop the service that `join` started",
        "services.cli.joining:leave", _json, ("vpnshare leave", "vpnshare leave --json"),
        "Routes and resolver are as before. A service that was started in another way goes on.",
    ),
    Command(
        "restart", "Start", "have running services begin anew, as what is installed now",
        "services.cli.restarting:restart", _down,
        ("vpnshare restart", "vpnshare restart --role gateway --json"),
        "For after an upgrade. Devices come back by themselves, a client resumes its session with\n"
        "its connections, and its network stays closed meanwhile. A unit is restarted by its\n"
        "manager; a service in somebody's terminal is left to them.",
    ),
    Command(
        "down", "Start", "stop the services", f"{_RUN}:down", _down,
        ("vpnshare down", "vpnshare down --role client"),
    ),
    Command(
        "console", "Start", "control a running service in the terminal", f"{_RUN}:console",
        _console, ("vpnshare console", "vpnshare console --role client",
                   "vpnshare console --host u0_a123@phone:8022"),
    ),
    Command(
        "demo", "Start", "try it: a VPN, a gateway and a device on this machine",
        "services.cli.trying:run", _demo,
        ("sudo vpnshare demo", "sudo vpnshare demo --no-console --seconds 10"),
        "Needs root and Linux. Three network namespaces with real services and real traffic,\n"
        "and the console in front; w switches between gateway and device. The machine's own\n"
        "network is not touched, and nothing is left when the console is closed.",
    ),
    Command(
        "gateway", "Start", "run the sharing service in the foreground", f"{_RUN}:gateway",
        _gateway,
        ("vpnshare gateway --share", "vpnshare gateway --listen 10.0.0.2:47800 --log-format json"),
        "Starts idle: sharing is turned on by `vpnshare share`, in the console, or by --share.",
    ),
    Command(
        "client", "Start", "run the receiving service in the foreground", f"{_RUN}:client",
        _client, ("sudo vpnshare client", "sudo vpnshare client --interface tun7 --no-dns",
                  "vpnshare client --private", "vpnshare client --proxy",
                  "vpnshare client --proxy 127.0.0.1:1081 --pac"),
        "Needs the right to make network interfaces (root), but for --private, where only what is\n"
        "started by `vpnshare run` uses the tunnel, and for --proxy, where only programs that are\n"
        "told to use the proxy do. Starts idle: see `vpnshare connect`.",
    ),
    Command(
        "bundle", "Start", "make a file that sets up another machine without a network",
        "services.cli.bundling:make", _bundle,
        ("vpnshare bundle", "vpnshare bundle /media/stick/vpnshare.tar",
         "vpnshare bundle --machine aarch64", "vpnshare bundle --python 3.13"),
        "This program and all packages that it needs, for Linux with glibc. Carry it over (a USB\n"
        "stick, scp, a cable), and there: tar xf FILE, then ./vpnshare in the folder that it\n"
        "makes. Here it needs a network, for what it fetches; the other machine needs Python\n"
        "alone.",
    ),
    Command(
        "service", "Start", "have the system start a service by itself",
        "services.cli.service:service", _unit,
        ("vpnshare service install", "sudo vpnshare service install --role client",
         "sudo vpnshare service install --role client --copy",
         "vpnshare service install --dry-run", "vpnshare service status"),
        "systemd (for the machine as root, else for yourself), or runit in Termux. The service\n"
        "starts idle unless --share is given. What a unit of the machine runs has to be root's,\n"
        "and nobody else's to write; --copy makes it so, and brings it up to date later.",
    ),
    Command(
        "status", "Look", "what the services are doing", f"{_READ}:status", _status,
        ("vpnshare status", "vpnshare status --watch", "vpnshare status --role client --json"),
        "With --json: the object of the one service that runs, or {\"gateway\": ..., \"client\":\n"
        "...} when both run and no --role is given.",
    ),
    Command(
        "share", "Share", "turn sharing on", f"{_ACT}:share", _json,
        ("vpnshare share",),
    ),
    Command(
        "unshare", "Share", "turn sharing off: devices lose the Internet", f"{_ACT}:unshare", _json,
        ("vpnshare unshare",),
    ),
    Command(
        "relisten", "Share", "open the listening sockets anew", f"{_ACT}:relisten", _relisten,
        ("vpnshare relisten", "vpnshare relisten --drop"),
        "For when devices cannot come in any more although the gateway runs: after the hotspot\n"
        "or an interface was turned off and on, say. Connected devices stay connected. To listen\n"
        "elsewhere: vpnshare set gateway.listen 0.0.0.0:47801",
    ),
    Command(
        "pair", "Share", "show the code that lets a device in", "services.cli.pairing:pair", _pair,
        ("vpnshare pair", "vpnshare pair --wait", "vpnshare pair --json"),
        "The code holds a secret that works once, for two minutes. The device still waits for\n"
        "your approval (`vpnshare requests`), unless you have set gateway.auto_approve_qr.",
    ),
    Command(
        "wireguard", "Share", "devices that come by a WireGuard app",
        "services.cli.wireguard:wireguard", _wireguard,
        ("vpnshare wireguard", "vpnshare wireguard add phone",
         "vpnshare wireguard add tv --conf tv.conf",
         "vpnshare wireguard add laptop --png laptop.png --endpoint phone.local",
         "vpnshare wireguard add router --key xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
         "vpnshare wireguard renew phone", "vpnshare wireguard invite router --conf router.conf"),
        "For phones, tablets, televisions and computers with the WireGuard app. What is shown\n"
        "holds the device's private key: it is not kept, and cannot be shown again. The device\n"
        "still waits for your approval (`vpnshare requests`), unless you have set\n"
        "gateway.auto_approve_qr. One config is for one device. For another code, renew: the\n"
        "device keeps its name and addresses, and its old key works until the new one is used.",
    ),
    Command(
        "requests", "Share", "devices that wait for approval", f"{_READ}:requests", _view,
        ("vpnshare requests", "vpnshare requests --watch", "vpnshare requests --json"),
    ),
    Command(
        "approve", "Share", "let a waiting device in", f"{_ACT}:approve",
        _approve, ("vpnshare approve", "vpnshare approve 483920", "vpnshare approve 3f",
                   "vpnshare approve 3f --rules guest", "vpnshare approve --for 2h --quota 1GB"),
        "Compare the six digits on both devices first, when `vpnshare requests` shows some. Or\n"
        "type those that the device shows: no other request has them. Without any it is the only\n"
        "device that waits; on a terminal it asks first whether the digits are the same.",
    ),
    Command(
        "deny", "Share", "turn a waiting device away", f"{_ACT}:deny",
        _deny, ("vpnshare deny", "vpnshare deny 3f", "vpnshare deny --all",
               "vpnshare deny --undo"),
        "A device that was denied, and its address, are kept away for a while. --undo lets it\n"
        "ask again at once.",
    ),
    Command(
        "peers", "Share", "devices that were approved", f"{_READ}:peers", _view,
        ("vpnshare peers", "vpnshare peers --json"),
    ),
    Command(
        "usage", "Share", "what devices have used, by hour, day or month",
        "services.cli.usage:usage", _usage,
        ("vpnshare usage", "vpnshare usage --since 7d", "vpnshare usage tablet",
         "vpnshare usage tablet --by hour --since 6h", "vpnshare usage --by month --csv",
         "vpnshare usage --by day --since 2026-11-01 --json"),
        "Bytes of IP packets, up to now. Without --by: a line for each device, of all that it\n"
        "ever used; for one device its last 30 days. 48 hours and 400 days are kept. What counts\n"
        "is in docs/usage.md.",
    ),
    Command(
        "rules", "Share", "what a device may do: quota, speed, hours, destinations",
        f"{_RULES}:rules", _rules,
        ("vpnshare rules tablet", "vpnshare rules tablet --quota 1GB/day --limit-down 20mbit",
         "vpnshare rules tablet --hours 'mon-fri 07:00-20:00' --hours 'sat,sun 09:00-21:00'",
         "vpnshare rules guest --for 2h", "vpnshare rules tablet --pause",
         "vpnshare rules tv --allow 'tcp 443' --allow 'udp 443' --deny all",
         "vpnshare rules tablet --template family", "vpnshare rules tablet --quota none",
         "vpnshare rules tablet --clear"),
        "Without an option it shows them. What is not named stays as it is; none takes a rule\n"
        "away. A change counts at once, also for running connections. Times are those of the\n"
        "gateway's clock. All of it is in docs/rules.md.",
    ),
    Command(
        "templates", "Share", "rules that go by a name", f"{_RULES}:templates", _templates,
        ("vpnshare templates", "vpnshare templates child --quota 2GB/day --hours 07:00-20:00",
         "vpnshare templates child --remove"),
        "For `vpnshare approve --rules NAME`, `vpnshare rules DEVICE --template NAME` and the\n"
        "console. Some are shipped; a change of one is yours, and removing it brings it back.\n"
        "A device keeps the rules that it was given when a template changes.",
    ),
    Command(
        "revoke", "Share", "end a device's pairing: it has to ask again", f"{_ACT}:revoke",
        lambda p: _id(p, "device"), ("vpnshare revoke a1b2", "vpnshare revoke 'Living room TV'"),
    ),
    Command(
        "rename", "Share", "give a device another name", f"{_ACT}:rename", _rename,
        ('vpnshare rename a1b2 "Living room TV"',),
    ),
    Command(
        "leases", "Share", "what approved devices were given", f"{_READ}:leases", _view,
        ("vpnshare leases", "vpnshare leases --json"),
    ),
    Command(
        "flows", "Look", "live connections through the tunnel", f"{_READ}:flows", _flows,
        ("vpnshare flows", "vpnshare flows --sort bytes --filter 'tcp :443' --limit 20",
         "vpnshare flows --role client --peer firefox"),
        "Those of the devices, when a gateway runs here; else this device's own, by the word of\n"
        "its kernel, which does not count the bytes of UDP (shown as -).",
    ),
    Command(
        "counters", "Look", "what was counted, and what that means", f"{_READ}:counters",
        _counters, ("vpnshare counters", "vpnshare counters dropped --role gateway"),
    ),
    Command(
        "connect", "Receive", "connect to a gateway", "services.cli.connecting:connect", _connect,
        ("vpnshare connect -", "vpnshare connect 192.168.1.20:47800",
         "vpnshare connect 192.168.1.20:47800 --code 483920", "vpnshare connect phone.lan",
         "vpnshare connect", "vpnshare connect --scan", "vpnshare connect phone --wait 20",
         "ssh phone vpnshare pair --json | jq -r .uri | vpnshare connect -"),
        "Without a word: to the last gateway; if none is known, to what is found on the cable, at\n"
        "this network's router and by announcement, of which you choose. Exits with 0 when\n"
        "connected. A URI on the command line works, too, but stands in the\n"
        "shell's history, and other users of this machine can read it there. By address, both\n"
        "sides show six digits, and both have to say that they are the same. Without a terminal\n"
        "the command then ends with 8, and the attempt waits for --code with the digits of the\n"
        "gateway's screen. With --yes nobody compares: whoever answers is believed.",
    ),
    Command(
        "run", "Receive", "run a command whose network is the tunnel, without root",
        "services.cli.private:run", _run,
        ("vpnshare run -- curl https://example.com", "vpnshare run --to phone -- firefox",
         "vpnshare run --to - -- git clone https://example.com/repository",
         "vpnshare run --join -- ping 9.9.9.9"),
        "The command and what it starts have a network of their own, which is the tunnel and\n"
        "nothing else; the rest of the machine stays as it is. Without the tunnel they have none.\n"
        "A client service is started for it if none of yours runs, until the last command ends.\n"
        "Terminal, signals, working folder and exit status are the command's. Inside, sudo cannot\n"
        "give rights. What is reached by a socket of this machine (D-Bus, X) stays reachable.",
    ),
    Command(
        "shell", "Receive", "a shell whose network is the tunnel, without root",
        "services.cli.private:shell", _private,
        ("vpnshare shell", "vpnshare shell --to phone", "vpnshare shell --join"),
        "As `run`, with the shell that SHELL names; its prompt begins with a sign.",
    ),
    Command(
        "discover", "Receive", "gateways on this network: announced, or its router",
        "services.cli.discovering:discover", _discover,
        ("vpnshare discover", "vpnshare discover --seconds 5 --json"),
        "Anybody can announce anything: compare the six digits when you connect.",
    ),
    Command(
        "disconnect", "Receive", "disconnect, and undo all changes to the system",
        "services.cli.connecting:disconnect", _json, ("vpnshare disconnect",),
    ),
    Command(
        "endpoints", "Receive", "where the gateway may be reached, and who won the race",
        f"{_TUNNEL}:endpoints", _view, ("vpnshare endpoints", "vpnshare endpoints --json"),
        "All endpoints of the present gateway, the best first, with the last outcome of each.",
    ),
    Command(
        "history", "Receive", "past links: when, by what, why they ended", f"{_TUNNEL}:history",
        _view, ("vpnshare history", "vpnshare history --json"),
        "The last 64 links since the service began, the newest first. `away before` is how long\n"
        "nothing carried before a link; `resumed` means that the session went on, flows and all.",
    ),
    Command(
        "gateways", "Receive", "gateways this device was approved by", f"{_READ}:gateways", _view,
        ("vpnshare gateways",),
    ),
    Command(
        "forget", "Receive", "forget a gateway", f"{_ACT}:forget", lambda p: _id(p, "gateway"),
        ("vpnshare forget phone",),
    ),
    Command(
        "usb", "Receive", "phones on the cable, and why one cannot be used",
        "services.cli.usb:usb", _usb,
        ("vpnshare usb", "vpnshare usb --json", "vpnshare usb forget"),
        "A phone with USB debugging on is reached by the cable without another program; one that\n"
        "serves the phones here already is used. The phone asks its owner once, on its unlocked\n"
        "screen; who presses Allow there lets this device do all that a computer may do with a\n"
        "phone. `usb forget` removes the key that it was allowed with. A phone forgets a key by\n"
        "itself that was not used for seven days.",
    ),
    Command(
        "settings", "Look", "what can be set, and how it is set", "services.cli.setting:settings",
        _settings, ("vpnshare settings", "vpnshare settings dns", "vpnshare settings --json"),
        "Settings are kept in config.toml. With --json: a list.",
    ),
    Command(
        "get", "Look", "print a setting's value, as `set` takes it", "services.cli.setting:get",
        _get, ("vpnshare get gateway.listen", "vpnshare get client.kill_switch --json"),
    ),
    Command(
        "set", "Look", "change a setting", "services.cli.setting:change", _set,
        ("vpnshare set gateway.auto_approve_qr on", "vpnshare set dns.servers 9.9.9.9,1.1.1.1",
         "vpnshare set gateway.listen 0.0.0.0:47801", "vpnshare set gateway.name --default"),
        "Written into config.toml, comments kept. A running service follows at once where it\n"
        "can; what needs a restart is said.",
    ),
    Command(
        "logs", "Look", "the last log lines of a service", f"{_READ}:logs", _logs,
        ("vpnshare logs", "vpnshare logs -f --level warning --role client",
         "vpnshare logs -n 2000 --filter 'dns timed'",
         "vpnshare logs --device 'Living room TV'"),
        "With -f no line is printed twice, and none is missing without a word: when more came\n"
        "than the service keeps, it is said how many.",
    ),
    Command(
        "doctor", "Look", "find out what is missing, and the fix", "services.cli.diagnosis:doctor",
        _doctor, ("vpnshare doctor", "vpnshare doctor --role client --json"),
        "Services that run examine themselves; otherwise this machine is looked at. Exits with\n"
        "1 when something is broken.",
    ),
    Command(
        "check", "Look", "ask servers outside whether traffic leaves by the VPN",
        "services.cli.checking:check", _check,
        ("vpnshare check", "vpnshare check --ipv6", "vpnshare check --role client --json"),
        "Asks the STUN servers in check.stun for the address that they see, and the names in\n"
        "check.whoami for who asks names, through the VPN only. Takes up to ten seconds. Exits\n"
        "with 1 when something leaves outside the VPN, with 10 when it cannot be told.",
    ),
    Command(
        "api", "Look", "call a method of the control API", "services.cli.calls:api", _api,
        ("vpnshare api", "vpnshare api peers",
         "vpnshare api flows '{\"sort\":\"rate\",\"limit\":5}'",
         "vpnshare api approve '{\"id\":\"3f\"}'"),
        "Prints the result as JSON, and an error as JSON, too. Methods, parameters and what may\n"
        "be relied on are in docs/api.md.",
    ),
    Command(
        "watch", "Look", "follow a topic of the control API, a line of JSON a change",
        "services.cli.calls:watch", _watch,
        ("vpnshare watch peers | jq -c .", "vpnshare watch flows '{\"limit\":5}' --interval 5"),
        "Each line is what `vpnshare api TOPIC` prints: first now, then when it has changed. When\n"
        "the service ends it waits for the next one, and says so on standard error.",
    ),
    Command(
        "metrics", "Look", "metrics of the services that run, for Prometheus",
        "services.cli.metrics:metrics", _metrics,
        ("vpnshare metrics", "vpnshare metrics --listen 127.0.0.1:9478",
         "vpnshare metrics --listen 0.0.0.0:9478 --token-file token"),
        "Prints them once, or with --listen answers scrapes in the foreground until Ctrl-C. Needs\n"
        "the package prometheus_client. All are in docs/metrics.md, with a dashboard.",
    ),
    Command(
        "completion", "Look", "what a shell needs to complete this command line",
        "services.cli.completing:completion", _completion,
        ("source <(vpnshare completion bash)",
         "vpnshare completion zsh >~/.zfunc/_vpnshare",
         "vpnshare completion fish >~/.config/fish/completions/vpnshare.fish"),
        "Commands, options, settings and the names of devices, requests and gateways. For bash\n"
        "put the line into ~/.bashrc; for zsh have the folder in fpath, before compinit.",
    ),
    Command(
        "manual", "Look", "all commands with their options, to read", "services.cli.manual:manual",
        _nothing, ("vpnshare manual", "vpnshare manual >vpnshare.1"),
        "On a terminal by man(1), or by a pager where there is none. Else the page's source.",
    ),
    Command(
        "control", "", "the control socket on standard input and output, for `console --host`",
        "services.cli.bridge:control", _control, ("vpnshare control --role gateway",),
    ),
    Command(
        "version", "Look", "print the version", f"{_READ}:version", _json, ("vpnshare version",),
    ),
)  # fmt: skip

GROUPS = ("Start", "Share", "Receive", "Look")


def parser_for(command: Command) -> argparse.ArgumentParser:
    """The parser of one command."""
    text = command.help[0].upper() + command.help[1:] + "."
    if command.details:
        text += f"\n\n{command.details}"
    parser = argparse.ArgumentParser(
        prog=f"{calling.name()} {command.name}",
        description=calling.pasted(text),
        epilog="examples:\n"
        + "\n".join(f"  {calling.pasted(example)}" for example in command.examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.options(parser)
    return parser
