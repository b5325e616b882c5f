"""What goes wrong is told by its cause and what to do: no tool's words, and no "see its log"."""

from __future__ import annotations

import ast
import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli import discovering
from client.outlet.nic.nic import _explain
from client.system.run import CommandError, SystemRunner
from control.errors import ControlError
from control.exits import Exit
from control.output import last_words
from services.trust import rooms

ROOT = Path(__file__).resolve().parents[2]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
TOOLS_WORDS = re.compile(r"RTNETLINK|Operation not permitted|Cannot find|Error:|vshp%d|\[Errno")


@root_only
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
@pytest.mark.parametrize(
    ("command", "name", "cause"),
    [
        (["ip", "link", "set", "dev", "nosuch0", "up"], "tool_failed", "is not there"),
        (["ip", "address", "show", "dev", "nosuch0"], "tool_failed", "is not there"),
        (["ip", "address", "add", "127.0.0.1/8", "dev", "lo"], "tool_failed", "has set the like"),
        (["ip", "route", "add", "10.9.9.0/24", "via", "10.1.2.3"], "tool_failed", "has no way to"),
        (["setpriv", "--bounding-set=-all", "ip", "link", "set", "lo", "down"],
         "not_permitted", "may not change the system's network settings"),
        (["ip", "rule", "add", "pref", "banana"], "tool_failed", "The system refused: ip "),
    ],
)  # fmt: skip
def test_what_ip_refuses(command: list[str], name: str, cause: str) -> None:
    """By the real `ip`, in a namespace of its own."""
    prepare = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    done = subprocess.run([*prepare, *command], capture_output=True, text=True, check=False)
    assert done.returncode, "it is refused"

    class Elsewhere(SystemRunner):
        def which(self, program: str) -> str | None:
            return str(shutil.which("unshare"))

    with pytest.raises(CommandError) as caught:
        # The program's path is unshare's: what follows is its arguments.
        Elsewhere().run([command[0], *prepare[1:], *command])
    assert caught.value.name == name and cause in caught.value.message
    assert not TOOLS_WORDS.search(f"{caught.value.message} {caught.value.hint}")
    assert caught.value.hint and caught.value.stderr


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EBUSY, errno.EINVAL,
                                    errno.ENOENT, errno.EMFILE, errno.EIO])  # fmt: skip
@pytest.mark.parametrize("name", ["vshp%d", "vpn7"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_a_device_that_cannot_be_made(
    number: int, name: str, uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    told = _explain(OSError(number, os.strerror(number)), name)
    assert not TOOLS_WORDS.search(f"{told.message} {told.hint}")
    assert told.message.endswith(".") and told.hint
    if number == errno.EPERM:
        assert ("container" in told.hint) is (uid == 0)


@root_only
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
def test_a_client_that_is_not_permitted_its_device_says_so(tmp_path: Path) -> None:
    """As root in a container without the right."""
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_admin", sys.executable, "-c",
         "from client.outlet.nic.nic import TunDevice\n"
         "from client.model import ClientError\n"
         "try: TunDevice('vshp%d')\n"
         "except ClientError as error: print(error.message, error.hint)"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not Path("/dev/net/tun").exists():
        pytest.skip("needs /dev/net/tun")
    assert "Root may not create a virtual network interface here" in done.stdout, done.stderr
    assert "--cap-add NET_ADMIN" in done.stdout and not TOOLS_WORDS.search(done.stdout)


def test_without_iproute2_it_is_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ControlError) as caught:
        discovering.own_addresses()
    assert "ip is not installed" in caught.value.message and "iproute2" in str(caught.value.hint)
    monkeypatch.setattr("client.system.run.find_program", lambda program, path: None)
    with pytest.raises(CommandError, match="ip is not installed") as missing:
        SystemRunner().run(["ip", "link"])
    assert "iproute2" in missing.value.hint


@root_only
def test_up_on_a_full_disk_says_so(tmp_path: Path) -> None:
    """A real one: a tmpfs without a free file."""
    script = (
        f"mount -t tmpfs -o size=64k,nr_inodes=2,mode=700 none {tmp_path} && mkdir {tmp_path}/a; "
        f"VPNSHARE_HOME={tmp_path}/b/c exec {sys.executable} -m cli.main up --no-console"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == Exit.FAILED
    assert str(tmp_path) in done.stderr and "can hold no more files" in done.stderr
    assert "df -i" in done.stderr and "log" not in done.stderr


def test_a_services_last_words_are_its_sentence_and_hint() -> None:
    lines = ["noise", "vpnshare: first", "vpnshare: The port is taken.", "  Take another.", "end"]
    assert last_words(lines) == ("The port is taken.", "Take another.")
    assert last_words(lines[:2]) == ("first", None)
    assert last_words(["noise"]) is None


def test_no_sentence_sends_people_to_a_log() -> None:
    sends = re.compile(r"(?i)\b(see|look at|look into|read) (its|the) log\b|\bits log is\b")
    for room in rooms(ROOT):
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert not sends.search(node.value), f"{path.relative_to(ROOT)}:{node.lineno}"
