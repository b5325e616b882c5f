"""`vpnshare join` and `leave` on a device, with a real gateway beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.exits import Exit
from tests.netns.conftest import opened
from tests.netns.people import Person, somebody
from tests.netns.processes import Process, wait_for
from tests.netns.product import EXECUTABLE, Client, Gateway
from tests.netns.terminal import Terminal
from tests.netns.world import GATEWAY_LAN, SERVER, Shape, World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with opened(Shape()) as world, world.serving(secure=False):
        yield world


@pytest.fixture
def gateway(world: World) -> Iterator[Gateway]:
    with Gateway(world) as gateway:
        yield gateway.share()


@pytest.fixture
def device(world: World, tmp_path: Path) -> Iterator[Client]:
    """A device on which nothing runs, and which has to be as it was in the end."""
    before = world.client.state()
    client = Client(world, name=tmp_path.name)
    try:
        yield client
    finally:
        client.command("down", check=False)
    after = world.client.state()
    assert [k for k in before if k != "sockets" and before[k] != after[k]] == []


def begin(device: Client, *words: str, text: str | None = None) -> Process:
    argv = [str(EXECUTABLE), "join", "--wait", "30", *words]
    if text is not None:
        (device.home / "uri").write_text(text)
        argv = ["sh", "-c", 'exec "$@" <uri', "sh", *argv]
    return device.host.start(argv, name="join", env=device.environment(), cwd=device.home)


def services(device: Client) -> list[int]:
    """Client services of this device's home that run, by their environment.

    A program that one starts looks like it until it is another: a child of a service is none.
    """
    parents = {}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"VPNSHARE_HOME={device.home}".encode() in (each / "environ").read_bytes()
            words = (each / "cmdline").read_bytes().split(b"\0")
            parent = (each / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if mine and b"client" in words:
            parents[int(each.name)] = int(parent)
    return [pid for pid, parent in parents.items() if parent not in parents]


def surf(device: Client) -> None:
    device.host.run(["curl", "-sf", "-m", "10", "-o", "/dev/null", f"http://{SERVER}:8000/bytes/9"])


def test_by_uri_again_and_away(device: Client, gateway: Gateway) -> None:
    joining = begin(device, "-", text=gateway.pair())
    request = gateway.wait_for_request()
    gateway.command("approve")
    assert joining.popen.wait(20) == Exit.OK, joining.tail()
    said = joining.tail()
    assert "vpnshare approve" in said and "vpnshare leave" in said and "Connected to" in said
    assert gateway.peers()[0]["label"] == request["label"]
    surf(device)
    (pid,) = services(device)
    again = json.loads(device.command("join", "--json").stdout)
    assert (again["state"], again["pid"]) == ("connected", pid)
    assert services(device) == [pid]
    left = json.loads(device.command("leave", "--json").stdout)
    assert left == {"pid": pid, "ended": True, "state": "idle"}
    wait_for(lambda: services(device) == [], "the service to be gone")
    assert device.command("leave", check=False).returncode == Exit.NOT_RUNNING
    # A gateway that is known needs nothing else.
    assert "Connected to" in device.command("join").stdout
    surf(device)
    (pid,) = services(device)
    os.kill(pid, signal.SIGKILL)
    # The wish outlives the service, and the next one goes on with it.
    assert "Connected to" in device.command("join").stdout
    device.command("leave")


def test_by_address_with_the_digits(device: Client, gateway: Gateway) -> None:
    asked = device.command("join", GATEWAY_LAN, "--wait", "20", check=False)
    assert asked.returncode == Exit.UNCONFIRMED
    assert f"vpnshare join {GATEWAY_LAN} --code DIGITS" in asked.stderr
    code = device.status()["code"]
    assert gateway.requests()[0]["code"] == code
    gateway.command("approve", code)
    confirmed = device.command("join", GATEWAY_LAN, "--code", code)
    assert "Connected to" in confirmed.stdout
    surf(device)
    device.command("leave")
    assert services(device) == []


def test_by_address_and_by_name_unseen(device: Client, gateway: Gateway) -> None:
    joining = begin(device, GATEWAY_LAN, "--yes", "--json")
    gateway.wait_for_request()
    gateway.command("approve")
    assert joining.popen.wait(20) == Exit.OK, joining.tail()
    name = device.status()["gateway"]
    device.command("leave")
    assert "Connected to" in device.command("join", name).stdout
    gateway.stop()
    wait_for(lambda: device.status()["state"] == "reconnecting", "the loss to be noticed", 20)
    joining = begin(device)
    joining.wait_for_log("Trying again", 10)
    joining.popen.send_signal(signal.SIGINT)
    assert joining.popen.wait(10) == Exit.INTERRUPTED
    assert "goes on as it was before" in joining.tail()
    assert device.status()["state"] == "reconnecting", "a wish stays"
    device.command("leave")
    assert services(device) == []


def test_denied_leaves_nothing(device: Client, gateway: Gateway) -> None:
    joining = begin(device, "-", text=gateway.pair())
    gateway.wait_for_request()
    gateway.command("deny")
    assert joining.popen.wait(20) == Exit.REFUSED, joining.tail()
    assert services(device) == []


def test_what_cannot_be_leaves_nothing(device: Client) -> None:
    unknown = device.command("join", check=False)
    assert unknown.returncode == Exit.NOT_FOUND and "vpnshare join -" in unknown.stderr
    assert device.command("join", "nobody-here", check=False).returncode != Exit.OK
    assert services(device) == []


def test_interrupted_it_takes_back_what_it_began(device: Client, gateway: Gateway) -> None:
    joining = begin(device, "-", text=gateway.pair())
    gateway.wait_for_request()
    joining.popen.send_signal(signal.SIGINT)
    assert joining.popen.wait(20) == Exit.INTERRUPTED, joining.tail()
    assert "is undone" in joining.tail()
    assert services(device) == []


def test_a_service_that_somebody_else_started_goes_on(device: Client, gateway: Gateway) -> None:
    device.start()
    joining = begin(device, "-", text=gateway.pair())
    gateway.approve_next()
    assert joining.popen.wait(20) == Exit.OK, joining.tail()
    assert device.status()["state"] == "connected" and len(services(device)) == 1
    left = device.command("leave").stdout
    assert "was not started by join" in left and "vpnshare down --role client" in left
    assert device.status()["state"] == "idle"


@pytest.fixture
def person() -> Iterator[Person]:
    """Somebody with a password and the right to use sudo with it; gone in the end."""
    with somebody("s", sudo=True) as person:
        yield person


@pytest.mark.skipif(not shutil.which("sudo"), reason="needs sudo")
def test_somebody_with_sudo_at_a_terminal(device: Client, gateway: Gateway, person: Person) -> None:
    # The way there is root's, as it has to be for what root runs: /tmp is anybody's, but sticky.
    argv = person.argv(
        "sh", "-c", f"{EXECUTABLE} join; {EXECUTABLE} leave; sleep 60",
        VPNSHARE_HOME=str(device.home), VPNSHARE_CALLED="./vpnshare",
    )  # fmt: skip
    environment = {"PATH": os.environ["PATH"]}
    with Terminal.running(
        gateway.world.directory, device.host.argv(argv), environment, 100, 30
    ) as terminal:
        terminal.wait_for_text(f"password for {person.name}", 20)
        assert "to make the network interface" in terminal.text()
        terminal.press("-l", person.password)
        terminal.press("Enter")
        terminal.wait_for_text("HOST:PORT [1]:", 20)
        terminal.press("u", "Enter")
        terminal.wait_for_text("Pairing URI", 20)
        uri = gateway.pair()
        terminal.press("-l", uri)
        terminal.press("Enter")
        terminal.wait_for_text("to approve", 20)
        assert uri[:20] not in terminal.text()
        gateway.approve_next()
        terminal.wait_for_text("Tunnel", 20)
        surf(device)
        terminal.press("q")
        stop = f"End it: sudo VPNSHARE_HOME={device.home} ./vpnshare leave"
        terminal.wait_for_text("Disconnected", 20)
        assert stop in terminal.text().replace("\n", "")
        wait_for(lambda: services(device) == [], "the service to be gone")
