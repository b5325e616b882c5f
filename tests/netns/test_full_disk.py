"""Real services on a disk that is full: who may come in goes on being decided, and kept for later.

Each home is a small file system of its own, which the test fills to the last byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.netns.capture import Capture
from tests.netns.conftest import Tunnel, opened
from tests.netns.processes import wait_for
from tests.netns.product import PORT, Client, Gateway, Service
from tests.netns.world import SERVER, Shape

SIZE = "2m"
BACK_SECONDS = 40.0


@contextlib.contextmanager
def small(service: Service) -> Iterator[None]:
    """The service's home as a file system of its own."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "small", str(service.home)],
        check=True,
    )
    try:
        yield
    finally:
        if service.process is not None:
            service.process.kill()
        subprocess.run(["umount", "-l", str(service.home)], check=True)


@contextlib.contextmanager
def full(service: Service) -> Iterator[None]:
    """Not a byte is left; at the end there is room again."""
    path = service.home / "fill"
    with path.open("wb", buffering=0) as file:
        for piece in (bytes(4096), bytes(1)):
            with contextlib.suppress(OSError):
                while True:
                    file.write(piece)
    free = os.statvfs(service.home)
    assert free.f_bavail == 0
    try:
        yield
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def pair() -> Iterator[Tunnel]:
    with (
        opened(Shape(second_client=True)) as world,
        world.serving(),
        Gateway(world) as gateway,
        Client(world) as client,
        small(gateway),
        small(client),
    ):
        gateway.share(listen="0.0.0.0")
        client.start()
        client.join(gateway)
        yield Tunnel(world, gateway, client)


@pytest.fixture
def second(pair: Tunnel) -> Iterator[Client]:
    world = pair.world
    assert world.second is not None
    with Client(world, world.second, "second") as client:
        client.start()
        yield client
        shutil.rmtree(client.home, ignore_errors=True)


def reaches(client: Client) -> bool:
    argv = ["curl", "-sS", "--fail", "--max-time", "10", "-o", "/dev/null",
            f"http://{SERVER}:8000/bytes/100000"]  # fmt: skip
    return client.host.run(argv, check=False).returncode == 0


def state(client: Client) -> str:
    return str(client.peek()["state"])


def cut(pair: Tunnel, client: Client) -> None:
    """Reset the links, and wait until this client is back by itself."""
    links = len(client.peek("history"))
    pair.world.gateway.run(["ss", "-K", "-H", "-n", "-t", "sport", "=", f":{PORT}"])
    wait_for(
        lambda: len(client.peek("history")) > links and state(client) == "connected",
        "the client to be back", BACK_SECONDS,
    )  # fmt: skip


def findings(service: Service) -> dict[str, str]:
    said = service.command("doctor", "--json", check=False).stdout
    return {each["id"]: each["status"] for each in json.loads(said)}


def unwritten(service: Service) -> str:
    return " ".join(each["found"] for each in service.status()["unwritten"])


def test_a_full_client_comes_back_and_nothing_goes_in_the_clear(pair: Tunnel) -> None:
    client = pair.client
    with full(client):
        with Capture.of(pair.world.gateway, "lan0", f"host {SERVER}") as clear:
            for _ in range(2):
                cut(pair, client)
                assert reaches(client)
            assert clear.count() == 0, clear.lines()
        assert client.peek("history")[0]["resumed"]
        wait_for(lambda: "the way back to" in unwritten(client), "the client to say so")
        assert "no space is left" in unwritten(client)
        assert client.process is not None
        client.process.stop(signal.SIGKILL)
        client.start()
        wait_for(lambda: state(client) == "connected", "it to go on after a crash", BACK_SECONDS)
        assert reaches(client)
        client.command("disconnect")
        assert state(client) == "idle"
        again = client.begin_connect(client.peek("gateways")[0]["name"])
        assert not again.popen.wait(30) and reaches(client)
        found = findings(client)
        assert (found["unwritten"], found["room"]) == ("broken", "broken")
        done = client.command("set", "client.label", "elsewhere")
        assert "client.label is elsewhere now" in done.stdout and "not stored" in done.stderr
    wait_for(lambda: not unwritten(client), "it to be written", 60.0)
    assert "elsewhere" in (client.home / "config.toml").read_text()
    assert findings(client)["unwritten"] == "ok"


def test_a_full_gateway_lets_in_turns_out_and_does_not_forget(pair: Tunnel, second: Client) -> None:
    gateway, client = pair.gateway, pair.client
    with full(gateway):
        cut(pair, client)
        assert reaches(client), "a device comes back"
        second.join(gateway)
        assert reaches(second), "a new one is approved"
        wait_for(lambda: "the approval of" in unwritten(gateway), "the gateway to say so")
        cut(pair, second)
        assert reaches(second), "and stays so"

        own = client.status()["fingerprint"]
        [first] = [p for p in gateway.peers() if p["fingerprint"] == own]
        done = gateway.command("revoke", first["id"])
        assert "is revoked" in done.stdout and "the revocation of" in done.stderr
        wait_for(lambda: state(client) == "failed", "the device to be out", 5.0)
        assert not gateway.peek("flows", peer=first["id"])["total"]
        found = findings(gateway)
        assert (found["unwritten"], found["room"]) == ("broken", "broken")
        assert gateway.command("status").stdout.count("not stored yet")
        happened = gateway.command("logs").stdout
        assert happened.count(f"({first['id']}) is revoked") == 1
        assert f"({first['id']}) resumed, by tcp from 10.1.0.2" in happened

        # The revocation is not forgotten, though the file never got it.
        assert gateway.process is not None
        gateway.process.stop(signal.SIGKILL)
        gateway.share(listen="0.0.0.0")
        [same] = [p for p in gateway.peers() if p["id"] == first["id"]]
        assert same["revoked"]
        back = client.begin_connect(client.peek("gateways")[0]["name"])
        assert back.popen.wait(20) != 0 and "revoked" in back.tail()
    gateway.command("rename", first["id"], "the old one")
    wait_for(lambda: not unwritten(gateway), "it to be written", 60.0)
    assert findings(gateway)["unwritten"] == "ok"
    gateway.stop()
    gateway.share(listen="0.0.0.0")
    [same] = [p for p in gateway.peers() if p["id"] == first["id"]]
    assert same["revoked"] and same["label"] == "the old one"
    client.join(gateway)
    assert reaches(client)
