"""Services of another version are told, and `restart` has them change over."""

from __future__ import annotations

import json
import os
import pty
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import restarting
from cli.main import main
from cli.restarting import Keeper, keeper_of, kept
from control.exits import Exit
from control.versions import differ, release
from services.migrations import MIGRATIONS
from services.start import own_command
from services.store import newer_state
from services.version import running
from tests.fakes.ports import free_port
from tests.netns.processes import wait_for


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An instance's environment; whatever runs in it is gone in the end."""
    found = {"PATH": os.environ["PATH"], "VPNSHARE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    (tmp_path / "config.toml").write_text(
        "[gateway]\nannounce = false\n[notify]\nenabled = false\n"
    )
    try:
        yield found
    finally:
        run(found, "down")


def run(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*own_command(), *words], env=env, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


def ask(env: dict[str, str], *words: str) -> Any:
    done = run(env, *words, "--json")
    assert done.returncode == Exit.OK, done.stderr
    return json.loads(done.stdout)


def test_one_in_the_background_begins_anew_with_what_still_counts(env: dict[str, str]) -> None:
    assert run(env, "restart").returncode == Exit.NOT_RUNNING
    first, second = free_port(), free_port()
    done = run(env, "up", "--no-console", f"--listen=127.0.0.1:{first}", "--name=Attic")
    assert done.returncode == Exit.OK, done.stderr
    before = ask(env, "status")
    assert run(env, "set", "gateway.listen", f"127.0.0.1:{second}").returncode == Exit.OK
    done = run(env, "restart")
    assert done.returncode == Exit.OK, done.stderr
    assert f"The gateway service began anew: {running()} (pid " in done.stdout
    assert "It shares again" in done.stdout
    after = ask(env, "status")
    assert after["pid"] != before["pid"]
    assert (after["name"], after["sharing"]) == ("Attic", before["sharing"])
    assert after["listen"] == [f"127.0.0.1:{second}"], "set since, so the option counts no more"
    run(env, "unshare")
    assert ask(env, "restart", "--role", "gateway")[0]["by"] == "background"
    assert ask(env, "status")["sharing"] == "off"


