"""A phone on the cable beside plain TCP and beside adb: the same transfer by each, in turns.

One client, one gateway, three ways between them: TCP over the veth pair (`plain`), adb's stream
by the real `adb` and its server (`adb`, where it is installed), and our own session over pyusb
(`usb`). The phone's adbd is a double in Python behind the last two, and pyusb's backend one in
front of it, since no kernel here has USB. They take more than what is measured, so processor time
is told apart: `client` is the client (with adb's server, where that is used) without the double in
it, `doubles` is the rest. Every transfer's SHA-256 is compared.

    sudo python -m benchmarks.cable [--megabytes 200] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fakes import remote_usb
from tests.fakes.adbd import Adbd, TcpWire
from tests.fakes.sysfs import ADB, MTP, Sysfs
from tests.netns.hosts import Host
from tests.netns.processes import Process, cpu_seconds, wait_for
from tests.netns.product import PORT, Client, Gateway
from tests.netns.servers import FILE_NAME
from tests.netns.world import GATEWAY_LAN, SERVER, World

CLIENT = str(Path(__file__).with_name("cable_client.py"))
PHONE_PORT = 15555
SERVER_PORT = 15037
OWN, BY_ADB = "R58M123", "BYADB"
ADDRESS = f"{GATEWAY_LAN}:{PHONE_PORT}"
WAYS = {
    "plain": ("tcp", f"tcp:{GATEWAY_LAN}:{PORT}"),
    "usb": ("usb", f"usb:{OWN}:{PORT}"),
    "adb": ("usb", f"usb:{BY_ADB}:{PORT}"),
}
"""The transport that is asked for, and the endpoint that it has to lead to."""


def phone() -> None:
    """A phone that adb reaches by TCP, as it does by Wi-Fi; until it is ended."""
    with socket.create_server(("0.0.0.0", PHONE_PORT)) as listener:
        print("listening", flush=True)
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            double = Adbd(TcpWire(sock), auth=False)
            threading.Thread(target=double.run, daemon=True).start()


class CabledClient(Client):
    """A client that has both phones on its cable."""

    def daemon(self) -> list[str]:
        folder = self.world.directory
        return [sys.executable, CLIENT, str(folder), BY_ADB, ADDRESS, "vpnshare", self.role]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "ANDROID_ADB_SERVER_PORT": str(SERVER_PORT)}


@contextlib.contextmanager
def adb_server(host: Host, folder: Path) -> Iterator[int | None]:
    """The real adb's server with the phone attached; its pid."""
    if shutil.which("adb") is None:
        print("adb is not installed: its column is left out", file=sys.stderr)
        yield None
        return
    env = os.environ | {"HOME": str(folder), "TMPDIR": str(folder)}
    process = host.start(["adb", "-P", str(SERVER_PORT), "nodaemon", "server"], env=env)
    try:
        wait_for(
            lambda: "connected to" in host.run(
                ["adb", "-P", str(SERVER_PORT), "connect", ADDRESS], env=env, check=False
            ).stdout, "adb to have its phone", 30.0, 0.5,
        )  # fmt: skip
        yield process.pid
    finally:
        process.kill()


class Bench:
    """The three ways."""

    def __init__(self, client: Client, size: int, folder: Path) -> None:
        self.client = client
        self.host = client.host
        self.size = size
        self.bus = folder / "on-the-cable"
        self.got = folder / "got"
        with open(folder / FILE_NAME, "rb") as file:
            self.expected = hashlib.sha256(file.read(size)).hexdigest()

    def use(self, way: str) -> None:
        """Connect by that way; no other phone is on the cable then."""
        self.client.command("disconnect")
        self.bus.write_text(way)
        transport, endpoint = WAYS[way]
        self.client.command("connect", "--transport", transport, "--wait", "30")
        status = self.client.status()
        assert (status["state"], status["endpoint"]) == ("connected", endpoint), status

    def down(self) -> float:
        """Seconds for the file to come."""
        began = time.monotonic()
        self.host.run(["curl", "-sS", "--fail", "-o", str(self.got),
                       f"http://{SERVER}:8000/bytes/{self.size}"], timeout=600)  # fmt: skip
        took = time.monotonic() - began
        assert hashlib.sha256(self.got.read_bytes()).hexdigest() == self.expected
        return took

    def up(self) -> float:
        """Seconds for it to go."""
        began = time.monotonic()
        said = self.host.run(["curl", "-sS", "--fail", "-T", str(self.got),
                              f"http://{SERVER}:8000/upload"], timeout=600)  # fmt: skip
        assert said.stdout == self.expected
        return time.monotonic() - began


