"""Files of ours are opened in folders of ours, and never by way of somebody's link."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from control.exits import Exit
from services.database import StoreError
from services.gateway_store import GatewayDatabase
from services.logs import keep_trace
from services.trust import rooms
from storage import own

ROOT = Path(__file__).resolve().parents[2]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and another user")
SOMEBODY = 12345


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that matters, which somebody would have us write to."""
    file = tmp_path / "shadow"
    file.write_text("precious")
    file.chmod(0o640)
    return file


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of another user's, who lets us in."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    os.chown(folder, SOMEBODY, SOMEBODY)
    return folder


WRITES: list[tuple[str, Callable[[Path], object]]] = [
    ("file", lambda path: os.close(own.open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))),
    ("trace", lambda path: keep_trace(path, "it", ValueError("x"))),
    ("store", lambda path: GatewayDatabase(path).close()),
]


@pytest.mark.parametrize(("name", "write"), WRITES, ids=[name for name, _ in WRITES])
def test_a_link_in_the_place_of_a_file_is_not_followed(
    tmp_path: Path, victim: Path, name: str, write: Callable[[Path], object]
) -> None:
    link = tmp_path / name
    link.symlink_to(victim)
    if name == "trace":
        assert not keep_trace(link, "it", ValueError("x"))
    else:
        with pytest.raises((own.NotOurs, StoreError)):
            write(link)
    assert victim.read_text() == "precious"


