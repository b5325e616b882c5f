"""`connect` and `join` without a word, where no gateway is known: what is near, and who chooses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control import schema
from control.exits import Exit
from control.methods import ConnectParams
from control.registry import Handler
from control.schema import Nearby, NearbyGateway
from tests.fakes.services import IDLE_CLIENT, PretendClient
from tests.services.conftest import serve
from tests.services.test_cli import GOOD, ROOT, Terminal
from vshp.uri import PairingUri

NEAR = NearbyGateway("router", "10.1.0.1:47800", "", "ab:cd", "lan", False, "")
HEARD = NearbyGateway("announced", "10.1.0.9:47800", "Kit\x1b[31mchen", "12:34", "lan", False, "")
BARRED = NearbyGateway("cable", "usb:X1", "Pixel", "", "usb", False, "Unlock the phone.")


class Lost(PretendClient):
    """A client that knows no gateway."""

    def __init__(self) -> None:
        super().__init__()
        self.status = IDLE_CLIENT
        self.gateways = []
        self.looks = 0
        self.heard: list[str | None] = []

    def handlers(self) -> dict[str, Handler]:
        def connect(params: ConnectParams) -> schema.ClientStatus:
            self.heard.append(params.uri or params.gateway)
            return self._connect(params)

        return super().handlers() | {"connect": connect, "nearby": lambda _: self._look()}

    def _look(self) -> Nearby:
        self.looks += 1
        return self.nearby


@pytest.fixture
def lost(home: Path) -> Iterator[Lost]:
    client = Lost()
    with serve(client, home / "client.sock"):
        yield client


def alone(*words: str) -> subprocess.CompletedProcess[str]:
    """The command with nobody at a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "connect", "--wait", "0", *words],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_of_what_is_near_one_is_chosen_by_its_number(lost: Lost) -> None:
    lost.nearby = Nearby([NEAR, HEARD, BARRED], "")
    terminal = Terminal("connect", "--wait", "0")
    terminal.read_until(b"HOST:PORT [1]: ")
    assert b"a gateway: this network's router, 10.1.0.1:47800, key ab:cd" in terminal.shown
    assert b"chen: announced on this network, 10.1.0.9:47800, key 12:34" in terminal.shown
    assert b"\x1b[31mchen" not in terminal.shown
    assert b"Pixel on the cable cannot be used yet." in terminal.shown
    assert b"Unlock the phone." in terminal.shown
    terminal.write(b"3\n")
    terminal.read_until(b"3 is none of these.")
    terminal.write(b"2\n")
    assert terminal.end() == Exit.OK
    assert (lost.heard, lost.looks) == (["10.1.0.9:47800"], 1)


def test_enter_takes_the_first_and_r_looks_again(lost: Lost) -> None:
    terminal = Terminal("connect", "--wait", "0")
    terminal.read_until(b"HOST:PORT [r]: ")
    assert b"Nothing was found." in terminal.shown and b"vpnshare up" in terminal.shown
    lost.nearby = Nearby([NEAR], "mDNS needs the package zeroconf.")
    terminal.write(b"\n")
    terminal.read_until(b"HOST:PORT [1]: ")
    assert b"mDNS needs the package zeroconf." in terminal.shown
    terminal.write(b"\n")
    assert terminal.end() == Exit.OK
    assert (lost.heard, lost.looks) == (["10.1.0.1:47800"], 2)


def test_another_place_may_be_typed_and_nothing_chosen(lost: Lost) -> None:
    terminal = Terminal("connect", "--wait", "0")
    terminal.read_until(b"HOST:PORT [r]: ")
    terminal.write(b"phone.lan\n")
    assert terminal.end() == Exit.OK and lost.heard == ["phone.lan"]
    terminal = Terminal("connect", "--wait", "0")
    terminal.read_until(b"HOST:PORT [r]: ")
    terminal.write(b"\x04")
    assert terminal.end() == Exit.USAGE and len(lost.heard) == 1
    assert b"No gateway was chosen." in terminal.shown


@pytest.mark.parametrize(
    "answer", [b"u\n", GOOD[:40].encode() + b"\n" + GOOD[40:].encode() + b"\n"]
)
def test_a_uri_is_asked_for_where_it_is_not_shown(lost: Lost, answer: bytes) -> None:
    terminal = Terminal("connect", "--wait", "0")
    terminal.read_until(b"HOST:PORT [r]: ")
    terminal.write(answer)
    terminal.read_until(b"is not shown): ")
    shown = len(terminal.shown)
    terminal.wait_for_no_echo()
    terminal.write(f"{GOOD}\n".encode())
    assert terminal.end() == Exit.OK
    (uri,) = lost.heard
    assert uri is not None and PairingUri.decode(uri) == PairingUri.decode(GOOD)
    assert GOOD[10:30].encode() not in terminal.shown[shown:]


def test_with_nobody_to_ask_the_only_one_is_taken(lost: Lost) -> None:
    lost.nearby = Nearby([NEAR, BARRED], "")
    done = alone()
    assert done.returncode == Exit.OK and lost.heard == ["10.1.0.1:47800"]
    assert "Found a gateway, this network's router: 10.1.0.1:47800." in done.stderr


@pytest.mark.parametrize(
    ("near", "words", "code", "said"),
    [
        ([NEAR, HEARD], [], Exit.CONFLICT, "vpnshare connect 10.1.0.9:47800"),
        ([NEAR], ["--yes"], Exit.CONFLICT, "vpnshare connect 10.1.0.1:47800"),
        ([], [], Exit.NOT_FOUND, "vpnshare connect -"),
        ([BARRED], [], Exit.NOT_FOUND, "Unlock the phone."),
    ],
)
def test_with_nobody_to_ask_nothing_is_guessed(
    lost: Lost, near: list[NearbyGateway], words: list[str], code: Exit, said: str
) -> None:
    lost.nearby = Nearby(near, "")
    done = alone(*words)
    assert (done.returncode, lost.heard) == (code, [])
    assert said in done.stderr.replace(f"{sys.executable} -m cli.main", "vpnshare")


def test_a_known_gateway_is_gone_back_to_without_a_look(lost: Lost) -> None:
    lost.gateways = PretendClient().gateways
    assert alone().returncode == Exit.OK
    assert (lost.heard, lost.looks) == ([None], 0)
