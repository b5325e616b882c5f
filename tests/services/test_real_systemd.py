"""The units under a real systemd: on a machine of namespaces, so nothing here is touched.

It weighs as much as a boot, and asks much of the kernel that it runs on, so it has to be asked for:

    VPNSHARE_TEST_SYSTEMD=1 python -m pytest -s tests/services/test_real_systemd.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import trust

pytestmark = pytest.mark.skipif(
    not os.environ.get("VPNSHARE_TEST_SYSTEMD") or os.geteuid() != 0,
    reason="asked for by VPNSHARE_TEST_SYSTEMD=1, as root",
)

HOST = Path(__file__).parents[1] / "fakes" / "systemd_host.sh"
PROGRAM = ("/opt/vpnshare/.venv/bin/python", "-I", "/opt/vpnshare/services/start.py")
BEFORE = """
mkdir "$ROOT/opt/vpnshare"
for room in {rooms}; do cp -r "{source}/$room" "$ROOT/opt/vpnshare/"; done
cp "{source}/pyproject.toml" "$ROOT/opt/vpnshare/"
cp -a "{prefix}" "$ROOT/opt/vpnshare/.venv"
chown -R root:root "$ROOT/opt/vpnshare"
chmod -R go-w,go+rX "$ROOT/opt/vpnshare"
chroot "$ROOT" useradd --create-home ann
# As a unit of an older release: root in name, in the folders that the client has, too.
cat >"$ROOT/etc/systemd/system/vpnshare-gateway.service" <<END
[Service]
Type=notify
ExecStart={program} cli.main gateway
RuntimeDirectory=vpnshare
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
StateDirectory=vpnshare
StateDirectoryMode=0700
[Install]
WantedBy=multi-user.target
END
"""


class Host:
    """A booted machine."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, *words: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        home = "/root" if user == "root" else f"/home/{user}"
        become = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}",
                                            "--init-groups"]  # fmt: skip
        return subprocess.run(
            ["nsenter", "--all", f"--target={self._pid}", "--wd=/", "env", "-i",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"HOME={home}", *become, *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def vpnshare(self, *words: str, user: str = "root") -> str:
        """The command's output; its error, too, where it fails."""
        done = self.run(*PROGRAM, "cli.main", *words, user=user)
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def of_gateway(self, name: str) -> str:
        return self.run("systemctl", "show", f"-P{name}", "vpnshare-gateway").stdout.strip()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder, script = tmp_path_factory.mktemp("host"), tmp_path_factory.mktemp("before") / "sh"
    script.write_text(BEFORE.format(
        rooms=" ".join(trust.rooms()), source=trust.SOURCE, prefix=sys.prefix,
        program=" ".join(PROGRAM),
    ))  # fmt: skip
    with subprocess.Popen([HOST, folder, script], stdin=subprocess.PIPE) as machine:
        try:
            deadline = time.monotonic() + 60
            while not (folder / "pid").exists() or not (folder / "pid").read_text().strip():
                assert machine.poll() is None and time.monotonic() < deadline, "it does not begin"
                time.sleep(0.05)
            found = Host(int((folder / "pid").read_text()))
            while (
                state := found.run("systemctl", "is-system-running").stdout.strip()
            ) != "running":
                assert time.monotonic() < deadline, state
                time.sleep(0.1)
            yield found
        finally:
            assert machine.stdin is not None
            machine.stdin.close()
            machine.wait(30)


def test_the_whole_machines_gateway(host: Host) -> None:
    """Over an installation as root: taken over, used by root, a group and nobody else, kept."""
    assert host.run("systemctl", "enable", "--now", "vpnshare-gateway").returncode == 0
    assert "is Attic now" in host.vpnshare("set", "gateway.name", "Attic")
    assert "[Interface]" in host.vpnshare("wireguard", "add", "tv")
    before = json.loads(host.vpnshare("status", "--json"))
    assert "is installed" in host.vpnshare("service", "install", "--role", "client")

    shown = host.vpnshare("service", "install", "--dry-run")
    assert "move /var/lib/vpnshare/gateway.db -> /var/lib/vpnshare-gateway/gateway.db" in shown
    assert host.run("stat", "/var/lib/vpnshare-gateway").returncode, "it only shows"
    assert "is installed" in host.vpnshare("service", "install")
    status = host.run("cat", f"/proc/{host.of_gateway('MainPID')}/status").stdout
    user = host.run("id", "-u", "vpnshare").stdout.strip()
    assert f"Uid:\t{user}\t{user}" in status and "CapEff:\t0000000000000000" in status
    assert int(user) != 0
    now = json.loads(host.vpnshare("status", "--json", "--role", "gateway"))
    assert now["fingerprint"] == before["fingerprint"] and now["name"] == "Attic"
    assert "tv" in host.vpnshare("wireguard")
    assert host.run("sh", "-c", "ls /var/lib/vpnshare/gateway.*").returncode, "left behind"
    assert host.run("systemctl", "is-active", "vpnshare-client").stdout == "active\n"
    assert "Client" in host.vpnshare("status")

    assert "sudo vpnshare status" in host.vpnshare("status", user="ann")
    host.run("usermod", "-aG", "vpnshare", "ann")
    assert "Gateway Attic" in host.vpnshare("status", user="ann")
    assert "is Loft now" in host.vpnshare("set", "gateway.name", "Loft", user="ann")
    assert "console.bell is off now" in host.vpnshare("set", "console.bell", "off", user="ann")
    assert "bell = false" in host.run("cat", "/home/ann/.config/vpnshare/config.toml").stdout

    pid = host.of_gateway("MainPID")
    assert "began anew" in host.vpnshare("restart", "--role", "gateway")
    assert host.of_gateway("MainPID") not in (pid, "0")
    assert "has stopped" in host.vpnshare("down", "--role", "gateway")
    assert host.of_gateway("ActiveState") == "inactive"
    assert "is Cellar now" in host.vpnshare("set", "gateway.name", "Cellar")
    assert "Cellar" in host.vpnshare("get", "gateway.name")
    assert "/var/lib/vpnshare-gateway" in host.vpnshare("doctor", "--role", "gateway")
    assert "Gateway Cellar runs" in host.vpnshare("up", "--no-console")
    assert host.of_gateway("ActiveState") == "active"

    assert "is removed" in host.vpnshare("service", "uninstall")
    assert "is installed" in host.vpnshare("service", "install")
    again = json.loads(host.vpnshare("status", "--json", "--role", "gateway"))
    assert again["fingerprint"] == before["fingerprint"] and again["name"] == "Cellar"
    seen = host.run("systemd-analyze", "security", "--no-pager", "--threshold=20",
                    "vpnshare-gateway")  # fmt: skip
    assert seen.returncode == 0, seen.stdout[-200:]
