"""Service managers' files, in a pretended root folder; their commands, by pretended programs."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.main import main
from control.exits import Exit
from services import account, trust
from services.start import own_command
from services.units import Manager, Unit, UnitError, carry_out

PREFIX = "/data/data/com.termux/files/usr"
ENV = {"PREFIX": PREFIX, "HOME": "/home/u"}
ODD = ("/opt/my apps/50%/v$n/vpnshare",)

Capture = pytest.CaptureFixture[str]


class Systemd(configparser.RawConfigParser):
    """A unit file as sections of keys."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def parsed(unit: Unit) -> Systemd:
    parser = Systemd(strict=False)  # SystemCallFilter= may stand twice
    parser.read_string(unit.text())
    return parser


def test_the_system_gateway() -> None:
    unit = Unit("gateway", Manager.SYSTEM, ("/opt/vpnshare",), env=ENV)
    file = parsed(unit)
    service = file["Service"]
    assert service["Type"] == "notify" and service["Restart"] == "on-failure"
    assert service["ExecStart"] == "/opt/vpnshare gateway"
    assert service["User"] == service["Group"] == "vpnshare"
    assert service["RuntimeDirectory"] == service["StateDirectory"] == "vpnshare-gateway"
    assert service["RuntimeDirectoryMode"] == "0750" and service["StateDirectoryMode"] == "0700"
    assert service["CapabilityBoundingSet"] == "" and service["PrivateUsers"] == "yes"
    assert service["ProcSubset"] == "pid"
    hidden = service["InaccessiblePaths"].split()
    assert {"-/etc/shadow", "-/etc/ssh", "-/etc/wireguard"} <= {*hidden}
    old = parsed(Unit("gateway", Manager.SYSTEM, ("/opt/vpnshare",), env=ENV, kernel=(5, 6)))
    for key in ("CapabilityBoundingSet", "AmbientCapabilities"):
        assert old["Service"][key] == "CAP_NET_RAW", "a user who is not root has to be given it"
    assert "PrivateUsers" not in old["Service"]
    assert service["ProtectSystem"] == "strict" and "ReadWritePaths" not in service
    assert file["Install"]["WantedBy"] == "multi-user.target"
    assert unit.place == Path("/etc/systemd/system/vpnshare-gateway.service")
    plan = unit.install()
    assert [each.path for each in plan.files] == [account.SYSUSERS, unit.place]
    assert plan.users == ("systemd-sysusers", str(account.SYSUSERS)) and plan.take_over
    assert {*unit.uninstall().remove} == {account.SYSUSERS, unit.place}


def test_a_gateway_in_a_folder_of_roots_is_root_without_a_right() -> None:
    unit = Unit("gateway", Manager.SYSTEM, ("/opt/v",), env=ENV | {"VPNSHARE_HOME": "/srv/tv"})
    service = parsed(unit)["Service"]
    assert "User" not in service and service["CapabilityBoundingSet"] == ""
    assert "/srv/tv" in service["ReadWritePaths"].split()
    plan = unit.install()
    assert [each.path for each in plan.files] == [unit.place]
    assert not plan.users and not plan.take_over


@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="needs systemd-sysusers")
def test_systemd_makes_the_user(tmp_path: Path) -> None:
    """In a pretended root folder, as for the image of a machine."""
    (tmp_path / "etc").mkdir()
    conf = tmp_path / "vpnshare.conf"
    conf.write_text(account.SYSUSERS_TEXT)
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(conf)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [entry] = (tmp_path / "etc/passwd").read_text().splitlines()
    name, _, number, _, _, home, shell = entry.split(":")
    assert (name, home) == ("vpnshare", "/") and int(number) < account.FIRST_PERSON
    assert shell.endswith("nologin")
    assert (tmp_path / "etc/group").read_text().startswith("vpnshare:")


def test_the_client_may_make_interfaces_and_nothing_else() -> None:
    service = parsed(Unit("client", Manager.SYSTEM, ("/opt/vpnshare",), env=ENV))["Service"]
    assert service["CapabilityBoundingSet"] == "CAP_NET_ADMIN"
    assert service["DeviceAllow"] == "/dev/net/tun rw"
    assert "/etc" in service["ReadWritePaths"].split(), "it replaces /etc/resolv.conf"
    for manager in (Manager.USER, Manager.RUNIT):
        with pytest.raises(UnitError, match="only root may do"):
            Unit("client", manager, ("/opt/vpnshare",), env=ENV).install()


