"""The gateway's routing as Android's netd arranges it, with a VPN for every user.

A phone has no main table to speak of. netd (server/RouteController.cpp) gives each
network a table, and each app's packet walks this ladder, both families alike:

    13000  not protected from the VPN, user 0-99999     the VPN's table
    16000  marked with a network                        that network's table
    17000  tied to an interface                         that interface's table
    31000  no network chosen                            the default network's table
    32000  whatever is left                             unreachable

What arrives is marked with its network, as chosen and protected; answers of the
kernel carry the mark of what they answer (`fwmark_reflect`), and so do accepted
connections (`tcp_fwmark_accept`). In the world the phone's Wi-Fi is `lan0`, its default
network is `under0`, the VPN is `tun0`.

When the VPN goes, its rules go, and every app uses the default network.
"""

from __future__ import annotations

from tests.netns.hosts import Host
from tests.netns.world import World

VPN = "tun0"
TABLES = {VPN: 1001, "lan0": 1002, "under0": 1003}
NETWORKS = {VPN: 0x65, "lan0": 0x64, "under0": 0x66}
CHOSEN, PROTECTED = 0x10000, 0x20000
"""Bits of a mark beside the network's number: chosen by the app; not for the VPN."""
USERS = "0-99999"


def phone_routes(world: World) -> None:
    """Take the world's VPN away and build the ladder; the VPN comes with `vpn_up`."""
    world.vpn_down()
    gateway = world.gateway
    gateway.sysctl(
        {
            "net.ipv4.tcp_fwmark_accept": 1,
            "net.ipv4.fwmark_reflect": 1,
            "net.ipv6.fwmark_reflect": 1,
        }
    )
    marks = "\n".join(
        f'iifname "{name}" meta mark set {number | CHOSEN | PROTECTED:#x}'
        for name, number in NETWORKS.items()
    )
    gateway.nft(
        "table inet netd {\n chain input {\n"
        f"  type filter hook input priority mangle; policy accept;\n{marks}\n }}\n}}\n"
    )
    for version in (4, 6):
        gateway.ip(f"-{version} rule flush")
        for name in ("lan0", "under0"):
            _network(gateway, version, name)
        gateway.ip(
            f"-{version} rule add pref 31000 fwmark 0x0/0xffff iif lo lookup {TABLES['under0']}",
            f"-{version} rule add pref 32000 unreachable",
        )
    gateway.ip(
        f"-4 route add 10.1.0.0/24 dev lan0 table {TABLES['lan0']}",
        f"-6 route add fd01::/64 dev lan0 table {TABLES['lan0']}",
        f"-6 route add fe80::/64 dev lan0 table {TABLES['lan0']}",
        f"-4 route add 10.7.0.0/24 dev under0 table {TABLES['under0']}",
        f"-4 route add default via 10.7.0.1 dev under0 table {TABLES['under0']}",
        f"-6 route add fd07::/64 dev under0 table {TABLES['under0']}",
        f"-6 route add fe80::/64 dev under0 table {TABLES['under0']}",
        f"-6 route add default via fd07::1 dev under0 table {TABLES['under0']}",
    )


def _network(gateway: Host, version: int, name: str) -> None:
    table, mark = TABLES[name], f"{NETWORKS[name] | CHOSEN:#x}/{0xFFFF | CHOSEN:#x}"
    gateway.ip(
        f"-{version} rule add pref 16000 fwmark {mark} iif lo lookup {table}",
        f"-{version} rule add pref 17000 iif lo oif {name} lookup {table}",
    )


def vpn_up(world: World) -> None:
    """The VPN application connects."""
    world.vpn_up(VPN, routes=False)
    gateway, table = world.gateway, TABLES[VPN]
    for version in (4, 6):
        gateway.ip(
            f"-{version} route add default dev {VPN} table {table}",
            f"-{version} rule add pref 13000 fwmark 0x0/0x20000 iif lo uidrange {USERS}"
            f" lookup {table}",
        )
        _network(gateway, version, VPN)


def vpn_down(world: World) -> None:
    """The VPN application disconnects: its rules go with its interface."""
    for version in (4, 6):
        world.gateway.ip(*[f"-{version} rule delete lookup {TABLES[VPN]}"] * 3)
    world.vpn_down(VPN)
