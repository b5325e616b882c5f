"""Pretend services: the control API's methods over plain data, stepped by the test.

`PretendGateway` and `PretendClient` implement every method of their role's
table on lists that a test may change. They can be reached two ways: in process
through `FakeControl` (the interface of the console's control client), or by
the real protocol when their `registry()` is given to a `ControlServer`.
Nothing in them moves by itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from control import schema
from control.client import Snapshot
from control.codec import CodecError, from_json, to_json
from control.errors import Code, ControlError, ServiceUnavailable
from control.events import KINDS
from control.methods import (
    CLIENT,
    GATEWAY,
    ApproveParams,
    ConfirmParams,
    ConnectParams,
    Done,
    EventsParams,
    FlowParams,
    FlowsParams,
    Hello,
    IdParams,
    LogsParams,
    Method,
    NoParams,
    PeerTrafficParams,
    Permission,
    RenameParams,
    SetParams,
    SetRulesParams,
    SetTemplateParams,
    TrafficParams,
    UndenyParams,
    UsageParams,
    WireguardAddParams,
    WireguardInviteParams,
    WireguardRenewParams,
)
from control.oneshot import START
from control.registry import Handler, Registry
from control.traffic import INTERVAL, SAMPLES
from rules.encoding import Moment, changed
from rules.encoding import to_json as rules_to_json
from rules.spelling import RuleRefused, summary, texts
from rules.value import NO_RULES, Rules
from services.config import SECTIONS, SETTINGS, ConfigError, find
from services.counted import refusals
from services.logs import concerns, matches
from services.settings import accept, record, told
from services.version import running
from tests.gateway.vpn.fakes import LOOPBACK, TUNNEL, interface

URI = (
    "VSHP:0A1B2C3D4E5F6G7H8J9K0M1N2P3Q4R5S6T7V8W9X0Y1Z2A3B4C5D6E7F8G9H0J1K2M3N4P5Q6R7S"
    "8T9V0W1X2Y3Z4A5B6C7D8E9F0G1H"
)
NEWEST = 4_711
"""The number of the last whole interval of traffic."""
INTERFACES = (
    interface(1, "lo", "127.0.0.1/8", flags=LOOPBACK),
    interface(2, "wlan0", "192.168.43.1/24", kind=""),
    interface(3, "eth0", flags=0x1, kind=""),
    interface(4, "tun0", "10.8.0.2/24", flags=TUNNEL, kind="tun"),
)
"""Those of the host of the pretend services."""
WALL = 1_753_900_000.0
"""Unix time in the pretend world."""


def local_of(unix: float) -> datetime:
    """What the wall shows there: UTC."""
    return datetime.fromtimestamp(unix, UTC).replace(tzinfo=None)


MOMENT = Moment(WALL, local_of, lambda local: local.replace(tzinfo=UTC).timestamp())

_LEVELS = ("debug", "info", "warning", "error", "critical")


class Pretend:
    """What both pretend services have: a log, a record of calls, and watchers."""

    role = ""
    methods: Mapping[str, Method] = {}

    def __init__(self) -> None:
        self.logs: list[schema.LogLine] = []
        self.events: list[schema.Event] = []
        self.events_before = 0
        """`seq` of the last event of an earlier run."""
        self.findings = [
            schema.Finding("vpn", "VPN", "gateway", "ok", "The VPN is tun0 (tun)."),
            schema.Finding(
                "dns", "DNS", "gateway", "broken", "The resolvers (10.8.0.1:53) do not answer.",
                "vpnshare set dns.servers 9.9.9.9",
            ),
        ]  # fmt: skip
        self.check = schema.Check(
            self.role, "good", "inside",
            "Traffic leaves by the VPN: the Internet sees 203.0.113.7.",
            notes=[schema.CheckNote("Names are asked from the same address.")],
            exits=[
                schema.CheckExit("stun.example.com:3478", "ipv4", "203.0.113.7", ""),
                schema.CheckExit("stun.example.com:3478", "ipv6", None, "no answer"),
            ],
            askers=[
                schema.CheckAsker("whoami.example.com", "", ["203.0.113.7"], ""),
                schema.CheckAsker("whoami.example.com", "ns.example.com", [], "no answer"),
            ],
        )  # fmt: skip
        self.settings = [
            told(record(each, each.default, "default"), lambda: INTERFACES)
            for each in SETTINGS
            if each.section in SECTIONS.get(self.role, ())
        ]
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[dict[str, Mapping[str, Any]]] = []
        """The topics of each watch that was begun, with their parameters."""
        self.errors: dict[str, ControlError] = {}
        """What the next call of a method is answered with."""
        self.up = True
        self.read_only = False
        self.controls: list[FakeControl] = []
        self.on_change: list[Any] = []

    def handlers(self) -> dict[str, Handler]:
        """The methods by name."""
        return {
            "logs": lambda params: self._log(params).lines,
            "log": self._log,
            "events": self._events,
            "settings": lambda _: self.settings,
            "set": self._set,
            "doctor": lambda _: self.findings,
            "check": lambda _: self.check,
            "shutdown": lambda _: Done(),
        }

    def _set(self, params: SetParams) -> schema.Setting:
        """As the service does it: checked by the setting's own rules, kept in memory."""
        try:
            setting = find(params.key)
        except ConfigError as exc:
            raise ControlError(Code.NOT_FOUND, str(exc)) from None
        value = setting.default if params.value is None else accept(setting, params.value)
        source = "default" if params.value is None else "file"
        done = told(record(setting, value, source), lambda: INTERFACES)
        self.settings = [done if each.key == done.key else each for each in self.settings]
        self.changed("settings")
        return done

    def _log(self, params: LogsParams) -> schema.LogPage:
        """Lines without a number of their own are numbered by their place."""
        numbered = [
            line if line.seq else replace(line, seq=number)
            for number, line in enumerate(self.logs, 1)
        ]
        least = _LEVELS.index(params.level)
        words = params.filter.casefold().split()
        found = [
            line
            for line in numbered
            if _LEVELS.index(line.level) >= least
            and line.seq > params.after
            and matches(line, words)
            and concerns(line, params.device)
        ]
        shown = found[-params.limit :] if params.limit else []
        newest = numbered[-1].seq if numbered else 0
        oldest = numbered[0].seq if numbered else 1
        return schema.LogPage(shown, len(found) - len(shown), oldest, newest)

    def _events(self, params: EventsParams) -> schema.EventPage:
        found = [each for each in self.events if each.seq > params.after]
        newest = self.events[-1].seq if self.events else self.events_before
        return schema.EventPage(found[-params.limit :], newest, self.events_before)

    def happen(
        self, kind: str, text: str, device: str = "", label: str = "", ago: float = 10.0
    ) -> None:
        """Something has happened, so many seconds ago."""
        seq = (self.events[-1].seq if self.events else self.events_before) + 1
        level = KINDS[kind].level
        self.events.append(
            schema.Event(seq, WALL - ago, 1_000.0 - ago, kind, level, text, device, label)
        )
        self.changed("events")

    def changed(self, *topics: str) -> None:
        """Tell the watchers; without names: everything may have changed."""
        for control in self.controls:
            control.wake(topics)
        for tell in self.on_change:
            tell()

    def registry(self) -> Registry:
        """The same methods for a real control server."""
        return Registry(self.role, running(), self.methods, self.handlers())

    async def connect(self) -> FakeControl:
        """How the console reaches it in process."""
        if not self.up:
            raise ServiceUnavailable(f"The {self.role} service is not running.", START[self.role])
        control = FakeControl(self)
        self.controls.append(control)
        return control

    def stop(self) -> None:
        """The service goes away."""
        self.up = False
        for control in list(self.controls):
            control.lose()

    def answer(self, method: str, params: Mapping[str, Any]) -> Any:
        """Carry a call out as the service would."""
        known = self.methods[method]
        if method in self.errors:
            raise self.errors.pop(method)
        if known.permission is Permission.WRITE and self.read_only:
            raise ControlError(Code.REFUSED, "This connection is read-only.")
        try:
            record: Any = from_json(known.params, dict(params))
        except CodecError as exc:
            raise ControlError(Code.INVALID_PARAMS, str(exc)) from exc
        result = self.handlers()[method](record)
        # Through JSON and back, so that nothing passes that the socket would not carry.
        return from_json(known.result, to_json(result))


