"""The daemons as processes: readiness, signals, one instance, errors as sentences."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from control.exits import Exit
from control.oneshot import OneShot
from control.paths import find as find_paths
from services.config import Config
from services.gateway_store import GatewayDatabase
from services.gatewayd import GatewayService
from services.logs import Ring
from services.notify import Notifier
from services.settings import Settings
from services.start import own_command
from services.wake import WakeLock
from tests.fakes.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 30.0


class Daemon:
    """A service of this home, in a process of its own; ready when made."""

    def __init__(self, home: Path, role: str, *args: str) -> None:
        self.home = home
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears:
            ears.bind(str(home / "notify"))
            ears.settimeout(TIMEOUT)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", role, *args],
                cwd=ROOT, env=os.environ | {"NOTIFY_SOCKET": str(home / "notify")},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            try:
                self.news = ears.recv(4096).decode()
            except TimeoutError:
                self.process.kill()
                raise AssertionError(self.process.communicate()[0]) from None
        (home / "notify").unlink()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send the signal; exit status and everything it logged."""
        self.process.send_signal(number)
        log = self.process.communicate(timeout=TIMEOUT)[0]
        return self.process.returncode, log


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def gateway(home: Path, port: int) -> Iterator[Daemon]:
    daemon = Daemon(home, "gateway", "--listen", f"127.0.0.1:{port}", "--name", "phone")
    yield daemon
    if daemon.process.poll() is None:
        daemon.end(signal.SIGKILL)


