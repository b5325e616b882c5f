"""The virtual NIC: errors that name the fix, the double, and the real device (root)."""

from __future__ import annotations

import builtins
import errno
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.model import ClientError
from client.outlet.nic import nic
from client.outlet.nic.nic import MemoryTun, TunDevice
from tests.client.world import NEEDS_ROOT, ROOT


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.ENOENT, "modprobe tun"),
        (errno.EPERM, "NET_ADMIN" if os.geteuid() == 0 else "root"),
        (errno.EACCES, "CAP_NET_ADMIN" if os.geteuid() == 0 else "sudo"),
        (errno.EBUSY, "--interface vpn7"),
    ],
)
def test_a_refusal_names_the_fix(monkeypatch: pytest.MonkeyPatch, number: int, word: str) -> None:
    def refuse(name: str, flags: int) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(nic, "_create", refuse)
    with pytest.raises(ClientError) as caught:
        TunDevice()
    assert caught.value.name == "nic_unavailable"
    assert word in caught.value.hint


def test_the_double_carries_packets_whole() -> None:
    tun = MemoryTun()
    tun.host.send(b"h" * 10 + b"p" * 65535)
    buffer = bytearray(70000)
    assert os.readv(tun.fileno(), [buffer]) == 65545
    with pytest.raises(BlockingIOError):
        os.readv(tun.fileno(), [buffer])
    assert os.writev(tun.fileno(), [b"h" * 10, b"q" * 20]) == 30
    assert tun.host.recv(100) == b"h" * 10 + b"q" * 20
    tun.close()


REAL = """
import os, select, socket, struct, subprocess, sys
sys.modules.update({"pytun": None} if "fallback" in sys.argv else {})
from client.outlet.nic.nic import TunDevice
offload = "plain" not in sys.argv
tun = TunDevice("vshp%d", offload)
assert tun.name == "vshp0" and tun.vnet_header is offload, tun.name
assert not os.get_blocking(tun.fileno()) and not os.get_inheritable(tun.fileno())
tun.set_mtu(65535)
tun.set_mtu(1400)
subprocess.run(["ip", "-batch", "-"], input="addr add 10.9.0.1/24 dev vshp0\\n"
               "link set vshp0 addrgenmode none\\nlink set vshp0 multicast off up\\n",
               text=True, check=True)
def read():
    buffer = bytearray(70000)
    assert select.select([tun], [], [], 5)[0]
    n = os.readv(tun.fileno(), [buffer])
    return bytes(buffer[:n])
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def header(packet):
    return struct.unpack_from("<BBHHHH", packet) if offload else None
sender.sendto(b"a" * 100, ("10.9.0.2", 9))
packet = read()
print("unfinished", len(packet), header(packet))
if tun.offload_udp:
    sender.setsockopt(17, 103, 1000)
    sender.sendto(b"b" * 8000, ("10.9.0.2", 9))
    packet = read()
    print("segments", len(packet), header(packet)[1], header(packet)[3])
    sender.setsockopt(17, 103, 0)
tun.set_offload(False, False)
sender.sendto(b"a" * 100, ("10.9.0.2", 9))
packet = read()
print("finished", len(packet), header(packet))
name = tun.name
tun.close()
tun.close()
assert not os.path.exists("/sys/class/net/" + name)
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"cl-n{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.netns
@NEEDS_ROOT
@pytest.mark.parametrize("way", ["pytun", "fallback", "plain"])
def test_the_real_device(namespace: str, way: str) -> None:
    if way == "pytun":
        pytest.importorskip("pytun", reason="python-pytun has no wheel here")
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", REAL, way],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    if way == "plain":
        assert lines == ["unfinished 128 None", "finished 128 None"]
    else:
        assert lines[0] == "unfinished 138 (1, 0, 0, 0, 20, 6)"
        assert lines[-1] == "finished 138 (0, 0, 0, 0, 0, 0)"
        if len(lines) == 3:
            assert lines[1] == "segments 8038 5 1000"


def test_the_mtu_is_checked_before_it_is_set(tmp_path: Path) -> None:
    device = TunDevice.__new__(TunDevice)
    device.name = "vshp0"
    for mtu in (0, 1279, 65536):
        with pytest.raises(ClientError, match="not between"):
            device.set_mtu(mtu)


def test_without_pytun_the_same_ioctl_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bytes]] = []
    real_import = builtins.__import__

    def without_pytun(name: str, *rest: Any) -> Any:
        if name == "pytun":
            raise ImportError(name)
        return real_import(name, *rest)

    def ioctl(fd: int, request: int, argument: bytes) -> bytes:
        seen.append((request, argument))
        return b"vshp3".ljust(16, b"\0") + argument[16:]

    monkeypatch.setattr(builtins, "__import__", without_pytun)
    monkeypatch.setattr(nic, "_TUN_PATH", "/dev/null")
    monkeypatch.setattr("fcntl.ioctl", ioctl)
    fd, name, device = nic._create("vshp%d", 0x1001)
    os.close(fd)
    assert (name, device) == ("vshp3", None)
    assert seen == [(0x400454CA, struct.pack("16sH22x", b"vshp%d", 0x1001))]
