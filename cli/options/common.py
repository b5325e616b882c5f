"""Options that several commands have, and how their words are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def json_too(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def viewing(parser: argparse.ArgumentParser, csv: bool = False) -> None:
    """For people, and for them again and again, or for scripts."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON, for scripts")
    if csv:
        how.add_argument("--csv", action="store_true", help="print CSV, for a spreadsheet")
    how.add_argument("--watch", nargs="?", type=_every, const=1.0, metavar="SECONDS",
                     help="look again every second, or every SECONDS")  # fmt: skip


def _every(text: str) -> float:
    value = seconds(text)
    if value < 0.1:
        raise argparse.ArgumentTypeError("not more often than every 0.1 seconds")
    return value


def of_role(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role", choices=("gateway", "client"), help="which service (default: what runs)"
    )


def role_and_json(parser: argparse.ArgumentParser) -> None:
    of_role(parser)
    json_too(parser)


def of_one(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("id", metavar="NAME|ID",
                        help=f"the {what}'s name, its id, or the beginning of that")  # fmt: skip
    json_too(parser)


def of_open_on_failure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--open-on-failure", action="store_true",
                        help="open the network when the gateway stays away or refuses: traffic "
                        "then leaves outside the VPN")  # fmt: skip


def limit(most: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        if not text.isdigit() or int(text) > most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {most}")
        return int(text)

    return check


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 86400")
    return value


def filled(text: str) -> str:
    """What every argument without a type of its own goes through: an empty word, as a script's
    unset variable leaves one, means nothing, and not all. `type=str` takes it.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("may not be empty")
    return text


def nothing(parser: argparse.ArgumentParser) -> None:
    """No options."""
