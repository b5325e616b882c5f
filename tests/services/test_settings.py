"""Settings: shown, checked, written with everything else in the file kept, and applied."""

from __future__ import annotations

import json
import logging
import socket
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import settings as rules
from hypothesis import strategies as st

from cli.main import main
from control import schema
from control.errors import Code, ControlError
from control.exits import Exit
from control.methods import SetParams
from control.paths import find as find_paths
from gateway.gateway import Gateway
from gateway.journal import EventKind
from gateway.model import MemoryStore
from sealing.happenings import Event
from services import config as conf
from services.config import SECTIONS, SETTINGS, Config, find, load, parse
from services.gateway_store import GatewayDatabase
from services.gatewayd import GatewayService, gateway_config
from services.logs import Ring
from services.notify import Notifier
from services.settings import Place, Settings, edit, write
from services.wake import WakeLock
from tests.fakes.ports import free_port
from tests.fakes.services import PretendGateway
from tests.fakes.waiting import settle

FILE = """\
# My phone.

[gateway]   # what others see
name = "phone"  # not my own name
listen = [
    "0.0.0.0:47800",  # IPv4
]

[console.keys]
quit = "x"

[logs]
level = "info"
"""


class Recorder:
    """Settings of a gateway over a file, and what was applied."""

    def __init__(self, path: Path, options: dict[Place, Any] | None = None) -> None:
        self.settings = Settings("gateway", path, load(path), options)
        self.applied: list[Place] = []
        self.settings.apply = lambda config, place: self.applied.append(place)

    def set(self, key: str, value: Any) -> schema.Setting:
        return self.settings.set(SetParams(key, value))

    def get(self, key: str) -> schema.Setting:
        return next(s for s in self.settings.read() if s.key == key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    path.chmod(0o600)
    return path


def test_all_settings_of_the_service_are_shown(path: Path) -> None:
    shown = {s.key: s for s in Recorder(path).settings.read()}
    assert set(shown) == {s.name for s in SETTINGS if s.section in SECTIONS["gateway"]}
    name, level, mtu = shown["gateway.name"], shown["logs.level"], shown["gateway.mtu"]
    assert (name.value, name.source, name.kind, name.live) == ("phone", "file", "text", True)
    assert level.choices == ["debug", "info", "warning", "error"]
    assert (mtu.low, mtu.high, mtu.source, mtu.default) == (1280, 65535, "default", 1500)
    assert shown["gateway.bypass"].danger and not shown["gateway.pool_ipv4"].live


def test_a_change_keeps_comments_order_and_mode(path: Path) -> None:
    recorder = Recorder(path)
    done = recorder.set("gateway.name", 'The "new" phone')
    assert (done.value, done.source, done.pending) == ('The "new" phone', "file", False)
    text = path.read_text()
    line = 'name = "The \\"new\\" phone"  # not my own name'
    assert text == FILE.replace('name = "phone"  # not my own name', line)
    assert path.stat().st_mode & 0o777 == 0o600
    assert recorder.applied == [("gateway", "name")]
    assert [p.name for p in path.parent.iterdir()] == ["config.toml"]


def test_back_to_the_default(path: Path) -> None:
    recorder = Recorder(path)
    done = recorder.set("gateway.name", None)
    assert (done.value, done.source) == ("", "default")
    assert "not my own name" not in path.read_text() and "# IPv4" in path.read_text()
    assert recorder.get("gateway.name").value == ""


def test_a_secret_is_kept_and_told_to_nobody(path: Path) -> None:
    path.chmod(0o644)
    settings = Settings("client", path, load(path))

    def shown() -> schema.Setting:
        return next(s for s in settings.read() if s.key == "client.proxy_password")

    assert (shown().secret, shown().kept, shown().value) == (True, False, "")
    done = settings.set(SetParams("client.proxy_password", "hunter2"))
    for told in (done, shown()):
        assert (told.kept, told.value, told.default, told.source) == (True, "", "", "file")
    assert "hunter2" not in repr([done, *settings.read()])
    assert load(path).text("client", "proxy_password") == "hunter2"
    assert path.stat().st_mode & 0o777 == 0o600, "others could read the file before"
    settings.set(SetParams("client.proxy_password"))
    assert not shown().kept


def test_what_is_called_a_password_is_a_secret() -> None:
    words = ("password", "secret", "token")
    named = [s for s in SETTINGS if any(word in s.key for word in words)]
    assert named and all(s.secret and s.kind is str for s in named)


def test_what_needs_a_restart_is_pending_and_not_applied(path: Path) -> None:
    recorder = Recorder(path)
    done = recorder.set("gateway.pool_ipv4", "10.9.0.0/24")
    assert done.pending and done.value == "10.9.0.0/24"
    assert recorder.applied == []
    assert not recorder.set("gateway.pool_ipv4", "").pending, "as it was started"


def test_what_the_service_refuses_is_taken_back(path: Path) -> None:
    recorder = Recorder(path, {("gateway", "listen"): ["0.0.0.0:5000"]})

    def refuse(config: Config, place: Place) -> None:
        assert config[place] == ["127.0.0.1:4000", "[::1]:4000"]
        raise ControlError(Code.FAILED, "Not there.")

    recorder.settings.apply = refuse
    with pytest.raises(ControlError, match="Not there"):
        recorder.set("gateway.listen", "127.0.0.1:4000, [::1]:4000")
    assert path.read_text() == FILE and path.stat().st_mode & 0o777 == 0o600
    shown = recorder.get("gateway.listen")
    assert (shown.value, shown.source) == (["0.0.0.0:5000"], "option")


def test_an_option_goes_before_the_file_until_it_is_changed_here(path: Path) -> None:
    recorder = Recorder(path, {("gateway", "name"): "optional"})
    shown = recorder.get("gateway.name")
    assert (shown.value, shown.source) == ("optional", "option")
    assert recorder.settings.config["gateway", "name"] == "optional"
    done = recorder.set("gateway.name", "chosen")
    assert (done.value, done.source) == ("chosen", "file")
    assert recorder.settings.config["gateway", "name"] == "chosen"


@pytest.mark.parametrize(
    ("key", "value", "code", "text"),
    [
        ("gateway.nmae", "x", Code.NOT_FOUND, "Did you mean 'gateway.name'?"),
        ("client.label", "x", Code.NOT_FOUND, "of the other service"),
        ("gateway.mtu", 1000, Code.INVALID_PARAMS, "must be 1280 to 65535"),
        ("gateway.mtu", "large", Code.INVALID_PARAMS, "must be a whole number"),
        ("gateway.mtu", True, Code.INVALID_PARAMS, "must be a whole number"),
        ("gateway.bypass", "perhaps", Code.INVALID_PARAMS, "must be true or false"),
        ("logs.level", "loud", Code.INVALID_PARAMS, "must be one of: debug"),
        ("dns.servers", "resolver.example", Code.INVALID_PARAMS, "not a resolver's address"),
        ("dns.servers", ["9.9.9.9"] * 7, Code.INVALID_PARAMS, "at most 6"),
        ("dns.rebinding_exempt", "corp..example", Code.INVALID_PARAMS, "is no name"),
        ("dns.rebinding_exempt", ["a.b"] * 101, Code.INVALID_PARAMS, "at most 100"),
        ("console.keys", {"quit": 7}, Code.INVALID_PARAMS, "quit must be keys"),
        ("gateway.listen", "", Code.INVALID_PARAMS, "must name 1 to 16"),
    ],
)
def test_what_may_not_be_is_refused_and_changes_nothing(
    path: Path, key: str, value: Any, code: Code, text: str
) -> None:
    recorder = Recorder(path)
    with pytest.raises(ControlError, match=text) as caught:
        recorder.set(key, value)
    assert caught.value.code == code
    assert path.read_text() == FILE and recorder.applied == []


def test_a_file_that_somebody_broke_is_left_alone(path: Path) -> None:
    recorder = Recorder(path)
    path.write_text(FILE + "\n[gatway]\n")
    with pytest.raises(ControlError, match=r"line 15: \[gatway\] is not known"):
        recorder.set("gateway.name", "x")
    assert "[gatway]" in path.read_text() and recorder.applied == []


def test_a_file_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("storage.own.replace", refuse)
    recorder = Recorder(path)
    done = recorder.set("gateway.name", "x")
    assert done.value == "x" and recorder.applied == [("gateway", "name")], "it is in force"
    (told,) = done.unwritten
    assert "the setting gateway.name" in told.found and "read-only" in told.found
    assert path.read_text() == FILE
    recorder.set("gateway.mtu", 1400)
    monkeypatch.undo()
    assert recorder.settings._ledger.flush()
    assert load(path)["gateway", "name"] == "x" and load(path)["gateway", "mtu"] == 1400
    assert recorder.set("gateway.name", "y").unwritten == []


def test_without_a_service_a_file_that_cannot_be_written_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("storage.own.replace", refuse)
    with pytest.raises(ControlError, match=r"no space is left.*Nothing was changed") as caught:
        write(path, find("gateway.name"), "x")
    assert caught.value.hint == f"Make room: df -h {path.parent}"
    assert path.read_text() == FILE


def test_changes_made_by_hand_meanwhile_stay(path: Path) -> None:
    recorder = Recorder(path)
    path.write_text(FILE.replace("# My phone.", "# My old phone.\n[dns]\nrecent = 5"))
    recorder.set("gateway.name", "x")
    assert load(path)["dns", "recent"] == 5 and "# My old phone." in path.read_text()


def test_a_link_to_the_file_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "config.toml"
    link.parent.mkdir()
    link.symlink_to(path)
    write(link, find("gateway.name"), "x")
    assert link.is_symlink() and load(path)["gateway", "name"] == "x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[gateway]",
        'gateway.mtu = 1400\ngateway.name = "old"  # why\n',
        'gateway = { name = "old" }\n',
        "[console]\nbell = false\n[gateway]\nmtu = 1400\n[console.keys]\nquit = 'x'\n",
    ],
)
def test_every_way_of_writing_it(text: str) -> None:
    for setting, value in (
        (find("gateway.name"), "new"),
        (find("console.keys"), {"quit": "q", "help": "f1,?"}),
        (find("dns.servers"), ["9.9.9.9"]),
    ):
        changed = edit(text, setting, value)
        after, before = parse(changed, "after"), parse(text, "before")
        assert after[setting.section, setting.key] == value
        others = {p: v for p, v in after.given.items() if p != (setting.section, setting.key)}
        kept = {p: v for p, v in before.given.items() if p != (setting.section, setting.key)}
        assert others == kept
        back = parse(edit(changed, setting, None), "back")
        assert back[setting.section, setting.key] == setting.default


