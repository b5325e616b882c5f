"""Sets a host up as the client does, says `ready MARK NIC`, and obeys lines on standard input.

Arguments: the state folder, then `key=value` settings (`forward`, `kill_switch`, `local`, `lease`,
`endpoint`, `only`). Lines: `block`, `tunnel`, `open`, `follow`, `change`, `renew`, `refuse`, `undo`
(and exit), `inject HEX` (a packet into the NIC). Each is answered with `ok`; `guards` first with a
line for each rule that keeps traffic in, `beside` for what goes beside it, `read` with a line of
the packets that have come out of the NIC.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

from client.block import Force
from client.model import ClientConfig, TransportEndpoint
from client.outlet.nic.host import LinuxHost
from client.system.routes import TunnelAddresses


def lease(number: int) -> TunnelAddresses:
    return TunnelAddresses(
        f"10.{number}.0.2", f"fd{number}::2", f"10.{number}.0.1", f"fd{number}::1"
    )


def read(fd: int) -> str:
    """The UDP packets of IPv4 that wait in the NIC, in hexadecimal, joined by blanks."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            packet = os.read(fd, 70000)[10:]
            if packet[0] == 0x45 and packet[9] == socket.IPPROTO_UDP:
                found.append(packet.hex())
    return " ".join(found)


def main() -> None:
    settings = dict(word.split("=") for word in sys.argv[2:])
    config = ClientConfig(
        state_dir=Path(sys.argv[1]),
        kill_switch=settings.get("kill_switch") == "on",
        forward=settings.get("forward") != "off",
        local_interfaces=tuple(settings["local"].split(",")) if "local" in settings else (),
    )
    host = LinuxHost(config)
    if settings.get("only") == "undo":
        host.undo()
        return
    if host.found():
        host.enforce(Force.BLOCK)
    if settings.get("only") == "take over":
        return
    mark = host.prepare()
    nic = host.open_nic()
    nic.set_mtu(1400)
    addresses = lease(int(settings.get("lease", "77")))
    if "endpoint" in settings:
        host.reach((TransportEndpoint.parse(settings["endpoint"]),))
    host.enforce(Force.BLOCK, nic)
    host.set_up(nic, addresses)
    host.enforce(Force.TUNNEL, nic, addresses)
    host.set_resolver(nic, addresses)
    force = Force.TUNNEL
    print("ready", mark, nic.name, flush=True)
    for line in sys.stdin:
        match line.strip():
            case packet if packet.startswith("inject "):
                os.write(nic.fileno(), bytes(10) + bytes.fromhex(packet.removeprefix("inject ")))
            case "read":
                print(read(nic.fileno()), flush=True)
            case "block" | "tunnel" | "nothing" as word:
                force = Force(word)
                host.enforce(force, nic, addresses)
            case "follow":
                host.enforce(force, nic, addresses)
            case "change":
                host.set_up(nic, lease(78), addresses)
                host.enforce(force, nic, lease(78))
                host.set_resolver(nic, lease(78))
            case "renew":
                nic.close()
                nic = host.open_nic()
                host.set_up(nic, addresses)
                host.enforce(force, nic, addresses)
                host.set_resolver(nic, addresses)
            case "guards":
                print("\n".join(host.guards().rules), flush=True)
            case "beside":
                print("\n".join(host.guards().beside), flush=True)
            case "undo":
                host.undo()
                nic.close()
                print("ok", flush=True)
                return
        print("ok", flush=True)


main()