def measure(megabytes: int, rounds: int) -> None:
    """Print the table."""
    with World() as world, world.serving(secure=False), Gateway(world) as gateway:
        Sysfs(world.directory / "machine").plug("1-1", MTP, ADB, serial=OWN, product="Double")
        # The phone's adbd dials its loopback, and the plain way comes by the LAN.
        gateway.share(listen="0.0.0.0")
        doubles = {
            "usb": world.gateway.start(
                [sys.executable, remote_usb.__file__, str(world.directory / "usb")], name="usb"
            ),
            "adb": world.gateway.start([sys.executable, __file__, "--phone"], name="wifi"),
        }
        doubles["usb"].wait_for_log("plugged in")
        doubles["adb"].wait_for_log("listening")
        (world.directory / "on-the-cable").write_text("plain")
        with adb_server(world.client, world.directory) as server, CabledClient(world) as client:
            client.start().join(gateway, "--transport", "tcp")
            bench = Bench(client, megabytes * 1_000_000, world.directory)
            ways = [way for way in WAYS if way != "adb" or server is not None]
            figures = turns(bench, ways, rounds, client.pid, server, doubles)
    table(figures, megabytes)


Figures = dict[tuple[str, str], list[tuple[float, float, float]]]
"""By way and direction: seconds, and processor seconds of the client and of the doubles."""


def turns(
    bench: Bench,
    ways: list[str],
    rounds: int,
    client: int,
    server: int | None,
    doubles: dict[str, Process],
) -> Figures:
    figures: Figures = {}
    for number in range(rounds):
        for name in ways:
            bench.use(name)
            pids = [client, server] if name == "adb" and server is not None else [client]
            for direction, transfer in (("down", bench.down), ("up", bench.up)):
                before = spent(bench, pids, doubles.get(name))
                took = transfer()
                after = spent(bench, pids, doubles.get(name))
                figures.setdefault((name, direction), []).append(
                    (took, after[0] - before[0], after[1] - before[1])
                )
                print(f"round {number + 1}, {name} {direction}: {bench.size / took / 1e6:.0f} MB/s",
                      file=sys.stderr, flush=True)  # fmt: skip
    return figures


def spent(bench: Bench, pids: list[int], double: Process | None) -> tuple[float, float]:
    """Processor seconds so far: of what is measured, and of the doubles."""
    inside = bench.bus.with_name("backend-seconds")
    backend = float(inside.read_text() or 0) if inside.exists() else 0.0
    phone = double.cpu_seconds() if double is not None else 0.0
    return sum(map(cpu_seconds, pids)) - backend, phone + backend


def table(figures: Figures, megabytes: int) -> None:
    """Medians of the rounds; ratios to the plain way of the same round."""
    print(f"{'':12}{'MB/s':>8}{'ratio':>8}{'client s/GB':>14}{'doubles s/GB':>14}")
    for (name, direction), rounds in figures.items():
        plain = figures["plain", direction]
        rate = statistics.median(megabytes / took for took, _, _ in rounds)
        ratio = statistics.median(base[0] / own[0] for base, own in zip(plain, rounds, strict=True))
        client, double = (
            statistics.median(each[n] for each in rounds) * 1000 / megabytes for n in (1, 2)
        )
        print(f"{f'{name} {direction}':12}{rate:8.0f}{ratio:8.2f}{client:14.2f}{double:14.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cable",
                                     description=(__doc__ or "").split("\n", 1)[0])  # fmt: skip
    parser.add_argument("--megabytes", type=int, default=200, help="each way, 209 at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--phone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phone:
        phone()
    elif os.geteuid():
        parser.error("needs root: it builds network namespaces")
    else:
        measure(options.megabytes, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
