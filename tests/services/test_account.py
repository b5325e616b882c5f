"""The gateway of the whole machine, as a user of its own: whose files, and who may command it."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from control.exits import Exit
from control.paths import WHOLE, WHOLE_USER, Paths
from services import account, trust
from services.start import own_command
from storage import own

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NOBODY = pwd.getpwnam("nobody")

# A machine with the unit's user and folders, as systemd makes them, and somebody in its group.
SCRIPT = r"""
set -eu
ip link set lo up
mount -t tmpfs x /run; mount -t tmpfs x /var/lib
cat /etc/passwd - >/run/passwd <<END
vpnshare:x:64301:64301::/:/bin/false
vsann:x:64302:64302::/run/vsann:/bin/sh
vsbob:x:64303:64303::/run/vsbob:/bin/sh
END
printf 'vpnshare:x:64301:vsann\n' | cat /etc/group - >/run/group
mount --bind /run/passwd /etc/passwd; mount --bind /run/group /etc/group
install -d -o 64301 -g 64301 -m 700 /var/lib/vpnshare-gateway
install -d -o 64301 -g 64301 -m 750 /run/vpnshare-gateway
install -d -o 64302 /run/vsann; install -d -o 64303 /run/vsbob
as() { user=$1; shift; setpriv --reuid="$user" --regid=nogroup --init-groups \
    env HOME="/run/$user" "$@"; }
say() { echo "== $1"; shift; "$@" 2>&1 && echo "-- 0" || echo "-- $?"; }
setpriv --reuid=64301 --regid=64301 --clear-groups env HOME=/ \
    STATE_DIRECTORY=/var/lib/vpnshare-gateway RUNTIME_DIRECTORY=/run/vpnshare-gateway \
    "$@" gateway --listen=127.0.0.1:47812 >/run/log 2>&1 &