@given(st.data())
@rules(deadline=None, max_examples=40)
def test_any_series_of_changes_is_what_the_file_then_says(data: st.DataObject) -> None:
    text, wanted = FILE, dict(parse(FILE, "first").given)
    choices = {
        "gateway.name": st.text(st.characters(categories=["L", "N", "P"]), max_size=20),
        "gateway.mtu": st.integers(1280, 65535),
        "gateway.grace": st.floats(0, 86400),
        "gateway.bypass": st.booleans(),
        "logs.level": st.sampled_from(conf.LEVELS),
        "dns.servers": st.lists(st.sampled_from(["9.9.9.9", "[::1]:53"]), max_size=3),
    }
    for _ in range(data.draw(st.integers(1, 6))):
        setting = find(data.draw(st.sampled_from(sorted(choices))))
        value = data.draw(st.none() | choices[setting.name])
        text = edit(text, setting, value)
        wanted.pop((setting.section, setting.key), None)
        if value is not None:
            wanted[setting.section, setting.key] = value
    assert parse(text, "last").given == wanted
    assert text.startswith("# My phone.\n") and tomllib.loads(text)


# A gateway that runs


@pytest.fixture
async def running(home: Path) -> Any:
    file = home / "config.toml"
    file.write_text(f"[gateway]\nlisten = ['127.0.0.1:{free_port()}']\n")
    settings = Settings("gateway", file, load(file))
    service = GatewayService(
        find_paths(), settings, GatewayDatabase(home / "g.db"), Notifier(None), WakeLock(False),
        Ring(), lambda: None,
    )  # fmt: skip
    service._gateway = Gateway(gateway_config(settings.config, False), MemoryStore())
    await service._gateway.start()
    yield service, settings
    await service._gateway.stop()


