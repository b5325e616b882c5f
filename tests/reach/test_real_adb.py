"""The double of adbd with Debian's own adb at its other end, and our way to an adb server with
the real one: what the double takes for right is what the real program does.

adb speaks to phones by Wi-Fi with the same messages as over USB, but for the transfers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reach import adb_server
from reach.adb_server import AdbError, AdbServer
from tests.fakes.adbd import Adbd, TcpWire
from tests.fakes.echo import Echo, exchange
from tests.fakes.ports import free_port

pytestmark = pytest.mark.skipif(shutil.which("adb") is None, reason="adb is not installed")


class Phone:
    """The double on a port, as a phone by Wi-Fi; it remembers keys."""

    def __init__(self, delayed: bool) -> None:
        self.delayed = delayed
        self.keys: list[bytes] = []
        self.doubles: list[Adbd] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.name = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                double = Adbd(
                    TcpWire(sock), keys=self.keys, approve=lambda key: True, delayed=self.delayed
                )
                self.doubles.append(double.start())

    def close(self) -> None:
        self._listener.close()
        for double in self.doubles:
            double.stop()


class Server:
    """An adb server of the test's own, with its own key and folder."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._env = os.environ | {
            "HOME": str(folder), "TMPDIR": str(folder), "ANDROID_ADB_SERVER_PORT": str(port),
        }  # fmt: skip

    def adb(self, *words: str) -> str:
        done = subprocess.run(
            ["adb", *words], env=self._env, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("adb"), free_port())
    server.adb("start-server")
    yield server
    server.adb("kill-server")


@pytest.fixture(scope="module", params=[True, False], ids=["delayed_ack", "one_at_a_time"])
def phone(request: pytest.FixtureRequest, server: Server) -> Iterator[Phone]:
    phone = Phone(request.param)
    # It says "failed to authenticate" while a person would be asked, and waits on.
    server.adb("connect", phone.name)
    server.adb("-s", phone.name, "wait-for-device")
    yield phone
    server.adb("disconnect", phone.name)
    phone.close()
    assert [double.violations for double in phone.doubles if double.violations] == []


@pytest.fixture
def ours(server: Server, monkeypatch: pytest.MonkeyPatch) -> AdbServer:
    monkeypatch.setenv(adb_server.SERVER_VARIABLE, str(server.port))
    return AdbServer()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


def test_the_real_adb_is_let_in_by_its_key_and_from_then_on_by_its_signature(
    server: Server, phone: Phone
) -> None:
    """The double checks the numbers of the key that it is offered, and the signature by it."""
    assert len(phone.keys) == 1 and phone.doubles[0].asked.is_set()
    server.adb("disconnect", phone.name)
    server.adb("connect", phone.name)
    server.adb("-s", phone.name, "wait-for-device")
    assert len(phone.keys) == 1 and len(phone.doubles) > 1
    again = phone.doubles[-1]
    assert again.log[:2] == ["CNXN", "AUTH"] and not again.asked.is_set()


async def test_our_streams_go_through_the_real_server_whole(
    phone: Phone, ours: AdbServer, echo: Echo
) -> None:
    """A phone by Wi-Fi is named by its address, which no phone on a cable is."""
    for size in (1, 4096, 65536, 65537, 1 << 20):
        data = os.urandom(size)
        with await ours.open_stream(phone.name, echo.port) as sock:
            assert await exchange(sock, data) == data, size


async def test_the_real_servers_refusals_are_understood(phone: Phone, ours: AdbServer) -> None:
    with pytest.raises(AdbError) as caught:
        await ours.open_stream(phone.name, free_port())
    assert caught.value.reason == "phone_closed"
    with pytest.raises(AdbError) as caught:
        await ours.open_stream("NOSUCHPHONE", 47800)
    assert caught.value.reason == "phone_absent"


async def test_a_phone_by_wifi_is_none_on_the_cable(phone: Phone, ours: AdbServer) -> None:
    assert await ours.phones() == []
