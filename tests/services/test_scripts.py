"""The scripts at the root: set-up once, repaired when interrupted, nothing on later starts.

A pretend Python stands in for the real one, so that no network is needed: it
answers the script's questions, and its pip writes what it was asked into a log.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("vpnshare", "check", ".ci/run", "scripts/environment.sh", "scripts/lock")

PYTHON = r"""#!/bin/sh
# -c SCRIPT: a good Python. -m venv DIR: an environment with this Python. -m pip: as told.
# services/start.py cli.main: the command. All but --version isolated.
if [ "$1" = -I ]; then shift; else [ "$1" = --version ] || exit 99; fi
[ "$1" != -B ] || { shift; silent=yes; }
case "$*" in
*"/services/start.py cli.main"*)
    [ -e "${0%/*}/installed" ] || exit 98
    shift 2
    echo "ran $*"
    [ -z "${SHOW_NAME:-}" ] || echo "as $VPNSHARE_CALLED"
    [ -z "${SHOW_SILENT:-}" ] || echo "silent: ${silent:-no}"
    exit 7
    ;;
esac
echo "python $*" >>"$LOG"
case "$*" in
"-c import sys; sys.exit("*) exit "${OLD:-0}" ;;
-c*) exit 0 ;;
"--version") echo "Python 3.11.99" ;;
"-m venv"*)
    for dir; do :; done
    mkdir -p "$dir/bin"
    cp "$0" "$dir/bin/python"
    ;;
"-m pip --version") [ ! -e "$(dirname "$0")/broken" ] ;;
"-m pip install"*)
    echo "Collecting things"
    sleep "${SLOW:-0}"
    case "$*" in
    *"/${NO_WHEEL:-none}.txt"*)
        echo "ERROR: No matching distribution found for $LACKING==1.0"
        exit 1
        ;;
    esac
    if [ -n "${NO_NETWORK:-}" ]; then
        echo "WARNING: Retrying (Retry(total=0)) after connection broken by 'x'"
        echo "ERROR: No matching distribution found for zeroconf==1.0"
        exit 1
    fi
    : >"$(dirname "$0")/installed"
    ;;
