"""`vpnshare client --proxy` as a user without any right, with the programs that people use.

The client may not even make user namespaces. Everything that it carries is captured on its way:
nothing leaves outside the VPN, names included.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from subprocess import CompletedProcess

import pytest
import socks

from tests.netns.conftest import opened
from tests.netns.exits import leaves_by_the_vpn
from tests.netns.processes import wait_for
from tests.netns.product import Client, Gateway
from tests.netns.servers import FILE_NAME, HALF_CLOSE_SIZE
from tests.netns.test_private import REFUSING
from tests.netns.world import SERVER, SERVER6, Shape, World

USER, OTHER = 64_001, 64_002
PLACE = "127.0.0.1:1080"


class Unprivileged(Client):
    """A client of a user's, who has no capability and may make no namespace."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.user = USER
        os.chown(self.home, USER, USER)

    def daemon(self) -> list[str]:
        return [sys.executable, "-c", REFUSING, *super().daemon()]

    @property
    def token(self) -> str:
        return next(self.home.rglob("proxy-token")).read_text().strip()


@dataclass(frozen=True)
class Proxied:
    """The world, and who is in it."""

    world: World
    gateway: Gateway
    client: Unprivileged

    def run(self, *argv: str, user: int = USER) -> CompletedProcess[str]:
        """As a user of the client's machine."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return self.world.client.run([*become, *argv], check=False)

    def curl(self, proxy: str, *argv: str, user: int = USER) -> CompletedProcess[str]:
        """With a proxy's URL, or what stands for its place in one."""
        return self.run("curl", "-sS", "--max-time", "30", "-x", proxy, *argv, user=user)

    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.client.status()["counters"]
        return counters

    def stream(self, host: str, port: int) -> socks.socksocket:
        """A stream by SOCKS, in the hands of the test."""

        def dial() -> socks.socksocket:
            sock = socks.socksocket()
            sock.set_proxy(socks.SOCKS5, "127.0.0.1", 1080, True, "vpnshare", self.client.token)
            sock.settimeout(30)
            sock.connect((host, port))
            return sock

        return self.world.client.inside(dial)


@pytest.fixture(scope="module")
def proxied() -> Iterator[Proxied]:
    with opened(Shape()) as world, world.serving(), Gateway(world) as gateway:
        gateway.share()
        with Unprivileged(world) as client:
            client.start("--proxy", "--pac")
            pair = Proxied(world, gateway, client)
            early = pair.curl(f"http://{PLACE}", "http://server.test:8000/digest")
            assert "the tunnel is away" in early.stdout, early
            client.join(gateway)
            with world.leaks() as leaks:
                yield pair
                assert leaks.count() == 0, "\n".join(leaks.lines()[:20])


@pytest.mark.parametrize("scheme", ["socks5h", "socks5", "http", "connect"])
def test_curl(proxied: Proxied, scheme: str) -> None:
    size = 3_000_000
    data = (proxied.world.directory / FILE_NAME).read_bytes()[:size]
    options = ["-p"] if scheme == "connect" else []
    proxy = f"{'http' if scheme == 'connect' else scheme}://{PLACE}"
    hosts = [f"{SERVER}", f"[{SERVER6}]"] + ([] if scheme == "socks5" else ["server.test"])
    for number, host in enumerate(hosts):
        got = proxied.world.directory / f"got-{scheme}-{number}"
        got.touch()
        got.chmod(0o666)
        done = proxied.curl(proxy, *options, "-o", str(got), f"http://{host}:8000/bytes/{size}")
        assert not done.returncode, done.stderr
        assert got.read_bytes() == data
    sent = proxied.world.directory / f"sent-{scheme}"
    sent.write_bytes(data)
    done = proxied.curl(proxy, *options, "-T", str(sent), f"http://{SERVER}:8000/put")
    assert done.stdout == hashlib.sha256(data).hexdigest(), done.stderr


def test_https(proxied: Proxied) -> None:
    for proxy in (f"http://{PLACE}", f"socks5h://{PLACE}"):
        done = proxied.curl(proxy, "-k", "https://server.test:8443/bytes/10")
        assert not done.returncode and len(done.stdout.encode()) >= 5, done


@pytest.mark.parametrize(
    ("target", "reply", "status"),
    [
        ("server.test:9999", 5, 502),
        ("nobody.test:80", 4, 502),
        ("127.0.0.1:80", 2, 403),
    ],
)
def test_what_is_not_reached_is_told(
    proxied: Proxied, target: str, reply: int, status: int
) -> None:
    by_socks = proxied.curl(f"socks5h://{PLACE}", f"http://{target}/")
    assert f"({reply})" in by_socks.stderr, by_socks
    by_http = proxied.curl(f"http://{PLACE}", "-w", "%{http_code}", f"http://{target}/")
    assert by_http.stdout.startswith(f"{target} "), by_http
    assert by_http.stdout.endswith(str(status))


