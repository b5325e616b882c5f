"""Other tunnels in the same topology, configured as their manuals do it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path as File

from benchmarks.paths import ECHO_PORT, Missing, Opener, Path
from tests.netns.hosts import Host, command
from tests.netns.processes import Process, wait_for
from tests.netns.world import GATEWAY_LAN, SERVER, World

SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
INSIDE_CLIENT, INSIDE_GATEWAY = "10.5.0.2", "10.5.0.1"


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
def ended(processes: list[Process]) -> Iterator[None]:
    """Kill the processes at the end."""
    try:
        yield
    finally:
        for process in reversed(processes):
            process.kill()


@contextlib.contextmanager
def wireguard_go(world: World) -> Iterator[Path]:
    """The user-space WireGuard. Its control sockets are files, so device names are the world's."""
    daemon, wg = program("wireguard-go"), program("wg")
    keys = {}
    for name in ("client", "gateway"):
        private = command([wg, "genkey"])
        path = world.directory / f"wg-{name}"
        path.write_text(private)
        keys[name] = (path, command([wg, "pubkey"], private).strip())
    processes: list[Process] = []
    environment = {**os.environ, "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
    devices = {"client": f"wc{world.run_name}", "gateway": f"wg{world.run_name}"}
    with ended(processes):
        for name, host, address in (
            ("gateway", world.gateway, INSIDE_GATEWAY),
            ("client", world.client, INSIDE_CLIENT),
        ):
            device = devices[name]
            processes.append(host.start([daemon, "-f", device], env=environment))
            socket = File(f"/var/run/wireguard/{device}.sock")
            wait_for(socket.exists, f"the socket of {device}")
            other = "client" if name == "gateway" else "gateway"
            peer = ["peer", keys[other][1], "allowed-ips", "0.0.0.0/0"]
            if name == "client":
                peer += ["endpoint", f"{GATEWAY_LAN}:51820"]
            host.run([wg, "set", device, "private-key", str(keys[name][0]),
                      *(["listen-port", "51820"] if name == "gateway" else []), *peer])  # fmt: skip
            host.ip(f"address add {address}/24 dev {device}", f"link set {device} mtu 1420 up")
        world.forward(devices["gateway"], "10.5.0.0/24")
        world.client.ip(f"-4 route add 10.9.0.0/24 dev {devices['client']}")
        wait_until_reached(world.client)
        yield Path(world)


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
    "wireguard-go": wireguard_go,
    "openvpn": openvpn,
    "shadowsocks": shadowsocks,
    "sshuttle": sshuttle,
}
