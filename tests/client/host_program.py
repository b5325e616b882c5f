"""Sets a host up as the client does, says `ready MARK NIC`, and obeys lines on standard input.

Arguments: the state folder, then `key=value` settings (`gateway`, `kill_switch`, `block`, `lease`).
Lines: `hold`, `release`, `change`, `renew`, `undo` (and exit). Each is answered with `ok`;
`guards` first with a line for each rule that keeps traffic in.
"""

from __future__ import annotations

import sys
from pathlib import Path

from client.model import ClientConfig
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
        block_while_reconnecting=settings.get("block") != "off",
    )
    host = LinuxHost(config)
    host.recover()
    if settings.get("only") == "recover":
        return
    mark = host.prepare()
    nic = host.open_nic()
    nic.set_mtu(1400)
    addresses = lease(int(settings.get("lease", "77")))
    host.set_up(nic, addresses, settings.get("gateway", "10.201.0.1"))
    print("ready", mark, nic.name, flush=True)
    for line in sys.stdin:
        match line.strip():
            case "hold":
                host.hold(False)
            case "release":
                host.hold(True)
            case "change":
                host.change(nic, addresses, lease(78))
            case "renew":
                nic.close()
                nic = host.open_nic()
                host.renew(nic, addresses)
            case "guards":
                print("\n".join(host.guards().rules), flush=True)
            case "undo":
                host.undo()
                nic.close()
                print("ok", flush=True)
                return
        print("ok", flush=True)


main()
