"""Who owns a clone does not become root by a unit of ours; a copy of root's own is the way out."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from control.exits import Exit
from services import copying, trust
from services.units import Manager, Unit

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and another user")
ROOT = Path(__file__).resolve().parents[2]
SOMEBODY = 12345


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The program in a folder of an ordinary user's."""
    folder = tmp_path / "clone"
    for name in (*trust.rooms(), "scripts", "requirements"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml", "vpnshare"):
        shutil.copy(ROOT / name, folder / name)
    give(folder)
    return folder


def give(folder: Path) -> None:
    """To an ordinary user, with all that is in it."""
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, SOMEBODY, SOMEBODY)


def install(clone: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`sudo vpnshare service install`, run from that clone; nothing is carried out."""
    command = [sys.executable, "-I", str(clone / "services" / "start.py"), "cli.main"]
    clean = {name: value for name, value in os.environ.items() if name != "VPNSHARE_HOME"}
    return subprocess.run(
        [*command, "service", "install", "--dry-run", *words],
        env=clean | {"VPNSHARE_CALLED": f"{clone}/vpnshare"} | env,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("role", ["gateway", "client"])
def test_a_unit_of_the_machine_runs_nothing_of_an_ordinary_users(clone: Path, role: str) -> None:
    done = install(clone, "--role", role)
    assert done.returncode == Exit.FAILED, done.stdout
    assert f"user {SOMEBODY}, who would be root then" in done.stderr
    assert f"{clone}/vpnshare service install --role {role} --copy" in done.stderr
    assert "ExecStart" not in done.stdout


@pytest.mark.parametrize(
    "spoil",
    [
        lambda clone: os.lchown(clone / "cli" / "main.py", SOMEBODY, 0),
        lambda clone: (clone / "vshp" / "uri.py").chmod(0o666),
        lambda clone: (clone / "tui").chmod(0o777),
        lambda clone: os.chown(clone, SOMEBODY, 0),
        lambda clone: os.chown(clone.parent, SOMEBODY, 0),
        lambda clone: exchange(clone / "gateway", clone.parent / "gateway"),
    ],
    ids=["a file", "its mode", "a folder's mode", "the clone", "a folder above", "a link's end"],
)
def test_one_thing_that_somebody_can_write_is_enough(
    clone: Path, spoil: Callable[[Path], None]
) -> None:
    for path in (clone, *clone.rglob("*")):
        os.lchown(path, 0, 0)
    shown = install(clone, "--role", "client")
    assert shown.returncode == Exit.OK, shown.stderr
    spoil(clone)
    done = install(clone, "--role", "client")
    assert done.returncode == Exit.FAILED and "could be changed by" in done.stderr
    os.chown(clone.parent, 0, 0)


def exchange(link: Path, real: Path) -> None:
    """Have a folder of the clone lead to one of somebody's."""
    link.rename(real)
    link.symlink_to(real)
    give(real)


def test_a_state_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, SOMEBODY, SOMEBODY)
    done = install(ROOT, "--role", "client", VPNSHARE_HOME=str(home))
    if str(ROOT) not in done.stderr:  # a checkout that is not root's is refused before that
        assert done.returncode == Exit.FAILED and "VPNSHARE_HOME" in done.stderr


def test_the_copy_is_roots_and_takes_no_links(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("precious")
    (clone / "client" / "stolen.py").symlink_to(secret)
    target = tmp_path / "opt" / "vpnshare"
    ran: list[Path] = []
    monkeypatch.setattr(copying, "set_up", ran.append)
    with pytest.raises(OSError):
        copying.make_copy(target, clone)
    (clone / "client" / "stolen.py").unlink()
    for _ in range(2):  # and once more, to bring it up to date
        copying.make_copy(target, clone)
    assert ran == [target, target]
    assert trust.changeable([target]) is None
    assert (target / "vpnshare").stat().st_mode & 0o777 == 0o755
    for file in (ROOT / "services").rglob("*.py"):
        assert (target / file.relative_to(ROOT)).read_bytes() == file.read_bytes()
    assert not [name for name in os.listdir(target) if name.startswith(".new")]
    unit = Unit("client", Manager.SYSTEM, copying.own_command_of(target))
    (line,) = [each for each in unit.text().splitlines() if each.startswith("ExecStart=")]
    for word in shlex.split(line.partition("=")[2]):
        if word.startswith("/"):
            assert Path(word).is_relative_to(target)


def test_the_way_to_the_python_is_looked_at(tmp_path: Path) -> None:
    """As an environment's python, which is a link."""
    real = tmp_path / "python3"
    real.write_text("")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").symlink_to("python3")
    (folder / "python3").symlink_to(real)
    assert trust.changeable([folder / "python"]) is None
    os.chown(real, SOMEBODY, 0)
    assert trust.changeable([folder / "python"]) == (real, f"user {SOMEBODY}")
    assert trust.changeable([folder / "python"], owner=SOMEBODY) is None