def test_the_client_is_there_before_the_network() -> None:
    unit = parsed(Unit("client", Manager.SYSTEM, ("/opt/vpnshare",), env=ENV))["Unit"]
    assert "network-pre.target" in unit["Before"].split()
    # A target that nobody wants is in no order.
    assert unit["Wants"] == "network-pre.target"
    # With the default ones it would wait for what may wait for the network (cloud-init).
    assert unit["DefaultDependencies"] == "no"
    assert unit["Conflicts"] == "shutdown.target" in unit["Before"].split()
    gateway = parsed(Unit("gateway", Manager.SYSTEM, ("/opt/vpnshare",), env=ENV))["Unit"]
    assert gateway["After"] == "network.target" and "Before" not in gateway


def test_a_users_gateway() -> None:
    unit = Unit("gateway", Manager.USER, ("/opt/vpnshare",), share=True, env=ENV)
    file = parsed(unit)
    assert file["Service"]["ExecStart"] == "/opt/vpnshare gateway --share"
    assert "CapabilityBoundingSet" not in file["Service"]
    assert file["Install"]["WantedBy"] == "default.target"
    assert unit.place == Path("/home/u/.config/systemd/user/vpnshare-gateway.service")
    assert ("systemctl", "--user", "daemon-reload") in unit.install().after


def test_odd_paths_are_quoted() -> None:
    env = ENV | {"VPNSHARE_HOME": '/srv/a "b"'}
    service = parsed(Unit("gateway", Manager.SYSTEM, ODD, env=env))["Service"]
    assert service["ExecStart"] == '"/opt/my apps/50%%/v$$n/vpnshare" gateway'
    assert service["Environment"] == '"VPNSHARE_HOME=/srv/a \\"b\\""'


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("role", ["gateway", "client"])
def test_systemd_reads_it(tmp_path: Path, role: str) -> None:
    unit = Unit(role, Manager.SYSTEM, ("/bin/true",), env=ENV)
    path = tmp_path / f"{unit.name}.service"
    path.write_text(unit.text())
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
    )
    assert unit.name not in done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize(("role", "most"), [("gateway", 20), ("client", 40)])
