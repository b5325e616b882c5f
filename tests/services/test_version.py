"""What a process runs, and what lies in its tree by now."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from services import version
from services.version import VERSION, installed, running

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "services").mkdir(parents=True)
    shutil.copy(version.__file__, tmp_path / "tree" / "services")
    return tmp_path / "tree"


def git(tree: Path, *words: str) -> str:
    settings = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *settings, *words], cwd=tree, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(tree: Path) -> str:
    git(tree, "commit", "-q", "--allow-empty", "-m", "x")
    return git(tree, "rev-parse", "HEAD")[:7]


def test_outside_a_clone_it_is_the_release(tree: Path) -> None:
    assert installed(tree) == VERSION
    (tree / "services" / "version.py").write_text('VERSION = "9.0"\n')
    assert installed(tree) == "9.0"
    (tree / "services" / "version.py").write_text("")
    assert installed(tree) is None
    assert installed(tree / "nowhere") is None
    assert running().startswith(VERSION)


@needs_git
def test_a_clone_is_told_by_its_commit(tree: Path) -> None:
    git(tree, "init", "-q")
    assert installed(tree) == VERSION, "without a commit"
    first = commit(tree)
    assert installed(tree) == f"{VERSION}+g{first}"
    second = commit(tree)
    assert first != second and installed(tree) == f"{VERSION}+g{second}"
    git(tree, "pack-refs", "--all")
    assert installed(tree) == f"{VERSION}+g{second}"
    git(tree, "checkout", "-q", first)  # a detached head
    assert installed(tree) == f"{VERSION}+g{first}"


@needs_git
def test_a_worktree_is_told_by_its_own(tree: Path) -> None:
    git(tree, "init", "-q")
    commit(tree)
    other = tree.parent / "other"
    git(tree, "worktree", "add", "-q", "-b", "side", str(other))
    shutil.copytree(tree / "services", other / "services")
    newest = commit(other)
    assert installed(other) == f"{VERSION}+g{newest}" != installed(tree)


def test_what_is_no_commit_is_not_told(tree: Path) -> None:
    (tree / ".git").mkdir()
    (tree / ".git" / "HEAD").write_text("ref: ../services/version.py\n")
    assert installed(tree) == VERSION
    (tree / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    assert installed(tree) == VERSION
