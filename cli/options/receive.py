"""Options of the commands of who uses a gateway."""

from __future__ import annotations

import argparse

from cli.options.common import json_too, of_open_on_failure, seconds
from control.methods import TRANSPORTS


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
    parser.add_argument("--wait", type=seconds, metavar="SECONDS",
                        help="give up after so long; 0: do not wait (default: 60, and longer "
                        "while the owner is asked)")  # fmt: skip
    of_open_on_failure(parser)
    json_too(parser)


def of_run(parser: argparse.ArgumentParser) -> None:
    of_private(parser)
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, type=str, metavar="-- COMMAND",
        help="what to run, with its words",
    )  # fmt: skip


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
    parser.add_argument("--wait", type=seconds, metavar="SECONDS",
                        help="give up after so long (default: 60, and longer while the owner is "
                        "asked)")  # fmt: skip


def of_discover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=seconds, default=3.0, metavar="N",
                        help="listen for so long (default: 3)")  # fmt: skip
    json_too(parser)


def of_usb(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=("list", "forget"), default="list",
        help="forget: remove the key that phones know this device by (default: list the phones)",
    )  # fmt: skip
    json_too(parser)
