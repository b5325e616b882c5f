"""The tunnel's flows: samples, owners, bounds; beside ss(8) on a real kernel."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from client.outlet.nic import flows as module
from client.outlet.nic.flows import TunnelFlows
from client.system import owners as owners_module
from client.system.inet_diag import DiagError, DiagSocket, TcpFigures
from client.system.owners import Owner, Owners
from tests.client.world import NEEDS_ROOT, ROOT

HERE = ["10.77.0.2", "fd77::2"]
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP


def made(number: int, received: int = 0, protocol: int = TCP, state: int = 1) -> DiagSocket:
    figures = TcpFigures(10, received, 0.02, 3, 1.5) if protocol == TCP else None
    return DiagSocket(
        protocol, state, b"\n\x4d\0\2", 40_000, b"\1\1\1\1", 443, number, 0, number, figures
    )


class Scripted(TunnelFlows):
    """Flows whose dumps the test writes."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.pieces: list[list[DiagSocket]] = []
        self.error: Exception | None = None
        super().__init__(lambda: HERE, lambda: self.now, Owners(folder))

    async def _dump(self, dumps: Sequence[tuple[int, int, int]]) -> AsyncIterator[list[DiagSocket]]:
        if self.error is not None:
            raise self.error
        for piece in self.pieces:
            yield piece
            await asyncio.sleep(0)


async def test_a_flow_from_sample_to_sample(tmp_path: Path) -> None:
    flows = Scripted(tmp_path)
    flows.pieces = [[made(1, 1_000), made(2, protocol=UDP)]]
    sample = await flows.look()
    first, second = sample.flows
    assert (first.id, first.protocol, first.state) == (1, "tcp", "established")
    assert (first.source, first.destination) == ("10.77.0.2:40000", "1.1.1.1:443")
    assert (first.from_tunnel_bytes, first.to_tunnel_bytes, first.idle) == (1_000, 10, 1.5)
    assert (first.rtt, first.retransmits, first.counted) == (0.02, 3, True)
    assert (second.protocol, second.state, second.counted) == ("udp", "active", False)
    assert (second.rtt, second.retransmits, second.program, second.pid) == (None, None, "", None)
    flows.now += 2.0
    flows.pieces = [[made(1, 5_000)]]
    (again,) = (await flows.look()).flows
    assert again.seen == first.seen == 100.0
    assert again.from_tunnel_rate == pytest.approx(2_000)
    flows.now += 2.0
    flows.pieces = [[made(3)]]
    (other,) = (await flows.look()).flows
    assert (other.id, other.seen) == (3, 104.0)
    await flows.stop()


async def test_who_looks_often_gets_the_same_sample(tmp_path: Path) -> None:
    flows = Scripted(tmp_path)
    flows.pieces = [[made(1)]]
    sample = await flows.look()
    flows.pieces = []
    assert await flows.look() is sample
    flows.now += module.LEAST_PAUSE
    first, second = await asyncio.gather(flows.look(), flows.look())
    assert first is second is not sample and first.total == 0


async def test_more_than_are_kept_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FLOWS", 5)
    flows = Scripted(tmp_path)
    flows.pieces = [[made(n) for n in range(1, 5)], [made(n) for n in range(5, 9)]]
    sample = await flows.look()
    assert ([flow.id for flow in sample.flows], sample.total) == ([1, 2, 3, 4, 5], 8)


@pytest.mark.parametrize("error", [DiagError("no list"), OSError(97, "no such family")])
async def test_a_kernel_that_does_not_tell_is_no_failure(tmp_path: Path, error: Exception) -> None:
    flows = Scripted(tmp_path)
    flows.error = error
    assert (await flows.look()).total == 0
    assert flows.problem is not None
    assert await flows.count() is None
    flows.error, flows.pieces = None, [[made(1), made(2, state=2)]]
    flows.now += 1
    assert (await flows.look()).total == 2
    assert flows.problem is None
    assert await flows.count() == 1, "one is still connecting"


async def test_without_a_lease_nothing_is_asked() -> None:
    flows = TunnelFlows(lambda: ())
    assert (await flows.look()).total == 0
    assert flows.problem is None


# Owners


def process(folder: Path, pid: int, program: str, inodes: Sequence[int]) -> None:
    descriptors = folder / str(pid) / "fd"
    descriptors.mkdir(parents=True)
    (folder / str(pid) / "comm").write_text(program + "\n")
    (descriptors / "0").symlink_to("/dev/null")
    for number, inode in enumerate(inodes, 3):
        (descriptors / str(number)).symlink_to(f"socket:[{inode}]")


async def test_the_holder_of_a_socket(tmp_path: Path) -> None:
    process(tmp_path, 20, "curl", [501, 502])
    process(tmp_path, 3, "sshd", [503])
    process(tmp_path, 30, "child", [501])
    (tmp_path / "self").mkdir()
    found = Owners(tmp_path)
    await found.find([501, 503, 999, 0], 10.0)
    assert found.known(501) == Owner(20, "curl")
    assert found.known(503) == Owner(3, "sshd")
    assert found.known(999) is None and found.known(502) is None
    process(tmp_path, 40, "late", [999])
    await found.find([502], 10.5)
    assert found.known(502) is None, "too soon"
    await found.find([502, 999], 12.5)
    assert found.known(502) == Owner(20, "curl")
    assert found.known(999) is None, "what nobody held is not searched for again"