class FakeControl:
    """A control client's interface over a pretend service in the same process."""

    def __init__(self, service: Pretend) -> None:
        self.service = service
        permission = Permission.READ if service.read_only else Permission.WRITE
        self.hello = Hello(1, "0.1.0", service.role, 4711, permission.value)
        self._news = asyncio.Event()
        self._topics: set[str] | None = set()
        self._lost = False

    async def call(self, method: str, /, **params: Any) -> Any:
        if self._lost:
            raise ServiceUnavailable("The service went away.")
        given = {name: value for name, value in params.items() if value is not None}
        self.service.calls.append((method, given))
        return self.service.answer(method, given)

    async def watch(
        self,
        topics: Iterable[str],
        interval: float = 1.0,
        params: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> AsyncGenerator[Snapshot, None]:
        wanted = {topic: (params or {}).get(topic, {}) for topic in topics}
        self.service.asked.append(wanted)
        revision = 0
        self._topics = None
        while True:
            if self._lost:
                raise ServiceUnavailable(
                    f"The {self.service.role} service went away.",
                    START[self.service.role],
                )
            due: set[str] | None = self._topics
            self._topics = set()
            for topic, values in wanted.items():
                if due is None or topic in due:
                    revision += 1
                    yield Snapshot(topic, revision, self.service.answer(topic, values))
            self._news.clear()
            if self._topics == set() and not self._lost:
                await self._news.wait()

    def wake(self, topics: tuple[str, ...]) -> None:
        if not topics:
            self._topics = None
        elif self._topics is not None:
            self._topics |= set(topics)
        self._news.set()

    def lose(self) -> None:
        self._lost = True
        self._news.set()

    async def close(self) -> None:
        if self in self.service.controls:
            self.service.controls.remove(self)


WIREGUARD_TEXT = """[Interface]
PrivateKey=yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=
Address=10.187.43.2,fdab:cdef:1234::2
DNS=10.187.43.1
MTU=1420
[Peer]
PublicKey=xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
AllowedIPs=0.0.0.0/0,::/0
Endpoint=192.168.43.1:51820"""
"""Of the length that they have."""


class PretendGateway(Pretend):
    """A gateway with a VPN, two devices, some flows; nobody is waiting."""

    role = "gateway"
    methods = GATEWAY

    def __init__(self) -> None:
        super().__init__()
        self.status = gateway_status()
        self.waiting: list[schema.Request] = []
        self.denied: list[schema.Request] = []
        self.peers = list(PEERS)
        self.leases = list(LEASES)
        self.flows = make_flows(40)
        self.traffic: dict[str | None, list[tuple[int, int]]] = {
            None: waves(4_000_000, 90_000_000),
            "p2": waves(300_000, 60_000_000),
            "p3": waves(4_000_000, 9_000_000),
        }
        """Bytes from and to the tunnel, in all and by device."""
        self.wireguard = schema.Wireguard("A" * 43 + "=", 51820, [], [])
        self.made: list[str] = []
        """WireGuard devices that were made."""
        self.made_with: WireguardAddParams | WireguardInviteParams | WireguardRenewParams | None = (
            None
        )
        """How the last of them was asked for."""
        self.refusal: ControlError | None = None
        """Why none is made."""
        self.dns = schema.Dns(
            resolvers=["10.8.0.1:53"],
            entries=12,
            bytes=9000,
            in_flight=1,
            queries=40,
            hits=25,
            counters={"dns__query__asked": 15, "dns__query__hit": 25},
            recent_limit=0,
        )
        self.logs = list(LOG_LINES)
        self.offers = 0
        self.offer_states: list[schema.OfferState] = []
        self.uri = URI
        self.pair_note = ""

        self.rules: dict[str, Rules] = {}
        """What devices may do that may not do everything, by id."""
        self.used_since = 0
        self.counted = {"tcp__no_flow__rst_sent": 3}
        """Of each device."""
        """Bytes that every device has been sent in this hour more than its books begin with."""
        self.templates = [
            schema.RuleTemplate(
                "family", {"hours": ["07:00-20:00"]}, "mon-sun 07:00-20:00", shipped=True
            ),
            schema.RuleTemplate(
                "guest", {"quota": "2GB/day", "for": "1d"}, "2GB/day; for 1d", shipped=True
            ),
        ]

    def handlers(self) -> dict[str, Handler]:
        return super().handlers() | {
            "status": lambda _: self.status_now(),
            "share": lambda _: self._share("on"),
            "unshare": lambda _: self._share("off"),
            "pair": self._pair,
            "offers": lambda _: self.offer_states,
            "requests": lambda _: self.waiting,
            "approve": self._approve,
            "deny": self._deny,
            "undeny": self._undeny,
            "peers": lambda _: self.peers,
            "revoke": self._revoke,
            "rename": self._rename,
            "rules": lambda params: self._rules_of(params.id),
            "set_rules": self._set_rules,
            "templates": lambda _: self.templates,
            "set_template": self._set_template,
            "leases": lambda _: self.leases,
            "flows": lambda params: flows_page(self.flows, params),
            "relisten": lambda _: self.status_now(),
            "close_flow": self._close_flow,
            "dns": lambda _: self.dns,
            "traffic": self._traffic,
            "usage": self._usage,
            "counters": self._counters,
            "wireguard": lambda _: self.wireguard,
            "wireguard_add": lambda p: self._wireguard_make(p.label, p),
            "wireguard_invite": lambda p: self._wireguard_make(p.label, p),
            "wireguard_renew": lambda p: self._wireguard_make(p.id, p),
        }

    def _usage(self, params: UsageParams) -> schema.Usage:
        """Evenings are busy, and weekends; the device that is named, or all."""
        named = [peer for peer in self.peers if params.peer in (None, peer.id, peer.label)]
        if not named and params.peer is not None:
            raise ControlError(Code.NOT_FOUND, f"There is no device {params.peer}.")
        rows = []
        for peer in named:
            if params.by == "device":
                used = peer.from_tunnel_bytes, peer.to_tunnel_bytes
                rows.append(schema.UsageRow(peer.id, peer.label, "", 0.0, *used))
                continue
            step, count = (3600, 48) if params.by == "hour" else (86_400, 30)
            for ago in range(count - 1, -1, -1):
                begins = float((WALL // step - ago) * step)
                day = datetime.fromtimestamp(begins, UTC)
                busy = 1 + (day.hour > 16) * 8 if params.by == "hour" else 1 + day.weekday()
                if begins < (params.since or 0) or (ago and not (ago + busy) % 5):
                    continue
                down = busy * 31_000_000 * (1 if params.by == "hour" else 12)
                up = down // 9
                if not ago and params.by == "hour":
                    down += self.used_since
                elif not ago:
                    up, down = peer.from_tunnel_today, peer.to_tunnel_today
                period = day.isoformat(timespec="minutes") if step == 3600 else str(day.date())
                rows.append(schema.UsageRow(peer.id, peer.label, period, begins, up, down))
        up = sum(row.from_tunnel_bytes for row in rows)
        down = sum(row.to_tunnel_bytes for row in rows)
        today = str(datetime.fromtimestamp(WALL, UTC).date())
        return schema.Usage(params.by, params.since or 0.0, rows, up, down, today=today)

    def _counters(self, params: IdParams) -> schema.DeviceCounters:
        for peer in self.peers:
            if params.id in (peer.id, peer.label):
                return schema.DeviceCounters(
                    peer.id, peer.label, self.counted, refusals(self.counted)
                )
        raise ControlError(Code.NOT_FOUND, f"There is no device {params.id}.")

    def _rules_of(self, id: str) -> schema.DeviceRules:
        label = next(peer.label for peer in self.peers if peer.id == id)
        rules = self.rules.get(id, NO_RULES)
        return schema.DeviceRules(
            id, label, rules_to_json(rules), summary(rules, local_of), texts(rules, local_of)
        )

    def _set_rules(self, params: SetRulesParams) -> schema.DeviceRules:
        cleared = params.clear or params.template is not None
        before = NO_RULES if cleared else self.rules.get(params.id, NO_RULES)
        template = {each.name: each.rules for each in self.templates}.get(params.template or "", {})
        try:
            self.rules[params.id] = changed(before, template | params.change, MOMENT)
        except RuleRefused as refusal:
            raise ControlError(Code.INVALID_PARAMS, str(refusal), name=refusal.name) from None
        answer = self._rules_of(params.id)
        self.peers = [
            replace(peer, rules=answer.line) if peer.id == params.id else peer
            for peer in self.peers
        ]
        self.changed("peers")
        return answer

    def _set_template(self, params: SetTemplateParams) -> list[schema.RuleTemplate]:
        self.templates = [each for each in self.templates if each.name != params.name]
        if params.rules is not None:
            made = schema.RuleTemplate(params.name, params.rules, "as it was made", shipped=False)
            self.templates.append(made)
        return self.templates

    def _traffic(self, params: PeerTrafficParams) -> schema.Traffic:
        moved = self.traffic.get(params.peer, [])[-params.limit :]
        return schema.Traffic(
            INTERVAL, NEWEST, [up for up, _ in moved], [down for _, down in moved], params.peer
        )

    def _wireguard_make(
        self,
        label: str,
        params: WireguardAddParams | WireguardInviteParams | WireguardRenewParams,
    ) -> schema.WireguardConfig:
        if self.refusal is not None:
            raise self.refusal
        self.made.append(label)
        self.made_with = params
        id, text = "c0ffee00", WIREGUARD_TEXT
        if isinstance(params, WireguardInviteParams):
            text = re.sub("PrivateKey=.*", "PrivateKey=", text)
            id = ""
        return schema.WireguardConfig(id, label, text, "phone", "192.168.43.1:51820", 600.0)

    def status_now(self) -> schema.GatewayStatus:
        """The status, with its counts true."""
        return replace(
            self.status,
            peers=sum(not peer.revoked for peer in self.peers),
            connected=sum(lease.connected for lease in self.leases),
            requests=len(self.waiting),
            flows=len(self.flows),
        )

    def _share(self, state: str) -> schema.GatewayStatus:
        self.status = replace(self.status, sharing=state)
        self.changed("status")
        return self.status_now()

    def _pair(self, _: NoParams) -> schema.PairOffer:
        self.offers += 1
        id = f"o{self.offers}"
        self.offer_states.insert(0, schema.OfferState(id, "open", WALL + 120))
        return schema.PairOffer(
            self.uri, 120.0, self.status.name, list(self.status.listen),
            self.status.fingerprint, id, self.pair_note, "192.168.43.1",
        )  # fmt: skip

    def use_offer(self, label: str) -> None:
        """A device comes with the newest code."""
        self.offer_states[0] = replace(self.offer_states[0], state="used", used_by=label)
        self.changed("offers")

    def _find(self, id: str) -> schema.Request:
        for request in self.waiting:
            if request.id == id:
                return request
        raise ControlError(Code.NOT_FOUND, f"No request {id} is waiting.")

    def _approve(self, params: ApproveParams) -> Done:
        request = self._find(params.id)
        self.waiting.remove(request)
        number = len(self.peers) + 2
        self.peers.append(peer(f"p{number}", request.label, request.platform, connected=True))
        if params.template or params.change:
            self._set_rules(SetRulesParams(f"p{number}", params.change, params.template))
        self.leases.append(lease(f"l{number}", f"p{number}", request.label, number))
        self.changed("requests", "status", "peers", "leases")
        return Done(request.id, request.label)

    def _deny(self, params: IdParams) -> Done:
        request = self._find(params.id)
        self.waiting.remove(request)
        self.denied.append(request)
        self.changed("requests", "status")
        return Done(request.id, request.label)

    def _undeny(self, params: UndenyParams) -> Done:
        for request in self.denied:
            if params.id in (None, request.id):
                self.denied.remove(request)
                return Done(request.id, request.label)
        raise ControlError(Code.NOT_FOUND, "No denial can be taken back.")

    def _revoke(self, params: IdParams) -> Done:
        self.peers = [
            replace(found, revoked=True, connected=False) if found.id == params.id else found
            for found in self.peers
        ]
        self.leases = [found for found in self.leases if found.peer_id != params.id]
        self.changed("peers", "leases", "status")
        return Done(params.id, None, self.status.unwritten)

    def _rename(self, params: RenameParams) -> Done:
        self.peers = [
            replace(found, label=params.label) if found.id == params.id else found
            for found in self.peers
        ]
        self.changed("peers")
        return Done(params.id, params.label)

    def _close_flow(self, params: FlowParams) -> Done:
        self.flows = [flow for flow in self.flows if flow.id != params.id]
        self.changed("flows")
        return Done(str(params.id))


def flows_page(flows: list[schema.Flow], params: FlowsParams) -> schema.Flows:
    """What either service answers."""
    words = params.filter.lower().split()
    found = [
        flow
        for flow in flows
        if (params.peer is None or flow.peer_id.startswith(params.peer))
        and all(
            word
            in f"{flow.label} {flow.protocol} {flow.state} {flow.source} {flow.destination}".lower()
            for word in words
        )
    ]
    found.sort(key=lambda flow: _flow_key(flow, params.sort), reverse=params.descending)
    return schema.Flows(len(found), found[: params.limit])


def _flow_key(flow: schema.Flow, sort: str) -> Any:
    if sort == "rate":
        return flow.from_tunnel_rate + flow.to_tunnel_rate
    if sort == "bytes":
        return flow.from_tunnel_bytes + flow.to_tunnel_bytes
    return getattr(flow, sort)


def waves(up: int, down: int) -> list[tuple[int, int]]:
    """Ten minutes of traffic that comes and goes, with a pause: bytes from and to the tunnel."""
    made = []
    for step in range(SAMPLES):
        rising, falling = step % 40, 39 - step * 3 % 40
        still = step % 97 > 80
        made.append((0, 0) if still else (up * falling // 40, down * rising // 40))
    return made


class PretendClient(Pretend):
    """A client that is connected, and knows two gateways."""

    role = "client"
    methods = CLIENT

    def __init__(self) -> None:
        super().__init__()
        self.status = client_status()
        self.gateways = list(GATEWAYS)
        self.phones: list[schema.Phone] = []
        self.nearby = schema.Nearby([], "")
        self.flows = own_flows(30)
        self.endpoints = list(ENDPOINTS)
        self.links = list(LINKS)
        self.traffic = waves(60_000_000, 300_000)
        self.logs = list(LOG_LINES)

    def handlers(self) -> dict[str, Handler]:
        return super().handlers() | {
            "status": lambda _: self.status,
            "connect": self._connect,
            "confirm": self._confirm,
            "refuse": self._refuse,
            "disconnect": self._disconnect,
            "flows": lambda params: flows_page(self.flows, params),
            "endpoints": lambda _: self.endpoints,
            "history": lambda _: self.links,
            "gateways": lambda _: self.gateways,
            "phones": lambda _: self.phones,
            "forget_usb_key": lambda _: Done(),
            "nearby": lambda _: self.nearby,
            "traffic": self._traffic,
            "forget": self._forget,
        }

    def _connect(self, params: ConnectParams) -> schema.ClientStatus:
        self.status = replace(IDLE_CLIENT, state="connecting", gateway="Pixel 8")
        self.changed("status")
        return self.status

    def _confirm(self, params: ConfirmParams) -> schema.ClientStatus:
        right = params.code.replace(" ", "") == self.status.code
        self.status = (
            replace(self.status, state="waiting", reason=None, error=None)
            if right
            else replace(IDLE_CLIENT, state="failed", error="code_refused", reason="Other digits.")
        )
        self.changed("status")
        return self.status

    def _refuse(self, _: NoParams) -> schema.ClientStatus:
        return self._confirm(ConfirmParams("none"))

    def _disconnect(self, _: NoParams) -> schema.ClientStatus:
        self.status = IDLE_CLIENT
        self.changed("status")
        return self.status

    def _traffic(self, params: TrafficParams) -> schema.Traffic:
        moved = self.traffic[-params.limit :]
        return schema.Traffic(
            INTERVAL, NEWEST, [up for up, _ in moved], [down for _, down in moved]
        )

    def _forget(self, params: IdParams) -> Done:
        self.gateways = [found for found in self.gateways if found.fingerprint != params.id]
        self.changed("gateways")
        return Done(params.id)


# Data


def gateway_status() -> schema.GatewayStatus:
    return schema.GatewayStatus(
        pid=4711,
        version="0.1.0",
        api=1,
        role="gateway",
        name="Pixel 8",
        fingerprint="SHA256:9f2c 41d7 aa03 5be8",
        sharing="on",
        vpn=schema.Vpn(
            state="active",
            interface="tun0",
            kind="tun",
            addresses=["10.64.0.9", "fd7a:115c:a1e0::9"],
            ipv4=True,
            ipv6=True,
            guard="device",
        ),
        listen=["192.168.43.1:47800", "[fe80::1]:47800"],
        uptime=8_130.0,
        peers=2,
        connected=2,
        requests=0,
        flows=40,
        from_tunnel_bytes=48_200_000,
        to_tunnel_bytes=1_930_000_000,
        from_tunnel_rate=182_000.0,
        to_tunnel_rate=4_700_000.0,
        egress=schema.Egress(42, 3.0, 61_000_000, 2_040_000_000, 48_000_000, 1_900_000_000),
    )


def request(
    id: str = "r1",
    label: str = "Living-room TV",
    code: str | None = "483920",
    via: str = "lan",
    platform: str = "linux",
) -> schema.Request:
    return schema.Request(
        id, label, platform, code, via, "192.168.43.77:53122", "SHA256:77aa 0c1d", 3.0, 117.0
    )


QUESTIONS = (
    schema.DnsQuestion(2.0, "p2", "Work laptop", "example.org", "A", "asked"),
    schema.DnsQuestion(2.0, "p2", "Work laptop", "example.org", "AAAA", "asked"),
    schema.DnsQuestion(9.0, "p3", "Tablet", "cdn.video.example", "HTTPS", "hit"),
    schema.DnsQuestion(31.0, "p3", "Tablet", "no-such.example", "A", "timed_out"),
)
"""Newest first, as the service sends them."""


def peer(id: str, label: str, platform: str, *, connected: bool) -> schema.Peer:
    return schema.Peer(
        id=id,
        label=label,
        platform=platform,
        fingerprint=f"SHA256:{id} 52c0 88b1 d3e4",
        first_seen_at=WALL - 40 * 86_400,
        last_seen_at=WALL - (0 if connected else 7_300),
        revoked=False,
        connected=connected,
        from_tunnel_bytes=310_000_000,
        to_tunnel_bytes=12_400_000_000,
        from_tunnel_today=14_000_000,
        to_tunnel_today=930_000_000,
    )


def lease(
    id: str, peer_id: str, label: str, number: int, *, rate: float = 0.0, connected: bool = True
) -> schema.Lease:
    return schema.Lease(
        id=id,
        peer_id=peer_id,
        label=label,
        ipv4=f"10.77.0.{number}",
        ipv6=f"fd77::{number}",
        dns=["10.77.0.1", "fd77::1"],
        mtu=1500,
        offload=True,
        expires_in=86_400.0,
        connected=connected,
        transport="tcp" if connected else None,
        endpoint=f"192.168.43.{number}:40112" if connected else None,
        rtt_ms=3.4 if connected else None,
        from_tunnel_bytes=14_000_000,
        to_tunnel_bytes=930_000_000,
        from_tunnel_rate=rate / 26,
        to_tunnel_rate=rate,
        flows=20 if connected else 0,
    )


PEERS = (
    peer("p2", "Work laptop", "linux", connected=True),
    peer("p3", "Tablet", "android", connected=True),
    peer("p4", "Old phone", "android", connected=False),
)
LEASES = (
    lease("l2", "p2", "Work laptop", 2, rate=4_100_000.0),
    lease("l3", "p3", "Tablet", 3, rate=600_000.0),
    lease("l4", "p4", "Old phone", 4, connected=False),
)

_HOSTS = (
    "151.101.1.140:443", "[2606:4700::6810:84e5]:443", "142.250.74.78:443", "10.77.0.1:53",
    "140.82.121.4:22", "1.1.1.1", "17.57.146.52:5223", "104.16.132.229:443",
)  # fmt: skip
_PROTOCOLS = ("tcp", "tcp", "udp", "udp", "tcp", "icmp", "tcp", "tcp")


def make_flows(count: int, step: int = 0) -> list[schema.Flow]:
    """`count` flows of two devices; `step` moves their counters on."""
    made = []
    for number in range(count):
        kind = number % len(_HOSTS)
        rate = 4_000_000.0 / (number + 1) if number % 3 == 0 else 0.0
        if rate and step:
            rate *= 1 + 0.1 * ((number * 7 + step * 13) % 10)
        mine = number % 2 == 0
        made.append(
            schema.Flow(
                id=number + 1,
                peer_id="p2" if mine else "p3",
                label="Work laptop" if mine else "Tablet",
                protocol=_PROTOCOLS[kind],
                state="established" if _PROTOCOLS[kind] == "tcp" else "active",
                source=f"10.77.0.{2 if mine else 3}:{40_000 + number % 20_000}",
                destination=_HOSTS[kind],
                age=5.0 + number * 3 + step,
                idle=0.0 if rate else 12.0,
                from_tunnel_bytes=1_000 * (number + 1),
                to_tunnel_bytes=int(rate * (30 + step)) + 5_000,
                from_tunnel_rate=rate / 20,
                to_tunnel_rate=rate,
                device="tun0",
                local="10.64.0.9",
            )
        )
    return made


_PROGRAMS = ("firefox", "ssh", "apt-get", "?")


def own_flows(count: int) -> list[schema.Flow]:
    """`count` flows of this device's programs."""
    made = []
    for flow in make_flows(count):
        program = _PROGRAMS[flow.id % len(_PROGRAMS)]
        tcp = flow.protocol == "tcp"
        made.append(
            replace(
                flow,
                peer_id=program,
                label=program,
                protocol="tcp" if tcp else "udp",
                source=f"10.77.0.2:{40_000 + flow.id}",
                from_tunnel_bytes=flow.to_tunnel_bytes if tcp else 0,
                to_tunnel_bytes=flow.from_tunnel_bytes if tcp else 0,
                from_tunnel_rate=flow.to_tunnel_rate if tcp else 0.0,
                to_tunnel_rate=flow.from_tunnel_rate if tcp else 0.0,
                device="vshp0",
                local=None,
                pid=None if program == "?" else 2_000 + flow.id % 7,
                rtt_ms=24.0 + flow.id if tcp else None,
                retransmits=flow.id % 3 if tcp else None,
                counted=tcp,
            )
        )
    return made


LOG_LINES = tuple(
    schema.LogLine(WALL - 100 + number, level, logger, message)
    for number, (level, logger, message) in enumerate(
        (
            ("info", "services.gatewayd", "The gateway listens on 192.168.43.1:47800."),
            ("info", "gateway.vpn.detector", "VPN: tun0 (10.64.0.9), IPv4 and IPv6."),
            ("debug", "gateway.nat.router", "budget of 4096 flows"),
            ("info", "gateway.leases", "Work laptop has the lease 10.77.0.2."),
            ("warning", "gateway.pairing", "A request of 192.168.43.90 ran out unanswered."),
            ("error", "gateway.dns.forwarder", "Resolver 10.64.0.1 does not answer."),
            ("info", "gateway.leases", "Tablet has the lease 10.77.0.3."),
        )
    )
)

IDLE_CLIENT = schema.ClientStatus(
    pid=4712,
    version="0.1.0",
    api=1,
    role="client",
    label="Work laptop",
    fingerprint="SHA256:p2 52c0 88b1 d3e4",
    state="idle",
)


def client_status() -> schema.ClientStatus:
    return replace(
        IDLE_CLIENT,
        state="connected",
        gateway="Pixel 8",
        gateway_fingerprint="SHA256:9f2c 41d7 aa03 5be8",
        endpoint="tcp:192.168.43.1:47800",
        transport="tcp",
        interface="vshp0",
        lease=schema.ClientLease(
            "10.77.0.2/24", "fd77::2/64", "10.77.0.1", "fd77::1", ["10.77.0.1", "fd77::1"],
            1500, True, 86_400.0,
        ),
        sharing="on",
        connected_for=731.0,
        reconnects=1,
        rtt_ms=3.4,
        from_tunnel_bytes=930_000_000,
        to_tunnel_bytes=14_000_000,
        from_tunnel_rate=4_100_000.0,
        to_tunnel_rate=160_000.0,
        kill_switch=schema.KillSwitch(
            "armed", WALL - 731, False,
            [
                "ip -4 rule pref 32765 not fwmark 51830 table 51830",
                "ip -4 route unreachable default metric 4000 table 51830",
                "ip -6 rule pref 32765 not fwmark 51830 table 51830",
                "ip -6 route unreachable default metric 4000 table 51830",
            ],
        ),
    )  # fmt: skip


GATEWAYS = (
    schema.KnownGateway("Pixel 8", "SHA256:9f2c 41d7 aa03 5be8", ["192.168.43.1:47800"], WALL - 30),
    schema.KnownGateway(
        "Cabin router", "SHA256:01ee 77d2 19b0 c4aa", ["192.168.8.1:47800"], WALL - 500_000
    ),
)

ENDPOINTS = (
    schema.Endpoint(
        "usb:3A201JEHN01234:47800", "usb", "usb", "unreachable", "device offline", 0.012, WALL - 735
    ),
    schema.Endpoint(
        "tcp:192.168.43.1:47800", "tcp", "hotspot", "won", None, 0.0061, WALL - 731, in_use=True
    ),
    schema.Endpoint(
        "tcp:[fe80::4e2a:91ff:fe0c:77d1%wlan0]:47800", "tcp", "lan", "slower", None, 0.019,
        WALL - 731,
    ),
    schema.Endpoint(
        "tcp:10.64.0.9:47800", "tcp", "lan", "timed_out", "no answer within 10 s", 10.0, WALL - 900
    ),
    schema.Endpoint(
        "tcp:192.168.8.20:47800", "tcp", "lan", "refused", "Connection refused", 0.004, WALL - 731
    ),
    schema.Endpoint("udp:192.168.43.1:47800", "udp", "hotspot", "untried"),
)  # fmt: skip
"""In the order in which they are tried."""

LINKS = (
    schema.LinkRecord(
        4, WALL - 731, "Pixel 8", "tcp:192.168.43.1:47800", "tcp", "hotspot", True, 731.0, 1.4, 0,
        from_tunnel_bytes=930_000_000, to_tunnel_bytes=14_000_000, flows=23,
    ),
    schema.LinkRecord(
        3, WALL - 2_400, "Pixel 8", "usb:3A201JEHN01234:47800", "usb", "usb", True, 1_667.6, 0.0, 0,
        "link_lost", "The connection to the gateway broke.", 2_100_000_000, 51_000_000,
    ),
    schema.LinkRecord(
        2, WALL - 2_500, "Pixel 8", "udp:192.168.43.1:47800", "udp", "hotspot", False, 100.0, 41.0,
        3, "moved", "A better way was found, and the tunnel moved over.", 40_000_000, 900_000,
    ),
    schema.LinkRecord(
        1, WALL - 90_000, "Cabin router", "tcp:192.168.8.1:47800", "tcp", "lan", False, 3_600.0,
        None, 0, "closed_here", "This device disconnected.", 700_000, 20_000,
    ),
)  # fmt: skip
"""The newest first; the first of them runs."""
