"""First contact by `connect` alone, over a router that is the gateway, multicast or not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import qrcode

from control.exits import Exit
from tests.netns.conftest import opened
from tests.netns.hosts import Host
from tests.netns.processes import wait_for
from tests.netns.product import EXECUTABLE, PORT, Client, Gateway
from tests.netns.terminal import Terminal
from tests.netns.world import GATEWAY_LAN, Shape, World

DEAF = """table inet deaf {
    chain incoming {
        type filter hook input priority 0
        udp dport 5353 drop
    }
}
"""
"""No multicast DNS reaches this host."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with opened(Shape()) as world:
        yield world


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    with Gateway(world) as gateway:
        yield gateway.share("--name", "Kitchen")


@contextlib.contextmanager
def deaf(*hosts: Host) -> Iterator[None]:
    """Multicast is filtered on the way to these hosts."""
    for host in hosts:
        host.nft(DEAF)
    try:
        yield
    finally:
        for host in hosts:
            host.nft("delete table inet deaf")


def discovered(world: World, client: Client) -> tuple[dict[str, Any], str]:
    """What `discover` finds once a router has answered in its time, for programs and for people."""
    argv = [str(EXECUTABLE), "discover", "--seconds", "0.1"]
    answer: dict[str, Any] = {}
    shown = ""

    def found() -> bool:
        nonlocal answer, shown
        told = [
            world.client.run([*argv, *more], env=client.environment(), check=False).stdout
            for more in (["--json"], [])
        ]
        answer, shown = json.loads(told[0]), told[1]
        return bool(answer["routers"]) and "router" in shown

    wait_for(found, "the router to answer", 40.0)
    return answer, shown


def test_first_contact_by_connect_alone_whatever_becomes_of_multicast(
    world: World, gateway: Gateway
) -> None:
    """With nobody at a terminal: as far as the digits, which nobody has compared."""
    with Client(world, name="near") as client:
        client.start()

        def digits() -> str:
            done = client.command("connect", "--wait", "20", check=False)
            assert done.returncode == Exit.UNCONFIRMED, done.stderr
            assert f"this network's router: {GATEWAY_LAN}:{PORT}" in done.stderr
            assert f"vpnshare connect {GATEWAY_LAN}:{PORT} --code DIGITS" in done.stderr
            return str(client.status()["code"])

        for host in (world.gateway, world.client):
            with deaf(host):
                digits()
            client.command("disconnect")
            wait_for(lambda: gateway.requests() == [], "the request to be taken back", 20.0)
        with deaf(world.gateway, world.client):
            (found,) = json.loads(client.command("api", "nearby").stdout)["gateways"]
            assert (found["way"], found["target"]) == ("router", f"{GATEWAY_LAN}:{PORT}")
            assert found["fingerprint"] == gateway.status()["fingerprint"]
            answer, shown = discovered(world, client)
            assert answer["gateways"] == [], "none is heard"
            assert answer["routers"] == [
                {"target": found["target"], "fingerprint": found["fingerprint"]}
            ]
            assert f"join {found['target']}" in shown and found["fingerprint"] in shown
            assert gateway.requests() == [], "nobody there was bothered"
            code = digits()
            gateway.command("approve", code)
            client.command("connect", "--code", code)
            assert client.status()["state"] == "connected"
        client.command("disconnect")


def test_its_name_in_local_is_asked_by_multicast(world: World, gateway: Gateway) -> None:
    """The announcement's host is called by the gateway's fingerprint."""
    pytest.importorskip("zeroconf")
    name = gateway.status()["fingerprint"].replace(":", "") + ".local"
    with Client(world, name="by-local-name") as client:
        client.start()

        def found() -> bool:
            # The announcement may take its time to be made; a name that nobody has is said at once.
            done = client.command("connect", name, "--wait", "20", check=False)
            assert done.returncode in (Exit.UNCONFIRMED, Exit.NOT_FOUND), done.stderr
            return done.returncode == Exit.UNCONFIRMED

        wait_for(found, "the name to lead to the gateway", 40.0)
        assert client.status()["gateway"] == f"tcp:{name}:{PORT}"
        client.command("disconnect")
        wait_for(lambda: gateway.requests() == [], "the request to be taken back", 20.0)


def test_at_a_terminal_it_is_chosen_compared_and_approved(world: World, gateway: Gateway) -> None:
    with Client(world, name="at-terminal") as client:
        client.start()
        argv = world.client.argv(["sh", "-c", f"{EXECUTABLE} connect; exec sleep 60"])
        with Terminal.running(world.directory, argv, client.environment(), 100, 40) as terminal:
            terminal.wait_for_text("HOST:PORT [1]:", 30)
            assert "this network's router, 10.1.0.1:47800, key" in terminal.text()
            terminal.press("1", "Enter")
            terminal.wait_for_text("type the digits, or y", 30)
            request = gateway.wait_for_request()
            code = f"{request['code'][:3]} {request['code'][3:]}"
            assert f"Here the code is {code}" in terminal.text()
            terminal.press("y", "Enter")
            terminal.wait_for_text("owner to approve", 30)
            console = world.gateway.argv([str(EXECUTABLE), "console"])
            with Terminal.running(gateway.home, console, gateway.environment(), 110, 40) as owner:
                owner.wait_for_text(code, 30)

                # A key that was on its way when the request appeared approves nothing.
                def connected() -> bool:
                    owner.press("a")
                    return "Connected to" in terminal.text()

                wait_for(connected, "the approval", 30.0, every=0.5)
                owner.press("q")
        wait_for(lambda: client.peek()["state"] == "connected", "the connection")
        client.command("disconnect")


CAMERA = """#!/bin/sh
# zbarimg takes no --nodisplay.
for word; do
    shift
    case $word in --nodisplay) ;; *) set -- "$@" "$word" ;; esac
done
zbarimg "$@" PICTURE
exec sleep 60
"""
"""A `zbarcam` before which the picture is held."""


@pytest.mark.skipif(not shutil.which("zbarimg"), reason="needs zbarimg")
def test_at_a_terminal_a_code_is_read_by_the_camera(world: World, gateway: Gateway) -> None:
    """The picture is what the gateway shows; the URI on the laptop's screen would be a secret."""
    programs = world.directory / "camera"
    programs.mkdir()
    uri, picture = gateway.pair(), programs / "code.png"
    code = qrcode.QRCode(border=4, box_size=6)
    code.add_data(uri)
    code.make(fit=True)
    code.make_image().save(str(picture))
    camera = programs / "zbarcam"
    camera.write_text(CAMERA.replace("PICTURE", str(picture)))
    camera.chmod(0o755)
    with Client(world, name="by-camera") as client:
        client.start()
        env = {**client.environment(), "PATH": f"{programs}:{os.environ['PATH']}"}
        argv = world.client.argv(["sh", "-c", f"{EXECUTABLE} connect --scan; exec sleep 60"])
        with Terminal.running(programs, argv, env, 100, 40) as terminal:
            terminal.wait_for_text("A pairing code was read.", 30)
            gateway.approve_next(30.0)
            terminal.wait_for_text("Connected to", 30)
            assert "Hold the QR code of the phone" in terminal.text()
            assert uri[10:40] not in terminal.text().replace("\n", "")
        assert client.status()["state"] == "connected"
        client.command("disconnect")