async def test_a_running_gateway_follows(running: Any) -> None:
    service, settings = cast(tuple[GatewayService, Settings], running)
    gateway = service._gateway
    for key, value in (
        ("gateway.name", "Pixel"),
        ("gateway.auto_approve_qr", True),
        ("gateway.mtu", 1380),
        ("gateway.grace", 12.0),
        ("gateway.udp_filtering", "endpoint-independent"),
        ("gateway.bypass", True),
        ("dns.servers", ["9.9.9.9", "[2620:fe::fe]:53"]),
        ("dns.recent", 7),
        ("dns.stale", 60.0),
    ):
        settings.set(SetParams(key, value))
    assert gateway._tunnels.name == gateway.owner.config.name == "Pixel"
    assert gateway._admission.auto_approve_qr
    assert (gateway._tunnels.mtu, gateway._tunnels.grace) == (1380, 12.0)
    assert not gateway._nat.config.address_dependent_filtering
    assert (
        gateway.snapshots.status().bypass
        and gateway.guard.bypass
        and gateway.snapshots.status().alarms
    )
    assert gateway.snapshots.resolvers() == ("9.9.9.9:53", "[2620:fe::fe]:53")
    assert (gateway.owner.config.dns.recent, gateway.owner.config.dns.stale) == (7, 60.0)
    settings.set(SetParams("gateway.bypass", None))
    assert not gateway.guard.bypass and gateway.snapshots.status().alarms == []


