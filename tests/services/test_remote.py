"""The console's line through ssh: a pretend ssh that runs the command here, and a real one."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cli import remote, running
from cli.main import main
from cli.remote import Far, connectors, parse_host, reach
from control import remote as line
from control.client import ControlClient, GatewayControl
from control.errors import Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.remote import explain
from tests.fakes.ports import free_port
from tests.fakes.services import PretendClient, PretendGateway

ROOT = Path(__file__).resolve().parents[2]
PRETEND_SSH = """#!/bin/sh
echo "$*" >>{log}
for last; do :; done
case "$*" in *"-O exit"*) exit 0;; esac
exec sh -c "$last"
"""
VPNSHARE = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m cli.main "$@"\n'


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pretend ssh was called with, line by line."""
    log = tmp_path / "ssh.log"
    program(tmp_path / "bin", "ssh", PRETEND_SSH.format(log=log))
    program(tmp_path / "bin", "vpnshare", VPNSHARE)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return log


def far_programs(ssh: Path, name: str, text: str) -> None:
    program(ssh.parent / "bin", name, text)


async def connect(far: Far, role: str = "gateway", read_only: bool = False) -> ControlClient:
    client: ControlClient = await connectors(far, [role], read_only)[role]()
    return client


async def test_the_same_as_on_the_socket(
    ssh: Path, gateway: PretendGateway, client: PretendClient
) -> None:
    with reach("me@phone:8022") as (far, roles):
        assert roles == ["gateway", "client"]
        control = await connect(far)
        assert control.hello.role == "gateway"
        status = await control.call("status")
        assert status.name == "Pixel 8"
        watching = control.watch(["requests"], interval=0.1)
        assert (await asyncio.wait_for(anext(watching), 10)).data == []
        await control.close()
        other = await connect(far, "client", read_only=True)
        assert other.hello.role == "client" and other.hello.permission == "read"
        await other.close()
    calls = said(ssh)
    assert all("-p 8022" in call and " -- me@phone" in call for call in calls)
    assert [("BatchMode=yes" in call) for call in calls] == [False, True, True, True]
    assert "-O exit" in calls[-1]


def said(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def test_many_rows_pass(ssh: Path, gateway: PretendGateway) -> None:
    with reach("phone") as (far, _):
        control = await connect(far)
        settings = await asyncio.gather(*(control.call("settings") for _ in range(50)))
        assert all(len(each) == len(settings[0]) > 10 for each in settings)
        await control.close()


async def test_a_shell_that_greets(ssh: Path, gateway: PretendGateway) -> None:
    far_programs(ssh, "vpnshare", VPNSHARE.replace("\n", "\necho Welcome; echo;\n", 1))
    with reach("phone") as (far, _):
        control = await connect(far)
        assert (await control.call("status")).name == "Pixel 8"
        await control.close()


def test_no_service_there(ssh: Path, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["console", "--host", "phone"]) == Exit.NOT_RUNNING
    assert "No service runs on phone." in capfd.readouterr().err


def test_what_ssh_said_on_the_terminal_is_not_called_nothing(
    ssh: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    far_programs(ssh, "ssh", "#!/bin/sh\necho 'Connection refused' >&2; exit 255\n")
    assert main(["console", "--host", "phone"]) == Exit.NOT_RUNNING
    said = capfd.readouterr().err
    assert said.index("Connection refused") < said.index("ssh does not reach phone")
    assert "its reason stands above" in said and "no reason" not in said


async def test_why_it_failed(ssh: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Far("phone", None, "/nowhere/ssh")
    for text, message, hint in (
        (VPNSHARE, "phone: The gateway service is not running.", "vpnshare up"),
        (
            "#!/bin/sh\necho 'Permission denied (publickey).' >&2; exit 255\n",
            "ssh does not reach phone: Permission denied (publickey).", "ssh phone",
        ),
        ("#!/bin/sh\nexit 127\n", "vpnshare is not found on phone.", "~/.local/bin"),
        ("#!/bin/sh\necho what >&2; exit 9\n", "service on phone ended: what", "ssh phone"),
        ("#!/bin/sh\nyes | head -c 100000\n", "is not VPN Share", "print nothing"),
    ):  # fmt: skip
        far_programs(ssh, "vpnshare", text)
        with pytest.raises(ServiceUnavailable) as caught:
            await connect(far)
        assert message in caught.value.message and hint in (caught.value.hint or "")
    far_programs(ssh, "vpnshare", "#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(line, "GREETING_SECONDS", 0.2)
    with pytest.raises(ServiceUnavailable, match="phone does not answer"):
        await connect(far)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ControlError, match="ssh cannot be run"):
        await connect(far)
    with pytest.raises(ControlError, match="ssh is not installed"), reach("phone"):
        pass


async def test_a_line_that_breaks_says_so(ssh: Path, gateway: PretendGateway) -> None:
    broken = VPNSHARE.replace("exec ", "", 1) + "echo 'Connection reset by peer' >&2; exit 255\n"
    with reach("phone") as (far, _):
        far_programs(ssh, "vpnshare", broken)
        control = await connect(far)
        call = asyncio.ensure_future(anext(control.watch(["logs"])))
        await call
        assert control._command is not None
        control._command.writer.close()  # as if the network had gone
        with pytest.raises(ServiceUnavailable, match="ssh does not reach phone: Connection reset"):
            while True:
                await control.call("status")
                await asyncio.sleep(0.01)
        await control.close()


async def test_closing_leaves_no_process(ssh: Path, gateway: PretendGateway) -> None:
    with reach("phone") as (far, _):
        control = await connect(far)
        assert control._command is not None
        process = control._command._process
        await control.close()
        assert process.returncode is not None


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("phone", "phone", None),
        ("me@phone", "me@phone", None),
        ("me@10.0.0.2:8022", "me@10.0.0.2", 8022),
        ("me@[fe80::1%wlan0]:22", "me@fe80::1%wlan0", 22),
    ],
)
def test_hosts(text: str, host: str, port: int | None) -> None:
    assert parse_host(text) == (host, port)


@pytest.mark.parametrize("text", ["", "-oProxyCommand=x", "a b", "me@phone:0", "me@phone:99999"])
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ControlError) as caught:
        parse_host(text)
    assert caught.value.code == Code.INVALID_PARAMS


