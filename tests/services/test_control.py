"""The control server over its socket, and the console's client against it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control import schema
from control.client import ClientControl, GatewayControl
from control.codec import MAX_REQUEST
from control.errors import Code, ControlError, ServiceUnavailable
from control.methods import GATEWAY, Permission
from control.oneshot import OneShot
from control.registry import Registry
from control.server import (
    MAX_CONNECTIONS,
    MAX_SUBSCRIPTIONS,
    ControlServer,
    SocketInUse,
    bind_private,
)
from tests.fakes import services as fakes
from tests.fakes.services import FakeControl, PretendGateway


class ServedGateway(PretendGateway):
    """A pretend gateway behind a control server."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)
        self.server = ControlServer(path, self.registry())
        self.on_change.append(self.server.changed)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ServedGateway]:
    served = ServedGateway(tmp_path / "g.sock")
    await served.server.start()
    yield served
    served.server.close_door()
    served.server.hang_up()


class Raw:
    """A client that writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, service: ServedGateway) -> Raw:
        return cls(*await asyncio.open_unix_connection(service.path, limit=1 << 23))

    async def say(self, data: bytes) -> dict[str, Any]:
        self.writer.write(data)
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        line = await asyncio.wait_for(self.reader.readline(), 10)
        assert line, "the server hung up"
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 10) == b""


def call(id: int, method: str, **params: Any) -> bytes:
    request = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
    return json.dumps(request).encode() + b"\n"


# The same contract, in process and over the socket


@pytest.fixture(params=["in process", "socket"])
async def control(
    request: pytest.FixtureRequest, service: ServedGateway
) -> AsyncIterator[GatewayControl | FakeControl]:
    if request.param == "socket":
        async with await GatewayControl.connect(service.path) as connected:
            yield connected
    else:
        yield await service.connect()


async def test_results_are_records(control: GatewayControl, service: ServedGateway) -> None:
    assert await control.call("status") == service.status_now()
    assert await control.call("peers") == service.peers
    page = await control.call("flows", sort="bytes", descending=True, limit=3)
    assert page.total == 40 and len(page.flows) == 3


async def test_refusals_are_control_errors(control: GatewayControl) -> None:
    with pytest.raises(ControlError) as caught:
        await control.call("approve", id="nobody")
    assert caught.value.code == Code.NOT_FOUND
    for params in ({"id": 1}, {}, {"id": "a", "who": "b"}, {"id": ""}):
        with pytest.raises(ControlError) as caught:
            await control.call("approve", **params)
        assert caught.value.code == Code.INVALID_PARAMS


async def test_watch_shows_now_and_what_changes(
    control: GatewayControl, service: ServedGateway
) -> None:
    watching = control.watch(["requests"], interval=0.1)
    first = await anext(watching)
    assert (first.topic, first.data) == ("requests", [])
    service.waiting.append(fakes.request("r9"))
    service.changed("requests")
    second = await asyncio.wait_for(anext(watching), 10)
    assert [r.id for r in second.data] == ["r9"] and second.revision > first.revision
    await watching.aclose()


# The typed clients


async def test_typed_methods(service: ServedGateway) -> None:
    service.waiting.append(fakes.request("r1"))
    async with await GatewayControl.connect(service.path) as control:
        assert control.hello.role == "gateway" and control.hello.pid == os.getpid()
        assert isinstance(await control.status(), schema.GatewayStatus)
        assert (await control.approve("r1")).label == "Living-room TV"
        assert (await control.pair()).uri == service.uri
        assert (await control.flows(limit=1)).total == 40
        assert len(await control.logs(limit=2)) == 2


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        await ClientControl.connect(str(tmp_path / "client.sock"))
    assert caught.value.hint == "Use a gateway's VPN with: vpnshare join"


async def test_the_service_goes_away(service: ServedGateway) -> None:
    control = await GatewayControl.connect(service.path)
    watching = control.watch(["status"])
    await anext(watching)
    service.server.close_door()
    service.server.hang_up()
    with pytest.raises(ServiceUnavailable):
        while True:
            await asyncio.wait_for(anext(watching), 10)
    with pytest.raises(ServiceUnavailable):
        await control.status()
    assert not control.connected
    assert os.path.basename(service.path) not in os.listdir(os.path.dirname(service.path))
    await control.close()


async def test_read_only_connections_change_nothing(service: ServedGateway) -> None:
    async with await GatewayControl.connect(service.path, read_only=True) as control:
        assert control.hello.permission == Permission.READ
        await control.status()
        with pytest.raises(ControlError) as caught:
            await control.unshare()
        assert caught.value.code == Code.REFUSED and service.status.sharing == "on"


async def test_versions_are_agreed_on(service: ServedGateway) -> None:
    raw = await Raw.to(service)
    newer = await raw.say(call(1, "hello", api=99, api_min=1))
    assert newer["result"]["api"] == schema.API_VERSION
    for api, least in ((99, 99), (0, 0)):
        answer = await raw.say(call(2, "hello", api=api, api_min=least))
        assert answer["error"]["code"] == Code.UNSUPPORTED_API and answer["error"]["data"]["hint"]


# What strangers and slow readers do


async def test_the_socket_is_private(service: ServedGateway) -> None:
    assert stat.S_IMODE(os.stat(service.path).st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="another uid needs root")
async def test_another_uid_is_refused() -> None:
    """Even where the folder and the mode let him in."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        service = ServedGateway(Path(folder, "g.sock"))
        await service.server.start()
        os.chmod(service.path, 0o666)
        script = (
            "import os, socket\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            f"s.connect({service.path!r})\n"
            "print(s.makefile().read())\n"
        )
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await asyncio.wait_for(child.communicate(), 20)
        service.server.close_door()
    assert child.returncode == 0, err.decode()
    assert json.loads(out)["error"]["code"] == Code.REFUSED


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b"\xff\n", b'{"jsonrpc":"2.0","id":1}\n'])
async def test_junk_is_answered_and_forgiven(service: ServedGateway, line: bytes) -> None:
    raw = await Raw.to(service)
    assert (await raw.say(line))["error"]["code"] < 0
    assert (await raw.say(call(2, "status")))["id"] == 2