esac
"""


class Clone:
    """A clone's scripts, a pretend Python first in PATH, and a log of its uses."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone"
        self.venv = self.root / ".venv"
        self.log = folder / "log"
        self.bin = folder / "bin"
        (self.root / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        for name in ("vpnshare", "scripts/environment.sh"):
            shutil.copy(ROOT / name, self.root / name)
        (self.root / "requirements").mkdir()
        files = [path.relative_to(ROOT) for path in (ROOT / "requirements").glob("*.txt")]
        for file in (Path("pyproject.toml"), *files):
            (self.root / file).write_text("")
            os.utime(self.root / file, (0, 0))
        for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
            (self.bin / name).write_text(PYTHON)
            (self.bin / name).chmod(0o755)
        self.env = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "LOG": str(self.log),
            "VPNSHARE_PYTHON": "python3 python3.11",
        }

    def start(self, *args: str, script: Path | None = None, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [script or self.root / "vpnshare", *args],
            env=self.env | env, cwd="/", text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *args: str, script: Path | None = None, **env: str) -> tuple[int, str, str]:
        process = self.start(*args, script=script, **env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def uses(self) -> list[str]:
        """What the pretend Python was asked since the last look."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_plain_sh(name: str) -> None:
    text = (ROOT / name).read_text()
    subprocess.run(["sh", "-n", ROOT / name], check=True)
    assert "[[" not in text and "function " not in text and "\t" not in text
    if name != "scripts/environment.sh":
        assert text.startswith("#!/bin/sh\n") and os.access(ROOT / name, os.X_OK)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, "-x", "-s", "sh", ROOT / name], cwd=ROOT, check=True)


def test_the_first_start_sets_up_and_later_ones_only_run(clone: Clone) -> None:
    code, out, err = clone.run("status", "--json")
    assert (code, out) == (7, "ran status --json\n"), "the output is the command's alone"
    assert "setting up once" in err and "ready" in err
    assert any("pip install" in use for use in clone.uses())
    code, out, err = clone.run("a b", "*")
    assert (code, out, err) == (7, "ran a b *\n", "")
    assert clone.uses() == [], "no Python but the command's own"


def test_a_later_start_runs_no_other_program(clone: Clone) -> None:
    """Whatever is not the shell's own costs a process; the start is to be an exec."""
    clone.run("x")
    for name in ("python3", "id", "uname", "find", "cat", "apt-get", "flock", "dirname"):
        (clone.bin / name).write_text(f"#!/bin/sh\necho {name} >>{clone.log}\nexit 1\n")
        (clone.bin / name).chmod(0o755)
    clone.uses()
    assert clone.run("x")[0] == 7
    assert clone.uses() == []


def test_through_symlinks_and_from_elsewhere(clone: Clone, tmp_path: Path) -> None:
    clone.run("x")
    absolute, relative = tmp_path / "absolute", tmp_path / "bin" / "vpnshare-link"
    absolute.symlink_to(clone.root / "vpnshare")
    relative.symlink_to(Path("..") / "clone" / "vpnshare")
    second = tmp_path / "second"
    second.symlink_to(relative)
    for link in (absolute, relative, second):
        assert clone.run("x", script=link)[:2] == (7, "ran x\n")
    by_path = subprocess.run(
        "vpnshare-link x", shell=True, cwd="/", env=clone.env, capture_output=True, check=False
    )
    assert by_path.stdout == b"ran x\n"


def test_the_command_knows_how_it_was_called(clone: Clone) -> None:
    clone.run("x")
    done = subprocess.run(
        ["./vpnshare", "x"], cwd=clone.root, env=clone.env | {"SHOW_NAME": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "ran x\nas ./vpnshare\n"


def test_a_changed_project_is_installed_again(clone: Clone) -> None:
    clone.run("x")
    clone.uses()
    future = time.time() + 60
    os.utime(clone.root / "pyproject.toml", (future, future))
    assert clone.run("x")[0] == 7
    uses = clone.uses()
    assert any("pip install" in use for use in uses) and not any("venv" in use for use in uses)


def test_a_changed_lock_file_is_installed_again(clone: Clone) -> None:
    clone.run("x")
    clone.uses()
    future = time.time() + 60
    os.utime(clone.root / "requirements" / "run.txt", (future, future))
    assert clone.run("x")[0] == 7
    assert any("pip install" in use for use in clone.uses())


def test_only_what_the_lock_files_name_is_installed(clone: Clone) -> None:
    clone.run("x")
    installs = [use for use in clone.uses() if "pip install" in use]
    assert installs
    for use in installs:
        assert " --no-deps " in use and " --require-hashes --only-binary :all: " in use
        assert "run.txt" in use and "native.txt" in use and "discovery.txt" in use
        assert "dev.txt" not in use and "build.txt" not in use and " -e " not in use


def test_a_package_with_another_hash_is_refused(clone: Clone) -> None:
    for python in clone.bin.glob("python3*"):
        python.write_text(
            PYTHON.replace(
                'echo "Collecting things"',
                'echo "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."\n'
                "    exit 1",
            )
        )
    code, _, err = clone.run("x")
    assert code == 1 and "not the one that the lock file names" in err


def test_a_moved_clone_is_set_up_again(clone: Clone, tmp_path: Path) -> None:
    clone.run("x")
    clone.uses()
    moved = tmp_path / "moved"
    clone.root.rename(moved)
    assert clone.run("x", script=moved / "vpnshare")[0] == 7
    assert any("pip install" in use for use in clone.uses())


def test_another_folder_for_the_environment(clone: Clone, tmp_path: Path) -> None:
    assert clone.run("x", VPNSHARE_VENV=str(tmp_path / "elsewhere"))[0] == 7
    assert (tmp_path / "elsewhere" / "bin" / "installed").exists() and not clone.venv.exists()


def test_an_interrupted_set_up_is_repaired(clone: Clone) -> None:
    first = clone.start("x", SLOW="60")
    while not any("pip install" in use for use in clone.uses()):
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    (clone.venv / "left-over").write_text("half a package")
    assert (clone.venv / ".incomplete").exists() and not (clone.venv / ".ready").exists()
    assert clone.run("x")[:2] == (7, "ran x\n")
    assert any("-m venv" in use for use in clone.uses())
    assert not (clone.venv / "left-over").exists() and not (clone.venv / ".incomplete").exists()


def test_a_broken_python_is_repaired(clone: Clone) -> None:
    """As after an upgrade of the system's Python."""
    clone.run("x")
    (clone.venv / "bin" / "python").unlink()
    (clone.venv / "bin" / "python").symlink_to("/nowhere/python3.10")
    assert clone.run("x")[:2] == (7, "ran x\n")


@pytest.mark.parametrize("flock", [True, False])
def test_two_at_once_take_turns(clone: Clone, flock: bool) -> None:
    if not flock:  # as where util-linux is missing: no flock in PATH at all
        tools = ("sh", "readlink", "mkdir", "rm", "cat", "find", "id", "uname", "tail", "sleep",
                 "cp", "chmod", "dirname", "kill")  # fmt: skip
        for tool in tools:
            if found := shutil.which(tool, path="/usr/bin:/bin"):
                (clone.bin / tool).symlink_to(found)
        clone.env["PATH"] = str(clone.bin)
    both = [clone.start("x", SLOW="0.5") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (7, "ran x\n"), err
    assert sum("pip install" in use for use in clone.uses()) == 1
    assert not (clone.venv / ".turn").exists()


def test_without_a_network_it_says_so_and_goes_on_later(clone: Clone) -> None:
    code, out, err = clone.run("x", NO_NETWORK="1")
    assert (code, out) == (1, "") and "is there a network?" in err
    assert "vpnshare bundle" in err and "Retrying" not in err
    assert sum("pip install" in use for use in clone.uses()) == 1, "in vain, and once"
    assert clone.run("x")[0] == 7
    assert not any("-m venv" in use for use in clone.uses()), "the environment is kept"


@pytest.mark.parametrize(
    ("extra", "package"),
    [
        ("discovery", "zeroconf"),
        ("names", "pycares"),
        ("usb", "libusb-package"),
        ("client", "python-pytun"),
    ],
)
def test_what_is_good_to_have_is_left_out_where_it_has_no_wheel(
    clone: Clone, extra: str, package: str
) -> None:
    for name in ("discovery", "names", "usb", "client", "run"):
        shutil.copy(ROOT / "requirements" / f"{name}.txt", clone.root / "requirements")
        os.utime(clone.root / "requirements" / f"{name}.txt", (0, 0))
    (clone.bin / "uname").write_text("#!/bin/sh\necho x86_64\n")
    (clone.bin / "uname").chmod(0o755)
    assert clone.run("x", NO_WHEEL=extra, LACKING=package)[0] == 7
    first, second = [use for use in clone.uses() if "pip install" in use]
    assert f"/{extra}.txt" in first and f"/{extra}.txt" not in second
    for other in {"discovery", "names", "usb", "client"} - {extra}:
        assert f"/{other}.txt" in second
    (clone.venv / ".ready").unlink()
    code, _, err = clone.run("x", NO_WHEEL="run", LACKING="textual")
    assert code == 1 and "no ready-made wheel" in err


def test_pythons_that_are_too_old_are_passed_over(clone: Clone) -> None:
    (clone.bin / "python3").write_text("#!/bin/sh\nexit 1\n")
    assert clone.run("x")[0] == 7
    assert any(use.startswith("python -m venv") for use in clone.uses())


def test_the_distributions_python_comes_first(clone: Clone) -> None:
    script = clone.root / "scripts/environment.sh"
    ask = f"venv={clone.venv}; . {script}; find_python; echo $python"
    env = {name: value for name, value in clone.env.items() if name != "VPNSHARE_PYTHON"}
    found = subprocess.run(["sh", "-c", ask], env=env, capture_output=True, text=True)
    theirs = "/usr/bin/python3"
    able = "import ensurepip, ssl, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))"
    serves = Path(theirs).exists() and not subprocess.run([theirs, "-c", able]).returncode
    assert found.stdout.strip() == (theirs if serves else "python3")


def test_termux_uses_its_own_cryptography(clone: Clone) -> None:
    """The environment sees the system's packages, and no client extra is tried."""
    termux = "/data/data/com.termux/files/usr"
    assert clone.run("x", PREFIX=termux)[0] == 7
    uses = clone.uses()
    assert any("-m venv --system-site-packages" in use for use in uses)
    assert not any("client" in use for use in uses if "pip install" in use)


def test_termux_installs_what_is_missing(clone: Clone) -> None:
    pkg = clone.bin / "pkg"
    pkg.write_text(f'#!/bin/sh\necho "pkg $*" >>{clone.log}\ntouch {clone.bin}/got\n')
    pkg.chmod(0o755)
    for python in clone.bin.glob("python3*"):
        script = PYTHON.replace(
            '"-c import sys; sys.exit("*)',
            f'"-c import cryptography") [ -e {clone.bin}/got ] ;;\n"-c import sys; sys.exit("*)',
        )
        python.write_text(script)
    assert clone.run("x", PREFIX="/data/data/com.termux/files/usr")[0] == 7
    assert "pkg install -y python python-cryptography" in clone.uses()


APT = """#!/bin/sh
echo "apt-get $*" >>"$LOG"
case "$*" in
*" -s "*) printf 'Inst python3 (3.11 Debian)\\nInst libpython3 (3.11 Debian)\\nConf python3\\n' ;;
*) touch "$(dirname "$0")/got" ;;
esac
"""


@pytest.fixture
def without_python(clone: Clone) -> Clone:
    """As a new Debian: no Python until apt has installed it; we are root."""
    if not Path("/etc/debian_version").exists():
        pytest.skip("needs Debian")
    (clone.bin / "id").write_text("#!/bin/sh\necho 0\n")
    (clone.bin / "apt-get").write_text(APT)
    for python in clone.bin.glob("python3*"):
        python.write_text(PYTHON.replace('exit "${OLD:-0}"', f"[ -e {clone.bin}/got ]"))
    for name in ("id", "apt-get"):
        (clone.bin / name).chmod(0o755)
    return clone


def test_what_apt_will_install_is_said_and_done_where_nobody_can_be_asked(
    without_python: Clone,
) -> None:
    process = without_python.start("x")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 7
    assert "to be installed with apt: python3 libpython3" in err
    uses = [use for use in without_python.uses() if use.startswith("apt-get")]
    assert [" -s " in use for use in uses] == [True, False]


@pytest.mark.parametrize(("answer", "goes_on"), [("\n", True), ("y\n", True), ("n\n", False)])
def test_somebody_at_a_terminal_is_asked(without_python: Clone, answer: str, goes_on: bool) -> None:
    near, far = pty.openpty()
    process = subprocess.Popen(
        [without_python.root / "vpnshare", "x"], env=without_python.env, cwd="/",
        stdin=far, stdout=far, stderr=far, start_new_session=True,
    )  # fmt: skip
    os.close(far)
    shown = b""
    while b"[Y/n]" not in shown:
        shown += os.read(near, 4096)
    assert b"python3 libpython3" in shown
    assert not any("apt-get" in use and " -s " not in use for use in without_python.uses())
    os.write(near, answer.encode())
    with contextlib.suppress(OSError):
        while data := os.read(near, 4096):
            shown += data
    os.close(near)
    assert process.wait(30) == (7 if goes_on else 1)
    assert (without_python.bin / "got").exists() is goes_on
    if not goes_on:
        assert b"apt install python3 python3-venv" in shown


SOMEBODY = 12345


@pytest.fixture
def somebodys() -> Iterator[Clone]:
    """A clone of an ordinary user's, and we are root."""
    if os.geteuid() != 0:
        pytest.skip("needs root, and another user")
    with tempfile.TemporaryDirectory() as name:
        clone = Clone(Path(name))
        for path in (Path(name), *Path(name).rglob("*")):
            os.lchown(path, SOMEBODY, SOMEBODY)
        yield clone


def as_somebody(clone: Clone, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone.root / "vpnshare", *words], env=clone.env | env, cwd="/", user=SOMEBODY,
        group=SOMEBODY, extra_groups=[], capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
def test_what_root_sets_up_in_somebodys_clone_is_theirs(somebodys: Clone, fails: bool) -> None:
    code, out, _ = somebodys.run("x", SHOW_SILENT="1", NO_NETWORK="1" if fails else "")
    assert (code, out) == ((1, "") if fails else (7, "ran x\nsilent: yes\n"))
    for path in (somebodys.venv, *somebodys.venv.rglob("*")):
        assert os.lstat(path).st_uid == os.lstat(path).st_gid == SOMEBODY, path
    os.chown(somebodys.log, SOMEBODY, SOMEBODY)
    os.utime(somebodys.root / "pyproject.toml", (time.time() + 60,) * 2)
    done = as_somebody(somebodys, "x", SHOW_SILENT="1")
    assert (done.returncode, done.stdout) == (7, "ran x\nsilent: no\n"), done.stderr


def test_an_environment_that_is_not_ours_is_told(somebodys: Clone) -> None:
    somebodys.run("x")
    os.utime(somebodys.root / "pyproject.toml", (time.time() + 60,) * 2)
    for path in (somebodys.venv, *somebodys.venv.rglob("*")):
        os.lchown(path, 0, 0)
    done = as_somebody(somebodys, "x")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and f"sudo chown -R {SOMEBODY} {somebodys.venv}" in line
    os.chown(somebodys.root, 0, 0)
    (line,) = as_somebody(somebodys, "x").stderr.splitlines()
    assert f"VPNSHARE_VENV=FOLDER {somebodys.root}/vpnshare" in line
    elsewhere = somebodys.root.parent / "mine"
    elsewhere.mkdir()
    os.chown(elsewhere, SOMEBODY, SOMEBODY)
    done = as_somebody(somebodys, "x", VPNSHARE_VENV=str(elsewhere))
    assert done.returncode == 7, done.stderr


def test_a_folder_of_odd_letters_is_told_as_it_is_typed(clone: Clone) -> None:
    script = clone.root / "scripts/environment.sh"
    odd = "/a b/it's $HOME"
    ask = f'venv=/x; . {script}; quoted "$ODD"'
    told = subprocess.run(
        ["sh", "-c", ask], env=clone.env | {"ODD": odd}, capture_output=True, text=True, check=True
    )
    assert shlex.split(told.stdout) == [odd]
