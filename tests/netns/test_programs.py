"""Programs that people use, over the tunnel."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns import world as hosts
from tests.netns.conftest import Tunnel, connected, opened
from tests.netns.hosts import Host
from tests.netns.processes import wait_for
from tests.netns.servers import FILE_NAME, HALF_CLOSE_SIZE, STUN_MAGIC
from tests.netns.world import Shape

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def need(program: str, package: str) -> None:
    """Skip the test where a program is not installed."""
    if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        pytest.skip(f"needs {program} (Debian's package {package})")


def listens(host: Host, port: int) -> bool:
    return bool(host.run(["ss", "-H", "-ltn", "sport", "=", f":{port}"]).stdout)


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


# ---- iperf3


@pytest.fixture
def iperf(tunnel: Tunnel) -> Iterator[None]:
    """A server for one run: between two of them it is busy, and then closed, for a moment."""
    process = tunnel.world.server.start(["iperf3", "-s", "-1", "--forceflush"])
    process.wait_for_log("Server listening")
    yield
    process.kill()


@pytest.mark.usefixtures("iperf")
@pytest.mark.parametrize("reverse", [False, True], ids=["up", "down"])
class TestIperf:
    def run(self, tunnel: Tunnel, server: str, *options: str) -> Any:
        argv = ["iperf3", "-c", server, "-t", "2", "--json", *options]
        report = json.loads(tunnel.world.client.run(argv).stdout)
        assert "error" not in report, report["error"]
        return report["end"]

    def test_tcp(self, tunnel: Tunnel, server: str, reverse: bool) -> None:
        end = self.run(tunnel, server, "-P", "4", *["-R"] * reverse)
        assert end["sum_received"]["bytes"] > 1_000_000

    def test_udp(self, tunnel: Tunnel, server: str, reverse: bool) -> None:
        # Of a size and at a rate of which the receiver's buffer holds half a second: it is not
        # for the tunnel to answer for an iperf3 that others keep from the processor.
        options = ("-u", "-l", "400", "-b", "2M", "-w", "200K", *["-R"] * reverse)
        end = self.run(tunnel, server, *options)
        assert end["sum"]["packets"] > 1000
        assert end["sum"]["lost_percent"] < 1


# ---- HTTP/2, and an upload that the server does not want


def test_http2(tunnel: Tunnel, server: str, tmp_path: Path) -> None:
    need("nghttpd", "nghttp2-server")
    world = tunnel.world
    names = [secrets.token_hex(4) for _ in range(30)]
    site = world.directory / "site"
    site.mkdir(exist_ok=True)
    for name in names:
        (site / name).write_bytes(os.urandom(200_000))
    key, certificate = world.certificate()
    daemon = world.server.start(
        ["nghttpd", "-a", server, "-d", str(site), "8080", str(key), str(certificate)],
        name="nghttpd",
    )
    try:
        wait_for(lambda: listens(world.server, 8080), "nghttpd")
        got = world.client.run(
            ["curl", "-sS", "--fail", "-g", "-k", "--parallel", "--write-out", "%{http_version}\n",
             *(word for name in names for word in
               ("-o", str(tmp_path / name), f"https://{bracketed(server)}:8080/{name}"))]
        )  # fmt: skip
    finally:
        daemon.kill()
    assert set(got.stdout.split()) == {"2"}
    for name in names:
        assert (tmp_path / name).read_bytes() == (site / name).read_bytes()


def test_an_upload_that_is_refused_midway(tunnel: Tunnel, server: str) -> None:
    file = tunnel.world.directory / FILE_NAME
    got = tunnel.world.client.run(
        ["curl", "-sS", "-g", "-o", "/dev/null", "--write-out", "%{http_code} %{size_upload}",
         "-H", "Expect:", "-T", str(file), f"http://{bracketed(server)}:8000/refuse"],
        check=False,
    )  # fmt: skip
    code, uploaded = got.stdout.split()
    assert code == "413"
    assert int(uploaded) < file.stat().st_size


# ---- ssh and rsync


@pytest.fixture(scope="module")
def ssh(tunnel: Tunnel) -> Iterator[list[str]]:
    """A running sshd; the options with which ssh reaches it."""
    need("sshd", "openssh-server")
    world = tunnel.world
    folder = world.directory / "ssh"
    folder.mkdir()
    for key in ("host", "user"):
        world.server.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{key}"])
    Path("/run/sshd").mkdir(exist_ok=True)
    daemon = world.server.start(
        [str(shutil.which("sshd", path="/usr/sbin:/sbin")), "-D", "-e", "-f", "/dev/null",
         "-p", "2222", "-o", f"HostKey={folder}/host", "-o", "PidFile=none",
         "-o", f"AuthorizedKeysFile={folder}/user.pub", "-o", "StrictModes=no",
         "-o", "PermitRootLogin=yes", "-o", "UsePAM=no"],
        name="sshd",
    )  # fmt: skip
    daemon.wait_for_log("Server listening")
    yield ["-F", "/dev/null", "-p", "2222", "-i", f"{folder}/user", "-o", "BatchMode=yes",
           "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known",
           "-o", "LogLevel=ERROR"]  # fmt: skip
    daemon.kill()


def test_ssh(tunnel: Tunnel, ssh: list[str], server: str) -> None:
    got = tunnel.world.client.run(["ssh", *ssh, f"root@{server}", "cat"], text="through and back")
    assert got.stdout == "through and back"


def test_half_close_through_a_forwarded_port(tunnel: Tunnel, ssh: list[str], server: str) -> None:
    forward = f"127.0.0.1:9000:{bracketed(hosts.SERVER_OTHER)}:8014"
    client = tunnel.world.client
    master = client.start(
        ["ssh", *ssh, "-o", "ExitOnForwardFailure=yes", "-L", forward, f"root@{server}",
         "echo ready; exec sleep 1000"]
    )  # fmt: skip
    try:
        master.wait_for_log("ready")
        assert_answer_after_our_end(client, "127.0.0.1", 9000)
    finally:
        master.kill()


def test_rsync(tunnel: Tunnel, ssh: list[str], server: str, tmp_path: Path) -> None:
    need("rsync", "rsync")
    origin, copy = tmp_path / "origin", tunnel.world.directory / f"copy-{secrets.token_hex(4)}"
    for n in range(60):
        path = origin / str(n % 7) / str(n)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(n * 3000))
    target = f"root@{bracketed(server)}:{copy}"
    argv = ["rsync", "-a", "-z", "-e", " ".join(["ssh", *ssh]), f"{origin}/", target]
    tunnel.world.client.run(argv)
    files = {path.relative_to(origin) for path in origin.rglob("*") if path.is_file()}
    assert files == {path.relative_to(copy) for path in copy.rglob("*") if path.is_file()}
    assert all((origin / path).read_bytes() == (copy / path).read_bytes() for path in files)


# ---- half-close


def assert_answer_after_our_end(client: Host, address: str, port: int) -> None:
    data = os.urandom(3_000_000)
    with client.connect(address, port) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert answer.decode().strip() == hashlib.sha256(data).hexdigest()


def test_the_client_ends_first_and_still_reads(tunnel: Tunnel, server: str) -> None:
    assert_answer_after_our_end(tunnel.world.client, server, 8014)


def test_the_server_ends_first_and_still_reads(tunnel: Tunnel, server: str) -> None:
    data = os.urandom(3_000_000)
    with tunnel.world.client.connect(server, 8016) as connection:
        received = connection.makefile("rb").read()
        connection.sendall(data)
    expected = (tunnel.world.directory / FILE_NAME).open("rb").read(HALF_CLOSE_SIZE)
    assert received == expected
    digest = hashlib.sha256(data).hexdigest()
    told = ["curl", "-sS", "--retry", "5", f"http://{bracketed(server)}:8000/digest"]
    assert tunnel.world.client.run(["curl", "-g", *told[1:]]).stdout == digest


def test_nc_ends_first(tunnel: Tunnel, server: str) -> None:
    got = tunnel.world.client.run(["nc", "-N", server, "8014"], text="from nc")
    assert got.stdout.strip() == hashlib.sha256(b"from nc").hexdigest()


# ---- UDP


def binding(client: socket.socket, server: str) -> tuple[str, int]:
    """What address and port the STUN server sees this socket as (RFC 8489)."""
    transaction = os.urandom(12)
    client.sendto(struct.pack("!HHI12s", 1, 0, STUN_MAGIC, transaction), (server, 3478))
    data, sender = client.recvfrom(2048)
    assert sender[0] == server
    kind, _, magic, echoed = struct.unpack_from("!HHI12s", data)
    assert (kind, magic, echoed) == (0x0101, STUN_MAGIC, transaction)
    mask = struct.pack("!I", STUN_MAGIC) + transaction
    hidden = data[28 : 28 + (4 if client.family == socket.AF_INET else 16)]
    address = bytes(a ^ b for a, b in zip(hidden, mask, strict=False))
    (port,) = struct.unpack_from("!H", data, 26)
    return socket.inet_ntop(client.family, address), port ^ (STUN_MAGIC >> 16)


def test_one_port_is_one_mapping_for_every_server(tunnel: Tunnel, family: int) -> None:
    """Endpoint-independent mapping (RFC 4787, REQ-1)."""
    kind, first, other, seen_as = (
        (socket.AF_INET, hosts.SERVER, hosts.SERVER_OTHER, hosts.GATEWAY_VPN)
        if family == 4
        else (socket.AF_INET6, hosts.SERVER6, hosts.SERVER6_OTHER, hosts.GATEWAY_VPN6)
    )
    with (
        tunnel.world.client.open_socket(kind, socket.SOCK_DGRAM) as one,
        tunnel.world.client.open_socket(kind, socket.SOCK_DGRAM) as two,
    ):
        mapped = binding(one, first)
        assert mapped[0] == seen_as
        assert binding(one, other) == mapped
        assert binding(two, first) != mapped


@pytest.mark.parametrize("size", [0, 1, 1400, 1473, 9000, 60_000])
def test_datagrams_of_any_size_come_back(tunnel: Tunnel, server: str, size: int) -> None:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    data = os.urandom(size)
    with tunnel.world.client.open_socket(family, socket.SOCK_DGRAM) as client:
        client.sendto(data, (server, 7))
        assert client.recv(65535) == data


def test_a_closed_udp_port_is_an_error(tunnel: Tunnel, server: str) -> None:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with tunnel.world.client.open_socket(family, socket.SOCK_DGRAM) as client:
        client.connect((server, 4444))
        client.send(b"anyone?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


@pytest.mark.parametrize("method", [(), ("--icmp",)], ids=["udp", "icmp"])
def test_traceroute_shows_the_far_end(tunnel: Tunnel, server: str, method: tuple[str, ...]) -> None:
    need("traceroute", "traceroute")
    got = tunnel.world.client.run(
        ["traceroute", "-n", "-q", "1", "-w", "2", "-m", "8", *method, server]
    )
    last = got.stdout.splitlines()[-1].split()
    assert last[1] == server


# ---- a VPN with a small MTU


@pytest.fixture(scope="module")
def narrow() -> Iterator[Tunnel]:
    """A pair whose VPN is a TUN of MTU 1280."""
    with opened(Shape(vpn_kind="tun", vpn_mtu=1280)) as world, connected(world) as pair:
        yield pair


def test_a_long_client_hello_through_a_small_mtu(narrow: Tunnel, server: str) -> None:
    context = ssl.create_default_context(cafile=str(narrow.world.certificate()[1]))
    context.set_alpn_protocols([f"protocol-{n:03}" for n in range(140)])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="server.test")
    with narrow.world.client.connect(server, 8443) as connection:
        hello_size = 0
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                session.do_handshake()
                break
            flight = outgoing.read()
            hello_size = hello_size or len(flight)
            connection.sendall(flight)
            incoming.write(connection.recv(65536))
        session.write(b"GET /digest HTTP/1.1\r\n\r\n")
        connection.sendall(outgoing.read())
        answer = b""
        while b"nothing" not in answer:
            incoming.write(connection.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    answer += session.read(65536)
    assert hello_size >= 1900
    assert answer.startswith(b"HTTP/1.1 200")


def assert_echo(client: socket.socket, server: str, data: bytes) -> None:
    """The datagram comes back, at the latest when every hop has learnt the path's MTU."""
    client.settimeout(1.0)
    for _ in range(4):
        client.sendto(data, (server, 7))
        with contextlib.suppress(TimeoutError):
            assert client.recv(65535) == data
            return
    pytest.fail(f"no datagram of {len(data)} bytes came back")


def test_large_transfers_and_datagrams_through_a_small_mtu(narrow: Tunnel, server: str) -> None:
    file = narrow.world.directory / FILE_NAME
    with file.open("rb") as content:
        expected = hashlib.sha256(content.read(20_000_000)).hexdigest()
    got = narrow.world.client.run(
        ["sh", "-c",
         f"curl -sS -g http://{bracketed(server)}:8000/bytes/20000000 | sha256sum"]
    )  # fmt: skip
    assert got.stdout.split()[0] == expected
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with narrow.world.client.open_socket(family, socket.SOCK_DGRAM) as client:
        for size in (1200, 1400, 5000):
            assert_echo(client, server, os.urandom(size))
