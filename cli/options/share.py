"""Options of the commands of who shares: pairing, devices and what they may do."""

from __future__ import annotations

import argparse

from cli.options.common import filled, json_too, seconds, viewing


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
        "--seconds", type=seconds, default=120.0, metavar="N",
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


def of_deny(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("id", nargs="?", metavar="ID|CODE", help=_REQUEST)
    which.add_argument("--all", action="store_true", help="every device that waits")
    parser.add_argument("--undo", action="store_true",
                        help="take a denial back: the latest, or this request's")  # fmt: skip
    json_too(parser)


def of_rename(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="NAME|ID",
                        help="the device's name, its id, or the beginning of that")  # fmt: skip
    parser.add_argument("label", metavar="LABEL", help="the new name")
    json_too(parser)


def of_usage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", metavar="NAME|ID",
                        help="the device's name, its id, or the beginning of that "
                        "(default: all)")  # fmt: skip
    parser.add_argument("--by", choices=("hour", "day", "month"), help="a line for each of these")
    parser.add_argument("--since", metavar="WHEN",
                        help="how far back: 6h, 7d, 4w, or a day: 2026-11-01")  # fmt: skip
    viewing(parser, csv=True)


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


def _denied(text: str) -> str:
    return f"deny {filled(text)}"


def _allowed(text: str) -> str:
    return f"allow {filled(text)}"
