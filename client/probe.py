"""Whose gateway listens at an endpoint: looked at without a word to its owner.

A stream is opened, and closed as soon as the key was shown (`vshp/probe.py`); by UDP a question
is asked. For people who are to choose among gateways that are not known yet, and for naming who
answers in a known gateway's place. The key is proven by the handshake, and that it is the right
one by nobody: that is what the digits are for.
"""

from __future__ import annotations

import asyncio
import errno
import socket

from client.dial import connect
from client.model import ClientError, TransportEndpoint
from reach.cable import Cable
from sealing.errors import ProtocolError
from vshp.constants import MAX_HANDSHAKE_MESSAGE
from vshp.probe import DatagramKeyProbe, KeyProbe

ASK_AGAIN = 0.5
"""Seconds until a datagram that was not answered is sent again."""


async def whose_key(
    endpoint: TransportEndpoint, mark: int, timeout: float, cable: Cable | None = None
) -> bytes:
    """The public key (32 bytes) of the gateway at `endpoint`, within `timeout` seconds.

    `mark` is for the socket (SO_MARK, 0 for none). Raises ConnectionRefusedError, TimeoutError and
    other OSErrors when nobody answers, and ClientError for who does: `not_a_gateway` speaks
    something else, `gateway_hung_up` says nothing at all and closes, and a refusal in clear has
    its own name (`busy`).
    """
    deadline = asyncio.get_running_loop().time() + timeout
    sock = await connect(endpoint, mark, timeout, cable)
    ask = _by_datagram if endpoint.transport == "udp" else _by_stream
    try:
        async with asyncio.timeout_at(deadline):
            key = await ask(sock)
            if key is not None:
                return key
    except ProtocolError as error:
        if error.reason in _SAID:
            raise ClientError(error.reason, f"{endpoint} says: {error.reason}.") from error
        raise ClientError(
            "not_a_gateway", f"What answers at {endpoint} is no gateway: {error.reason}."
        ) from error
    except TimeoutError as error:
        raise TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout:.0f} s") from error
    finally:
        sock.close()
    raise ClientError("gateway_hung_up", f"What answers at {endpoint} hangs up.")


async def _by_stream(sock: socket.socket) -> bytes | None:
    """None when the stream ends first."""
    loop, probe = asyncio.get_running_loop(), KeyProbe()
    await loop.sock_sendall(sock, probe.question)
    while data := await loop.sock_recv(sock, MAX_HANDSHAKE_MESSAGE):
        key = probe.received(data)
        if key is not None:
            return key
    return None


async def _by_datagram(sock: socket.socket) -> bytes:
    """Asks until there is an answer."""
    loop, probe = asyncio.get_running_loop(), DatagramKeyProbe()
    while True:
        asked = probe.question
        await loop.sock_sendall(sock, asked)
        try:
            async with asyncio.timeout(ASK_AGAIN):
                while probe.question == asked:
                    key = probe.received(await loop.sock_recv(sock, _DATAGRAM))
                    if key is not None:
                        return key
        except TimeoutError:
            continue


_DATAGRAM = 2048
_SAID = frozenset({"busy", "version_unsupported", "suite_unsupported", "pattern_unsupported"})
"""What a gateway may say in clear to who has said nothing of himself."""
