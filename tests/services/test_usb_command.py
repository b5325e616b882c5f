"""`vpnshare usb`: the phones on the cable, with and without a service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from control.exits import Exit
from control.schema import Phone
from reach import adb_server, sysfs, usb_bus
from reach.adb_key import KEY_FILE, load_key
from reach.cable import LACKS
from tests.fakes.ports import free_port
from tests.fakes.services import PretendClient

READY = Phone("R58M123", "SM-A525F", "ready")
ASKING = Phone("ZY22", "moto g", "not_allowed", LACKS["phone_not_allowed"])
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No service, no adb server, no USB; the instance's folder."""
    monkeypatch.setenv("VPNSHARE_HOME", str(tmp_path))
    monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(free_port()))
    monkeypatch.setattr(sysfs, "DEVICES", "nowhere")
    monkeypatch.setattr(usb_bus, "library", lambda backend: True)
    return tmp_path


def test_the_services_phones_are_listed_with_what_to_do(
    client: PretendClient, capsys: Capture
) -> None:
    client.phones = [READY, ASKING]
    assert main(["usb"]) == Exit.OK
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert "SM-A525F" in lines[1] and "ready" in lines[1] and "connect usb:R58M123" in lines[1]
    assert "asks its owner" in lines[2] and "connect" not in lines[2]
    assert "moto g: Unlock the phone, and press Allow there" in said.err
    assert main(["usb", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)[1]["state"] == "not_allowed"


def test_without_a_service_this_machine_is_looked_at(alone: Path, capsys: Capture) -> None:
    assert main(["usb"]) == Exit.OK
    assert "No phone is seen on USB" in capsys.readouterr().out


def test_without_a_library_that_is_said(
    alone: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usb_bus, "library", lambda backend: None)
    assert main(["usb", "--json"]) == Exit.FAILED
    assert "libusb" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_the_key_is_forgotten_by_the_service(client: PretendClient, capsys: Capture) -> None:
    assert main(["usb", "forget", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"forgotten": True}


def test_the_key_is_forgotten_without_a_service(
    alone: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from control.paths import find

    state = find().state_dir
    before = load_key(state, "x").public_key()
    assert main(["usb", "forget"]) == Exit.OK
    said = capsys.readouterr().out
    assert "asks its owner again" in said and "has a key of its own" in said
    assert not (state / KEY_FILE).exists() and load_key(state, "x").public_key() != before
    assert main(["usb", "forget"]) == Exit.OK
