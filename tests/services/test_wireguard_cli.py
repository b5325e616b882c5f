"""`vpnshare wireguard`, as scripts and people see it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from services.cli import qr
from services.cli import wireguard as command
from services.cli.exits import Exit
from services.cli.main import main
from services.control import schema
from services.control.errors import Code, ControlError
from tests.fakes.services import PretendGateway
from tests.services.conftest import serve
from tests.tui.pictures import read_qr
from wireguard.profile import Profile

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
    assert json.loads(capsys.readouterr().out)["text"] == "[Interface]"


def test_files_are_for_their_owner_and_never_overwritten(
    gateway: PretendGateway, tmp_path: Path, capsys: Capture
) -> None:
    conf, picture = tmp_path / "a.conf", tmp_path / "a.png"
    assert main(["wireguard", "add", "a", "--conf", str(conf), "--png", str(picture)]) == Exit.OK
    assert "[Interface]" not in capsys.readouterr().out, "what is in a file need not be shown"
    assert conf.read_text() == "[Interface]\n"
    assert stat.S_IMODE(conf.stat().st_mode) == stat.S_IMODE(picture.stat().st_mode) == 0o600
    free = tmp_path / "b.png"
    for name in (conf, tmp_path / "no" / "b.conf"):
        args = ["wireguard", "add", "b", "--png", str(free), "--conf", str(name)]
        assert main(args) == Exit.FAILED
        assert not free.exists(), "nothing half-done is left"
    assert gateway.made == ["a"], "no device is made whose config cannot be kept"
    assert conf.read_text() == "[Interface]\n"
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
    path.write_bytes(command.picture(PROFILE.text()))
    assert read_qr(path) == PROFILE.text()
    with Image.open(path) as image:
        assert image.convert("L").getpixel((0, 0)) == 255, "black on white"


def test_the_longest_config_needs_61_columns() -> None:
    assert len(qr.matrix(PROFILE.text())) == 61
    assert "61 columns" in (Path(__file__).parents[2] / "docs" / "wireguard.md").read_text()