@root_only
@pytest.mark.parametrize("role", ["gateway", "client"])
def test_a_service_does_not_use_somebody_elses_folder(
    theirs: Path, victim: Path, role: str
) -> None:
    """As root, with a link that its owner has put in the place of each file of ours."""
    for name in ("lock", "db", "crash.log", "log"):
        (theirs / f"{role}.{name}").symlink_to(victim)
    (theirs / "config.toml").symlink_to(victim)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", role], cwd=ROOT, timeout=60,
        env=os.environ | {"VPNSHARE_HOME": str(theirs)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == Exit.FAILED
    assert "belongs to" in done.stderr and "VPNSHARE_HOME" in done.stderr
    assert "precious" not in done.stderr and "Traceback" not in done.stderr
    assert victim.read_text() == "precious"


@root_only
def test_up_does_not_either(theirs: Path, victim: Path) -> None:
    for name in ("gateway.log", "gateway.lock"):
        (theirs / name).symlink_to(victim)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "up", "--no-console"], cwd=ROOT, timeout=60,
        env=os.environ | {"VPNSHARE_HOME": str(theirs)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == Exit.FAILED and "belongs to" in done.stderr
    assert victim.read_text() == "precious"


@root_only
def test_who_owns_a_folder_above_leads_root_nowhere(theirs: Path) -> None:
    inside = theirs / "home"
    inside.mkdir(mode=0o700)
    with pytest.raises(own.NotOurs, match="belongs to"), own.folder(inside):
        pass
    outside = theirs.parent / "home"
    outside.symlink_to(inside)
    with pytest.raises(own.NotOurs), own.folder(outside):
        pass
    with pytest.raises(own.NotOurs, match="belongs to"), own.folder(theirs / "new", make=True):
        pass


def test_folders_that_others_may_write_in(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(own.NotOurs, match="others may write") as caught, own.folder(tmp_path):
        pass
    assert caught.value.hint == f"chmod go-w {tmp_path}"
    inside = tmp_path / "inside"
    inside.mkdir(mode=0o700)
    if not os.geteuid():
        with pytest.raises(own.NotOurs, match="everybody may write in"), own.folder(inside):
            pass
    tmp_path.chmod(0o1777)  # as /tmp is
    with own.folder(inside):
        pass


def test_what_is_ours_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    own.replace(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    own.replace(path, b"two")
    assert own.read(path, 100) == b"two" and stat.S_IMODE(path.stat().st_mode) == 0o644
    assert own.read(path, 2) == b"tw"
    descriptor = own.open_own(path, os.O_WRONLY | os.O_TRUNC)
    os.close(descriptor)
    assert path.read_bytes() == b"" and os.listdir(path.parent) == ["file"]
    with pytest.raises(FileNotFoundError) as caught:
        own.read(tmp_path / "none", 1)
    assert caught.value.filename == str(tmp_path / "none")
    (tmp_path / "pipe").touch()
    (tmp_path / "pipe").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(own.NotOurs, match="no ordinary file"):
        own.read(tmp_path / "pipe", 1)


def test_a_link_that_its_owner_made_leads_to_the_configuration(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles" / "config.toml", tmp_path / "config.toml"
    own.replace(real, b"x = 1")
    link.symlink_to(real)
    assert own.target(link) == real and own.target(real) == real
    assert own.read(own.target(link), 10) == b"x = 1"


OPENS = {"open", "write_text", "write_bytes", "read_text", "read_bytes", "touch", "mkstemp"}
READS_OF_THE_SYSTEM = {
    "client/outlet/nic/nic.py": "/dev/net/tun",
    "client/outlet/namespace/enter.py": "/etc/nsswitch.conf, and its copy in memory",
    "client/outlet/namespace/maker.py": "/proc",
    "client/outlet/namespace/network.py": "/proc/sys",
    "storage/sockets.py": "a folder, to name what is in it",
    "client/system/facts.py": "/etc/resolv.conf",
    "client/system/fence.py": "/proc/sys",
    "client/system/interfaces.py": "/sys",
    "client/system/inbound.py": "/proc/net",
    "client/system/owners.py": "/proc",
    "client/system/routes.py": "/proc/sys",
    "client/system/resolver.py": "/etc/resolv.conf and its copy",
    "gateway/dns/upstreams.py": "/etc/resolv.conf",
    "reach/sysfs.py": "/sys and /proc",
    "cli/asking.py": "/proc/self",
    "cli/joining.py": "/proc",
    "cli/main.py": "/dev/null",
    "cli/private.py": "a file of the program",
    "cli/restarting.py": "/proc",
    "cli/rights.py": "/dev/tty",
    "cli/rules.py": "the file of destinations that is asked for",
    "control/elsewhere.py": "/proc/net/unix",
    "services/copying.py": "a copy of the program",
    "services/doctor/system.py": "/proc and /sys",
    "control/encoding.py": "/dev/null",
    "services/ending.py": "/proc/self/cgroup",
    "services/holders.py": "/proc",
    "control/pictures.py": "a new file, where its user asked for it",
    "services/demo.py": "a temporary folder of its own, and /etc/netns",
    "services/units.py": "the service manager's files",
    "services/bundle.py": "the program and its packages, and the file that is asked for",
    "cli/bundling.py": "the file that is asked for",
    "cli/completing.py": "a file of the program",
    "cli/metrics.py": "the token's file that is asked for",
    "services/version.py": "the version that lies there",
    "storage/own.py": "the one way",
    "tui/themes.py": "themes, which are only read",
}
"""Modules that open files which are not an instance's, and which."""


PROGRAM = rooms(ROOT)


def test_there_is_one_way_to_the_files_of_an_instance() -> None:
    """Whoever opens a file by another way is in the list above, with what it is."""
    found: set[str] = set()
    for room in PROGRAM:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _opens(node.func):
                    found.add(str(path.relative_to(ROOT)))
    assert found - set(READS_OF_THE_SYSTEM) == set(), "use storage.own"
    assert set(READS_OF_THE_SYSTEM) - found == set(), "these open nothing: take them off the list"


def _opens(function: ast.expr) -> bool:
    """Whether a call is of `open`, `os.open`, `Path.write_text` and the like."""
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr == "open":
        # Not the guard's, a store's, a console's own `open`.
        return isinstance(function.value, ast.Name) and function.value.id in ("os", "io", "path")
    return function.attr in OPENS
