"""Options of the commands that look, and of those that change settings."""

from __future__ import annotations

import argparse

from cli.options.common import json_too, limit, of_role, role_and_json, viewing
from control.methods import (
    FLOW_SORTS,
    LEVELS,
    MAX_FLOWS,
    MAX_INTERVAL,
    MAX_LOG_LINES,
    MIN_INTERVAL,
)


def of_status(parser: argparse.ArgumentParser) -> None:
    of_role(parser)
    viewing(parser)


def of_flows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sort", choices=FLOW_SORTS, default="rate", metavar="COLUMN",
                        help=f"one of {', '.join(FLOW_SORTS)} (default: rate)")  # fmt: skip
    parser.add_argument("--reverse", action="store_true", help="the least first")
    parser.add_argument("--filter", type=str, default="", metavar="WORDS",
                        help="flows that contain these")  # fmt: skip
    parser.add_argument("--limit", type=limit(MAX_FLOWS), default=50, metavar="N",
                        help="at most N (default: 50)")  # fmt: skip
    parser.add_argument("--peer", metavar="NAME|ID",
                        help="of this device only; on the client: of this program")  # fmt: skip
    of_role(parser)
    viewing(parser)


def of_counters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", nargs="?", type=str, default="", metavar="PART",
                        help="those with this in their name only")  # fmt: skip
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--device", metavar="NAME|ID",
                       help="of this device of the gateway's, since its session began")  # fmt: skip
    which.add_argument(
        "--role", choices=("gateway", "client"), help="which service (default: what runs)"
    )
    viewing(parser)


def of_logs(parser: argparse.ArgumentParser) -> None:
    of_role(parser)
    parser.add_argument("-n", "--limit", type=limit(MAX_LOG_LINES), default=50, metavar="N",
                        help="the last N lines (default: 50)")  # fmt: skip
    parser.add_argument("--level", choices=LEVELS, default="debug", help="lines of at least this")
    parser.add_argument("--filter", type=str, default="", metavar="WORDS",
                        help="lines that contain these")  # fmt: skip
    parser.add_argument("--device", metavar="NAME",
                        help="what happened to devices of this name (or id)")  # fmt: skip
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    json_too(parser)


def of_check(parser: argparse.ArgumentParser) -> None:
    family = parser.add_mutually_exclusive_group()
    family.add_argument("--ipv4", action="store_true", help="look at IPv4 only")
    family.add_argument("--ipv6", action="store_true", help="look at IPv6 only")
    of_role(parser)
    json_too(parser)


def of_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", metavar="KEY",
                        help="only this one, or those of a section (gateway, dns...)")  # fmt: skip
    role_and_json(parser)


def of_get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the setting, as `vpnshare settings` names it")
    json_too(parser)


def of_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the setting, as `vpnshare settings` names it")
    parser.add_argument("value", metavar="VALUE", nargs="?", type=str,
                        help="its new value; lists with commas between; for a password -: to "
                        "be asked for it")  # fmt: skip
    parser.add_argument("--default", action="store_true", help="back to the default")
    json_too(parser)


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
