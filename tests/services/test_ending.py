"""Why a service ends, from what systemd says of its jobs; the client keeps its user's wish."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from services.client_store import ClientDatabase
from services.ending import find, runs_again, units
from tests.services.test_daemons import Daemon

OWN = "vpnshare-client.service"
STOP = f"2112 {OWN} stop running\n"
RESTART = f"2112 {OWN} restart running\n"
DOWN = f"""\
2098 poweroff.target start waiting
2101 shutdown.target start waiting
2112 {OWN} stop running
2119 ssh.service stop waiting
"""
ANOTHER = f"2111 ssh.service restart running\n{STOP}"


@pytest.mark.parametrize(
    ("jobs", "again"),
    [("", False), ("No jobs running.\n", False), (STOP, False), (ANOTHER, False),
     (RESTART, True), (DOWN, True)],
    ids=["none", "none, in words", "stop", "another restarts", "restart", "the machine goes down"],
)  # fmt: skip
def test_what_the_jobs_say(jobs: str, again: bool) -> None:
    assert find(jobs, frozenset({OWN})) is again


@pytest.mark.parametrize(
    ("cgroup", "own"),
    [
        (f"0::/system.slice/{OWN}\n", {OWN}),
        (f"12:pids:/\n1:name=systemd:/system.slice/{OWN}\n0::/\n", {OWN}),
        ("0::/user.slice/user-0.slice/session-3.scope\n", set()),
        ("", set()),
    ],
)
def test_the_unit_of_a_process(cgroup: str, own: set[str]) -> None:
    assert units(cgroup) == own


def test_a_terminals_client_is_in_no_unit_that_starts_anew() -> None:
    assert not find(RESTART, units("0::/user.slice/user-0.slice/session-3.scope\n"))


def manager(folder: Path, said: str) -> Path:
    """A program in systemctl's place, since no systemd runs under the tests."""
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\ntest $1 = list-jobs || exit 1\ncat <<'END'\n{said}END\n")
    program.chmod(0o755)
    return program


def test_a_manager_that_is_not_there_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = manager(tmp_path, DOWN)
    assert runs_again()
    program.write_text("#!/bin/sh\nexit 1\n")
    assert not runs_again()
    monkeypatch.setattr("services.ending._ASK_SECONDS", 0.2)
    program.write_text("#!/bin/sh\nexec sleep 5\n")
    assert not runs_again()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert not runs_again()


@pytest.mark.parametrize(
    ("said", "number", "kept"),
    [(DOWN, signal.SIGTERM, "last"), (STOP, signal.SIGTERM, None), ("", signal.SIGHUP, "last")],
    ids=["the machine goes down", "stopped", "the terminal goes away"],
)
def test_the_wish_outlives_the_machines_restart(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    said: str, number: int, kept: str | None,
) -> None:  # fmt: skip
    programs = tmp_path_factory.mktemp("bin")
    manager(programs, said)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    # Nothing of this machine's network is changed by it.
    (home / "config.toml").write_text("[client]\nroutes = false\ndns = false\n")
    store = ClientDatabase(home / "client.db")
    store.save_wanted("last")
    store.close()
    daemon = Daemon(home, "client")
    assert daemon.end(number)[0] == 0
    store = ClientDatabase(home / "client.db")
    assert store.wanted() == kept
    store.close()