async def test_unknown_methods(service: ServedGateway) -> None:
    raw = await Raw.to(service)
    for name in ("connect", "_status", "", "x" * 5000):
        error = (await raw.say(call(1, name)))["error"]
        assert error["code"] == Code.METHOD_NOT_FOUND and len(error["message"]) < 200


async def test_an_oversize_line_ends_the_connection(service: ServedGateway) -> None:
    raw = await Raw.to(service)
    answer = await raw.say(b"x" * (MAX_REQUEST + 1))
    assert answer["error"]["code"] == Code.INVALID_REQUEST
    assert await raw.ended()


async def test_half_a_line_waits_and_end_of_stream_is_no_line(service: ServedGateway) -> None:
    raw = await Raw.to(service)
    whole = call(1, "status")
    raw.writer.write(whole[:20])
    await asyncio.sleep(0)
    assert (await raw.say(whole[20:]))["id"] == 1
    raw.writer.write(whole[:20])
    raw.writer.write_eof()
    assert await raw.ended()


async def test_calls_before_end_of_stream_are_answered(service: ServedGateway) -> None:
    raw = await Raw.to(service)
    raw.writer.write(b"".join(call(n, "flows", limit=2000) for n in range(20)))
    raw.writer.write_eof()
    assert [(await raw.hear())["id"] for _ in range(20)] == list(range(20))
    assert await raw.ended()


async def test_notifications_are_not_answered(service: ServedGateway) -> None:
    raw = await Raw.to(service)
    raw.writer.write(b'{"jsonrpc":"2.0","method":"unshare"}\n')
    assert (await raw.say(call(1, "status")))["id"] == 1
    assert service.status.sharing == "off"


async def test_a_failing_handler_is_our_fault_and_tells_no_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretend = PretendGateway()
    handlers = pretend.handlers() | {"peers": lambda _: 1 / 0, "leases": lambda _: [float("nan")]}
    server = ControlServer(tmp_path / "g.sock", Registry("gateway", "1", GATEWAY, handlers))
    await server.start()
    reader, writer = await asyncio.open_unix_connection(server.path)
    raw = Raw(reader, writer)
    for method in ("peers", "leases"):
        error = (await raw.say(call(1, method)))["error"]
        assert error["code"] == Code.INTERNAL_ERROR
        assert "division" not in error["message"] and "nan" not in error["message"]
    assert (await raw.say(call(2, "status")))["id"] == 2
    assert any(record.exc_info for record in caplog.records)
    server.close_door()
    server.hang_up()


async def test_connections_and_subscriptions_are_bounded(service: ServedGateway) -> None:
    raws = [await Raw.to(service) for _ in range(MAX_CONNECTIONS)]
    for raw in raws:
        await raw.say(call(1, "status"))
    extra = await Raw.to(service)
    assert (await extra.hear())["error"]["code"] == Code.BUSY
    for n in range(MAX_SUBSCRIPTIONS):
        raws[0].writer.write(call(n, "subscribe", topics=["peers"], interval=60))
    raws[0].writer.write(call(99, "subscribe", topics=["peers"], interval=60))
    while (answer := await raws[0].hear()).get("id") != 99:
        pass
    assert answer["error"]["code"] == Code.BUSY


