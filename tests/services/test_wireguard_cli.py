"""`vpnshare wireguard`, as scripts and people see it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cli import wireguard as command
from cli.main import main
from control import pictures, schema
from control.errors import Code, ControlError
from control.exits import Exit
from control.methods import WireguardInviteParams, WireguardRenewParams
from control.pictures import matrix, picture
from tests.fakes.services import WIREGUARD_TEXT, PretendGateway
from tests.netns.processes import wait_for
from tests.netns.terminal import Terminal
from tests.netns.terminal import read_qr as read_picture
from tests.services.conftest import serve
from tests.tui.pictures import read_qr
from wireguard.profile import Profile

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
PROFILE = Profile(
    private_key=bytes(range(32)),
    ipv4=bytes((192, 168, 187, 254)),
    ipv6=bytes.fromhex("fd8899aabbccddee00000000000000fe"),
    dns=(bytes((192, 168, 187, 1)),),
    gateway_key=bytes(reversed(range(32))),
    host="192.168.143.111",
    port=51820,
)
DEVICE = schema.WireguardDevice(
    "c0ffee00", "phone", "A" * 43 + "=", "connected", "10.1.2.3", "fd00::3", "10.0.0.1:51820",
    "10.0.0.7:4444", 33.0, 1_000_000, 2_000_000,
)  # fmt: skip


@pytest.fixture
def gateway(home: Path) -> Iterator[PretendGateway]:
    service = PretendGateway()
    with serve(service, home / "gateway.sock"):
        yield service


def test_devices_are_shown(gateway: PretendGateway, capsys: Capture) -> None:
    assert main(["wireguard"]) == Exit.OK
    text = capsys.readouterr().out
    assert "vpnshare wireguard add NAME" in text and "not before the first device" in text
    gateway.wireguard = replace(gateway.wireguard, listen=["0.0.0.0:51820"], devices=[DEVICE])
    assert main(["wireguard"]) == Exit.OK
    text = capsys.readouterr().out
    assert "phone" in text and "connected" in text and "33 s ago" in text
    assert main(["wireguard", "--json"]) == Exit.OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["devices"][0]["endpoint"] == "10.0.0.7:4444"


def test_a_config_on_the_screen(gateway: PretendGateway, capsys: Capture) -> None:
    assert main(["wireguard", "add", "phone"]) == Exit.OK
    text = capsys.readouterr().out
    assert "[Interface]" in text and "█" in text and "shown once" in text
    assert main(["wireguard", "add", "phone", "--no-qr"]) == Exit.OK
    assert "█" not in capsys.readouterr().out
    assert main(["wireguard", "add", "phone", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["text"] == WIREGUARD_TEXT


def test_why_a_device_is_not_there(gateway: PretendGateway, capsys: Capture) -> None:
    trouble = schema.WireguardTrouble("clock", "c0ffee00", "Its clock went back.", "Set it.")
    gateway.wireguard = replace(gateway.wireguard, devices=[DEVICE], troubles=[trouble])
    assert main(["wireguard"]) == Exit.OK
    assert capsys.readouterr().out.endswith("\n\nIts clock went back.\n  Set it.\n")
    assert main(["wireguard", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["troubles"][0]["cause"] == "clock"


def test_who_asks_by_an_invitation_is_shown(gateway: PretendGateway, capsys: Capture) -> None:
    invited = replace(DEVICE, label="router", key="", state="invited", handshake_age=None)
    gateway.wireguard = replace(gateway.wireguard, devices=[invited])
    assert main(["wireguard"]) == Exit.OK
    assert "asks" not in capsys.readouterr().out
    keys = ["B" * 43 + "=", "C" * 43 + "="]
    gateway.wireguard = replace(gateway.wireguard, devices=[replace(invited, asking=keys)])
    assert main(["wireguard"]) == Exit.OK
    shown = capsys.readouterr()
    for key in keys:
        assert f"\n{key} asks to be router.\n" in shown.out
    assert (shown.out + shown.err).count("vpnshare requests") == 1
    assert main(["wireguard", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["devices"][0]["asking"] == keys


@contextlib.contextmanager
def added(home: Path, folder: Path, **env: str) -> Iterator[Terminal]:
    """`wireguard add` on a phone's terminal; the shell afterwards keeps it open."""
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    run = f"{shlex.quote(sys.executable)} -m cli.main wireguard add tablet"
    argv = ["sh", "-c", f"cd {shlex.quote(str(folder))}; {run}; echo ended $?; sleep 60"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | env
    with Terminal.running(folder, argv, environment, 45, 40) as terminal:
        terminal.wait_for_text("Enter, file or -:", 20)
        yield terminal


def test_a_narrow_terminal_waits_until_it_is_wide_enough(
    gateway: PretendGateway, home: Path, tmp_path: Path
) -> None:
    with added(home, tmp_path) as terminal:
        said = " ".join(terminal.text().split())
        assert "needs 61 columns and 34 lines; this terminal has 45 and 40" in said
        terminal.press("Enter")
        wait_for(lambda: terminal.text().count("Enter, file or -:") == 2, "the same again")
        terminal.resize(61, 34)
        terminal.press("Enter")
        terminal.wait_for_text("ended 0")
        assert read_picture(terminal.picture(), tmp_path / "screen.png") == WIREGUARD_TEXT
        assert gateway.made == ["tablet"], "it is the same device"


def test_a_narrow_terminal_takes_a_picture_instead(
    gateway: PretendGateway, home: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    with added(home, tmp_path, PREFIX="/data/data/com.termux/files/usr") as terminal:
        assert "pinch the screen" in " ".join(terminal.text().split())
        terminal.press("-l", "taken.png")
        terminal.press("Enter")
        terminal.wait_for_text("is there already")
        terminal.press("-l", "new.png")
        terminal.press("Enter")
        terminal.wait_for_text("ended 0")
        assert "termux-open new.png" in " ".join(terminal.text().split())
        assert "PrivateKey=" not in terminal.text(), "what is in a file need not be shown"
    assert taken.read_bytes() == b"mine"
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o600
    assert read_qr(tmp_path / "new.png") == WIREGUARD_TEXT


@pytest.mark.parametrize("missing", ["qrcode", "png"])
def test_without_a_package_no_device_is_lost(
    gateway: PretendGateway, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch, missing: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == missing else object()
    )
    for module in (command, pictures):
        monkeypatch.setattr(module, "find_spec", importlib.util.find_spec)
    assert main(["wireguard", "add", "a", "--png", str(tmp_path / "a.png")]) == Exit.FAILED
    said = capsys.readouterr().err
    assert f"pip install {'pypng' if missing == 'png' else missing}" in said
    assert gateway.made == [] and list(tmp_path.glob("*.png")) == []
    assert main(["wireguard", "add", "a"]) == Exit.OK
    shown = capsys.readouterr()
    assert "PrivateKey=" in shown.out
    assert ("█" in shown.out) is (missing == "png")


def test_another_key_and_an_invitation(gateway: PretendGateway, capsys: Capture) -> None:
    assert main(["wireguard", "renew", "phone", "--endpoint", "a.local"]) == Exit.OK
    renewed = gateway.made_with
    assert renewed == WireguardRenewParams("phone", None, "a.local")
    text = capsys.readouterr().out
    assert "█" in text and "good until the new one is used" in text
    assert main(["wireguard", "invite", "router"]) == Exit.OK
    assert gateway.made_with == WireguardInviteParams("router")
    text = capsys.readouterr().out
    assert "█" not in text, "without a private key there is nothing that an app would take"
    assert "behind PrivateKey=" in text and "vpnshare requests" in text
    assert main(["wireguard", "renew", "phone", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["label"] == "phone"
    for wrong in (["renew"], ["invite"], ["invite", "a", "--png", "x.png"],
                  ["invite", "a", "--key", "A" * 43 + "="]):  # fmt: skip
        assert main(["wireguard", *wrong]) == Exit.USAGE
    assert gateway.made == ["phone", "router", "phone"]
    gateway.waiting = [
        schema.Request(
            "a1b2c3", "router", "wireguard", "xTIBAA...pz4g=", "wireguard", "10.0.0.7", "c0:ff",
            1.0, 9.0,
        )
    ]  # fmt: skip
    assert main(["requests"]) == Exit.OK
    assert "xTIBAA...pz4g=" in capsys.readouterr().out


def test_files_are_for_their_owner_and_never_overwritten(
    gateway: PretendGateway, tmp_path: Path, capsys: Capture
) -> None:
    conf, picture = tmp_path / "a.conf", tmp_path / "a.png"
    assert main(["wireguard", "add", "a", "--conf", str(conf), "--png", str(picture)]) == Exit.OK
    assert "[Interface]" not in capsys.readouterr().out, "what is in a file need not be shown"
    assert conf.read_text() == f"{WIREGUARD_TEXT}\n"
    assert stat.S_IMODE(conf.stat().st_mode) == stat.S_IMODE(picture.stat().st_mode) == 0o600
    free = tmp_path / "b.png"
    for name in (conf, tmp_path / "no" / "b.conf"):
        args = ["wireguard", "add", "b", "--png", str(free), "--conf", str(name)]
        assert main(args) == Exit.FAILED
        assert not free.exists(), "nothing half-done is left"
    assert gateway.made == ["a"], "no device is made whose config cannot be kept"
    assert conf.read_text() == f"{WIREGUARD_TEXT}\n"
    link = tmp_path / "link.conf"
    link.symlink_to(tmp_path / "elsewhere")
    assert main(["wireguard", "add", "b", "--conf", str(link)]) == Exit.FAILED
    assert not (tmp_path / "elsewhere").exists()


def test_a_refused_device_leaves_no_file(
    gateway: PretendGateway, tmp_path: Path, capsys: Capture
) -> None:
    gateway.refusal = ControlError(Code.FAILED, "Too many.")
    assert main(["wireguard", "add", "a", "--conf", str(tmp_path / "a.conf")]) == Exit.FAILED
    assert "Too many." in capsys.readouterr().err
    assert list(tmp_path.glob("a.*")) == []


def test_the_command_line_may_be_wrong(gateway: PretendGateway, capsys: Capture) -> None:
    assert main(["wireguard", "add"]) == Exit.USAGE
    assert main(["wireguard", "show", "phone"]) == Exit.USAGE
    assert main(["wireguard", "phone"]) == Exit.USAGE
    assert "vpnshare wireguard add NAME" in capsys.readouterr().err
    assert gateway.made == []


def test_a_picture_is_read_by_another_reader(tmp_path: Path) -> None:
    path = tmp_path / "code.png"
    path.write_bytes(picture(PROFILE.text()))
    assert read_qr(path) == PROFILE.text()
    with Image.open(path) as image:
        assert image.convert("L").getpixel((0, 0)) == 255, "black on white"


def test_the_longest_config_needs_61_columns() -> None:
    assert len(matrix(PROFILE.text())) == 61
    assert "61 columns and 34 lines" in (ROOT / "docs" / "wireguard.md").read_text()
