"""The optional packages: what the project declares is what is used, and what doctor advises."""

from __future__ import annotations

import ast
import functools
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.bundle import EXTRAS as LOCKS
from services.doctor.machine import EXTRAS, REQUIRED
from services.trust import rooms

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROOMS = rooms(ROOT)
OPTIONAL = {name: each for name, each in PROJECT["optional-dependencies"].items() if name != "dev"}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


@functools.cache
def imported() -> frozenset[str]:
    """What the rooms import, by the modules' first names."""
    found = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return frozenset(found)


def modules(package: str) -> set[str]:
    """The modules that an installed package brings; none when it is not installed here."""
    return {
        module
        for module, owners in packages_distributions().items()
        if canonicalize_name(package) in {canonicalize_name(owner) for owner in owners}
    }


@pytest.mark.parametrize("extra", sorted(OPTIONAL))
def test_an_extra_installs_what_is_used(extra: str) -> None:
    for package in sorted(names(OPTIONAL[extra])):
        brought = modules(package)
        if not brought:
            pytest.skip(f"{package} is not installed here")
        assert brought & imported(), f"nothing imports what {package} brings: {brought}"


@pytest.mark.parametrize("role", sorted(EXTRAS))
def test_what_doctor_misses_is_used_and_what_it_advises_brings_it(role: str) -> None:
    declared = names(PROJECT["dependencies"]).union(*(names(each) for each in OPTIONAL.values()))
    for module, (_, packages) in EXTRAS[role].items():
        assert module in imported(), f"nothing imports {module}"
        advised = {canonicalize_name(package) for package in packages.split()}
        assert advised <= declared, f"{advised - declared} is in no extra"
        brought = set().union(*(modules(package) for package in advised))
        assert not brought or module in brought, f"{packages} does not bring {module}"
    for module, package in REQUIRED.items():
        assert module in imported() and package in names(PROJECT["dependencies"])


@pytest.mark.parametrize("extra", ["usb", "discovery", "names"])
def test_the_ones_for_finding_a_gateway_come_with_the_program(extra: str) -> None:
    """`./vpnshare` and the bundles set them up where the machine can take them."""
    assert extra in LOCKS
    locked = (ROOT / "requirements" / f"{extra}.txt").read_text()
    for package in names(OPTIONAL[extra]):
        assert f"\n{package}==" in f"\n{locked}", f"{package} is not in {extra}.txt"
    assert extra in (ROOT / "scripts/environment.sh").read_text()