async def test_a_running_gateway_listens_elsewhere_or_as_before(running: Any) -> None:
    service, settings = cast(tuple[GatewayService, Settings], running)
    gateway = service._gateway
    before = gateway.snapshots.status().listen
    elsewhere = f"127.0.0.1:{free_port()}"
    done = settings.set(SetParams("gateway.listen", elsewhere))
    assert gateway.snapshots.status().listen == [elsewhere] != before and not done.pending
    with socket.create_server(("127.0.0.1", 0)) as taken:
        occupied = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ControlError, match=f"{occupied} by TCP: Address already in use.*other"):
            settings.set(SetParams("gateway.listen", occupied))
    assert gateway.snapshots.status().listen == [elsewhere]
    assert load(find_paths().config)["gateway", "listen"] == [elsewhere]


async def test_the_log_level_follows(running: Any) -> None:
    _, settings = running
    before = logging.getLogger().level
    try:
        settings.set(SetParams("logs.level", "warning"))
        assert logging.getLogger().level == logging.WARNING
    finally:
        logging.getLogger().setLevel(before)


# The command


def test_the_command_asks_the_service(
    gateway: PretendGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["set", "gateway.grace", "soon"]) == Exit.USAGE
    assert "must be a number" in capsys.readouterr().err
    assert main(["set", "gateway.name", "Phone"]) == Exit.OK
    assert capsys.readouterr().out == "gateway.name is Phone now.\n"
    assert main(["settings", "--json"]) == Exit.OK
    shown = {s["key"]: s for s in json.loads(capsys.readouterr().out)}
    assert shown["gateway.name"]["value"] == "Phone" and "client.label" not in shown
    assert main(["set", "gateway.name", "--default"]) == Exit.OK
    assert capsys.readouterr().out == "gateway.name is empty now.\n"
    assert main(["set", "gateway.nmae", "x"]) == Exit.NOT_FOUND
    assert main(["set", "gateway.name"]) == Exit.USAGE


def test_the_command_without_a_service(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["set", "gateway.bypass", "on"]) == Exit.OK
    told = capsys.readouterr()
    assert told.out == "gateway.bypass is on now.\n" and "Mind what this means" in told.err
    assert load(home / "config.toml")["gateway", "bypass"] is True
    assert main(["set", "gateway.bypass", "perhaps"]) == Exit.USAGE
    assert main(["settings"]) == Exit.OK
    assert "gateway.bypass" in capsys.readouterr().out
    assert main(["set", "gateway.bypass", "--default"]) == Exit.OK
    assert load(home / "config.toml")["gateway", "bypass"] is False
    (home / "config.toml").write_text("[gatway]\n")
    assert main(["settings"]) == Exit.FAILED
    assert "line 1" in capsys.readouterr().err


def test_keys_may_be_spelled_as_tables() -> None:
    """`console.quit` is one key in quotes, or TOML's dotted key."""
    for text in ('[console.keys]\n"console.quit" = "x"\n', '[console.keys]\nconsole.quit = "x"\n'):
        assert parse(text, "f")["console", "keys"] == {"console.quit": "x"}
        changed = edit(text, find("console.keys"), {"console.quit": "y", "pair.copy": "c"})
        assert parse(changed, "f")["console", "keys"] == {"console.quit": "y", "pair.copy": "c"}


async def test_a_hook_is_judged_before_it_is_set_and_told_from_then_on(
    running: Any, tmp_path: Path
) -> None:
    service, settings = cast(tuple[GatewayService, Settings], running)
    program, out = tmp_path / "hook", tmp_path / "out"
    program.write_text(f"#!/bin/sh\ncat >{out}.new\nmv {out}.new {out}\n")
    program.chmod(0o702)
    with pytest.raises(ControlError, match="everybody"):
        settings.set(SetParams("gateway.hook", str(program)))
    with pytest.raises(ControlError, match="absolute"):
        settings.set(SetParams("gateway.hook", "hook"))
    assert settings.config["gateway", "hook"] == "" and service._hook.path == ""
    program.chmod(0o700)
    settings.set(SetParams("gateway.hook", str(program)))
    service._events.on_event = service._hook.tell
    service._events.note(Event(EventKind.SHARING_ON, "sharing is on"))
    await settle(out.exists)
    told = json.loads(out.read_text())
    assert (told["kind"], told["text"], told["role"]) == ("sharing_on", "sharing is on", "gateway")
    settings.set(SetParams("gateway.hook", None))
    assert service._hook.path == ""
    await service._hook.stop()
