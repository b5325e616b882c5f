"""Services that end leave the machine as they found it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.netns.hosts import Host
from tests.netns.processes import Failed, wait_for
from tests.netns.product import Client, Gateway
from tests.netns.world import SERVER, World


def states(*hosts: Host) -> dict[Host, dict[str, Any]]:
    return {host: host.state() for host in hosts}


def changes(before: dict[Host, dict[str, Any]]) -> list[str]:
    """What is not as it was then."""
    after = states(*before)
    return [
        f"{host.name} {what}:\n  before {before[host][what]}\n  now    {after[host][what]}"
        for host in before
        for what in before[host]
        if after[host][what] != before[host][what]
    ]


def wait_until_as_before(before: dict[Host, dict[str, Any]]) -> None:
    """Connections that are closing take a moment; everything else is at once."""
    try:
        wait_for(lambda: not changes(before), "the networks to be as before", 8.0, 0.3)
    except Failed as failed:
        raise Failed("\n".join([str(failed), *changes(before)])) from None


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_after_the_services_end(fresh_world: World, ending: int) -> None:
    world = fresh_world
    with world.serving(secure=False):
        before = states(world.client, world.gateway)
        with Gateway(world) as gateway, Client(world) as client:
            gateway.share()
            client.start()
            client.join(gateway)
            assert world.client.state() != before[world.client]
            with world.client.connect(SERVER, 7) as open_flow:
                open_flow.sendall(b"open while the services end")
                assert open_flow.recv(100)
                assert client.process is not None and gateway.process is not None
                assert client.process.stop(ending) == 0
                assert gateway.process.stop(ending) == 0
            wait_until_as_before(before)
            assert not list(client.home.glob("*.sock"))
            assert not list(gateway.home.glob("*.sock"))


def test_disconnect_undoes_what_connect_did(fresh_world: World) -> None:
    world = fresh_world
    with world.serving(secure=False), Gateway(world) as gateway, Client(world) as client:
        gateway.share()
        client.start()
        before = states(world.client)
        client.join(gateway)
        client.command("disconnect")
        wait_until_as_before(before)


def test_a_client_killed_outright_is_cleaned_up_after_by_its_next_start(
    fresh_world: World,
) -> None:
    world = fresh_world
    with world.serving(secure=False), Gateway(world) as gateway, Client(world) as client:
        gateway.share()
        before = states(world.client)
        client.start()
        client.join(gateway)
        assert client.process is not None
        client.process.kill()
        client.start()
        assert client.stop() == 0
        wait_until_as_before(before)