def test_exits_that_say_nothing() -> None:
    assert "it gave no reason" in explain(255, "", "phone", "gateway").message
    assert explain(None, "", "phone", "gateway").message.endswith("on phone ended.")


def test_the_console_gets_all_services_of_the_far_machine(
    ssh: Path, gateway: PretendGateway, client: PretendClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[list[str], str, str]] = []

    class Console:
        return_code = 0

        def __init__(self, services: Any, role: str, **options: Any) -> None:
            self.services, self.role = services, role

        def run(self) -> None:
            async def look() -> str:
                control = await self.services[self.role]()
                name: str = control.hello.permission
                await control.close()
                return name

            opened.append((list(self.services), self.role, asyncio.run(look())))

    monkeypatch.setattr(import_module("tui.app"), "ConsoleApp", Console)
    monkeypatch.setattr(running, "on_terminal", lambda: True)
    assert main(["console", "--host", "phone"]) == Exit.OK
    assert main(["console", "--host", "phone", "--role", "client", "--read-only"]) == Exit.OK
    assert opened == [
        (["gateway", "client"], "gateway", "write"), (["client"], "client", "read"),
    ]  # fmt: skip


# With a real sshd on loopback

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
SetEnv PATH={folder}/bin:/usr/bin:/bin VPNSHARE_HOME={folder}
"""


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of an ssh server that lets this user in."""
    server, real = shutil.which("sshd", path="/usr/sbin:/usr/bin"), shutil.which("ssh")
    if os.geteuid() != 0 or server is None or real is None:
        pytest.skip("needs root, ssh and sshd")
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True
        )
    port = free_port()
    (tmp_path / "sshd_config").write_text(CONFIG.format(port=port, folder=tmp_path))
    Path("/run/sshd").mkdir(exist_ok=True)
    program(tmp_path / "bin", "vpnshare", VPNSHARE)
    options = (
        f"-o IdentityFile={tmp_path}/user -o UserKnownHostsFile={tmp_path}/known "
        "-o StrictHostKeyChecking=accept-new"
    )
    program(tmp_path / "near", "ssh", f'#!/bin/sh\nexec {real} -F none {options} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'near'}:/usr/bin:/bin")
    process = subprocess.Popen(
        [server, "-D", "-e", "-f", str(tmp_path / "sshd_config")],
        stdin=subprocess.DEVNULL, stderr=(tmp_path / "sshd.log").open("w"),
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield port
    process.terminate()
    process.wait()


async def test_through_a_real_ssh(sshd: int, gateway: PretendGateway) -> None:
    with reach(f"root@127.0.0.1:{sshd}") as (far, roles):
        assert roles == ["gateway"]
        control = await connect(far)
        assert isinstance(control, GatewayControl)
        assert (await control.status()).name == "Pixel 8"
        await control.close()
        with pytest.raises(ServiceUnavailable, match="client service is not running"):
            await connect(far, "client")
    with pytest.raises(ServiceUnavailable, match="ssh does not reach"), reach("root@127.0.0.1:1"):
        pass


def test_the_shared_connection_ends(sshd: int, gateway: PretendGateway) -> None:
    with reach(f"root@127.0.0.1:{sshd}") as (far, _):
        check = [*far._ssh(True), "-O", "check", "--", far.host]
        assert subprocess.run(check, check=False, capture_output=True).returncode == 0
    assert subprocess.run(check, check=False, capture_output=True).returncode != 0
    assert remote.PERSIST <= 60
