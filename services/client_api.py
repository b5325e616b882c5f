"""The client in the control API's words: methods to calls, snapshots to records."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from client.client import Client
from client.endpoints import EndpointRecord
from client.guard import GuardState
from client.history import LinkRecord
from client.model import ClientError, ClientSnapshot, ClientState, ClientStore, KnownGateway
from control import methods as m
from control import schema as s
from control.errors import Code, ControlError
from control.lacking import install
from control.registry import Handler, Registry
from control.traffic import INTERVAL, Counts, Reading
from reach.cable import Phone, advice
from services.check.check import Checker, of_client
from services.client_flows import page
from services.doctor.doctor import Doctor
from services.events import EventBook
from services.logs import Ring
from services.sampling import Sampler
from services.settings import Settings
from services.version import running

_CODES = {
    "gateway_unknown": Code.NOT_FOUND,
    "gateway_ambiguous": Code.CONFLICT,
    "name_unknown": Code.NOT_FOUND,
    "name_refused": Code.INVALID_PARAMS,
    "uri_invalid": Code.INVALID_PARAMS,
    "bad_address": Code.INVALID_PARAMS,
    "code_unasked": Code.CONFLICT,
    "denied": Code.REFUSED,
    "revoked": Code.REFUSED,
}
"""A ClientError's name to the error code; others are `FAILED`."""
OPENED_BY = "vpnshare disconnect"
"""What opens a network that a final refusal keeps closed."""


class ClientApi:
    """Handlers for every method of the client's table."""

    def __init__(
        self,
        client: Client,
        store: ClientStore,
        ring: Ring,
        shut_down: Callable[[], None],
        settings: Settings,
        doctor: Doctor,
        told: Callable[[], list[s.Unwritten]] = list,
        events: EventBook | None = None,
    ) -> None:
        """`told`: what is in force and not stored (`StoreKeeper.told`); `events`: what happened."""
        self._client = client
        self._told = told
        self._events = events or EventBook(None, "client")
        self._settings = settings
        self._doctor = doctor
        self._checker = Checker(partial(of_client, client, settings))
        self._store = store
        self._ring = ring
        self._shut_down = shut_down
        self.traffic_history = Sampler(self._counts, client.clock.now)
        """For the service to start and stop."""

    def registry(self) -> Registry:
        handlers: dict[str, Handler] = {
            "status": lambda _: self.status(),
            "connect": self.connect,
            "confirm": self.confirm,
            "refuse": self.refuse,
            "disconnect": self.disconnect,
            "flows": self.flows,
            "endpoints": self.endpoints,
            "history": self.history,
            "gateways": self.gateways,
            "phones": self.phones,
            "forget_usb_key": self.forget_usb_key,
            "nearby": self.nearby,
            "traffic": self.traffic,
            "forget": self.forget,
            "settings": lambda _: self._settings.read(),
            "set": self._settings.set,
            "doctor": lambda _: self._doctor.run(),
            "check": self._checker.run,
            "logs": lambda p: self._ring.page(p).lines,
            "log": self._ring.page,
            "events": self._events.page,
            "shutdown": self.shutdown,
        }
        return Registry("client", running(), m.CLIENT, handlers)

    def status(self) -> s.ClientStatus:
        return replace(_status(self._client.status()), unwritten=self._told())

    async def connect(self, params: m.ConnectParams) -> s.ClientStatus:
        try:
            await self._client.connect(
                params.uri or params.gateway,
                params.transport,
                params.code,
                params.unseen,
                params.open_on_failure,
            )
        except ClientError as exc:
            raise _error(exc) from exc
        return self.status()

    async def confirm(self, params: m.ConfirmParams) -> s.ClientStatus:
        try:
            await self._client.confirm(params.code)
        except ClientError as exc:
            raise _error(exc) from exc
        return self.status()

    async def refuse(self, _: m.NoParams) -> s.ClientStatus:
        try:
            await self._client.refuse()
        except ClientError as exc:
            raise _error(exc) from exc
        return self.status()

    async def disconnect(self, _: m.NoParams) -> s.ClientStatus:
        await self._client.disconnect()
        return self.status()

    async def flows(self, params: m.FlowsParams) -> s.Flows:
        sample = await self._client.outlet.flows.look()
        return page(sample, params, self._client.status().interface, self._client.clock.now())

    def endpoints(self, _: m.NoParams) -> list[s.Endpoint]:
        now = self._client.status()
        used = now.endpoint if now.state is ClientState.CONNECTED else None
        return [_endpoint(record, used) for record in self._client.endpoints()]

    def history(self, _: m.NoParams) -> list[s.LinkRecord]:
        return [_link(record) for record in self._client.history()]

    def traffic(self, params: m.TrafficParams) -> s.Traffic:
        newest, samples = self.traffic_history.read(None, params.limit)
        return s.Traffic(INTERVAL, newest, [up for up, _ in samples], [down for _, down in samples])

    def _counts(self) -> Reading:
        now = self._client.status()
        counts = Counts(now.from_tunnel_bytes, now.to_tunnel_bytes)
        return Reading(counts, linked=now.state is ClientState.CONNECTED)

    def gateways(self, _: m.NoParams) -> list[s.KnownGateway]:
        return [_gateway(known) for known in self._store.gateways()]

    async def phones(self, _: m.NoParams) -> list[s.Phone]:
        try:
            return [_phone(phone) for phone in await self._client.phones()]
        except ClientError as exc:
            raise _error(exc) from exc

    async def forget_usb_key(self, _: m.NoParams) -> m.Done:
        try:
            await self._client.forget_usb_key()
        except ClientError as exc:
            raise _error(exc) from exc
        return m.Done()

    async def nearby(self, _: m.NoParams) -> s.Nearby:
        around = await self._client.nearby()
        known = {gateway.fingerprint for gateway in self._store.gateways()}
        advice = around.deaf
        if around.lacks:
            advice += f" Get it with: {install(around.lacks)}"
        return s.Nearby(
            [
                s.NearbyGateway(
                    way=each.way,
                    target=each.target,
                    name=each.name,
                    fingerprint=each.fingerprint,
                    kind=each.kind.value,
                    known=each.fingerprint in known,
                    advice=each.lack,
                )
                for each in around.found
            ],
            advice,
        )

    def forget(self, params: m.IdParams) -> m.Done:
        try:
            self._client.forget(params.id)
        except ClientError as exc:
            raise _error(exc) from exc
        return m.Done(params.id, params.id, self._told())

    def shutdown(self, _: m.NoParams) -> m.Done:
        self._shut_down()
        return m.Done()


