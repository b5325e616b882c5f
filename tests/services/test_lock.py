"""The lock files: all that is declared, each of one release, each with hashes."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FILES = {path.stem: path for path in (ROOT / "requirements").glob("*.txt")}


ELSEWHERE = ("wireguard-protocol", "colorama", "python-pytun", "wireguard-requests", "pip")
"""Apart from the others; another system's; some processors' (two); a bundle's."""


def entries(name: str) -> list[str]:
    """The entries of a lock file, each with its lines joined."""
    text = FILES[name].read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pinned() -> dict[str, str]:
    """Every locked package's release."""
    found: dict[str, str] = {}
    for name in FILES:
        for entry in entries(name):
            release = re.match(r"([a-z0-9-]+)==(\S+)", entry)
            assert release is not None, entry
            assert release[1] not in found, f"{release[1]} stands in two files"
            found[release[1]] = release[2]
    return found


def test_every_entry_names_one_release_and_its_hashes() -> None:
    assert set(FILES) == {
        "build", "run", "native", "client", "discovery", "names", "usb", "dev", "oracles", "pip",
    }  # fmt: skip
    for name in FILES:
        for entry in entries(name):
            hashes = re.findall(r"--hash=(\S+)", entry)
            assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)


def test_what_is_declared_is_locked_to_a_release_that_does() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    declared = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        declared += extra
    locked = pinned()
    for text in declared:
        requirement = Requirement(text)
        release = locked.get(canonicalize_name(requirement.name))
        assert release is not None and requirement.specifier.contains(release), (
            f"{text}, but {release} is locked: run scripts/lock"
        )


def test_no_python_that_we_support_is_left_out() -> None:
    """A marker may leave out other systems and interpreters, no release of Python; but for a
    test's peer, which is skipped where there is none."""
    for name in FILES:
        for entry in entries(name):
            if entry.startswith("wireguard-requests=="):
                continue
            marker = entry.partition(";")[2].partition("--hash")[0]
            assert "python_version" not in marker and "python_full_version" not in marker, entry


def test_the_environment_is_what_the_lock_files_say() -> None:
    if not (Path(sys.prefix) / ".ready-dev").exists():
        pytest.skip("this environment was not made by ./check")
    for package, release in pinned().items():
        if package in ELSEWHERE:
            continue
        try:
            assert version(package) == release, package
        except PackageNotFoundError:
            pytest.fail(f"{package} is locked and not installed")
