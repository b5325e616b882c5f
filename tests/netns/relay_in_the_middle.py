"""A man in the middle: a client session on one side, a gateway session on the other.

He answers the client with a key of his own and speaks to the gateway with
another, and hands every packet over. `heard` says what each side told him.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from sealing.errors import ProtocolError
from sealing.identity import generate_identity
from vshp.config import Capability, Hello
from vshp.events import ApprovalPending, Event, HelloReceived
from vshp.session import ClientSession, GatewaySession


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