def test_a_unit_shares_again_as_its_owner_had_it(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its manager starts it idle; the manager is a shell here."""
    gateway = shlex.join([*own_command(), "gateway", f"--listen=127.0.0.1:{free_port()}"])
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    start = f"setsid {gateway} >/dev/null 2>&1 </dev/null &"
    subprocess.run(["sh", "-c", start], check=True)
    wait_for(lambda: run(env, "share").returncode == Exit.OK, "it to share", 20)
    pid = ask(env, "status")["pid"]
    # What has ended and was not waited for has no command line (proc(5)).
    gone = f"while grep -q . /proc/{pid}/cmdline 2>/dev/null; do sleep 0.02; done"
    again = f"kill {pid}; {gone}; {start}"
    monkeypatch.setattr(
        restarting, "keeper_of", lambda pid: Keeper("unit", "a unit", ("sh", "-c", again))
    )
    assert main(["restart"]) == Exit.OK
    assert "It shares again" in capsys.readouterr().out
    after = ask(env, "status")
    assert after["pid"] != pid and after["sharing"] != "off"


def test_one_in_a_terminal_is_left_to_who_sits_there(env: dict[str, str]) -> None:
    here, there = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "-c", *own_command(), "gateway", f"--listen=127.0.0.1:{free_port()}"],
        env=env, stdin=there, stdout=there, stderr=there,
    )  # fmt: skip
    os.close(there)
    try:
        wait_for(lambda: run(env, "status").returncode == Exit.OK, "it to answer", 20)
        pid = ask(env, "status")["pid"]
        done = run(env, "restart")
        assert done.returncode == Exit.CONFLICT
        assert "runs in the foreground of a terminal (/dev/pts/" in done.stderr
        assert "Ctrl-C" in done.stderr and ask(env, "status")["pid"] == pid
    finally:
        process.terminate()
        process.wait(20)
        os.close(here)


def test_a_state_that_would_be_refused_is_said_before_anything_ends(
    env: dict[str, str], tmp_path: Path
) -> None:
    run(env, "up", "--no-console", f"--listen=127.0.0.1:{free_port()}")
    pid = ask(env, "status")["pid"]
    with sqlite3.connect(tmp_path / "gateway.db") as db:
        db.execute("PRAGMA user_version=99")
    done = run(env, "restart")
    assert done.returncode == Exit.CONFLICT
    assert "was written by a newer VPN Share" in done.stderr and "goes on as it is" in done.stderr
    assert ask(env, "status")["pid"] == pid
    run(env, "down")
    refused = run(env, "up", "--no-console")
    assert refused.returncode == Exit.FAILED and "newer VPN Share" in refused.stderr


def test_who_keeps_a_process(tmp_path: Path) -> None:
    def process(pid: int, cgroup: str, tty: int, parent: int = 1) -> None:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(cgroup)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} 5 5 {tty} -1")

    process(10, "0::/system.slice/vpnshare-gateway.service\n", 0)
    user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice"
    process(11, f"{user}/vpnshare-gateway.service", 0)
    process(12, "0::/system.slice/cron.service\n", 0)
    process(13, "", 34816)
    process(14, "", 0, parent=20)
    process(20, "", 0)
    (tmp_path / "20" / "comm").write_text("runsv\n")
    (tmp_path / "20" / "cmdline").write_text("runsv\0/p/var/service/vpnshare-gateway\0")
    name = "vpnshare-gateway.service"
    assert keeper_of(10, tmp_path) == Keeper("unit", name, ("systemctl", "restart", name))
    assert keeper_of(11, tmp_path).command == ("systemctl", "--user", "restart", name)
    assert keeper_of(12, tmp_path) == Keeper("background")
    assert keeper_of(13, tmp_path) == Keeper("terminal", "number 0")
    assert keeper_of(14, tmp_path).command == ("sv", "restart", "vpnshare-gateway")
    assert keeper_of(99, tmp_path) == Keeper("background"), "gone"


def test_which_options_still_count() -> None:
    words = ["--share", "--listen", "10.0.0.1:1", "--name=a b", "--kill-switch", "--listen=[::]:1"]
    both = {"gateway.listen", "client.kill_switch"}
    assert kept(words, both) == ["--listen=10.0.0.1:1", "--kill-switch", "--listen=[::]:1"]
    assert kept(words, {"gateway.name"}) == ["--name=a b"]
    assert kept(words, set()) == []


def test_a_place_for_the_proxy_may_be_left_out() -> None:
    proxy = {"client.proxy", "client.label"}
    for given in (["--proxy", "--label", "a"], ["--label", "a", "--proxy"]):
        assert sorted(kept(given, proxy)) == ["--label=a", "--proxy"]
    for given in (["--proxy", "1081", "--label=a"], ["--proxy=1081", "--label", "a"]):
        assert kept(given, proxy) == ["--proxy=1081", "--label=a"]
    assert kept(["--proxy", "--pac", "--label", "a"], {"client.label"}) == ["--label=a"]


def test_a_network_of_its_own_stays_so() -> None:
    assert kept(["--private", "--label", "a"], set()) == ["--private"]
    assert kept(["--private", "--label", "a"], {"client.label"}) == ["--private", "--label=a"]


def test_versions_that_differ() -> None:
    assert differ("gateway", "0.2.0+gabc", "0.2.0+gabc") is None
    assert differ("gateway", "0.1.0", "0.2.0") == (
        "The gateway runs 0.1.0, this is 0.2.0.", "Have it change over: vpnshare restart",
    )  # fmt: skip
    told = differ("client", "0.10.0+g1", "0.9.0")
    assert told is not None and "older one" in told[1]
    assert release("what") == ()


@pytest.mark.parametrize("role", ["gateway", "client"])
def test_a_newer_state_is_known_without_touching_it(tmp_path: Path, role: str) -> None:
    path = tmp_path / f"{role}.db"
    assert newer_state(path, role) is None
    assert not path.exists()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={len(MIGRATIONS[role])}")
    assert newer_state(path, role) is None
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={len(MIGRATIONS[role]) + 1}")
    assert "newer VPN Share" in (newer_state(path, role) or "")
    path.write_text("no database, but of some length")
    assert newer_state(path, role) is None, "what it is instead is the opening's to say"