def failed_start(role: str, *args: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", role, *args],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_ready_idle_and_gone(gateway: Daemon, home: Path, port: int) -> None:
    assert gateway.news.startswith("READY=1\nSTATUS=gateway 'phone' ready on")
    with OneShot(str(home / "gateway.sock"), "gateway") as control:
        status = control.call("status")
    assert (status.pid, status.name, status.sharing) == (gateway.process.pid, "phone", "off")
    assert status.listen == [f"127.0.0.1:{port}"]
    code, log = gateway.end()
    assert code == 0 and "SIGTERM: stopping" in log and log.rstrip().endswith("stopped")
    assert not (home / "gateway.sock").exists()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_it_too(gateway: Daemon, number: int) -> None:
    assert gateway.end(number)[0] == 0


def test_it_listens_elsewhere_and_anew(
    gateway: Daemon, home: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["relisten"]) == Exit.OK
    assert capsys.readouterr().out == f"Listening on 127.0.0.1:{port}.\n"
    elsewhere = f"127.0.0.1:{free_port()}"
    assert main(["set", "gateway.listen", elsewhere]) == Exit.OK
    assert "next start" not in capsys.readouterr().out
    assert main(["relisten", "--drop", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["listen"] == [elsewhere]
    with socket.create_server(("127.0.0.1", port)) as taken:
        assert main(["set", "gateway.listen", f"127.0.0.1:{port}"]) == Exit.FAILED
        told = capsys.readouterr().err
        assert f"Cannot listen on 127.0.0.1:{port} by TCP: Address already in use." in told
        assert "set gateway.listen" in told and "It listens as before." in told
        assert taken.getsockname()[1] == port
    assert f'"{elsewhere}"' in (home / "config.toml").read_text()
    assert gateway.end()[0] == 0


def test_a_second_instance_is_told_who_is_there(gateway: Daemon) -> None:
    code, text = failed_start("gateway", "--listen", "127.0.0.1:0")
    assert code == Exit.CONFLICT and f"(pid {gateway.process.pid})" in text
    assert gateway.end()[0] == 0


def test_a_log_without_room_changes_nothing(home: Path, port: int) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        process = subprocess.Popen(
            [*own_command(), "gateway", "--listen", f"127.0.0.1:{port}"],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=full,
        )  # fmt: skip
    control = home / "gateway.sock"
    deadline = time.monotonic() + TIMEOUT
    while not control.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with OneShot(str(control), "gateway") as service:
        assert any("ready" in line.message for line in service.call("logs"))
    process.terminate()
    assert process.wait(TIMEOUT) == 0


def test_after_kill_9_it_starts_again_with_the_same_identity(gateway: Daemon, home: Path) -> None:
    def fingerprint() -> str:
        with OneShot(str(home / "gateway.sock"), "gateway") as control:
            return str(control.call("status").fingerprint)

    before = fingerprint()
    gateway.end(signal.SIGKILL)
    assert (home / "gateway.sock").exists()
    again = Daemon(home, "gateway", "--listen", f"127.0.0.1:{free_port()}")
    assert fingerprint() == before
    assert again.end()[0] == 0


def test_the_command_drives_it(
    gateway: Daemon, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pair", "--json"]) == Exit.OK
    offer = json.loads(capsys.readouterr().out)
    assert offer["uri"].startswith("VSHP:") and offer["expires_in"] == 120
    assert main(["share", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["sharing"] in ("on", "unavailable")
    assert main(["unshare", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["sharing"] == "off"
    assert main(["logs"]) == Exit.OK
    said = capsys.readouterr().out
    assert said.count("sharing is on") == 1 and said.count("sharing is off") == 1
    for command in ("requests", "peers", "leases"):
        assert main([command, "--json"]) == Exit.OK
        assert json.loads(capsys.readouterr().out) == []
    assert main(["flows", "--json", "--sort", "rate"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"total": 0, "flows": []}
    for words, code in (
        (["approve", "ab"], Exit.NOT_FOUND),
        (["deny", "ab"], Exit.NOT_FOUND),
        (["revoke", "ab"], Exit.NOT_FOUND),
        (["rename", "ab", "TV"], Exit.NOT_FOUND),
        (["flows", "--peer", "ab"], Exit.NOT_FOUND),
    ):
        assert main(words) == code
    assert main(["logs", "-n", "5"]) == Exit.OK
    assert "ready" in capsys.readouterr().out
    assert main(["down"]) == Exit.OK
    gateway.process.communicate(timeout=TIMEOUT)
    assert gateway.process.returncode == 0


def test_json_logs(home: Path, port: int) -> None:
    daemon = Daemon(
        home, "gateway", "--listen", f"127.0.0.1:{port}", "--log-format", "json",
        "--log-level", "debug",
    )  # fmt: skip
    code, log = daemon.end()
    assert code == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"at", "level", "logger", "message"} <= lines[0].keys()


def test_errors_before_the_start_are_sentences(home: Path, port: int) -> None:
    listen = ("--listen", f"127.0.0.1:{port}")
    (home / "config.toml").write_text("[gateway]\nnmae = 'x'\n")
    code, text = failed_start("gateway", *listen)
    assert code == Exit.FAILED and "line 2" in text and "'name'" in text
    (home / "config.toml").unlink()

    code, text = failed_start("gateway", "--listen", "nowhere")
    assert code == Exit.FAILED and "no address to listen on" in text

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = failed_start("gateway", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == Exit.FAILED and "--listen" in text
    assert not (home / "gateway.sock").exists()

    (home / "gateway.db").write_bytes(b"not a database, whatever it is" * 30)
    code, text = failed_start("gateway", *listen)
    assert code == Exit.FAILED and "damaged or no database" in text


def test_up_and_down(home: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["up", "--no-console", f"--listen=127.0.0.1:{port}"]
    assert main(arguments) == Exit.OK
    first = capsys.readouterr()
    assert "vpnshare down" in first.out
    assert main(arguments) == Exit.OK, "a second time finds the first"
    assert "runs already" in capsys.readouterr().err
    assert main(["status", "--json"]) == Exit.OK
    status = json.loads(capsys.readouterr().out)
    assert status["sharing"] in ("on", "unavailable")
    assert main(["down", "--json"]) == Exit.OK
    stopped = json.loads(capsys.readouterr().out)
    assert stopped == {"stopped": [{"role": "gateway", "pid": status["pid"]}], "late": []}
    assert main(["down"]) == Exit.NOT_RUNNING
    assert "stopped" in (home / "gateway.log").read_text()


def test_up_says_why_the_service_did_not_start(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--no-console", "--listen=nowhere"]) == Exit.FAILED
    shown = capsys.readouterr().err
    assert "no address to listen on" in shown and "gateway.log" not in shown
    (home / "gateway.db").write_bytes(b"not a database, whatever it is" * 30)
    assert main(["up", "--no-console", "--listen=127.0.0.1:1"]) == Exit.FAILED
    assert "damaged or no database" in capsys.readouterr().err


def test_the_client_starts_idle_and_ends(home: Path) -> None:
    daemon = Daemon(home, "client", "--label", "tablet")
    with OneShot(str(home / "client.sock"), "client") as control:
        status = control.call("status")
        assert (status.state, status.label) == ("idle", "tablet")
        assert control.call("gateways") == []
        assert control.call("flows").total == 0
        assert (control.call("endpoints"), control.call("history")) == ([], [])
        assert (status.kill_switch.state, status.kill_switch.rules) == ("off", [])
    assert main(["connect", "VSHP:NOTAURI", "--wait", "5"]) == Exit.USAGE
    assert main(["connect", "nobody", "--wait", "5"]) == Exit.NOT_FOUND
    assert main(["forget", "nobody"]) == Exit.NOT_FOUND
    assert main(["disconnect"]) == Exit.OK
    assert daemon.end()[0] == 0
    assert not (home / "client.sock").exists()


ODD_SERVICE = """
import asyncio, sys
from services.daemon import serve
from tests.fakes.services import PretendGateway

class Odd:
    ready = "odd service ready"
    def registry(self):
        return PretendGateway().registry()
    async def start(self, changed):
        if "break" in sys.argv:
            raise RuntimeError("no such luck")
    async def stop(self, on_purpose):
        if "hang" in sys.argv:
            await asyncio.sleep(3600)

sys.exit(serve("gateway", lambda *_: Odd(), None, None))
"""


def test_a_second_signal_does_not_wait(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ODD_SERVICE, "hang"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None and "ready" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert "stopping" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    log = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 128 + signal.SIGINT and "leaving at once" in log
    assert not (home / "gateway.sock").exists()


def test_unexpected_failures_leave_details_in_a_file(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ODD_SERVICE, "break"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == Exit.FAILED and "Traceback" not in done.stderr
    assert str(home / "gateway.crash.log") in done.stderr
    details = (home / "gateway.crash.log").read_text()
    assert "Traceback" in details and "no such luck" in details


async def test_an_idle_gateway_has_no_timer(home: Path) -> None:
    """Nothing is shared, nobody is connected: the process sleeps until something happens."""
    store = GatewayDatabase(home / "gateway.db")
    config = Config({("gateway", "listen"): [f"127.0.0.1:{free_port()}"]})
    settings = Settings("gateway", home / "config.toml", config)
    service = GatewayService(
        find_paths(), settings, store, Notifier(None), WakeLock(False), Ring(), lambda: None
    )
    await service.start(lambda: None)
    await asyncio.sleep(0)
    loop: Any = asyncio.get_running_loop()
    due = [handle for handle in loop._scheduled if not handle.cancelled()]
    await service.stop()
    assert due == []


PRIVATE = """
import ctypes, os
from services.daemon import keep_memory_private

def look(pid):
    child = os.fork()
    if child == 0:
        os.setuid(12345)
        try:
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

said, say = os.pipe()
heard, tell = os.pipe()
service = os.fork()
if service == 0:
    os.setuid(12345)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as a program is that its user has started
    os.write(say, b"!")
    os.read(heard, 1)
    keep_memory_private()
    os.write(say, b"!")
    os.read(heard, 1)
    os._exit(0)
os.read(said, 1)
before = look(service)
os.write(tell, b"!")
os.read(said, 1)
print(before, look(service))
os.write(tell, b"!")
os.waitpid(service, 0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user twice")
def test_a_users_other_programs_do_not_read_a_services_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRIVATE], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT
    )
    before, after = done.stdout.split()
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if not scope.exists() or scope.read_text().strip() == "0":
        assert before == "True", done.stderr
    assert after == "False"


def test_a_service_leaves_no_core(gateway: Daemon) -> None:
    limits = Path(f"/proc/{gateway.process.pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M)
