"""Which version this is, where it costs no import to know it.

`VERSION` is the one place where the release stands: the command, the services, wheel, sdist
and the Debian package take it from here, and the change log has a section of that name. A
clone is told apart by its commit besides, since it changes with every `git pull`.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

VERSION = "0.2.0"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""What it runs on."""
TREE = Path(__file__).resolve().parents[1]
_SHOWN = 7
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@functools.cache
def running() -> str:
    """What this process runs: `0.2.0`, in a clone `0.2.0+g1a2b3c4`. Asked first at the start."""
    return _full(VERSION, TREE)


def installed(tree: Path = TREE) -> str | None:
    """What lies in the tree now, and would run if started now; None if that cannot be read."""
    try:
        text = (tree / "services" / "version.py").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r'^VERSION = "([^"]+)"$', text, re.MULTILINE)
    return _full(found[1], tree) if found else None


def _full(release: str, tree: Path) -> str:
    commit = _commit(tree)
    return f"{release}+g{commit[:_SHOWN]}" if commit else release


def _commit(tree: Path) -> str | None:
    """The commit that a clone is at, from git's own files (gitrepository-layout(5))."""
    try:
        folder = tree / ".git"
        if folder.is_file():  # a worktree's
            folder = tree / folder.read_text("utf-8").removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref:"):
            return head if _COMMIT.fullmatch(head) else None
        name = head.removeprefix("ref:").strip()
        shared = folder / "commondir"
        if shared.exists():
            folder /= shared.read_text("utf-8").strip()
        if (folder / name).is_file():
            commit = (folder / name).read_text("utf-8").strip()
            return commit if _COMMIT.fullmatch(commit) else None
        for line in (folder / "packed-refs").read_text("utf-8").splitlines():
            commit, _, ref = line.partition(" ")
            if ref == name and _COMMIT.fullmatch(commit):
                return commit
    except (OSError, UnicodeDecodeError):
        pass  # no clone
    return None