def _error(error: ClientError) -> ControlError:
    code = _CODES.get(error.name, Code.FAILED)
    return ControlError(code, error.message, error.hint or None, error.name)


def _phone(phone: Phone) -> s.Phone:
    return s.Phone(phone.serial, phone.model, phone.state.value, advice(phone))


def _gateway(known: KnownGateway) -> s.KnownGateway:
    return s.KnownGateway(
        name=known.name,
        fingerprint=known.fingerprint,
        endpoints=[str(endpoint) for endpoint in known.endpoints],
        last_seen_at=known.last_seen,
    )


def _endpoint(record: EndpointRecord, used: str | None) -> s.Endpoint:
    endpoint = record.endpoint
    return s.Endpoint(
        endpoint=str(endpoint),
        transport=endpoint.transport,
        kind=endpoint.kind.value,
        outcome=record.outcome.value,
        reason=record.why or None,
        took=record.took,
        at=record.at,
        in_use=str(endpoint) == used,
    )


def _link(record: LinkRecord) -> s.LinkRecord:
    return s.LinkRecord(
        id=record.id,
        began_at=record.began,
        gateway=record.gateway,
        endpoint=str(record.endpoint),
        transport=record.endpoint.transport,
        kind=record.endpoint.kind.value,
        resumed=record.resumed,
        seconds=record.seconds,
        away=record.away,
        attempts=record.attempts,
        ended=record.ended,
        sentence=record.sentence,
        from_tunnel_bytes=record.from_tunnel_bytes,
        to_tunnel_bytes=record.to_tunnel_bytes,
        flows=record.flows,
    )


def _kill_switch(now: ClientSnapshot) -> s.KillSwitch:
    guard, guards = now.guard, now.guard.guards
    kept = now.state is ClientState.FAILED and guard.state is not GuardState.OFF
    return s.KillSwitch(
        guard.state.value,
        guard.since,
        guards.strict,
        list(guards.rules),
        list(guards.beside),
        guard.open_on_failure,
        OPENED_BY if kept else None,
    )


def _status(now: ClientSnapshot) -> s.ClientStatus:
    lease = now.lease
    return s.ClientStatus(
        pid=os.getpid(),
        version=running(),
        api=s.API_VERSION,
        role="client",
        label=now.label,
        fingerprint=now.fingerprint,
        state=now.state.value,
        reason=now.reason,
        error=now.error,
        code=now.code,
        gateway=now.gateway,
        gateway_fingerprint=now.gateway_fingerprint,
        endpoint=now.endpoint,
        transport=now.transport,
        outlet=now.outlet,
        interface=now.interface,
        proxy=now.proxy,
        lease=None
        if lease is None
        else s.ClientLease(
            ipv4=lease.ipv4,
            ipv6=lease.ipv6,
            gateway_ipv4=lease.gateway_ipv4,
            gateway_ipv6=lease.gateway_ipv6,
            dns=list(lease.dns),
            mtu=lease.mtu,
            offload=lease.offload,
            expires_in=lease.expires_in,
        ),
        sharing=now.sharing,
        shut_out=now.shut_out,
        quota_left=now.quota_left,
        connected_for=now.connected_for,
        reconnects=now.reconnects,
        rtt_ms=now.rtt_ms,
        from_tunnel_bytes=now.from_tunnel_bytes,
        to_tunnel_bytes=now.to_tunnel_bytes,
        from_tunnel_rate=now.from_tunnel_rate,
        to_tunnel_rate=now.to_tunnel_rate,
        counters=now.counters,
        kill_switch=_kill_switch(now),
    )
