"""The console's client: asyncio, typed calls, subscriptions that keep the latest only.

One connection carries everything. Answers are matched to calls by id;
snapshots go to the `watch` they belong to, which holds at most one per topic:
a console that is busy drawing sees the newest state next, never a queue.
When the connection ends, every waiting call and every watch raises
`ServiceUnavailable`; the caller decides when to connect again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from control import schema
from control.calling import spoken
from control.codec import (
    MAX_ANSWER,
    Answer,
    CodecError,
    LineBuffer,
    LineTooLong,
    encode_request,
    from_json,
    parse_answer,
)
from control.errors import Code, ControlError, ServiceUnavailable
from control.methods import (
    CLIENT,
    COMMON,
    DEFAULT_INTERVAL,
    GATEWAY,
    Done,
    Hello,
    Method,
    Subscribed,
)
from control.oneshot import START, unavailable
from control.remote import Command
from eventloop.tasks import create_task
from storage.sockets import reachable

CALL_TIMEOUT = 30.0
"""Seconds until a call is given up; answers are immediate by design."""
_READ_SIZE = 262144


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The newest state of a topic. `data` is the record of the method of that name."""

    topic: str
    revision: int
    data: Any


class _Watch:
    """The snapshots of one subscription that were not taken yet: one per topic."""

    def __init__(self) -> None:
        self.pending: dict[str, Snapshot] = {}
        self.news = asyncio.Event()
        self.error: ControlError | None = None

    def put(self, snapshot: Snapshot) -> None:
        self.pending[snapshot.topic] = snapshot
        self.news.set()

    def fail(self, error: ControlError) -> None:
        self.error = error
        self.news.set()


@dataclass(slots=True)
class _Call:
    """A call that waits for its answer."""

    future: asyncio.Future[Any]
    watch: _Watch | None = None
    """Where the snapshots go of the subscription that this call begins."""