def test_each_side_may_end_first(proxied: Proxied) -> None:
    sock = proxied.stream("server.test", 8014)
    sock.sendall(b"a" * 100_000)
    sock.shutdown(socket.SHUT_WR)
    assert received(sock).decode().strip() == hashlib.sha256(b"a" * 100_000).hexdigest()
    sock = proxied.stream("server.test", 8016)
    assert len(received(sock)) == HALF_CLOSE_SIZE
    sock.sendall(b"b" * 100_000)
    sock.close()
    expected = hashlib.sha256(b"b" * 100_000).hexdigest()
    wait_for(
        lambda: (
            proxied.curl(f"socks5h://{PLACE}", f"http://{SERVER}:8000/digest").stdout == expected
        ),
        "what came behind the host's end",
    )


def test_a_reset_is_passed_on(proxied: Proxied) -> None:
    sock = proxied.stream(SERVER, 8015)
    with pytest.raises(ConnectionResetError):
        while sock.recv(100):
            pass


@pytest.mark.parametrize("host", [SERVER, SERVER6, "server.test"])
def test_datagrams(proxied: Proxied, host: str) -> None:
    def associate() -> socks.socksocket:
        sock = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.set_proxy(socks.SOCKS5, "127.0.0.1", 1080)
        sock.settimeout(30)
        sock.sendto(b"ping", (host, 7))
        return sock

    with contextlib.closing(proxied.world.client.inside(associate)) as sock:
        # A datagram may be lost anywhere; the second one goes to a known name.
        data, sender = sock.recvfrom(2000)
        assert (data, sender[1]) == (b"ping", 7)
        payload = os.urandom(1200)
        sock.sendto(payload, (host, 7))
        assert sock.recvfrom(2000)[0] == payload


def test_a_check_asks_by_the_proxys_own_stack(proxied: Proxied) -> None:
    client = proxied.client

    def check() -> tuple[int, str, str]:
        done = client.command("check", "--json", check=False)
        return done.returncode, done.stdout, done.stderr

    leaves_by_the_vpn(proxied.world, proxied.gateway, client.home, "proxy", check)


def test_two_hundred_downloads_at_once(proxied: Proxied) -> None:
    urls = [f"http://{SERVER}:8000/bytes/65536?{number}" for number in range(200)]
    done = proxied.curl(
        f"socks5h://{PLACE}", "-Z", "--parallel-max", "200", "-o", "/dev/null",
        *(word for url in urls[1:] for word in ("-o", "/dev/null")),
        "-w", "%{http_code} %{size_download}\n", *urls,
    )  # fmt: skip
    assert done.stdout.split("\n")[:-1] == ["200 65536"] * 200, done.stderr


def test_another_user_needs_the_password(proxied: Proxied) -> None:
    target = f"http://{SERVER}:8000/bytes/10"
    assert proxied.curl(f"socks5h://{PLACE}", target, user=OTHER).returncode == 97
    for password, status in (
        ("", 407),
        ("vpnshare:wrong@", 407),
        (f"vpnshare:{proxied.client.token}@", 200),
    ):
        done = proxied.curl(
            f"http://{password}{PLACE}", "-o", "/dev/null", "-w", "%{http_code}", target,
            user=OTHER,
        )  # fmt: skip
        assert done.stdout == str(status), done
    right = f"socks5h://vpnshare:{proxied.client.token}@{PLACE}"
    assert not proxied.curl(right, "-o", "/dev/null", target, user=OTHER).returncode
    assert proxied.curl(f"socks5h://vpnshare:wrong@{PLACE}", target, user=OTHER).returncode == 97
    counters = proxied.counters()
    assert counters["proxy__socks__password_wrong__refused"] == 1
    assert counters["proxy__http__password_missing__refused"] == 1


def test_garbage_and_silence_stop_nobody(proxied: Proxied) -> None:
    def knock(data: bytes) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", 1080))
        sock.sendall(data)
        return sock

    def crowd() -> Sequence[socket.socket]:
        return [knock(b"\x05") for _ in range(300)]

    inside = proxied.world.client.inside
    silent = inside(crowd)
    garbage = inside(lambda: knock(b"\xff\x00" + bytes(1000)))
    garbage.settimeout(30)
    assert received(garbage) == b""
    done = proxied.curl(f"socks5h://{PLACE}", "-o", "/dev/null", f"http://{SERVER}:8000/bytes/10")
    assert not done.returncode, done.stderr
    counters = proxied.counters()
    assert counters["proxy__any__garbage__refused"] == 1
    assert counters["proxy__speaking__oldest_closed"] >= 300 - 256
    for sock in silent:
        sock.close()


def test_flows_and_status(proxied: Proxied) -> None:
    sock = proxied.stream(SERVER, 7)
    sock.sendall(b"12345")
    assert sock.recv(5) == b"12345"
    status = proxied.client.status()
    assert (status["outlet"], status["proxy"], status["interface"]) == ("proxy", PLACE, None)
    wait_for(lambda: (SERVER, 5, 5) in flows(proxied), "the flow with its bytes")
    sock.close()
    wait_for(lambda: (SERVER, 5, 5) not in flows(proxied), "the flow's end")


def flows(proxied: Proxied) -> list[tuple[str, int, int]]:
    return [
        (flow["destination"].rpartition(":")[0], flow["to_tunnel_bytes"], flow["from_tunnel_bytes"])
        for flow in proxied.client.peek("flows")["flows"]
        if flow["state"] == "established"
    ]


def received(sock: socket.socket) -> bytes:
    whole = b""
    while data := sock.recv(65536):
        whole += data
    return whole