for _ in $(seq 600); do [ ! -S /run/vpnshare-gateway/gateway.sock ] || break; sleep 0.1; done
say bob as vsbob "$@" status
say ann as vsann "$@" set gateway.name Attic
say theme as vsann "$@" set console.bell off
say root "$@" status
say ls ls -l /run/vpnshare-gateway/gateway.sock /var/lib/vpnshare-gateway/config.toml
say bell cat /run/vsann/.config/vpnshare/config.toml
say down "$@" down
"""


@as_root
@pytest.mark.skipif(
    not shutil.which("unshare") or not shutil.which("setpriv"), reason="needs unshare and setpriv"
)
@pytest.mark.skipif(
    trust.hidden([], trust.program()) is not None, reason="the program lies where only root comes"
)
def test_root_and_its_group_command_it_and_nobody_else() -> None:
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", SCRIPT, "sh", *own_command()],
        env={"PATH": os.environ["PATH"], "HOME": "/root"}, cwd="/", capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    assert "It runs for the whole machine: sudo vpnshare status" in said["bob"]
    assert "sudo usermod -aG vpnshare $(id -un)" in said["bob"]
    assert said["bob"].endswith(f"-- {Exit.NOT_RUNNING}\n")
    assert "gateway.name is Attic now." in said["ann"]
    assert "console.bell is off now." in said["theme"]
    assert "bell = false" in said["bell"], "a console is its person's"
    assert "Gateway Attic" in said["root"]
    socket, config = said["ls"].splitlines()[:2]
    assert socket.startswith("srw-rw----") and " vpnshare vpnshare " in socket
    assert config.startswith("-rw-------") and " vpnshare vpnshare " in config
    assert "has stopped" in said["down"]


@as_root
def test_what_roots_gateway_kept_is_taken_over_once(tmp_path: Path) -> None:
    source = Paths(tmp_path / "etc", tmp_path / "lib", tmp_path / "run")
    target = Paths(tmp_path / "new-lib", tmp_path / "new-lib", tmp_path / "new-run")
    for folder in (source.config_dir, source.state_dir, source.run_dir):
        folder.mkdir()
    assert account.kept_by_root(source, target) == {}
    for path in (
        source.store("gateway"), source.store("client"), *source.slates("gateway"), source.config,
        source.lock("gateway"),
    ):  # fmt: skip
        path.write_text(str(path))
        path.chmod(0o600)
    files = account.kept_by_root(source, target)
    account.take_over(files, NOBODY.pw_uid, NOBODY.pw_gid, target)
    kept = {
        target.store("gateway"): source.store("gateway"),
        target.config: source.config,
        **dict(zip(target.slates("gateway"), source.slates("gateway"), strict=True)),
    }
    for place, old in kept.items():
        status = place.stat()
        assert place.read_text() == str(old)
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY.pw_uid, 0o600)
    for folder in (target.state_dir, target.run_dir):
        assert {path.name for path in folder.iterdir()} == {
            path.name for path in kept if path.parent == folder
        }
        assert folder.stat().st_uid == NOBODY.pw_uid
    left = {path.name for folder in tmp_path.iterdir() for path in folder.iterdir()
            if not folder.name.startswith("new-")}  # fmt: skip
    assert left == {"config.toml", "client.db", "gateway.lock"}
    source.store("gateway").write_text("of a later gateway of root's")
    assert account.kept_by_root(source, target) == {}, "the user has its own"


@as_root
def test_what_cannot_be_taken_over_is_left_as_it_was(tmp_path: Path) -> None:
    source = Paths(tmp_path / "lib", tmp_path / "lib", tmp_path / "lib")
    target = Paths(tmp_path / "new", tmp_path / "new", tmp_path / "new-run")
    source.state_dir.mkdir()
    source.store("gateway").write_text("keys")
    (tmp_path / "elsewhere").write_text("somebody's")
    os.chown(tmp_path / "elsewhere", NOBODY.pw_uid, -1)
    source.log("gateway").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        files = account.kept_by_root(source, target)
        account.take_over(files, NOBODY.pw_uid, NOBODY.pw_gid, target)
    assert source.store("gateway").read_text() == "keys"
    assert {path.name for path in tmp_path.iterdir()} == {"lib", "elsewhere"}


@as_root
def test_root_looks_into_its_folders_with_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "WHOLE_USER", "nobody")
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    groups = os.getgroups()
    with account.acting():
        assert (os.geteuid(), os.getegid()) == (NOBODY.pw_uid, NOBODY.pw_gid)
        assert os.getgroups() == [NOBODY.pw_gid]
        with pytest.raises(PermissionError):
            secret.read_text()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)
    monkeypatch.setattr(account, "WHOLE_USER", "nobody-of-that-name")
    with pytest.raises(own.NotOurs, match="is not there any more"), account.acting():
        pass


def test_a_persons_account_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "WHOLE_USER", NOBODY.pw_name)
    assert "is somebody's account" in str(account.person())
    monkeypatch.setattr(account, "WHOLE_USER", "daemon")
    assert account.person() is None
    monkeypatch.setattr(account, "WHOLE_USER", "nobody-of-that-name")
    assert account.person() is None and not account.exists()


def test_what_another_user_cannot_read_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The folder of all tests is its user's alone.
    way = trust._way
    monkeypatch.setattr(
        trust, "_way", lambda path: (each for each in way(path) if tmp_path in each.parents)
    )
    room = tmp_path / "room"
    (room / "__pycache__").mkdir(parents=True, mode=0o700)
    for name in ("main.py", "__pycache__/main.pyc"):
        (room / name).write_text("")
    for path in (room, room / "__pycache__"):
        path.chmod(0o755)
    (room / "main.py").chmod(0o644)
    (room / "__pycache__/main.pyc").chmod(0o600)
    assert trust.hidden([room], []) is None, "what is compiled is not needed"
    (room / "main.py").chmod(0o640)
    assert trust.hidden([room], []) == room / "main.py"
    assert trust.hidden([], [room]) is None, "only passed through"
    room.chmod(0o711)
    assert trust.hidden([room], []) == room
    room.chmod(0o700)
    assert trust.hidden([], [room / "main.py"]) == room


def test_the_units_folders_are_found_by_the_service_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setenv("HOME", str(tmp_path))
    mine, whole = account.places("gateway")
    assert mine.state_dir.is_relative_to(tmp_path) and whole == WHOLE
    assert account.places("client") == [mine]
    monkeypatch.setenv("STATE_DIRECTORY", str(WHOLE.state_dir))
    assert account.places("gateway") == [WHOLE]
    monkeypatch.setenv("VPNSHARE_HOME", str(tmp_path))
    assert [place.state_dir for place in account.places("gateway")] == [tmp_path]
    assert f"u {WHOLE_USER} " in account.SYSUSERS_TEXT