async def test_a_search_ends_and_what_is_kept_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(tmp_path, 1, "many", list(range(1000, 1100)))
    process(tmp_path, 2, "behind", [7])
    monkeypatch.setattr(owners_module, "MAX_DESCRIPTORS", 50)
    found = Owners(tmp_path)
    await found.find([7], 0.0)
    assert found.known(7) is None
    monkeypatch.setattr(owners_module, "MAX_DESCRIPTORS", 20_000)
    monkeypatch.setattr(owners_module, "MAX_KEPT", 3)
    await found.find([7, 1000, 1001], 10.0)
    await found.find([1002], 20.0)
    assert found.known(1002) == Owner(1, "many")
    assert found.known(1000) is None, "forgotten"


async def test_a_program_that_is_gone_meanwhile(tmp_path: Path) -> None:
    process(tmp_path, 20, "curl", [501])
    (tmp_path / "20" / "comm").unlink()
    found = Owners(tmp_path)
    await found.find([501], 0.0)
    assert found.known(501) == Owner(20, "")


# A real kernel

WORLD = """
import asyncio, os, socket, subprocess, sys
from client.outlet.nic.flows import TunnelFlows
from tests.fakes.addresses import wait_for_ipv6
for line in ("link set lo up", "addr add 10.77.0.2/32 dev lo", "addr add 10.77.0.1/32 dev lo",
             "addr add fd77::2/128 dev lo nodad", "addr add fd77::1/128 dev lo nodad"):
    subprocess.run(["ip", *line.split()], check=True)
wait_for_ipv6()
kept = []
def tcp(here, there, family, count):
    listener = socket.create_server((there, 0), family=family, backlog=count)
    for _ in range(count):
        s = socket.socket(family)
        s.bind((here, 0))
        s.connect(listener.getsockname()[:2])
        far, _ = listener.accept()
        s.sendall(bytes(3000)); far.recv(4000); far.sendall(bytes(7000)); s.recv(9000)
        kept.extend((s, far))
    kept.append(listener)
def udp(here, there, family):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((here, 0))
    if there:
        s.connect((there, 53))
    kept.append(s)
tcp("10.77.0.2", "10.77.0.1", socket.AF_INET, 60)
tcp("fd77::2", "fd77::1", socket.AF_INET6, 3)
tcp("10.77.0.1", "10.77.0.1", socket.AF_INET, 2)
v4 = socket.create_server(("10.77.0.1", 0))
mapped = socket.socket(socket.AF_INET6)
mapped.bind(("::ffff:10.77.0.2", 0)); mapped.connect(("::ffff:10.77.0.1", v4.getsockname()[1]))
udp("10.77.0.2", "10.77.0.1", socket.AF_INET)
udp("fd77::2", None, socket.AF_INET6)
udp("10.77.0.1", None, socket.AF_INET)
async def main():
    flows = TunnelFlows(lambda: ["10.77.0.2", "fd77::2"])
    sample = await flows.look()
    assert flows.problem is None, flows.problem
    print(os.getpid(), await flows.count())
    for f in sample.flows:
        print(f.protocol, f.source, f.destination, f.from_tunnel_bytes, f.to_tunnel_bytes,
              f.program, f.pid, sep="|")
    print("--", flush=True)
    text = subprocess.run(["ss", "-tuniaH"], capture_output=True, text=True, check=True).stdout
    print(text)
asyncio.run(main())
"""


@pytest.mark.netns
@NEEDS_ROOT
def test_the_same_as_ss() -> None:
    if shutil.which("ss") is None:
        pytest.skip("needs ss (Debian: iproute2)")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", WORLD],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, _, theirs = done.stdout.partition("--\n")
    head, *lines = ours.splitlines()
    pid, connections = head.split()
    assert connections == "64"
    mine = {}
    for line in lines:
        protocol, source, destination, down, up, program, owner = line.split("|")
        assert (owner, bool(program)) == (pid, True)
        mine[protocol, source] = destination, down, up
    wanted = {}
    text = re.sub(r"\n\s+", " ", theirs)
    for line in text.splitlines():
        words = line.split()
        if len(words) < 6 or words[1] in ("LISTEN", "TIME-WAIT"):
            continue
        source, destination = words[4].replace("::ffff:", ""), words[5].replace("::ffff:", "")
        source, destination = (re.sub(r"\[(\d[\d.]+)\]", r"\1", each)
                               for each in (source, destination))  # fmt: skip
        if not source.startswith(("10.77.0.2:", "[fd77::2]:")):
            continue
        figures = dict(re.findall(r"(bytes_\w+):(\d+)", line))
        up = str(int(figures["bytes_acked"]) - 1) if "bytes_acked" in figures else "0"
        there = "*" if destination.endswith(":*") else destination
        wanted[words[0], source] = there, figures.get("bytes_received", "0"), up
    assert mine == wanted
    assert len(mine) == 66
