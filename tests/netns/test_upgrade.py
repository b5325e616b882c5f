"""From the release before this one to this one, with a session that runs; and not back."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from control.exits import Exit
from services.migrations import MIGRATIONS
from services.version import running
from tests.netns.conftest import opened
from tests.netns.processes import Process, wait_for
from tests.netns.product import PORT, Client, Gateway, Service
from tests.netns.world import GATEWAY_LAN, SERVER, Shape, World

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "b9390fa7f376fa2b0919690f4386722f87200589"
"""The last tree that called itself 0.1.0."""
BACK_SECONDS = 40.0


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of 0.1.0, from the repository's history."""
    packed = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode or not packed.stdout:
        pytest.skip("the history does not reach back to 0.1.0 here")
    folder = tmp_path_factory.mktemp("before")
    subprocess.run(["tar", "-xC", folder], input=packed.stdout, check=True)
    return folder


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with opened(Shape()) as world, world.serving(secure=False):
        yield world


class Old:
    """A service of 0.1.0 in the home of one of now."""

    def __init__(self, service: Service, tree: Path, *words: str) -> None:
        self.service = service
        self.process: Process = service.host.start(
            ["sh", "-c", 'cd "$0" && exec "$@"', str(tree), sys.executable, "-m",
             "services.cli.main", service.role, *words],
            name=f"old-{service.role}", env=service.environment(), cwd=service.home,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.service.command("down", check=False)

    def answers(self) -> bool:
        return self.service.command("status", check=False).returncode == Exit.OK


def schema(service: Service) -> int:
    with sqlite3.connect(service.home / f"{service.role}.db") as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def test_the_gateway_and_then_the_device_change_over(world: World, before: Path) -> None:
    gateway, client = Gateway(world), Client(world)
    options = ("--listen", f"{GATEWAY_LAN}:{PORT}", "--vpn-interface", "g1", "--share")
    with Old(gateway, before, *options) as old_gateway, Old(client, before) as old_client:
        wait_for(old_gateway.answers, "the gateway of 0.1.0 to answer", 30)
        wait_for(old_client.answers, "the client of 0.1.0 to answer", 30)
        assert gateway.ask("status")["version"] == client.ask("status")["version"] == "0.1.0"
        connecting = client.begin_connect(gateway.pair())
        gateway.approve_next()
        assert connecting.popen.wait(30) == Exit.OK, connecting.tail()
        lease, [peer] = client.status()["lease"], gateway.ask("peers")
        assert download(client, 100_000) == 100_000
        for told in (gateway.command("status"), client.command("status")):
            assert f"runs 0.1.0, this is {running()}. Have it change over" in told.stdout
        doctor = client.command("doctor", "--json", check=False).stdout
        [finding] = [each for each in json.loads(doctor) if each["id"] == "command-version"]
        assert finding["status"] == "warn" and "vpnshare restart" in finding["advice"]

        # The gateway first. What comes back to it is a client of 0.1.0.
        said = gateway.command("restart").stdout
        assert f"0.1.0 before, {running()} now" in said and "shares again" in said
        assert old_gateway.process.popen.wait(10) == Exit.OK
        [same] = gateway.ask("peers")
        for name in ("id", "label", "fingerprint", "first_seen_at"):
            assert same[name] == peer[name], name
        wait_for(lambda: client.peek()["state"] == "connected", "it to be back", BACK_SECONDS)
        assert client.status()["lease"]["ipv4"] == lease["ipv4"]
        assert download(client, 100_000) == 100_000

        # Now the device, in the middle of a download.
        loading = begin_download(client)
        said = client.command("restart").stdout
        assert f"0.1.0 before, {running()} now" in said and "Connected to" in said
        assert old_client.process.popen.wait(10) == -signal.SIGKILL
        [link] = client.ask("history")
        assert link["resumed"], "the session goes on with its ticket"
        assert loading.popen.wait(60) == 0, "and so do its connections: " + loading.tail()
        # Once more, as the next upgrade will be.
        loading = begin_download(client)
        assert f"began anew: {running()} (pid" in client.command("restart").stdout
        [link] = client.ask("history")
        assert link["resumed"] and loading.popen.wait(60) == 0, loading.tail()
        assert gateway.ask("requests") == [] and len(gateway.ask("peers")) == 1

        for service in (gateway, client):
            assert service.status()["version"] == running()
            assert schema(service) == len(MIGRATIONS[service.role])
            service.command("down")
        # Not back: what 0.1.0 does not know, it refuses, and leaves as it is.
        back = Old(gateway, before, *options)
        assert back.process.popen.wait(30) != Exit.OK
        assert "was written by a newer VPN Share" in back.process.tail()
        gateway.share()
        assert [each["id"] for each in gateway.ask("peers")] == [peer["id"]]
        gateway.stop()


def begin_download(client: Client) -> Process:
    """One that runs for some seconds, longer than any buffer takes it in, and runs now."""
    before = client.status()["from_tunnel_bytes"]
    loading = client.host.start(
        ["curl", "-sSf", "-m", "60", "--limit-rate", "5M", "-o", "/dev/null",
         f"http://{SERVER}:8000/bytes/30000000"],
        name="download",
    )  # fmt: skip
    wait_for(lambda: client.peek()["from_tunnel_bytes"] > before + 1_000_000, "it to run")
    assert loading.running()
    return loading


def download(client: Client, size: int) -> int:
    argv = ["curl", "-sS", "--fail", "--max-time", "20", "-o", "/dev/null",
            "-w", "%{size_download}", f"http://{SERVER}:8000/bytes/{size}"]  # fmt: skip
    return int(client.host.run(argv).stdout)