def test_systemd_finds_it_little_exposed(tmp_path: Path, role: str, most: int) -> None:
    """In tenths, as `--threshold` takes them. A core dump would hold the keys."""
    unit = Unit(role, Manager.SYSTEM, ("/bin/true",), env=ENV)
    path = tmp_path / f"{unit.name}.service"
    path.write_text(unit.text())
    look = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    done = subprocess.run(
        [*look, f"--threshold={most}", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze looks at no files")
    assert done.returncode == 0, done.stdout[-200:]
    for manager in (Manager.SYSTEM, Manager.USER):
        if role == "gateway" or manager is Manager.SYSTEM:
            text = Unit(role, manager, ("/bin/true",), env=ENV).text()
            assert "LimitCORE=0\n" in text and "NoNewPrivileges=yes\n" in text


def test_runit_in_termux(tmp_path: Path) -> None:
    unit = Unit("gateway", Manager.RUNIT, ODD, env=ENV | {"VPNSHARE_HOME": "/x y"})
    plan = unit.install()
    carry_out(plan, tmp_path, commands=False)
    folder = tmp_path / PREFIX[1:] / "var" / "service" / "vpnshare-gateway"
    run = folder / "run"
    assert run.stat().st_mode & 0o777 == 0o755
    lines = run.read_text().splitlines()
    assert lines[0] == f"#!{PREFIX}/bin/sh" and lines[1] == "exec 2>&1"
    assert shlex.split(lines[2]) == ["export", "VPNSHARE_HOME=/x y"]
    assert shlex.split(lines[3]) == ["exec", *ODD, "gateway"]
    assert os.readlink(folder / "log" / "run") == f"{PREFIX}/share/termux-services/svlogger"
    assert (folder / "down").exists(), "it does not start before it is enabled"
    assert plan.after[0] == ("sv-enable", "vpnshare-gateway")
    assert any("Termux:Boot" in hint for hint in plan.hints)
    carry_out(plan, tmp_path, commands=False)
    carry_out(unit.uninstall(), tmp_path, commands=False)
    assert not folder.exists()


def test_the_run_script_runs(tmp_path: Path) -> None:
    said = tmp_path / "said"
    program = tmp_path / "vpn share"
    program.write_text(f'#!/bin/sh\necho "$VPNSHARE_HOME $*" >{said}\n')
    program.chmod(0o755)
    env = ENV | {"VPNSHARE_HOME": "/x y", "PREFIX": "/usr"}
    unit = Unit("gateway", Manager.RUNIT, (str(program),), env=env)
    carry_out(unit.install(), tmp_path, commands=False)
    subprocess.run([tmp_path / "usr/var/service/vpnshare-gateway/run"], check=True)
    assert said.read_text() == "/x y gateway\n"


# The command


@pytest.fixture
def no_termux(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFIX", "VPNSHARE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/u")


@pytest.mark.skipif(os.geteuid() != 0, reason="a unit of the machine is root's to install")
@pytest.mark.usefixtures("no_termux")
def test_what_its_user_cannot_read_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(trust, "changeable", lambda paths, owner: None)
    monkeypatch.setattr(trust, "hidden", lambda paths, through: Path("/root"))
    assert main(["service", "install", "--dry-run"]) == Exit.FAILED
    said = capsys.readouterr().err
    assert "/root cannot be read by vpnshare" in said and "--copy" in said
    monkeypatch.setattr(trust, "hidden", lambda paths, through: None)
    assert main(["service", "install", "--dry-run"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "$ systemd-sysusers" in shown or account.exists()
    assert "write /etc/sysusers.d/vpnshare.conf" in shown and "User=vpnshare\n" in shown
    monkeypatch.setattr(account, "person", lambda: "vpnshare is somebody's account here.")
    assert main(["service", "install", "--dry-run"]) == Exit.FAILED
    assert "somebody's account" in capsys.readouterr().err


@pytest.mark.usefixtures("no_termux")
def test_install_status_uninstall(tmp_path: Path, capsys: Capture) -> None:
    below = ["--root", str(tmp_path), "--user"]
    unit = tmp_path / "home/u/.config/systemd/user/vpnshare-gateway.service"
    assert main(["service", "status", *below]) == Exit.NOT_RUNNING
    assert main(["service", "install", *below, "--dry-run"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "Type=notify" in shown and "$ systemctl --user enable --now" in shown
    assert not unit.exists()
    assert main(["service", "install", *below]) == Exit.OK
    command = " ".join(own_command())
    assert f"ExecStart={command} gateway\n" in unit.read_text()
    assert [p.name for p in unit.parent.iterdir()] == [unit.name]
    capsys.readouterr()
    assert main(["service", "status", *below, "--json"]) == Exit.OK
    status = json.loads(capsys.readouterr().out)
    assert status["installed"] and not status["running"]
    assert main(["service", "uninstall", *below]) == Exit.OK
    assert not unit.exists()
    assert main(["service", "uninstall", *below]) == Exit.OK, "twice is no error"
    assert main(["service", "install", *below, "--role", "client"]) == Exit.FAILED
    assert "vpnshare service install --role client" in capsys.readouterr().err


def test_termux_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFIX", PREFIX)
    assert main(["service", "install", "--root", str(tmp_path)]) == Exit.OK
    assert (tmp_path / PREFIX[1:] / "var/service/vpnshare-gateway/run").exists()


def test_the_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands run for real; they are programs of the test."""
    log = tmp_path / "log"
    for name, code in (("systemctl", 0), ("sv-enable", 3)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$*" >>{log}\necho sorry >&2\nexit {code}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    unit = Unit("gateway", Manager.USER, ("/opt/vpnshare",), env={"HOME": str(tmp_path)})
    carry_out(unit.install(), Path("/"), commands=True)
    assert unit.place.exists()
    carry_out(unit.uninstall(), Path("/"), commands=True)
    assert log.read_text().splitlines() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now vpnshare-gateway",
        "systemctl --user disable --now vpnshare-gateway",
        "systemctl --user daemon-reload",
    ]
    phone = Unit("gateway", Manager.RUNIT, ("/v",), env={"PREFIX": str(tmp_path), "HOME": "/h"})
    with pytest.raises(UnitError, match="sv-enable vpnshare-gateway failed: sorry"):
        carry_out(phone.install(), Path("/"), commands=True)
    (tmp_path / "sv-enable").unlink()
    with pytest.raises(UnitError) as caught:
        carry_out(phone.install(), Path("/"), commands=True)
    assert "pkg install termux-services" in caught.value.hint