class ControlClient:
    """A connection to a service of either role. `GatewayControl` and `ClientControl` add types."""

    role: ClassVar[str] = "service"
    methods: ClassVar[Mapping[str, Method]] = COMMON

    def __init__(
        self,
        path: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        command: Command | None = None,
    ) -> None:
        self.path = path
        self._command = command
        self.hello: Hello
        self._reader = reader
        self._writer = writer
        self._last_id = 0
        self._calls: dict[int, _Call] = {}
        self._watches: dict[int, _Watch] = {}
        self._error: ControlError | None = None
        self._reading = create_task(self._read(), f"control client {self.role}")

    @classmethod
    async def connect(cls, path: str, client: str = "console", read_only: bool = False) -> Self:
        """Connect to the service's socket and agree on a version. Raises `ControlError`."""
        try:
            with reachable(path) as name:
                reader, writer = await asyncio.open_unix_connection(name)
        except OSError as exc:
            raise unavailable(path, cls.role, exc).pasted() from None
        return await cls(path, reader, writer)._agree(client, read_only)

    @classmethod
    async def connect_command(
        cls, argv: Sequence[str], where: str, client: str = "console", read_only: bool = False
    ) -> Self:
        """Connect through a command (ssh) whose streams are the far service's socket.

        `where` names the far machine. Raises `ControlError`.
        """
        command = await Command.start(argv, where, cls.role)
        self = cls(where, command.reader, command.writer, command)
        return await self._agree(client, read_only)

    async def _agree(self, client: str, read_only: bool) -> Self:
        """Agree on a version, or close."""
        try:
            self.hello = await self.call(
                "hello", api=schema.API_VERSION, client=client, read_only=read_only
            )
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def connected(self) -> bool:
        return self._error is None

    async def close(self) -> None:
        """End the connection; waiting calls and watches raise `ServiceUnavailable`."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._end(ServiceUnavailable("The connection was closed."))
        self._writer.close()
        if self._command is not None:
            await self._command.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, method: str, /, **params: Any) -> Any:
        """Call; the result as the method's record. Raises `ControlError`."""
        return self._decode(method, await self._ask(method, params))

    async def _ask(self, method: str, params: dict[str, Any], watch: _Watch | None = None) -> Any:
        if self._error is not None:
            raise self._error
        self._last_id += 1
        id = self._last_id
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[id] = _Call(future, watch)
        try:
            self._writer.write(encode_request(id, method, params))
            return await asyncio.wait_for(future, CALL_TIMEOUT)
        except TimeoutError:
            raise self._spoken(ControlError(
                Code.TIMED_OUT,
                f"The {self.role} service does not answer.",
                f"If it goes on: vpnshare down --role {self.role}",
            )) from None  # fmt: skip
        finally:
            self._calls.pop(id, None)

    async def watch(
        self,
        topics: Iterable[str],
        interval: float = DEFAULT_INTERVAL,
        params: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> AsyncGenerator[Snapshot, None]:
        """Subscribe, and yield the newest snapshot of each topic as it changes.

        `params` holds the parameters of a topic's method, by topic. The first
        snapshots come at once. Closing the iterator ends the subscription.
        Raises `ControlError` when the service refuses or goes away.
        """
        watch = _Watch()
        wanted = {
            "topics": list(topics),
            "interval": interval,
            "params": {topic: dict(values) for topic, values in (params or {}).items()},
        }
        number: int = (await self._ask("subscribe", wanted, watch))["subscription"]
        try:
            while True:
                while watch.pending:
                    yield watch.pending.pop(next(iter(watch.pending)))
                if watch.error is not None:
                    raise watch.error
                watch.news.clear()
                await watch.news.wait()
        finally:
            self._watches.pop(number, None)
            if self._error is None:
                # No wait for the answer: the iterator may be closing because its task is.
                self._last_id += 1
                self._writer.write(
                    encode_request(self._last_id, "unsubscribe", {"subscription": number})
                )

    # --- what both services answer -------------------------------------------------------

    async def logs(self, **params: Any) -> list[schema.LogLine]:
        """The last log lines; parameters as `methods.LogsParams`."""
        return cast(list[schema.LogLine], await self.call("logs", **params))

    async def log(self, **params: Any) -> schema.LogPage:
        """The same, with what is missing before them."""
        return cast(schema.LogPage, await self.call("log", **params))

    async def events(self, **params: Any) -> schema.EventPage:
        """What happened; parameters as `methods.EventsParams`."""
        return cast(schema.EventPage, await self.call("events", **params))

    async def settings(self) -> list[schema.Setting]:
        return cast(list[schema.Setting], await self.call("settings"))

    async def set(self, key: str, value: Any) -> schema.Setting:
        """Change a setting; None is its default."""
        return cast(schema.Setting, await self.call("set", key=key, value=value))

    async def doctor(self) -> list[schema.Finding]:
        """Have the service look for what is missing; takes some seconds."""
        return cast(list[schema.Finding], await self.call("doctor"))

    async def shutdown(self) -> Done:
        return cast(Done, await self.call("shutdown"))

    # --- inside ------------------------------------------------------------------------------

    def _decode(self, method: str, value: Any) -> Any:
        known = self.methods.get(method)
        if known is None:
            return value
        try:
            record = from_json(known.result, value, strict=False)
        except CodecError as exc:
            raise ControlError(
                Code.INTERNAL_ERROR,
                f"The answer to {method} does not fit: {exc}.",
                "The console and the service may be of different versions: vpnshare restart",
            ) from None
        # What a far machine says is to be typed there.
        return record if self._command is not None else spoken(known.result, record)

    async def _read(self) -> None:
        lines = LineBuffer(MAX_ANSWER)
        gone: ControlError = ServiceUnavailable(
            f"The {self.role} service went away.", START[self.role]
        )
        try:
            while data := await self._reader.read(_READ_SIZE):
                lines.feed(data)
                for line in lines.lines():
                    self._take(parse_answer(line))
            if self._command is not None:
                gone = await self._command.failure()
        except OSError:
            pass
        except (ControlError, CodecError) as exc:
            hint = exc.hint if isinstance(exc, ControlError) else None
            gone = ServiceUnavailable(str(exc), hint)
        except LineTooLong:
            gone = ServiceUnavailable("The service's answer is too long.")
        finally:
            self._end(gone)

    def _take(self, answer: Answer) -> None:
        if answer.method == "snapshot":
            self._take_snapshot(answer.params)
        elif answer.id is None and answer.error is not None:
            raise answer.error  # not about a call of ours: the service refuses the connection
        elif isinstance(answer.id, int):
            call = self._calls.get(answer.id)
            if call is None or call.future.done():
                return
            if answer.error is not None:
                call.future.set_exception(self._spoken(answer.error))
                return
            if call.watch is not None:
                # Here, not where the answer is awaited: the first snapshots may follow
                # in the same read.
                subscribed = from_json(Subscribed, answer.result, strict=False)
                self._watches[subscribed.subscription] = call.watch
            call.future.set_result(answer.result)

    def _take_snapshot(self, params: Any) -> None:
        if not isinstance(params, dict):
            return
        number, topic, revision = (params.get(k) for k in ("subscription", "topic", "revision"))
        if not (isinstance(number, int) and isinstance(topic, str) and isinstance(revision, int)):
            return
        watch = self._watches.get(number)
        if watch is not None:
            watch.put(Snapshot(topic, revision, self._decode(topic, params.get("data"))))

    def _spoken(self, error: ControlError) -> ControlError:
        return error if self._command is not None else error.pasted()

    def _end(self, error: ControlError) -> None:
        if self._error is not None:
            return
        error = self._spoken(error)
        self._error = error
        for call in self._calls.values():
            if not call.future.done():
                call.future.set_exception(error)
        for watch in self._watches.values():
            watch.fail(error)


class GatewayControl(ControlClient):
    """The gateway service's methods, typed."""

    role = "gateway"
    methods = GATEWAY

    async def status(self) -> schema.GatewayStatus:
        return cast(schema.GatewayStatus, await self.call("status"))

    async def share(self) -> schema.GatewayStatus:
        return cast(schema.GatewayStatus, await self.call("share"))

    async def unshare(self) -> schema.GatewayStatus:
        return cast(schema.GatewayStatus, await self.call("unshare"))

    async def relisten(self, drop: bool = False) -> schema.GatewayStatus:
        return cast(schema.GatewayStatus, await self.call("relisten", drop=drop))

    async def pair(self) -> schema.PairOffer:
        return cast(schema.PairOffer, await self.call("pair"))

    async def offers(self) -> list[schema.OfferState]:
        """The last pairing codes, the newest first, with who has used them."""
        return cast(list[schema.OfferState], await self.call("offers"))

    async def requests(self) -> list[schema.Request]:
        return cast(list[schema.Request], await self.call("requests"))

    async def approve(self, id: str) -> Done:
        return cast(Done, await self.call("approve", id=id))

    async def deny(self, id: str) -> Done:
        return cast(Done, await self.call("deny", id=id))

    async def undeny(self, id: str | None = None) -> Done:
        """Take a denial back: of this request, or the latest."""
        return cast(Done, await self.call("undeny", id=id))

    async def wireguard(self) -> schema.Wireguard:
        return cast(schema.Wireguard, await self.call("wireguard"))

    async def wireguard_add(
        self, label: str, key: str | None = None, endpoint: str | None = None
    ) -> schema.WireguardConfig:
        """Make a device for a WireGuard app; its config is not to be had again."""
        made = await self.call("wireguard_add", label=label, key=key, endpoint=endpoint)
        return cast(schema.WireguardConfig, made)

    async def wireguard_invite(
        self, label: str, endpoint: str | None = None
    ) -> schema.WireguardConfig:
        """A config for a device that makes its own key pair, and will ask with it."""
        made = await self.call("wireguard_invite", label=label, endpoint=endpoint)
        return cast(schema.WireguardConfig, made)

    async def wireguard_renew(
        self, id: str, key: str | None = None, endpoint: str | None = None
    ) -> schema.WireguardConfig:
        """Another key for a device; the one that it has is good until the new one is used."""
        made = await self.call("wireguard_renew", id=id, key=key, endpoint=endpoint)
        return cast(schema.WireguardConfig, made)

    async def peers(self) -> list[schema.Peer]:
        return cast(list[schema.Peer], await self.call("peers"))

    async def revoke(self, id: str) -> Done:
        return cast(Done, await self.call("revoke", id=id))

    async def rename(self, id: str, label: str) -> Done:
        return cast(Done, await self.call("rename", id=id, label=label))

    async def leases(self) -> list[schema.Lease]:
        return cast(list[schema.Lease], await self.call("leases"))

    async def flows(self, **params: Any) -> schema.Flows:
        """A page of flows; parameters as `methods.FlowsParams`."""
        return cast(schema.Flows, await self.call("flows", **params))

    async def dns(self) -> schema.Dns:
        return cast(schema.Dns, await self.call("dns"))

    async def close_flow(self, id: int) -> Done:
        return cast(Done, await self.call("close_flow", id=id))


class ClientControl(ControlClient):
    """The client service's methods, typed."""

    role = "client"
    methods = CLIENT

    async def status(self) -> schema.ClientStatus:
        return cast(schema.ClientStatus, await self.call("status"))

    async def connect_to(
        self, uri: str | None = None, gateway: str | None = None, transport: str = "auto"
    ) -> schema.ClientStatus:
        """Have the service connect (the method `connect`); watch `status` for the outcome."""
        answer = await self.call("connect", uri=uri, gateway=gateway, transport=transport)
        return cast(schema.ClientStatus, answer)

    async def confirm(self, code: str) -> schema.ClientStatus:
        """Say that the gateway shows these digits (the method `confirm`)."""
        return cast(schema.ClientStatus, await self.call("confirm", code=code))

    async def refuse(self) -> schema.ClientStatus:
        """Say that the gateway shows other digits."""
        return cast(schema.ClientStatus, await self.call("refuse"))

    async def disconnect(self) -> schema.ClientStatus:
        return cast(schema.ClientStatus, await self.call("disconnect"))

    async def flows(self, **params: Any) -> schema.Flows:
        """A page of the tunnel's flows; parameters as `methods.FlowsParams`."""
        return cast(schema.Flows, await self.call("flows", **params))

    async def endpoints(self) -> list[schema.Endpoint]:
        """The gateway's endpoints, the best first, with what became of each."""
        return cast(list[schema.Endpoint], await self.call("endpoints"))

    async def history(self) -> list[schema.LinkRecord]:
        """The links since the service began, the newest first."""
        return cast(list[schema.LinkRecord], await self.call("history"))

    async def gateways(self) -> list[schema.KnownGateway]:
        return cast(list[schema.KnownGateway], await self.call("gateways"))

    async def phones(self) -> list[schema.Phone]:
        """Phones on the client's USB."""
        return cast(list[schema.Phone], await self.call("phones"))

    async def forget_usb_key(self) -> Done:
        return cast(Done, await self.call("forget_usb_key"))

    async def nearby(self) -> schema.Nearby:
        """Look for gateways near the device; takes some seconds."""
        return cast(schema.Nearby, await self.call("nearby"))

    async def forget(self, id: str) -> Done:
        return cast(Done, await self.call("forget", id=id))
