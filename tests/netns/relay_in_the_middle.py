"""A man in the middle: a client session on one side, a gateway session on the other.

He answers the client with a key of his own and speaks to the gateway with
another, and hands every packet over. `heard` says what each side told him.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

from sealing.errors import ProtocolError
from sealing.identity import generate_identity
from vshp.config import Capability, CloseReason, Hello, LeaseConfig
from vshp.events import ApprovalPending, Event, HelloReceived
from vshp.frames import FrameType, encode_config
from vshp.session import ClientSession, GatewaySession
from vshp.states import State


class ManInTheMiddle:
    """Serves one victim on `listener`, toward the gateway that `dialled` is connected to."""

    def __init__(self, listener: socket.socket, dialled: socket.socket) -> None:
        self._listener = listener
        self._upstream = dialled
        self.code_of_gateway: str | None = None
        """What the gateway's owner sees."""
        self.code_of_client: str | None = None
        """What the client's user sees."""
        self.broken: str | None = None
        """How the victim's handshake failed, if it did."""
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        victim, _ = self._listener.accept()
        hello = Hello("laptop", "linux", Capability.IPV6, 1500)
        client = ClientSession(generate_identity(), None, hello, now=time.monotonic())
        gateway = GatewaySession(generate_identity(), lambda name: os.urandom(32), time.monotonic())
        try:
            while not (self.code_of_client and self.code_of_gateway):
                _push(client, self._upstream)
                _push(gateway, victim)
                if _pull(client, self._upstream):
                    break
                for event in _events(client):
                    if isinstance(event, ApprovalPending):
                        self.code_of_gateway = event.code
                if _pull(gateway, victim):
                    break
                for event in _events(gateway):
                    if isinstance(event, HelloReceived):
                        self.code_of_client = event.code
                        gateway.pending(60.0, time.monotonic())
            _push(gateway, victim)
        except ProtocolError as error:
            self.broken = error.reason
            _push(gateway, victim)
        except OSError as error:
            self.broken = str(error)
        self.done.set()
        time.sleep(3.0)
        victim.close()
        self._upstream.close()


class Moment(Enum):
    """When he grants by himself."""

    BEFORE_THE_CODE = auto()
    WITH_THE_CODE = auto()
    AFTER_THE_CODE = auto()
    BY_DELTA = auto()


class GrantingInstead(GatewaySession):
    """Grants where a gateway says why it closes."""

    def __init__(self, grant: Callable[[GatewaySession], None]) -> None:
        super().__init__(generate_identity(), lambda name: os.urandom(32), time.monotonic())
        self._grant = grant

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        self._grant(self)


class GrantingMan:
    """Needs no gateway behind him: whoever comes is given a lease of his at once."""

    def __init__(self, listener: socket.socket, moment: Moment) -> None:
        self._listener = listener
        self._moment = moment
        self.granted = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        victim, _ = self._listener.accept()
        session: GatewaySession
        if self._moment is Moment.BEFORE_THE_CODE:
            # In the place of his share of the code.
            session = GrantingInstead(self._grant)
            session.admit_code = lambda now: False
        else:
            session = GatewaySession(
                generate_identity(), lambda name: os.urandom(32), time.monotonic()
            )
        try:
            while not self.granted.is_set():
                _push(session, victim)
                if _pull(session, victim):
                    return
                if session.state is State.CODE and self._moment is Moment.WITH_THE_CODE:
                    self._grant(session)
                if any(isinstance(event, HelloReceived) for event in _events(session)):
                    session.pending(60.0, time.monotonic())
                    _push(session, victim)
                    time.sleep(1.0)
                    self._grant(session)
            _push(session, victim)
            time.sleep(3.0)
        except (ProtocolError, OSError):
            pass
        finally:
            victim.close()

    def _grant(self, session: GatewaySession) -> None:
        lease = LeaseConfig(
            session_id=os.urandom(16),
            ipv4=bytes((10, 66, 0, 2)),
            ipv6=bytes.fromhex("fd66" + "00" * 13 + "02"),
            gateway_ipv4=bytes((10, 66, 0, 1)),
            gateway_ipv6=bytes.fromhex("fd66" + "00" * 13 + "01"),
            name="phone",
            ticket=bytes(80),
        )
        base = replace(lease, mtu=1300) if self._moment is Moment.BY_DELTA else None
        session.writer.frame(FrameType.CONFIG, encode_config(lease, base))
        self.granted.set()


def _events(session: ClientSession | GatewaySession) -> list[Event]:
    found = []
    while (event := session.next_event()) is not None:
        found.append(event)
    return found


def _push(session: ClientSession | GatewaySession, sock: socket.socket) -> None:
    session.writer.flush()
    output = bytes(session.writer.output())
    session.writer.consumed(len(output))
    if output:
        sock.sendall(output)


def _pull(session: ClientSession | GatewaySession, sock: socket.socket) -> bool:
    """Take what has come; True at the end of the stream."""
    sock.settimeout(0.05)
    try:
        n = sock.recv_into(session.receive_buffer())
    except TimeoutError:
        return False
    if n == 0:
        return True
    session.received(n, time.monotonic())
    return False
