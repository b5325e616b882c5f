"""Pretend services behind real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.server import ControlServer
from tests.fakes.services import Pretend, PretendClient, PretendGateway


class Served:
    """A pretend service on a loop in a thread of its own, for clients that block."""

    def __init__(self, service: Pretend, path: Path) -> None:
        self.service = service
        self.path = path
        self.loop = asyncio.new_event_loop()
        self.server = ControlServer(path, service.registry())
        service.on_change.append(self._changed)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(10)

    def _changed(self) -> None:
        """Tell the server, whose loop is not in the test's thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.server.changed)

    def stop(self) -> None:
        if not self._thread.is_alive():
            return

        async def end() -> None:
            self.server.close_door()
            self.server.hang_up()
            await asyncio.sleep(0)
            self.loop.call_soon(self.loop.stop)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self._thread.join(10)
        self.loop.close()


@contextlib.contextmanager
def serve(service: Pretend, path: Path) -> Iterator[Served]:
    served = Served(service, path)
    served.start()
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance's folder, named by the environment."""
    monkeypatch.setenv("VPNSHARE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def gateway(home: Path) -> Iterator[PretendGateway]:
    """A pretend gateway on the instance's socket."""
    service = PretendGateway()
    with serve(service, home / "gateway.sock"):
        yield service


@pytest.fixture
def client(home: Path) -> Iterator[PretendClient]:
    """A pretend client on the instance's socket."""
    service = PretendClient()
    with serve(service, home / "client.sock"):
        yield service
