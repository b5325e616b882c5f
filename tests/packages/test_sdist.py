"""The sdist: everything that is in the repository, and its tests run from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packages.conftest import ROOT, run

QUICK = ("tests/vshp/test_uri.py", "tests/sealing/test_buckets.py")


def test_it_holds_what_the_repository_holds(sdist: Path) -> None:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is no clone")
    listed = run("git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", cwd=ROOT)
    there = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    tracked = {name for name in listed.split("\0") if name and (ROOT / name).exists()}
    assert tracked <= there
    for name in ("vpnshare", "check", ".ci/run", "scripts/lock"):
        assert os.access(sdist / name, os.X_OK), name


def test_its_tests_run_from_it(sdist: Path) -> None:
    """A few of them; `./check` in there is all of them."""
    where = "import vshp, services, tests; print(vshp.__file__, services.__file__, tests.__file__)"
    found = run(sys.executable, "-c", where, cwd=sdist).split()
    assert all(Path(path).is_relative_to(sdist) for path in found)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *QUICK],
        cwd=sdist, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_it_sets_up_and_runs(sdist: Path, home: Path) -> None:
    """The launcher in there finds everything that a set-up needs."""
    for name in ("vpnshare", "scripts/environment.sh", "requirements/run.txt", "pyproject.toml"):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes()
    words = [sys.executable, "-I", "services/start.py", "cli.main", "--version"]
    assert run(*words, cwd=sdist).startswith("vpnshare ")