@pytest.mark.parametrize(
    "params",
    [
        {"topics": []},
        {"topics": ["share"]},
        {"topics": ["nothing"]},
        {"topics": ["status"], "interval": 0.01},
        {"topics": ["status"], "params": {"flows": {}}},
        {"topics": ["flows"], "params": {"flows": {"sort": "colour"}}},
        {"topics": ["peers"] * 17},
    ],
)
async def test_bad_subscriptions_are_refused(service: ServedGateway, params: Any) -> None:
    raw = await Raw.to(service)
    error = (await raw.say(call(1, "subscribe", **params)))["error"]
    assert error["code"] in (Code.INVALID_PARAMS, Code.METHOD_NOT_FOUND, Code.REFUSED)


async def test_a_slow_reader_gets_the_latest_and_costs_nothing(service: ServedGateway) -> None:
    """It does not read while hundreds of large states go by; then it sees the last one."""
    service.flows = fakes.make_flows(2000)
    raw = await Raw.to(service)
    limits = raw.writer.get_extra_info("socket")
    limits.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    transport: Any = raw.writer.transport
    transport.pause_reading()
    raw.writer.write(
        call(1, "subscribe", topics=["flows"], interval=0.1, params={"flows": {"limit": 2000}})
    )
    connections = service.server.connections
    held = 0
    for state in range(1, 40):
        service.flows = [replace(flow, state=f"state-{state}") for flow in service.flows]
        service.changed("flows")
        await asyncio.sleep(0.02)
        held = max(held, *(c._transport.get_write_buffer_size() for c in connections))
    assert held < 3_000_000
    transport.resume_reading()
    seen: list[str] = []
    while not seen or seen[-1] != "state-39":
        message = await raw.hear()
        if message.get("method") == "snapshot":
            seen.append(message["params"]["data"]["flows"][0]["state"])
    assert len(seen) < 39


async def test_what_did_not_change_is_not_sent_again(service: ServedGateway) -> None:
    raw = await Raw.to(service)
    await raw.say(call(1, "subscribe", topics=["peers", "requests"], interval=0.1))
    assert {(await raw.hear())["params"]["topic"] for _ in range(2)} == {"peers", "requests"}
    service.waiting.append(fakes.request("r1"))
    news = (await raw.hear())["params"]
    assert news["topic"] == "requests" and news["revision"] == 2
    assert (await raw.say(call(2, "unsubscribe", subscription=1)))["result"] == {
        "id": None,
        "label": None,
        "unwritten": [],
    }
    assert (await raw.say(call(3, "unsubscribe", subscription=1)))["error"]["code"] == 4


# The socket's file


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "g.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    first = ControlServer(path, PretendGateway().registry())
    await first.start()
    second = ControlServer(path, PretendGateway().registry())
    with pytest.raises(SocketInUse):
        await second.start()
    second.close_door()
    assert path.exists(), "the second must not remove the first one's socket"
    first.close_door()
    assert not path.exists()


async def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "g.sock"
    first = ControlServer(path, PretendGateway().registry())
    await first.start()
    path.unlink()
    successor = bind_private(path)
    first.close_door()
    assert path.exists()
    successor.close()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        bind_private(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


async def test_a_folder_with_a_name_as_long_as_they_can_be(tmp_path: Path) -> None:
    """The kernel takes 108 bytes for a socket's path."""
    folder = tmp_path / ("x" * 200) / ("y" * 200)
    folder.mkdir(parents=True, mode=0o700)
    path = folder / "g.sock"
    server = ControlServer(path, PretendGateway().registry())
    await server.start()
    async with await GatewayControl.connect(str(path)) as control:
        assert (await control.call("status")).pid == 4711
    with pytest.raises(SocketInUse):
        await asyncio.to_thread(bind_private, path)
    one = await asyncio.to_thread(OneShot, str(path), "gateway")
    one.close()
    server.close_door()
    server.hang_up()
    assert not path.exists()
    with pytest.raises(ServiceUnavailable, match="not running"):
        OneShot(str(path), "gateway")
    with pytest.raises(ServiceUnavailable, match="not running"):
        OneShot(str(folder / "gone" / "g.sock"), "gateway")


async def test_an_idle_server_has_no_timer(service: ServedGateway) -> None:
    async with await GatewayControl.connect(service.path) as control:
        await control.status()
        loop: Any = asyncio.get_running_loop()
        due = [h for h in loop._scheduled if not h.cancelled()]
        assert due == []


def test_a_registry_is_complete_or_refused() -> None:
    handlers = PretendGateway().handlers()
    del handlers["peers"]
    with pytest.raises(ValueError, match="peers"):
        Registry("gateway", "1", GATEWAY, handlers)
