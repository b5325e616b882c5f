"""Sets a host up as the client does, says `ready MARK NIC`, and obeys lines on standard input.

Arguments: the state folder, then `key=value` settings (`kill_switch`, `local`, `lease`, `endpoint`,
`only`). Lines: `block`, `tunnel`, `open`, `follow`, `change`, `renew`, `refuse`, `undo` (and exit).
Each is answered with `ok`; `guards` first with a line for each rule that keeps traffic in, and
`beside` for each network that is direct.
"""

from __future__ import annotations

import sys
from pathlib import Path

from client.block import Force
from client.model import ClientConfig, TransportEndpoint
from client.system.host import LinuxHost
from client.system.routes import TunnelAddresses


def lease(number: int) -> TunnelAddresses:
    return TunnelAddresses(
        f"10.{number}.0.2", f"fd{number}::2", f"10.{number}.0.1", f"fd{number}::1"
    )


def main() -> None:
    settings = dict(word.split("=") for word in sys.argv[2:])
    config = ClientConfig(
        state_dir=Path(sys.argv[1]),
        kill_switch=settings.get("kill_switch") == "on",
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
