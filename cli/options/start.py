"""Options of the commands that start and stop something."""

from __future__ import annotations

import argparse

from cli.options.common import json_too, of_open_on_failure, of_role, seconds
from cli.options.receive import of_connect
from control.methods import LEVELS
from services.version import PYTHONS

PROXY = "127.0.0.1:1080"
"""Where the client's proxy listens, unless another place is named."""


def of_up(parser: argparse.ArgumentParser) -> None:
    of_sharing(parser)
    parser.add_argument("--no-console", action="store_true", help="start the service only")


def of_join(parser: argparse.ArgumentParser) -> None:
    of_connect(parser)
    parser.add_argument("--no-console", action="store_true", help="connect only")


def of_console(parser: argparse.ArgumentParser) -> None:
    of_role(parser)
    parser.add_argument("--host", metavar="USER@HOST[:PORT]",
                        help="of the services on another machine, by ssh")  # fmt: skip
    parser.add_argument("--read-only", action="store_true", help="look, change nothing")


def of_control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probe", action="store_true", help="only say which services run")
    parser.add_argument("--role", choices=("gateway", "client"), default="gateway")


def of_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-console", action="store_true", help="stay in the foreground instead")
    parser.add_argument("--seconds", type=seconds, metavar="N", help="end by itself after N")
    parser.add_argument("--json", action="store_true",
                        help="with --no-console: say at the end what went through")  # fmt: skip


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


def of_sharing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", action="append", metavar="HOST:PORT",
                        help="where clients connect; repeatable (default: 0.0.0.0:47800 "
                        "and [::]:47800)")  # fmt: skip
    parser.add_argument("--vpn-interface", metavar="NAME", help="the VPN (default: find it)")
    parser.add_argument("--name", help="shown to clients (default: the host's name)")


def of_service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", choices=LEVELS[:4], help="least level (default: info)")
    parser.add_argument("--log-format", choices=("human", "json"), help="(default: human)")


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
