"""Two users of one machine: each is told of the other's services, and of who has a port."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from control import elsewhere
from control.exits import Exit
from services.holders import holder
from services.start import own_command

SCRIPT = r"""
set -eu
ip link set lo up
mount -t tmpfs x /run; mount -t tmpfs x /var/lib
mkdir -m 700 /run/nobody; chown nobody /run/nobody
user() { setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/run/nobody \
    XDG_RUNTIME_DIR=/run/nobody "$@"; }
say() { echo "== $1"; shift; "$@" 2>&1 && echo "-- 0" || echo "-- $?"; }
runs() { for _ in $(seq 100); do ! "$@" status >/dev/null 2>&1 || return 0; sleep 0.1; done; }
"$@" gateway --listen=127.0.0.1:47811 >/run/log 2>&1 &
runs "$@"
say "root's" user "$@" status
say "json" user "$@" requests --json
say "port" user "$@" up --no-console --listen=127.0.0.1:47811
say "down" "$@" down
user "$@" gateway --listen=127.0.0.1:47811 >/run/nobody/log 2>&1 &
runs user "$@"
say "nobody's" "$@" logs
say "root's port" "$@" gateway --listen=127.0.0.1:47811
say "end" user "$@" down
say "none" "$@" status
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"),
    reason="needs root, unshare and setpriv",
)
def test_two_users_see_each_others_services() -> None:
    env = {"PATH": os.environ["PATH"], "HOME": "/root"}
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", SCRIPT, "sh", *own_command()],
        env=env, cwd="/", capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    assert "No service of yours runs here." in said["root's"]
    assert "It runs as root: sudo vpnshare status" in said["root's"]
    assert said["root's"].endswith(f"-- {Exit.NOT_RUNNING}\n")
    error = json.loads(said["json"][said["json"].index("{") : said["json"].rindex("}") + 1])
    assert error["error"]["exit"] == Exit.NOT_RUNNING
    assert error["error"]["hint"] == "It runs as root: sudo vpnshare requests"
    assert "A gateway service runs here already, root's." in said["port"]
    assert "The port is in use by a program of root's." in said["port"]
    assert "It runs as nobody, who can say: vpnshare logs" in said["nobody's"]
    assert "The port is in use by nobody's VPN Share (pid " in said["root's port"]
    assert "use another's: vpnshare join" in said["none"], "nobody's is told once it is gone"


def test_an_instance_of_its_own_looks_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "unix"
    head = "Num RefCount Protocol Flags Type St Inode Path\n"
    line = "0: 00000002 00000000 {} 0001 01 1 {}/vpnshare/gateway.sock\n"
    # Whose a socket is that cannot be looked at is told by the folder it is in.
    table.write_text(head + line.format("00010000", "/proc/1"))
    monkeypatch.delenv("VPNSHARE_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(elsewhere, "_uid", lambda path: 0)
    assert elsewhere.owner("gateway", table) == "root"
    assert elsewhere.owner("client", table) is None
    monkeypatch.setattr(elsewhere, "_uid", lambda path: 4711)
    assert elsewhere.owner("gateway", table) is None, "our own"
    monkeypatch.setattr(elsewhere, "_uid", lambda path: 0)
    monkeypatch.setenv("VPNSHARE_HOME", "/srv/x")
    assert elsewhere.owner("gateway", table) is None
    monkeypatch.delenv("VPNSHARE_HOME")
    table.write_text(head + line.format("00000000", ""))
    assert elsewhere.owner("gateway", table) is None, "it does not listen"
    assert elsewhere.owner("gateway", tmp_path / "none") is None


def test_who_holds_a_port() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert holder("tcp", port) is None, "nobody listens on it"
        sock.listen()
        assert (
            holder("tcp", port)
            == f"{Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})"
        )
        assert holder("udp", port) is None
    assert holder("usb", port) is None
    assert holder("tcp", port, Path("/nowhere")) is None
