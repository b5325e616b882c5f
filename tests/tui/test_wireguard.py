"""Devices with a WireGuard app in the console: made, shown, saved, let in, watched, revoked."""

from __future__ import annotations

import base64
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from control import schema
from control.errors import Code, ControlError
from tests.fakes.services import WIREGUARD_TEXT, PretendGateway, lease, peer, request
from tests.tui.conftest import Console, OpenConsole
from tests.tui.pictures import read_qr, to_png
from tui.screens.pair import PairScreen
from tui.screens.peers import PeersScreen
from tui.screens.wireguard import WireguardScreen
from tui.widgets.qr import QrCode, cells

ID = "c0ffee00"
PHONE, COMMON, ZOOMED, WIDE = (45, 24), (80, 24), (70, 34), (120, 40)
KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="


def device(state: str) -> schema.WireguardDevice:
    return schema.WireguardDevice(
        ID, "tablet", KEY, state, "10.187.43.2", "fdab:cdef:1234::2", "192.168.43.1:51820"
    )


async def make(c: Console, name: str = "tablet") -> None:
    await c.press("g")
    await c.press(*name, "enter")
    await c.settle()


def now(
    gateway: PretendGateway,
    *devices: schema.WireguardDevice,
    troubles: list[schema.WireguardTrouble] | None = None,
) -> None:
    gateway.wireguard = replace(gateway.wireguard, devices=list(devices), troubles=troubles or [])
    gateway.changed()


def test_its_size() -> None:
    assert cells(WIREGUARD_TEXT) == (61, 31)


@pytest.mark.parametrize(("size", "theme"), [(ZOOMED, "dark"), (ZOOMED, "light"), (WIDE, "mono")])
async def test_a_camera_reads_the_config_off_the_screen(
    console: OpenConsole, tmp_path: Path, size: tuple[int, int], theme: str
) -> None:
    async with console(section="pair", size=size, theme=theme) as c:
        await make(c)
        assert c.gateway.calls[-1] == ("wireguard_add", {"label": "tablet"})
        to_png(c.app.export_screenshot(), tmp_path / "screen.png")
        assert read_qr(tmp_path / "screen.png") == WIREGUARD_TEXT
        assert "esc done  waits 10:00" in c.text


@pytest.mark.parametrize("size", [PHONE, COMMON])
async def test_a_terminal_that_is_too_small_says_how_large_it_must_be(
    console: OpenConsole, tmp_path: Path, size: tuple[int, int]
) -> None:
    async with console(section="pair", size=size) as c:
        await make(c)
        text = " ".join(c.text.split())
        assert f"needs 61 columns and 32 lines; here are {size[0]} and {size[1]}" in text
        assert "save a picture of it" in text and "is not shown again" in text
        assert WIREGUARD_TEXT.splitlines()[1][11:] not in c.text
        await c.pilot.resize_terminal(*ZOOMED)
        await c.settle()
        to_png(c.app.export_screenshot(), tmp_path / "screen.png")
        assert read_qr(tmp_path / "screen.png") == WIREGUARD_TEXT


async def test_the_code_and_its_text_change_places(console: OpenConsole) -> None:
    async with console(section="pair", size=WIDE) as c:
        await make(c)
        await c.press("t")
        assert "Looks for  192.168.43.1:51820" in c.text and "show the code" in c.text
        await c.press("t")
        assert "Looks for" not in c.text
        await c.press("escape")
        assert isinstance(c.app.screen, PairScreen)


