"""Commands of one side on a machine where only the service of the other runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from cli import services
from cli.commands import COMMANDS, Command, parser_for
from cli.main import main
from control import calling, oneshot
from control.exits import Exit
from tests.fakes.services import PretendClient, PretendGateway

Capture = pytest.CaptureFixture[str]
STAYS = frozenset({"client", "connect", "disconnect", "gateway", "up", "usb"})
"""They start a service, wait for one, or do without; a closed network is opened by words of its
own."""
GATEWAYS = sorted(calling.SHARING - STAYS)
OF_A_DEVICE = [[verb, "--device", "x"] for verb in ("counters", "logs")]
CLIENTS = sorted(calling.RECEIVING - STAYS)


def _line(name: str) -> list[str]:
    """A command with all that it needs."""
    command: Command = next(each for each in COMMANDS if each.name == name)
    parser: argparse.ArgumentParser = parser_for(command)
    return [name, *("x" for action in parser._actions if action.required)]


@pytest.mark.parametrize("line", [*map(_line, GATEWAYS), *OF_A_DEVICE], ids=str)
def test_what_is_the_gateways_affair(
    client: PretendClient, capsys: Capture, line: list[str]
) -> None:
    assert main(line) == Exit.NOT_RUNNING
    assert capsys.readouterr().err == (
        "vpnshare: Only the client service runs here, and this is the gateway's affair.\n"
        "  Say the same on the gateway that this device uses; to share this device's own VPN: "
        "vpnshare up\n"
    )


@pytest.mark.parametrize("line", [*map(_line, CLIENTS), ["connect", "--wait", "0"]], ids=str)
def test_what_is_a_devices_affair(
    gateway: PretendGateway, capsys: Capture, line: list[str]
) -> None:
    assert main([*line, "--json"]) == Exit.NOT_RUNNING
    said = capsys.readouterr()
    assert "Only the gateway service runs here" in said.err
    assert "to use another gateway's VPN here: vpnshare join" in said.err
    assert json.loads(said.out)["error"]["name"] == "service_unavailable"


def test_a_service_of_somebody_elses_counts(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root's client does, to a person who says it without sudo."""
    monkeypatch.setattr(services, "owner", lambda role: "root" if role == "client" else None)
    assert main(["usage"]) == Exit.NOT_RUNNING
    assert "this is the gateway's affair" in capsys.readouterr().err
    monkeypatch.setattr(oneshot, "owner", lambda role: "root")
    assert main(["usage"]) == Exit.NOT_RUNNING
    assert "It runs as root: " in capsys.readouterr().err, "its gateway, too"


@pytest.mark.parametrize("role", [["--role", "gateway"], ["--role=gateway"]], ids=str)
def test_who_names_a_service_means_the_one_of_here(
    client: PretendClient, capsys: Capture, role: list[str]
) -> None:
    for verb in ("down", "status"):
        assert main([verb, *role]) == Exit.NOT_RUNNING
        assert "The gateway service is not running." in capsys.readouterr().err


def test_where_none_runs_nothing_is_said_of_another(home: Path, capsys: Capture) -> None:
    assert main(["usage"]) == Exit.NOT_RUNNING
    assert "Start sharing with: vpnshare up" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["api", "watch"])
def test_a_method_of_the_other_service(client: PretendClient, capsys: Capture, verb: str) -> None:
    assert main([verb, "peers"]) == Exit.FAILED
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"] == "The client service has no method 'peers'."
    assert error["hint"] == "It is one of the gateway service's: ask that."
    assert main([verb, "piers"]) == Exit.FAILED
    assert json.loads(capsys.readouterr().out)["error"]["hint"].startswith("It has: ")
