"""What the product is for: a device without the VPN reaches what only the VPN reaches.

Real programs in the client's namespace, through the tunnel, over IPv4 and
IPv6; and nothing of it is seen outside the VPN.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.netns import world as hosts
from tests.netns.conftest import Tunnel
from tests.netns.servers import FILE_NAME, FILE_SIZE

pytestmark = pytest.mark.usefixtures("nothing_leaks")

MEGABYTE = 1024 * 1024


def url(server: str, path: str) -> str:
    host = f"[{server}]" if ":" in server else server
    return f"http://{host}:8000/{path}"


def sha256(path: Path, size: int | None = None) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(size)).hexdigest()


@pytest.fixture(scope="module")
def large_file(tunnel: Tunnel) -> Path:
    return tunnel.world.directory / FILE_NAME


def test_a_large_file_comes_down_whole(
    tunnel: Tunnel, server: str, large_file: Path, tmp_path: Path
) -> None:
    got = tmp_path / "got"
    tunnel.world.client.run(
        ["curl", "-sS", "--fail", "-o", str(got), url(server, f"bytes/{FILE_SIZE}")], timeout=120
    )
    assert sha256(got) == sha256(large_file)


def test_a_large_file_goes_up_whole(tunnel: Tunnel, server: str, large_file: Path) -> None:
    done = tunnel.world.client.run(
        ["curl", "-sS", "--fail", "-T", str(large_file), url(server, "upload")], timeout=120
    )
    assert done.stdout == sha256(large_file)


def test_two_hundred_downloads_at_once(
    tunnel: Tunnel, server: str, large_file: Path, tmp_path: Path
) -> None:
    tunnel.world.client.run(
        ["curl", "-sS", "--fail", "--parallel", "--parallel-immediate", "--parallel-max", "200",
         "-o", f"{tmp_path}/#1", url(server, f"bytes/{MEGABYTE}?[1-200]")],
        timeout=120,
    )  # fmt: skip
    digests = {sha256(path) for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 200
    assert digests == {sha256(large_file, MEGABYTE)}


def test_the_server_sees_the_vpns_address(tunnel: Tunnel, server: str) -> None:
    with tunnel.world.client.connect(server, 8013) as connection:
        seen = connection.makefile().readline().strip()
    assert seen in (hosts.GATEWAY_VPN, hosts.GATEWAY_VPN6)


def test_names_resolve_for_every_program(tunnel: Tunnel) -> None:
    for option in ("-4", "-6"):
        got = tunnel.world.client.run(
            ["curl", "-sS", "--fail", option, "http://server.test:8000/digest"]
        )
        assert got.stdout


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("server.test", "A", hosts.SERVER),
        ("server.test", "AAAA", hosts.SERVER6),
        ("text.test", "TXT", '"first string" "second string"'),
        ("mail.test", "MX", "10 mx.mail.test."),
        ("_service._tcp.test", "SRV", "1 2 8000 server.test."),
    ],
)
def test_questions_of_any_type_are_answered(
    tunnel: Tunnel, transport: str, name: str, kind: str, answer: str
) -> None:
    got = tunnel.world.client.run(["dig", "+short", "+tries=1", transport, name, kind]).stdout
    assert answer in got.splitlines()


def test_both_addresses_of_the_resolver_answer(tunnel: Tunnel) -> None:
    lease = tunnel.client.status()["lease"]
    for address in (lease["gateway_ipv4"], lease["gateway_ipv6"]):
        got = tunnel.world.client.run(["dig", "+short", f"@{address}", "server.test", "A"]).stdout
        assert got == f"{hosts.SERVER}\n"


def test_an_answer_too_long_for_udp_is_fetched_by_tcp(tunnel: Tunnel) -> None:
    got = tunnel.world.client.run(["dig", "+bufsize=512", "long.test", "TXT"]).stdout
    assert got.count("x" * 200) == 10


def test_a_name_that_does_not_exist_is_said_not_to(tunnel: Tunnel) -> None:
    assert "NXDOMAIN" in tunnel.world.client.run(["dig", "nothing.test", "A"]).stdout


def test_ping_is_answered_by_the_far_host(tunnel: Tunnel, server: str) -> None:
    got = tunnel.world.client.run(["ping", "-n", "-c", "5", "-i", "0.2", "-s", "1000", server])
    assert "5 received" in got.stdout
    assert f"1008 bytes from {server}" in got.stdout


def test_half_of_the_pings_lost_is_half_of_the_pings_lost(tunnel: Tunnel, server: str) -> None:
    tunnel.world.server.nft(
        "table inet lossy { chain in { type filter hook input priority 0;"
        " icmp type echo-request numgen inc mod 2 0 drop;"
        " icmpv6 type echo-request numgen inc mod 2 0 drop; }\n}"
    )
    try:
        got = tunnel.world.client.run(
            ["ping", "-c", "10", "-i", "0.2", "-W", "2", server], check=False
        )
    finally:
        tunnel.world.server.nft("delete table inet lossy")
    assert "10 packets transmitted, 5 received" in got.stdout


def test_ping_of_a_host_that_is_gone_is_all_loss(tunnel: Tunnel, family: int) -> None:
    absent = hosts.ABSENT if family == 4 else hosts.ABSENT6
    got = tunnel.world.client.run(["ping", "-c", "3", "-i", "0.2", "-W", "2", absent], check=False)
    assert got.returncode == 1
    assert " 0 received" in got.stdout


def test_a_refused_port_is_refused(tunnel: Tunnel, server: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        tunnel.world.client.connect(server, 4444, timeout=5)


def test_an_unreachable_host_is_an_error_and_no_hang(tunnel: Tunnel, family: int) -> None:
    unreachable = hosts.UNREACHABLE if family == 4 else hosts.UNREACHABLE6
    with pytest.raises(OSError, match=r"No route to host|Network is unreachable"):
        tunnel.world.client.connect(unreachable, 80, timeout=5)


def test_a_host_that_does_not_answer_its_router_is_an_error(tunnel: Tunnel, family: int) -> None:
    absent = hosts.ABSENT if family == 4 else hosts.ABSENT6
    with pytest.raises(OSError, match="No route to host"):
        tunnel.world.client.connect(absent, 80, timeout=20)


def test_nobody_answers_for_a_host_that_is_silent(tunnel: Tunnel, family: int) -> None:
    silent = hosts.SILENT if family == 4 else hosts.SILENT6
    with pytest.raises(TimeoutError):
        tunnel.world.client.connect(silent, 80, timeout=3)


def test_a_reset_from_the_network_reaches_the_client(tunnel: Tunnel, server: str) -> None:
    with tunnel.world.client.connect(server, 8015) as connection:
        assert connection.recv(100) == b"0123456789"
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