async def test_a_picture_for_its_owner_only(
    console: OpenConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with console(section="pair", size=PHONE) as c:
        await make(c)
        await c.press("s", "enter")
        assert f"{tmp_path}/phone.png is written" in c.told[-1]
        assert read_qr(tmp_path / "phone.png") == WIREGUARD_TEXT
        assert stat.S_IMODE(os.stat("phone.png").st_mode) == 0o600
        before = (tmp_path / "phone.png").read_bytes()
        await c.press("s", "enter")
        assert "is there already" in c.told[-1]
        assert (tmp_path / "phone.png").read_bytes() == before
        assert isinstance(c.app.screen, WireguardScreen)
        await c.press("s", "escape")
        assert sorted(os.listdir()) == ["phone.png"]


async def test_a_phone_opens_the_picture(
    console: OpenConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opener = tmp_path / "termux-open"
    opener.write_text('#!/bin/sh\necho "$@" >opened\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PREFIX", "/data/data/com.termux/files/usr")
    async with console(section="pair", size=PHONE) as c:
        await make(c)
        assert "and open it" in c.text
        await c.press("s", "enter")
        for _ in range(100):
            if (tmp_path / "opened").exists() and (tmp_path / "opened").read_text():
                break
            await c.pilot.pause(0.05)
        assert (tmp_path / "opened").read_text() == f"{tmp_path}/phone.png\n"


async def test_the_config_is_copied(console: OpenConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    async with console(section="pair") as c:
        await make(c)
        written: list[str] = []
        monkeypatch.setattr(c.app._driver, "write", written.append)
        await c.press("y")
        wanted = base64.b64encode(WIREGUARD_TEXT.encode()).decode()
        assert f"\x1b]52;c;{wanted}\a" in written


async def test_it_makes_way_for_the_question_as_soon_as_the_device_knocks(
    console: OpenConsole,
) -> None:
    async with console(section="pair", size=PHONE) as c:
        await make(c)
        now(c.gateway, replace(device("offered"), expires_in=590.0))
        await c.settle()
        assert isinstance(c.app.screen, WireguardScreen)
        c.gateway.waiting.append(request(label="tablet", code=None, via="wireguard"))
        now(c.gateway, device("asking"))
        await c.settle()
        assert isinstance(c.app.screen, PairScreen)
        assert "tablet" in c.text
        await c.advance(1.0)
        await c.press("a")
        assert c.gateway.waiting == [] and "approve" in [name for name, _ in c.gateway.calls]


async def test_who_is_let_in_without_a_question_needs_no_code(console: OpenConsole) -> None:
    async with console(section="pair", size=PHONE) as c:
        await make(c)
        now(c.gateway, device("connected"))
        await c.settle()
        assert isinstance(c.app.screen, PairScreen)


@pytest.mark.parametrize("size", [PHONE, WIDE])
async def test_why_it_does_not_come_is_said_where_one_waits(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="pair", size=size) as c:
        await make(c)
        trouble = schema.WireguardTrouble(
            "silence", ID, "Nothing at all has come in on UDP port 51820.", "Turn the tunnel on."
        )
        other = schema.WireguardTrouble("clock", "beefcafe", "The clock of tv went back.", "Set it")
        now(c.gateway, device("offered"), troubles=[other, trouble])
        await c.settle()
        if size == WIDE:
            assert "t tells why it is not there" in c.text
            await c.press("t")
        text = " ".join(c.text.split())
        assert "Nothing at all has come in on UDP port 51820. Turn the tunnel on." in text
        assert "clock" not in text


INVITATION = WIREGUARD_TEXT.replace(WIREGUARD_TEXT.splitlines()[1], "PrivateKey=")


async def invite(c: Console) -> None:
    await c.press("i", *"router", "enter")
    await c.settle()


@pytest.mark.parametrize("size", [PHONE, COMMON, WIDE])
async def test_an_invitation_is_no_code_but_a_file(
    console: OpenConsole, tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with console(section="pair", size=size) as c:
        await invite(c)
        assert c.gateway.calls[-1] == ("wireguard_invite", {"label": "router"})
        text = " ".join(c.text.split())
        assert "Put the device's own private key behind PrivateKey=" in text
        assert "columns" not in text and "picture" not in text and "show the code" not in text
        assert "compare the code of who asks with its public key" in text
        await c.press("t")
        assert c.app.screen.query_one(QrCode).text == ""
        await c.press("s", "enter")
        assert (tmp_path / "phone.conf").read_text() == f"{INVITATION}\n"
        assert stat.S_IMODE(os.stat("phone.conf").st_mode) == 0o600


async def test_an_invitation_makes_way_for_the_first_key_that_asks(console: OpenConsole) -> None:
    async with console(section="pair", size=PHONE) as c:
        await invite(c)
        invited = replace(device("invited"), id="0ff3", label="router", key="")
        now(c.gateway, invited, device("connected"))
        await c.settle()
        assert isinstance(c.app.screen, WireguardScreen)
        now(c.gateway, replace(invited, asking=[KEY]))
        await c.settle()
        assert isinstance(c.app.screen, PairScreen)


async def test_a_device_that_cannot_be_made_says_why(console: OpenConsole) -> None:
    async with console(section="pair") as c:
        c.gateway.refusal = ControlError(Code.FAILED, "WireGuard is off.", "Turn it on.")
        await make(c)
        assert c.told[-1] == "WireGuard is off. Turn it on."
        assert isinstance(c.app.screen, PairScreen)


async def test_no_name_no_device(console: OpenConsole) -> None:
    async with console(section="pair") as c:
        await c.press("g", "enter")
        await c.press("g", "escape")
        assert c.gateway.made == []


async def test_the_section_watches_them_only_while_one_is_shown(console: OpenConsole) -> None:
    async with console(section="pair") as c:
        assert "wireguard" not in c.gateway.asked[-1]
        await make(c)
        assert "wireguard" in c.gateway.asked[-1]
        await c.press("escape")
        assert "wireguard" not in c.gateway.asked[-1]


def app_peer(connected: bool) -> schema.Peer:
    return replace(peer(ID, "tablet", "wireguard", connected=connected), kind="wireguard")


def app_lease() -> schema.Lease:
    return replace(
        lease("l1", ID, "tablet", 9), transport="wireguard", endpoint="10.1.0.57:51820",
        rtt_ms=None, expires_in=None, mtu=1420, offload=False,
    )  # fmt: skip


async def choose(c: Console, id: str) -> None:
    screen = c.app.screen
    assert isinstance(screen, PeersScreen)
    screen.table.cursor_id = id
    c.gateway.changed()
    await c.settle()


@pytest.mark.parametrize("size", [PHONE, COMMON, WIDE])
async def test_peers_show_what_such_a_device_has_and_nothing_that_it_has_not(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="peers", size=size) as c:
        c.gateway.peers = [app_peer(True)]
        c.gateway.leases = [app_lease()]
        now(c.gateway, replace(device("connected"), handshake_age=42.0, endpoint="10.1.0.57:51820"))
        await c.settle()
        lines = c.text.splitlines()
        (row,) = [line for line in lines if "tablet" in line and "● here" in line]
        assert " wg " in row and " ms" not in row
        assert any("Handshake 42s ago" in line for line in lines)
        assert "10.1.0.57:51820" in c.text
        assert "offload" not in c.text and "kept for" not in c.text and "None" not in c.text


async def test_a_device_in_trouble_shows_it_in_its_row_and_in_full(console: OpenConsole) -> None:
    async with console(section="peers", size=COMMON) as c:
        c.gateway.peers = [app_peer(False)]
        c.gateway.leases = []
        trouble = schema.WireguardTrouble(
            "endpoint", ID, "The config of tablet names 192.168.43.1:51820, an address that this "
            "machine does not have.", "Edit the tunnel in its app: Endpoint = 192.168.87.1:51820",
        )  # fmt: skip
        now(c.gateway, device("quiet"), troubles=[trouble])
        await c.settle()
        text = " ".join(c.text.split())
        assert "▲ trouble" in text and "Handshake none since the start" in text
        assert "Endpoint = 192.168.87.1:51820" in text


async def test_another_key_for_a_device(console: OpenConsole, tmp_path: Path) -> None:
    async with console(section="peers", size=WIDE) as c:
        here = replace(device("connected"), id="w1")
        c.gateway.peers = [replace(app_peer(True), id="w1")]
        c.gateway.leases = [replace(app_lease(), peer_id="w1")]
        now(c.gateway, here)
        await c.settle()
        assert "n New key" in c.text
        await c.press("n")
        assert c.gateway.calls[-1] == ("wireguard_renew", {"id": "w1"})
        to_png(c.app.export_screenshot(), tmp_path / "screen.png")
        assert read_qr(tmp_path / "screen.png") == WIREGUARD_TEXT
        await c.press("t")
        assert "present key is good until this one is used" in " ".join(c.text.split())
        # It is here still, by its present key; then the new one knocks.
        now(c.gateway, here, replace(device("offered"), renews="w1"))
        await c.settle()
        assert isinstance(c.app.screen, WireguardScreen)
        now(c.gateway, here, replace(device("asking"), renews="w1"))
        await c.settle()
        assert isinstance(c.app.screen, PeersScreen)


async def test_what_has_no_wireguard_app_gets_no_key(console: OpenConsole) -> None:
    async with console(section="peers", size=WIDE) as c:
        assert "New key" not in c.text
        await c.press("n")
        assert isinstance(c.app.screen, PeersScreen)
        c.gateway.peers = [replace(app_peer(False), revoked=True)]
        c.gateway.changed("peers")
        await c.settle()
        await c.press("n")
        assert "wireguard_renew" not in [name for name, _ in c.gateway.calls]


async def test_it_is_renamed_and_revoked_as_any(console: OpenConsole) -> None:
    async with console(section="peers", size=COMMON) as c:
        c.gateway.peers = [app_peer(True)]
        c.gateway.leases = [app_lease()]
        now(c.gateway, device("connected"))
        await c.settle()
        await c.press("e", *["backspace"] * 6, *"tv", "enter")
        assert c.gateway.peers[0].label == "tv"
        await c.press("x")
        assert "needs a new config." in c.text
        await c.press("y")
        assert c.gateway.peers[0].revoked
