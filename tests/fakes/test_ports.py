"""Two tests that ask for a port have two, whoever seeded what, whatever process they run in."""

from __future__ import annotations

import random

import pytest

from tests.fakes.ports import free_port


def test_one_that_was_handed_out_is_not_at_once_handed_out_again() -> None:
    found = []
    for _ in range(50):
        random.seed(1)
        found.append(free_port())
    assert len(set(found)) == len(found)


def test_processes_beside_each_other_have_none_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    found = []
    for worker in range(3):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        found.append({free_port() for _ in range(50)})
    assert all(len(each) == 50 for each in found)
    assert not found[0] & found[1] and not found[1] & found[2] and not found[0] & found[2]
