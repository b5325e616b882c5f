"""Which outlet a client service gets, and who may be a client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import main
from client.model import ClientConfig, ClientError
from client.outlet.nic.outlet import NicOutlet
from client.outlet.outlet import OutletKind
from client.outlet.proxy.outlet import ProxyOutlet
from control.exits import Exit
from services.clientd import outlet_of
from services.config import Config, ConfigError, parse


def settings(**client: object) -> Config:
    return Config({("client", name): value for name, value in client.items()})


async def test_the_settings_choose(tmp_path: Path) -> None:
    client = ClientConfig(tmp_path)
    usual = outlet_of(settings(), client, None)
    assert isinstance(usual, NicOutlet) and usual.kind is OutletKind.NIC
    place = tmp_path / "proxy"
    proxy = outlet_of(settings(proxy=f"unix:{place}"), client, None)
    assert isinstance(proxy, ProxyOutlet) and not place.exists()
    await proxy.start()
    assert place.is_socket() and proxy.name == f"unix:{place}"
    await proxy.stop()
    assert not place.exists()
    assert len((tmp_path / "proxy-token").read_text().strip()) == 32


async def test_on_a_phone_a_proxy_has_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.clientd.is_termux", lambda: True)
    client = ClientConfig(tmp_path)
    with pytest.raises(ClientError, match="no password") as refused:
        outlet_of(settings(proxy="127.0.0.1:1080"), client, None)
    assert "client.proxy_password" in refused.value.hint
    made = outlet_of(settings(proxy="127.0.0.1:1080", proxy_password="word"), client, None)
    await made.stop()


@pytest.mark.parametrize(
    ("line", "word"),
    [('proxy = "nowhere"', "no place for a proxy"), ('proxy = "127.0.0.1:0"', "65535"),
     ('proxy_password = "a b"', "without blanks"), ('proxy_password = "a:b"', "colons"),
     (f'proxy_password = "{"x" * 256}"', "at most 255")],
)  # fmt: skip
def test_settings_that_no_proxy_can_have(line: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(f"[client]\n{line}\n", "config.toml")


def test_settings_that_a_proxy_can_have() -> None:
    text = '[client]\nproxy = "[::1]:1081"\nproxy_password = "p%40ss/!"\nproxy_pac = true\n'
    assert parse(text, "config.toml").text("client", "proxy") == "[::1]:1081"


def test_a_phone_is_told_how_it_can_be_a_client(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("control.paths.is_termux", lambda: True)
    for command in (["client"], ["join", "192.0.2.1"], ["leave"]):
        assert main(command) == Exit.FAILED
        assert "vpnshare client --proxy" in capsys.readouterr().err
    # By its settings it is one: there is only nothing to leave.
    (home / "config.toml").write_text('[client]\nproxy = "127.0.0.1:1080"\n')
    assert main(["leave"]) == Exit.NOT_RUNNING
    assert "nothing to leave" in capsys.readouterr().err


def test_settings_with_a_mistake_are_told_by_who_needs_them(home: Path) -> None:
    (home / "config.toml").write_text("[client]\nproxy = 3\n")

    def said(verb: str) -> str:
        argv = [sys.executable, "-m", "cli.main", verb]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode not in (0, 70) and "unexpectedly" not in done.stderr, done.stderr
        return done.stderr

    assert "client.proxy must be a string" in said("client")
    # It may be another's: nobody who may not write them is asked to mend them.
    assert "no client service" in said("leave").lower()
