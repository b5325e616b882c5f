"""The command, as scripts see it: exit codes, JSON, sentences on standard error."""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli import commands, connecting, qr
from cli.commands import COMMANDS
from cli.main import main
from cli.running import on_terminal
from control import output, schema
from control.errors import Code, ControlError
from control.exits import Exit, exit_code
from control.methods import ConfirmParams, ConnectParams
from control.pictures import matrix
from control.registry import Handler
from reach.cable import LACKS
from rules.value import NO_RULES
from services.config import load
from services.version import running
from tests.fakes import services as fakes
from tests.fakes.services import PretendClient, PretendGateway
from tests.services.conftest import serve
from vshp.endpoints import Endpoint
from vshp.uri import PairingUri

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *args],
        cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def as_json(capsys: Capture, *args: str) -> object:
    """The JSON that a command prints."""
    assert main([*args, "--json"]) == Exit.OK
    return json.loads(capsys.readouterr().out)


# Without a service


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_command_has_help_with_examples(command: commands.Command, capsys: Capture) -> None:
    assert main([command.name, "--help"]) == Exit.OK
    text = capsys.readouterr().out
    assert "examples:" in text and f"vpnshare {command.name}" in text
    assert command.examples and not command.help.endswith(".")


def test_the_overview_names_every_command_and_exit_code(capsys: Capture) -> None:
    assert main(["--help"]) == Exit.OK
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {c.name} ", text, re.M) for c in COMMANDS if c.group)
    assert all(re.search(rf"^  {code:d} ", text, re.M) for code in Exit)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], Exit.USAGE, ""),
        (["statsu"], Exit.USAGE, "Did you mean: vpnshare status"),
        (["status", "--nope"], Exit.USAGE, "--nope"),
        (["approve"], Exit.NOT_RUNNING, "vpnshare up"),
        (["deny", "3f", "--all"], Exit.USAGE, "--all"),
        (["flows", "--limit", "9999999"], Exit.USAGE, "9999999"),
        (["connect", "--wait", "-1"], Exit.USAGE, "seconds"),
        (["connect", "--transport", "pigeon"], Exit.USAGE, "pigeon"),
        (["status"], Exit.NOT_RUNNING, "vpnshare up"),
        (["requests"], Exit.NOT_RUNNING, "vpnshare up"),
        (["gateways"], Exit.NOT_RUNNING, "vpnshare join"),
        (["history"], Exit.NOT_RUNNING, "vpnshare join"),
        (["flows"], Exit.NOT_RUNNING, "vpnshare up"),
        (["connect", "--wait", "0"], Exit.NOT_RUNNING, "vpnshare join"),
        (["down"], Exit.NOT_RUNNING, ""),
        (["console"], Exit.NOT_RUNNING, ""),
    ],
)
def test_exit_codes_without_a_service(home: Path, args: list[str], code: Exit, words: str) -> None:
    done = run(*args)
    assert done.returncode == code
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_stale_socket_means_not_running(home: Path, capsys: Capture) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(home / "gateway.sock"))
    assert main(["requests"]) == Exit.NOT_RUNNING


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == Exit.OK
    assert capsys.readouterr().out == f"vpnshare {running()}\n"
    assert as_json(capsys, "version") == {
        "version": running(),
        "api": 1,
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def test_every_error_code_has_an_exit_code() -> None:
    for code in Code:
        assert exit_code(ControlError(code, "x")) in Exit
    assert exit_code(ControlError(12345, "x")) == Exit.FAILED


# With services


def test_json_is_what_the_service_said(gateway: PretendGateway, capsys: Capture) -> None:
    status = as_json(capsys, "status")
    assert isinstance(status, dict)
    assert (status["pid"], status["sharing"], status["vpn"]["interface"]) == (4711, "on", "tun0")
    for command, expected in (
        ("peers", gateway.peers), ("leases", gateway.leases), ("requests", []),
    ):  # fmt: skip
        rows = as_json(capsys, command)
        assert isinstance(rows, list)
        assert [row["id"] for row in rows] == [each.id for each in expected]
    offer = as_json(capsys, "pair")
    assert isinstance(offer, dict)
    fields = {"uri", "expires_in", "name", "endpoints", "fingerprint", "id", "note", "address"}
    assert set(offer) == fields
    page = as_json(capsys, "flows", "--limit", "3")
    assert isinstance(page, dict) and page["total"] == 40 and len(page["flows"]) == 3
    logs = as_json(capsys, "logs", "--filter", "DNS error")
    assert isinstance(logs, list) and [line["logger"] for line in logs] == ["gateway.dns.forwarder"]
    logs = as_json(capsys, "logs", "-n", "2")
    assert isinstance(logs, list) and len(logs) == 2


def test_status_of_two_services(
    gateway: PretendGateway, client: PretendClient, capsys: Capture
) -> None:
    both = as_json(capsys, "status")
    assert isinstance(both, dict) and set(both) == {"gateway", "client"}
    one = as_json(capsys, "status", "--role", "client")
    assert isinstance(one, dict) and one["state"] == "connected"
    assert main(["status"]) == Exit.OK
    text = capsys.readouterr().out
    assert "Gateway Pixel 8" in text and "● connected" in text


def test_rules_are_shown_set_and_taken_away(
    gateway: PretendGateway, capsys: Capture, tmp_path: Path
) -> None:
    id = gateway.peers[0].id
    assert main(["rules", id]) == Exit.OK
    assert "may do everything" in capsys.readouterr().out
    listed = tmp_path / "destinations"
    listed.write_text("deny name ads.example  # for the children\n\ndeny udp\n")
    given = [
        "--quota", "1GB/day", "--limit-down", "20mbit", "--hours", "mon-fri 07:00-20:00",
        "--hours", "sat", "--flows", "40", "--pause", "--destinations", str(listed),
    ]  # fmt: skip
    assert main(["rules", id, *given]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "now           paused",
        "quota         1GB/day",
        "down at most  20mbit",
        "hours         mon-fri 07:00-20:00, sat 00:00-24:00",
        "at a time     40 flows",
        "destinations  deny name ads.example",
        "              deny udp",
    ]
    gateway.peers[0] = replace(gateway.peers[0], quota_left=312_000_000)
    assert main(["rules", id]) == Exit.OK
    assert "quota         1GB/day, 312 MB left" in capsys.readouterr().out.splitlines()
    taken = ["--quota", "none", "--hours", "none", "--flows", "none", "--no-destinations"]
    left = as_json(capsys, "rules", id, *taken, "--resume")
    assert isinstance(left, dict) and left["rules"] == {"limit_down": 20_000_000}
    ordered = as_json(capsys, "rules", id, "--allow", "tcp 443", "--deny", "all", "--for", "2h")
    assert isinstance(ordered, dict)
    assert ordered["rules"]["destinations"] == ["allow tcp port 443", "deny all"]
    assert ordered["rules"]["until"] == fakes.WALL + 7200
    assert main(["rules", id, "--until", "none", "--clear"]) == Exit.OK
    assert "may do everything" in capsys.readouterr().out
    for wrong in (
        ["--hours", "moon"], ["--for", "2h", "--until", "18:00"], ["--flows", "0"],
        ["--deny", "udp", "--no-destinations"], ["--destinations", str(tmp_path)],
        ["--destinations", str(tmp_path / "nothing")],
    ):  # fmt: skip
        assert main(["rules", id, *wrong]) in (Exit.USAGE, Exit.FAILED)
        assert "Traceback" not in capsys.readouterr().err
    assert gateway.rules[id] == NO_RULES


def test_a_device_is_approved_with_rules(gateway: PretendGateway, capsys: Capture) -> None:
    gateway.waiting += [fakes.request("r1"), fakes.request("r2")]
    assert main(["approve", "r1", "--rules", "guest", "--quota", "1GB"]) == Exit.OK
    assert gateway.peers[-1].rules == "1GB/total; until 2025-07-31 18:26"
    assert main(["approve", "r2"]) == Exit.OK
    assert gateway.peers[-1].rules == ""


@pytest.mark.parametrize("width", [45, 80, 200])
def test_peers_say_in_a_word_what_rules_do(
    gateway: PretendGateway, capsys: Capture, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    known = gateway.peers[0]
    rows: dict[str, dict[str, Any]] = {
        "free": {}, "limited": {"rules": "1GB/day"},
        "paused": {"rules": "paused", "gate": "paused"}, "ended": {"gate": "ended"},
        "not now": {"gate": "outside_hours"}, "used up": {"gate": "quota_spent"},
        "shut": {"gate": "another"}, "gone": {"gate": "paused", "revoked": True},
    }  # fmt: skip
    gateway.peers = [replace(known, id=f"p{n}", label=f"d{n}", **row)
                     for n, row in enumerate(rows.values())]  # fmt: skip
    assert main(["peers"]) == Exit.OK
    title, *lines = capsys.readouterr().out.splitlines()
    at = title.index("RULES")
    words = [line[at : at + 8].strip() for line in lines]
    assert words == ["-", "limited", "paused", "ended", "not now", "used up", "shut", "-"]


def test_templates_are_shown_made_and_removed(gateway: PretendGateway, capsys: Capture) -> None:
    assert main(["templates"]) == Exit.OK
    text = capsys.readouterr().out
    assert "guest" in text and "2GB/day; for 1d" in text and "as shipped" in text
    assert main(["templates", "guest", "--for", "none", "--limit-up", "1mbit"]) == Exit.OK
    made = {each.name: each.rules for each in gateway.templates}
    assert made["guest"] == {"quota": "2GB/day", "limit_up": "1mbit"}
    assert main(["templates", "guest", "--remove"]) == Exit.OK
    assert [each.name for each in gateway.templates] == ["family"]
    capsys.readouterr()
    assert main(["templates", "guest"]) == Exit.NOT_FOUND
    assert main(["templates", "--for", "1h"]) == Exit.USAGE


def test_approve_deny_and_the_rest(gateway: PretendGateway, capsys: Capture) -> None:
    gateway.waiting += [fakes.request("r1"), fakes.request("r2", "Mallory\x1b[2J")]
    assert main(["approve", "r1"]) == Exit.OK
    assert "Living-room TV may use the VPN now." in capsys.readouterr().out
    assert main(["deny", "r2"]) == Exit.OK
    assert "\x1b" not in capsys.readouterr().out
    assert main(["deny", "--undo", "--all"]) == Exit.USAGE
    assert main(["deny", "--undo"]) == Exit.OK and gateway.denied == []
    assert "may ask again." in capsys.readouterr().out
    assert main(["deny", "--undo"]) == Exit.NOT_FOUND
    assert main(["approve", "r1"]) == Exit.NOT_FOUND
    assert main(["rename", gateway.peers[0].id, "TV"]) == Exit.OK
    assert gateway.peers[0].label == "TV"
    assert main(["revoke", gateway.peers[0].id]) == Exit.OK
    assert gateway.peers[0].revoked
    assert main(["unshare"]) == Exit.OK and gateway.status.sharing == "off"
    assert main(["share"]) == Exit.OK and gateway.status.sharing == "on"


@pytest.mark.parametrize("width", [45, 80, 200])
@pytest.mark.parametrize(
    "command", ["requests", "peers", "leases", "flows", "gateways", "endpoints", "history"]
)
def test_tables_fit_the_terminal(
    gateway: PretendGateway,
    client: PretendClient,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    width: int,
) -> None:
    gateway.waiting += [
        fakes.request("r1", "広い居間のテレビ" * 4),
        fakes.request("r2", "e\u0301" * 9),
    ]
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([command]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 2
    assert all(output.width_of(line) <= width for line in lines)


@pytest.mark.parametrize("width", [45, 80])
def test_status_fits_the_terminal(
    gateway: PretendGateway,
    client: PretendClient,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    """And in a pipe a fact stays one line."""
    beside = [f"eth{n} 192.0.2.{n}/32" for n in range(9)]
    switch = replace(client.status.kill_switch, strict=True, beside=beside)
    reason = "The gateway's addresses clash with this device's own network, so they are not used."
    client.status = replace(client.status, kill_switch=switch, reason=reason)
    assert main(["status"]) == Exit.OK
    assert f"9: {', '.join(beside)}\n" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["status"]) == Exit.OK
    shown = capsys.readouterr().out
    assert all(output.width_of(line) <= width for line in shown.splitlines())
    assert all(each in " ".join(shown.split()) for each in (*beside, reason))


@pytest.mark.parametrize(
    ("change", "state", "vpn"),
    [
        ({}, "● sharing", "● tun0"),
        ({"sharing": "off"}, "○ not sharing", "● tun0"),
        ({"sharing": "unavailable", "vpn": schema.Vpn("absent")}, "▲ waiting for VPN", "✗ no VPN"),
        ({"sharing": "unavailable", "vpn": schema.Vpn("excluded", "tun0")}, "▲ waiting for VPN",
         "▲ VPN excludes us"),
        ({"bypass": True}, "● sharing", "▲ BYPASS"),
    ],
)  # fmt: skip
def test_the_gateways_states_are_called_as_in_the_console(
    gateway: PretendGateway, capsys: Capture, change: dict[str, Any], state: str, vpn: str
) -> None:
    gateway.status = replace(gateway.status, **change)
    assert main(["status"]) == Exit.OK
    shown = capsys.readouterr().out
    assert re.search(rf"^state +{state}$", shown, re.M)
    assert re.search(rf"^VPN +{vpn}$", shown, re.M)


@pytest.mark.parametrize(
    ("state", "sharing", "words", "told"),
    [
        ("connected", "on", "● connected", ""),
        ("connected", "unavailable", "▲ connected, no VPN there", "it is waiting for VPN"),
        ("connected", "off", "▲ connected, not sharing", "it is not sharing"),
        ("asked", None, "▲ compare the digits", ""),
        ("waiting", None, "▲ waiting for approval", ""),
        ("reconnecting", "unavailable", "▲ reconnecting", ""),
    ],
)
def test_connected_says_beside_it_when_the_gateway_forwards_nothing(
    client: PretendClient, capsys: Capture, state: str, sharing: str | None, words: str, told: str
) -> None:
    client.status = replace(client.status, state=state, sharing=sharing)
    assert main(["status"]) == Exit.OK
    assert re.search(rf"^state +{words}$", capsys.readouterr().out, re.M)
    if told:
        args = commands.parser_for(next(c for c in COMMANDS if c.name == "connect")).parse_args([])
        assert connecting.outcome(client.status, args) == Exit.OK
        assert told in capsys.readouterr().err


def test_status_says_what_the_owner_allows(client: PretendClient, capsys: Capture) -> None:
    sentence = "This device has used its quota of 1GB a day; it begins again tomorrow at 00:00."
    client.status = replace(client.status, state="connected", quota_left=0, shut_out=sentence)
    assert main(["status"]) == Exit.OK
    out = capsys.readouterr().out
    assert re.search(r"^state +▲ connected, shut out$", out, re.M)
    assert re.search(r"^quota left +0 B$", out, re.M) and f"▲ {sentence}" in out
    args = commands.parser_for(next(c for c in COMMANDS if c.name == "connect")).parse_args([])
    assert connecting.outcome(client.status, args) == Exit.OK
    assert sentence in capsys.readouterr().err


def test_a_setting_by_its_name_and_a_section(home: Path, capsys: Capture) -> None:
    (home / "config.toml").write_text(
        '[gateway]\nlisten = ["0.0.0.0:1", "[::]:1"]\n[console.keys]\nquit = "x"\n'
    )
    for key, value in (
        ("gateway.listen", "0.0.0.0:1,[::]:1"), ("gateway.name", ""), ("dns.servers", ""),
        ("client.kill_switch", "off"), ("console.keys", "quit=x"), ("gateway.mtu", "1500"),
    ):  # fmt: skip
        assert main(["get", key]) == Exit.OK
        assert capsys.readouterr().out == f"{value}\n"
    listen = as_json(capsys, "get", "gateway.listen")
    assert isinstance(listen, dict) and listen["value"] == ["0.0.0.0:1", "[::]:1"]
    rows = as_json(capsys, "settings", "dns")
    assert isinstance(rows, list) and len(rows) > 3
    assert all(row["key"].startswith("dns.") for row in rows)
    assert main(["settings", "gateway.listen"]) == Exit.OK
    assert len(capsys.readouterr().out.splitlines()) == 2
    for command in ("get", "settings"):
        assert main([command, "gateway.nmae"]) == Exit.NOT_FOUND
        assert "Did you mean 'gateway.name'?" in capsys.readouterr().err
    assert main(["get", "gateway"]) == Exit.NOT_FOUND


def test_a_password_is_set_and_not_shown(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, hidden = "client.proxy_password", list[str]()
    monkeypatch.setattr("cli.setting.hide_from_others", hidden.append)
    said = ""
    assert main(["set", key, "hunter2"]) == Exit.OK
    assert main(["set", key, "hunter2", "--json"]) == Exit.OK
    assert hidden == ["hunter2", "hunter2"]
    assert main(["settings", key]) == Exit.OK
    said += (shown := capsys.readouterr().out)
    assert f"{key} is set now." in shown and re.search(rf"^{key} +set +file", shown, re.M)
    assert main(["get", key]) == Exit.REFUSED
    refused = capsys.readouterr()
    assert refused.out == "" and "its value is not shown" in refused.err
    for command in (["get", key], ["settings", key]):
        found = as_json(capsys, *command)
        row = found[0] if isinstance(found, list) else found
        assert isinstance(row, dict)
        assert (row["secret"], row["kept"], row["value"]) == (True, True, "")
    assert "hunter2" not in said + refused.err
    assert 'proxy_password = "hunter2"' in (home / "config.toml").read_text()
    assert main(["set", key, ""]) == Exit.OK
    assert capsys.readouterr().out.startswith(f"{key} is empty now.")


def test_a_password_comes_from_a_pipe(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("pass-word \nmore\n"))
    assert main(["set", "client.proxy_password", "-"]) == Exit.OK
    assert load(home / "config.toml").text("client", "proxy_password") == "pass-word"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(["set", "client.proxy_password", "-"]) == Exit.USAGE
    assert load(home / "config.toml").text("client", "proxy_password") == "pass-word"


def test_a_password_is_asked_for_and_not_shown(home: Path) -> None:
    terminal = Terminal("set", "client.proxy_password", "-")
    terminal.read_until(b"is not shown): ")
    terminal.wait_for_no_echo()
    terminal.write(b"hunter2\n")
    assert terminal.end() == Exit.OK
    assert b"client.proxy_password is set now." in terminal.shown
    assert b"hunter2" not in terminal.shown
    assert load(home / "config.toml").text("client", "proxy_password") == "hunter2"


def test_a_short_secret_is_blotted_out_as_a_word_of_its_own() -> None:
    code = (
        "import sys; from cli.asking import hide_from_others as hide\n"
        "hide(sys.argv[-1]); print(open('/proc/self/cmdline').read().split(chr(0))[-3:-1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "proxy_password", "pass"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "['proxy_password', '****']", done.stderr


def test_a_setting_is_what_the_service_that_runs_has(
    gateway: PretendGateway, capsys: Capture
) -> None:
    running = {setting.key: setting for setting in gateway.settings}
    assert main(["get", "gateway.name"]) == Exit.OK
    assert capsys.readouterr().out == f"{running['gateway.name'].value}\n"
    assert main(["get", "client.mtu"]) == Exit.OK, "no service that runs has it: the file does"
    assert capsys.readouterr().out == "0\n"


def test_keys_that_the_console_will_not_take_are_told_at_once(home: Path, capsys: Capture) -> None:
    assert main(["set", "console.keys", "console.quit=nosuchkey console.nope=x"]) == Exit.OK
    said = capsys.readouterr().err
    assert "No key is called 'nosuchkey'" in said and "no action 'console.nope'" in said
    assert main(["set", "console.keys", "console.quit=f9"]) == Exit.OK
    assert capsys.readouterr().err == ""


def test_the_tunnel_from_the_receiving_side(client: PretendClient, capsys: Capture) -> None:
    found = as_json(capsys, "endpoints")
    assert isinstance(found, list)
    assert [each["outcome"] for each in found][:3] == ["unreachable", "won", "slower"]
    links = as_json(capsys, "history")
    assert isinstance(links, list) and links[0]["ended"] is None
    assert main(["endpoints"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "in use" in shown and "Connection refused" in shown and "not needed" in shown
    assert main(["history"]) == Exit.OK
    assert "The connection to the gateway broke." in capsys.readouterr().out
    assert main(["status"]) == Exit.OK
    shown = capsys.readouterr().out
    assert re.search(r"kill switch +armed for .*, by routes \(4 rules\)\n", shown)
    assert "fwmark" not in shown, "the rules themselves are in --json, and in the console"
    flows = as_json(capsys, "flows", "--peer", "firefox", "--limit", "2")
    assert isinstance(flows, dict) and len(flows["flows"]) == 2
    assert {flow["label"] for flow in flows["flows"]} == {"firefox"}
    assert main(["flows", "--sort", "label"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "PROGRAM" in shown and "apt-get" in shown
    client.endpoints, client.links = [], []
    for command in ("endpoints", "history"):
        assert main([command]) == Exit.OK
        assert "vpnshare connect" in capsys.readouterr().out


def test_no_colour_in_a_pipe(gateway: PretendGateway, capsys: Capture) -> None:
    for command in ("status", "peers", "logs"):
        assert main([command]) == Exit.OK
        assert "\x1b" not in capsys.readouterr().out


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *args: str, **env: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *args], cwd=ROOT, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color"} | env,
            stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        self.shown = b""

    def read_until(self, text: bytes) -> None:
        """Go on until `text` was shown, or the command has ended."""
        while text not in self.shown:
            ready, _, _ = select.select([self.master], [], [], 30)
            assert ready, f"{text!r} is not shown: {self.shown[-2000:]!r}"
            try:
                self.shown += os.read(self.master, 65536)
            except OSError:  # the terminal's end
                return

    def write(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait_for_no_echo(self) -> None:
        """Until what is typed is not shown."""
        until = time.monotonic() + 30
        while termios.tcgetattr(self.master)[3] & termios.ECHO:
            assert time.monotonic() < until, "what is typed is still shown"
            time.sleep(0.005)

    def end(self) -> int:
        """The exit code, once it has ended by itself."""
        self.read_until(b"\0 never shown")
        os.close(self.master)
        return self.process.wait(30)


@pytest.mark.parametrize(("extra", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_on_a_terminal(
    gateway: PretendGateway, extra: dict[str, str], coloured: bool
) -> None:
    terminal = Terminal("status", **extra)
    assert terminal.end() == Exit.OK
    assert (b"\x1b[" in terminal.shown) is coloured and b"Pixel 8" in terminal.shown


def test_the_console_opens_and_closes(gateway: PretendGateway, home: Path) -> None:
    (home / "config.toml").write_text("[console]\nascii = true\nbell = false\nrefresh = 2\n")
    terminal = Terminal("console", "--read-only")
    terminal.read_until(b"Pixel 8")
    assert "●".encode() not in terminal.shown
    (home / "config.toml").write_text("[console]\nbell = false\n")
    terminal.read_until("●".encode())
    terminal.write(b"q")
    assert terminal.end() == Exit.OK


def test_pair_wait_approves_on_the_terminal(gateway: PretendGateway) -> None:
    terminal = Terminal("pair", "--wait")
    terminal.read_until(b"Waiting for a device")
    gateway.use_offer("Living-room TV")
    terminal.read_until(b"The code was used by Living-room TV.")
    gateway.waiting.append(fakes.request("r1"))
    terminal.read_until(b"[y/N]")
    terminal.write(b"y\n")
    assert terminal.end() == Exit.OK
    assert not gateway.waiting and gateway.peers[-1].label == "Living-room TV"


def test_a_reader_that_has_enough(gateway: PretendGateway) -> None:
    done = subprocess.run(
        f"{sys.executable} -m cli.main flows --limit 40 | head -n 1",
        shell=True, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""


def test_connect_and_disconnect(client: PretendClient, capsys: Capture) -> None:
    assert main(["connect", "--wait", "0"]) == Exit.OK
    assert "vpnshare status" in capsys.readouterr().out
    assert main(["connect", fakes.URI, "--wait", "0.3"]) == Exit.TIMED_OUT
    assert "keeps trying" in capsys.readouterr().err
    assert main(["disconnect"]) == Exit.OK


def test_who_wants_an_open_network_of_a_dead_client_is_told_how(
    home: Path, capsys: Capture
) -> None:
    assert main(["disconnect"]) == Exit.NOT_RUNNING
    assert "vpnshare client), then" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["disconnect", "leave"])
def test_what_could_not_be_undone_is_told(home: Path, capsys: Capture, verb: str) -> None:
    stuck = schema.KillSwitch("holding", rules=["ip -4 rule pref 32764"])

    class Stuck(PretendClient):
        def handlers(self) -> dict[str, Handler]:
            idle = replace(fakes.IDLE_CLIENT, kill_switch=stuck)
            return super().handlers() | {"disconnect": lambda _: idle}

    with serve(Stuck(), home / "client.sock"):
        assert main([verb]) == Exit.FAILED
        shown = capsys.readouterr()
        assert "undone" not in shown.out and "still closed" in shown.err
        assert "ip -4 rule pref 32764" in shown.err and "vpnshare logs" in shown.err
        assert main([verb, "--json"]) == Exit.FAILED
        assert json.loads(capsys.readouterr().out)["state"] == "idle"


@pytest.mark.parametrize(
    ("state", "error", "code"),
    [
        ("connected", None, Exit.OK),
        ("failed", "denied", Exit.REFUSED),
        ("failed", "secret_expired", Exit.REFUSED),
        ("failed", "unreachable", Exit.FAILED),
        ("idle", None, Exit.FAILED),
        ("failed", "code_refused", Exit.REFUSED),
        ("waiting", None, Exit.TIMED_OUT),
        ("connecting", None, Exit.TIMED_OUT),
    ],
)
def test_connect_exit_codes(
    home: Path, capsys: Capture, state: str, error: str | None, code: Exit
) -> None:
    class Decided(PretendClient):
        def handlers(self) -> dict[str, Handler]:
            return super().handlers() | {"connect": lambda _: self.status}

    service = Decided()
    reason = "A reason with its fix." if error else None
    service.status = replace(service.status, state=state, error=error, reason=reason)
    with serve(service, home / "client.sock"):
        assert main(["connect", "--wait", "0.3", "--json"]) == code
    shown = capsys.readouterr()
    assert json.loads(shown.out)["state"] == state
    assert (reason or "") in shown.err


def test_whom_the_phone_asks_is_told_at_once_and_not_again_and_again(
    home: Path, capsys: Capture
) -> None:
    class Asking(PretendClient):
        def handlers(self) -> dict[str, Handler]:
            return super().handlers() | {"connect": lambda _: self.status}

    service = Asking()
    service.status = replace(
        fakes.IDLE_CLIENT,
        state="connecting",
        gateway="usb:R5",
        error="phone_not_allowed",
        reason=LACKS["phone_not_allowed"],
    )
    with serve(service, home / "client.sock"):
        assert main(["connect", "usb", "--wait", "0.7"]) == Exit.TIMED_OUT
    first, *more = capsys.readouterr().err.splitlines()
    assert first.startswith("Waiting for the phone's owner. Unlock the phone, and press Allow")
    assert more[0].startswith("vpnshare: Not connected yet: ")


def test_all_who_wait_can_be_turned_away(gateway: PretendGateway, capsys: Capture) -> None:
    gateway.waiting += [fakes.request("r1"), fakes.request("r2", "Stranger", "111222")]
    assert main(["deny", "--all"]) == Exit.OK
    assert "2 devices were turned away" in capsys.readouterr().out
    assert not gateway.waiting
    assert main(["deny", "--all"]) == Exit.OK
    assert "No device is waiting." in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["approve", "deny"])
def test_the_only_one_that_waits_needs_no_id(
    verb: str, gateway: PretendGateway, capsys: Capture
) -> None:
    gateway.waiting.clear()
    assert main([verb]) == Exit.NOT_FOUND
    assert "No device is waiting." in capsys.readouterr().err
    gateway.waiting += [fakes.request("r1"), fakes.request("r2", "Stranger\x1b[2J", "111222")]
    assert main([verb]) == Exit.CONFLICT
    told = capsys.readouterr().err
    assert "2 devices are waiting" in told and "111222 (Stranger" in told and "\x1b" not in told
    del gateway.waiting[0]
    assert main([verb]) == Exit.OK
    assert "Stranger" in capsys.readouterr().out and not gateway.waiting


@pytest.mark.parametrize(("answer", "code"), [(b"y", Exit.OK), (b"n", Exit.REFUSED)])
def test_digits_of_the_only_one_are_asked_about_on_a_terminal(
    answer: bytes, code: Exit, gateway: PretendGateway
) -> None:
    gateway.waiting[:] = [fakes.request("r2", "Laptop", "111222")]
    terminal = Terminal("approve")
    terminal.read_until(b"same digits? [y/N]")
    assert b"Laptop" in terminal.shown and b"111 222" in terminal.shown
    terminal.write(answer + b"\n")
    assert terminal.end() == code
    assert bool(gateway.waiting) is (code != Exit.OK)


class Strange(PretendClient):
    """A first contact by address: it shows digits at once."""

    def handlers(self) -> dict[str, Handler]:
        return super().handlers() | {"connect": self.first_contact}

    def first_contact(self, params: ConnectParams) -> schema.ClientStatus:
        if params.code is not None:
            return self._confirm(ConfirmParams(params.code))
        state = "waiting" if params.unseen else "asked"
        self.status = replace(
            fakes.IDLE_CLIENT, state=state, code="483920", gateway="tcp:10.1.0.1:47800"
        )
        return self.status


def test_without_a_terminal_digits_are_not_agreed_to(home: Path, capsys: Capture) -> None:
    service = Strange()
    with serve(service, home / "client.sock"):
        assert main(["connect", "10.1.0.1", "--wait", "5"]) == Exit.UNCONFIRMED
        shown = capsys.readouterr()
        assert shown.out == "" and "483 920" in shown.err
        assert "vpnshare connect 10.1.0.1 --code DIGITS" in shown.err
        assert service.status.state == "asked", "nothing was agreed to"
        assert main(["connect", "10.1.0.1", "--json"]) == Exit.UNCONFIRMED
        assert json.loads(capsys.readouterr().out)["code"] == "483920"
        assert main(["connect", "10.1.0.1", "--code", "483920", "--wait", "0.3"]) == Exit.TIMED_OUT
        assert service.status.state == "waiting"
        service.first_contact(ConnectParams())
        assert main(["connect", "10.1.0.1", "--code", "111 111"]) == Exit.REFUSED


def test_yes_says_what_it_gives_up(home: Path, capsys: Capture) -> None:
    service = Strange()
    with serve(service, home / "client.sock"):
        assert main(["connect", "10.1.0.1", "--yes", "--wait", "0.3"]) == Exit.TIMED_OUT
    assert "whoever answers at tcp:10.1.0.1:47800 is believed" in capsys.readouterr().err
    assert main(["connect", "10.1.0.1", "--yes", "--code", "1"]) == Exit.USAGE


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b"y", "waiting"),
        (b"483 920", "waiting"),
        (b"483921", "failed"),
        (b"n", "failed"),
        (b"", "failed"),
    ],
)
def test_the_question_on_a_terminal(home: Path, answer: bytes, state: str) -> None:
    service = Strange()
    with serve(service, home / "client.sock"):
        terminal = Terminal("connect", "10.1.0.1", "--wait", "3")
        terminal.read_until(b"[y/N]")
        assert b"483 920" in terminal.shown and service.status.state == "asked"
        terminal.write(answer + b"\n")
        assert terminal.end() == (Exit.TIMED_OUT if state == "waiting" else Exit.REFUSED)
        assert service.status.state == state


def test_follow_prints_new_lines(gateway: PretendGateway) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "logs", "-f", "-n", "1", "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert follower.stdout is not None
    assert json.loads(follower.stdout.readline())
    gateway.logs = [*gateway.logs, fakes.LOG_LINES[0]]
    gateway.changed("log")
    assert json.loads(follower.stdout.readline())["message"] == fakes.LOG_LINES[0].message
    first = len(gateway.logs)
    gateway.logs = [*gateway.logs, *(fakes.LOG_LINES[:1] * 1_500)]
    gateway.changed("log")
    numbers = [json.loads(follower.stdout.readline())["seq"] for _ in range(1_500)]
    assert numbers == list(range(first + 1, first + 1_501)), "more than a snapshot holds"
    # The service has kept the last two only of what came now.
    gone = replace(fakes.LOG_LINES[0], seq=first + 1_511)
    gateway.logs = [gone, replace(gone, seq=gone.seq + 1)]
    gateway.changed("log")
    assert json.loads(follower.stdout.readline()) == {"dropped": 10}
    assert json.loads(follower.stdout.readline())["seq"] == gone.seq
    follower.kill()
    follower.wait()
    follower.stdout.close()


# The QR code


@pytest.mark.parametrize("colour", [True, False])
def test_half_blocks_are_the_modules(colour: bool) -> None:
    modules = matrix(fakes.URI)
    lines = qr.half_blocks(modules, colour)
    assert len(lines) == (len(modules) + 1) // 2
    pairs = {"█": (True, True), "▀": (True, False), "▄": (False, True), " ": (False, False)}
    found: list[list[bool]] = []
    for line in lines:
        cells = [pairs[c] for c in re.sub(r"\x1b\[[\d;]*m", "", line)]
        for half in (0, 1):
            found.append([cell[half] is colour for cell in cells])
    assert found[: len(modules)] == modules


def test_the_code_fits_a_phone() -> None:
    assert len(matrix("VSHP:" + "A1B2" * 45)) <= 45


def test_pair_prints_code_and_uri(gateway: PretendGateway, capsys: Capture) -> None:
    assert main(["pair"]) == Exit.OK
    text = capsys.readouterr().out
    assert fakes.URI in text and "▀" in text
    assert main(["pair", "--no-qr"]) == Exit.OK
    assert "▀" not in capsys.readouterr().out


def test_status_shows_the_egress_proof(gateway: PretendGateway, capsys: Capture) -> None:
    gateway.status = replace(gateway.status, egress=schema.Egress())
    assert main(["status"]) == Exit.OK
    assert "egress" not in capsys.readouterr().out, "nothing has been compared yet"
    proof = schema.Egress(3, 5.0, 2_000_000, 9_000_000, 1_900_000, 8_000_000)
    gateway.status = replace(gateway.status, egress=proof, wake_lock="held")
    assert main(["status"]) == Exit.OK
    told = capsys.readouterr().out
    assert "agrees: the VPN carried 2.0 MB out and 9.0 MB in, we 1.9 MB and 8.0 MB" in told
    assert "held" in told
    gateway.status = replace(gateway.status, egress=replace(proof, alarms=["egress__x"]))
    assert main(["status"]) == Exit.OK
    assert "does not agree" in capsys.readouterr().out


def test_a_proxy_is_told_and_so_is_what_does_not_apply(
    client: PretendClient, capsys: Capture
) -> None:
    client.status = replace(
        client.status, outlet="proxy", interface=None, proxy="127.0.0.1:1080",
        kill_switch=schema.KillSwitch(),
    )  # fmt: skip
    assert main(["status"]) == Exit.OK
    told = " ".join(capsys.readouterr().out.split())
    assert "proxy 127.0.0.1:1080" in told and "interface" not in told
    assert "kill switch does not apply. The proxy changes nothing on this machine" in told
    assert connecting.outcome(client.status, argparse.Namespace(json=False)) == Exit.OK
    assert "proxy at 127.0.0.1:1080" in capsys.readouterr().out
    idle = replace(client.status, state="idle")
    assert connecting.say_disconnected(idle, False)
    assert "nothing of this machine had been changed" in capsys.readouterr().out
    # What an earlier client has left in force is told all the same.
    client.status = replace(idle, kill_switch=schema.KillSwitch("holding", rules=["ip -4 rule"]))
    assert main(["status"]) == Exit.OK
    assert "holding: nothing leaves, by routes (1 rule)" in capsys.readouterr().out


# The pairing URI and who else may read it


@pytest.fixture
def asked_of(home: Path) -> Iterator[list[tuple[str | None, str | None]]]:
    """The URIs and gateways that a pretend client is told to connect to."""
    heard: list[tuple[str | None, str | None]] = []

    class Hearing(PretendClient):
        def handlers(self) -> dict[str, Handler]:
            def connect(params: ConnectParams) -> schema.ClientStatus:
                heard.append((params.uri, params.gateway))
                return self._connect(params)

            return super().handlers() | {"connect": connect, "gateways": lambda _: []}

    with serve(Hearing(), home / "client.sock"):
        yield heard


GOOD = PairingUri(bytes(32), bytes(16), "phone", (Endpoint.of("any", "10.0.0.1", 1),)).encode()
Heard = list[tuple[str | None, str | None]]


def test_a_uri_is_read_from_a_pipe(asked_of: Heard) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "connect", "-", "--wait", "0"], cwd=ROOT,
        input=f"\n{GOOD[:60]}\n{GOOD[60:]}\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == Exit.OK and GOOD not in done.stdout + done.stderr
    ((uri, gateway),) = asked_of
    assert uri is not None and PairingUri.decode(uri) == PairingUri.decode(GOOD)
    assert gateway is None
    done = run("connect", "-", "--wait", "0")
    assert done.returncode == Exit.USAGE and "No pairing URI" in done.stderr


def test_a_uri_is_asked_for_and_not_shown(asked_of: Heard) -> None:
    """Over as many lines as come."""
    terminal = Terminal("connect", "-", "--wait", "0")
    terminal.read_until(b"is not shown): ")
    terminal.wait_for_no_echo()
    terminal.write(f"{GOOD[:40]}\n{GOOD[40:90]}\n{GOOD[90:]}\nrm -rf /\n".encode())
    assert terminal.end() == Exit.OK
    assert GOOD[10:30].encode() not in terminal.shown and b"rm -rf" not in terminal.shown
    ((uri, _),) = asked_of
    assert uri is not None and PairingUri.decode(uri[: uri.index("rm")] if "rm" in uri else uri)


def test_a_uri_on_the_command_line_is_blotted_out_of_it(asked_of: Heard) -> None:
    quoted = [GOOD[:50], GOOD[50:]]  # without quotes around a blank
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "connect", *quoted, "--wait", "30"], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while not asked_of:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"connect" in shown and GOOD[5:25].encode() not in shown
        assert GOOD[60:80].encode() not in shown
        uri = asked_of[0][0]
        assert uri is not None and PairingUri.decode(uri) == PairingUri.decode(GOOD)
    finally:
        process.kill()
        process.communicate()


def test_who_gives_the_uri_on_the_command_line_is_told(asked_of: Heard) -> None:
    terminal = Terminal("connect", GOOD, "--wait", "0")
    assert terminal.end() == Exit.OK
    assert b"shell's history" in terminal.shown and b"vpnshare connect -" in terminal.shown


def test_names_with_blanks_need_no_quotes(asked_of: Heard) -> None:
    assert main(["connect", "Living", "room", "--wait", "0"]) in (Exit.OK, Exit.FAILED)
    assert asked_of == [(None, "Living room")]


def test_a_terminal_that_can_draw_nothing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Typewriter:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Typewriter())
    monkeypatch.setattr("cli.running.sys.stdout", Typewriter())
    monkeypatch.setenv("TERM", "xterm")
    assert on_terminal()
    monkeypatch.setenv("TERM", "dumb")
    assert not on_terminal(), "up says what it did, in plain lines"
