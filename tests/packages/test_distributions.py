"""The recipes for Debian and Termux, built from a bundle, and what they make run where it lies.

With lintian, which has more to say of a package than these tests:

    VPNSHARE_TEST_LINTIAN=1 python -m pytest -s tests/packages/test_distributions.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.commands import COMMANDS
from services.trust import rooms
from services.version import VERSION
from tests.packages.conftest import PYTHON, ROOT, run

THEIRS = "/usr/bin/python3"
needs_debian = pytest.mark.skipif(
    not shutil.which("dpkg-deb") or not Path("/usr/bin/py3compile").exists(), reason="needs Debian"
)


@pytest.fixture(scope="module")
def deb(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, of the distribution's own Python."""
    about = subprocess.run([THEIRS, "--version"], capture_output=True, text=True).stdout
    if not about.startswith(f"Python {PYTHON}."):
        pytest.skip("these tests run on another Python than the distribution's")
    folder = tmp_path_factory.mktemp("deb")
    names = {"DEBFULLNAME": "The Maintainers", "DEBEMAIL": "maintainers@example.org"}
    names["COMPRESSION"] = "gzip"
    run(ROOT / "packages" / "debian" / "build", made, folder, cwd=folder, **names)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def unpacked(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    run("dpkg-deb", "-x", deb, folder, cwd=folder)
    return folder


@needs_debian
def test_the_package_is_as_debian_wants_it(deb: Path, unpacked: Path) -> None:
    fields = dict(
        line.split(": ", 1)
        for line in run("dpkg-deb", "-f", deb, cwd=deb.parent).splitlines()
        if not line.startswith(" ")
    )
    assert (fields["Package"], fields["Version"]) == ("vpnshare", VERSION)
    assert f"python3 (>= {PYTHON}), python3 (<< " in fields["Depends"]
    for line in run("dpkg-deb", "-c", deb, cwd=deb.parent).splitlines():
        mode, owner = line.split()[:2]
        assert (owner == "root/root" and mode[5] != "w" and mode[8] != "w") or mode[0] == "l", line
    files = [path.relative_to(unpacked) for path in unpacked.rglob("*") if not path.is_dir()]
    assert not [path for path in files if path.suffix == ".pyc"]
    tops = {"/".join(path.parts[:3]) for path in files}
    completed = {"usr/share/bash-completion", "usr/share/zsh", "usr/share/fish"}
    assert tops == {
        "usr/bin/vpnshare", "usr/lib/vpnshare", "usr/share/doc", "usr/share/man", *completed,
    }  # fmt: skip
    names = {path.name for path in files if "completions" in str(path) and "share" in path.parts}
    assert names == {"vpnshare", "_vpnshare", "vpnshare.fish"}
    inside = {path.name for path in (unpacked / "usr/lib/vpnshare").iterdir()}
    assert inside == {*rooms(), "venv"}
    if os.environ.get("VPNSHARE_TEST_LINTIAN") and (lintian := shutil.which("lintian")):
        done = subprocess.run([lintian, "--fail-on", "error", deb], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@needs_debian
def test_what_it_installs_runs(unpacked: Path, home: Path) -> None:
    lib = unpacked / "usr/lib/vpnshare"
    assert os.readlink(lib / "venv/bin/python") == f"../../../../bin/python{PYTHON}"
    (unpacked / "usr/bin" / f"python{PYTHON}").symlink_to(f"/usr/bin/python{PYTHON}")
    script = (unpacked / "usr/bin/vpnshare").read_text().replace("/usr/lib", str(lib.parent))
    (home / "vpnshare").write_text(script)
    (home / "vpnshare").chmod(0o755)
    assert run(home / "vpnshare", "--version", cwd=home) == f"vpnshare {VERSION}\n"


@needs_debian
def test_the_manual_has_every_command(unpacked: Path) -> None:
    page = run("gzip", "-dc", unpacked / "usr/share/man/man1/vpnshare.1.gz", cwd=unpacked)
    shown = set(re.findall(r"^\.TP\n\.B (\S+)$", page, re.MULTILINE))
    assert {c.name.replace("-", "\\-") for c in COMMANDS if c.group} <= shown
    if shutil.which("man"):
        plain = {"LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
        page_file = unpacked / "usr/share/man/man1/vpnshare.1.gz"
        done = subprocess.run(
            ["man", "--warnings", "-l", page_file], env=os.environ | plain, capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_termuxs_install_step(made: Path, tmp_path: Path) -> None:
    """In a pretended prefix, with this machine's Python in the place of Termux's."""
    recipe = ROOT / "packages" / "termux" / "build.sh"
    prefix, builder = tmp_path / "usr", tmp_path / "builder"
    (prefix / "bin").mkdir(parents=True)
    builder.mkdir()
    (builder / "bundle.tar").symlink_to(made)
    (prefix / "bin" / f"python{PYTHON}").symlink_to(os.path.realpath(sys.executable))
    env = {
        "TERMUX_PREFIX": str(prefix), "TERMUX_PKG_BUILDER_DIR": str(builder),
        "TERMUX_PKG_SRCDIR": str(tmp_path / "src"), "TERMUX_PYTHON_VERSION": PYTHON,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }  # fmt: skip
    step = f"set -eu; . {recipe}; termux_step_make_install; echo $TERMUX_PKG_VERSION"
    assert run("bash", "-c", step, cwd=tmp_path, **env) == f"{VERSION}\n"
    assert {path.name for path in (prefix / "lib/vpnshare").iterdir()} == {*rooms(), "venv"}
    site = prefix / "lib" / "vpnshare" / "venv" / "lib" / f"python{PYTHON}" / "site-packages"
    assert (site / "textual").is_dir() and not (site / "cryptography").exists()
    assert not list(site.rglob("*.so")), "nothing that is for one processor"
    assert "include-system-site-packages = true" in (site.parents[2] / "pyvenv.cfg").read_text()
    command = prefix / "bin" / "vpnshare"
    command.write_text(command.read_text().replace(f"#!{prefix}/bin/sh", "#!/bin/sh"))
    assert run(command, "--version", cwd=tmp_path) == f"vpnshare {VERSION}\n"


def test_the_change_log_knows_this_version() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == VERSION
    assert headings == sorted(headings, key=lambda v: [int(n) for n in v.split(".")], reverse=True)
