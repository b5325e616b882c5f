"""The receiving side as one object: connect, stay connected, undo everything."""

from __future__ import annotations

from collections.abc import Callable

from client.model import ClientConfig, ClientSnapshot, ClientStore


class Client:
    """One virtual NIC over one session with one gateway at a time.

    `on_change` is called on the loop whenever the snapshot's state, reason,
    code, lease or sharing changed (not for counters).
    """

    on_change: Callable[[], None]

    def __init__(self, store: ClientStore, config: ClientConfig) -> None: ...

    async def start(self) -> None:
        """Create the identity if there is none; undo what a crash left behind."""

    async def stop(self) -> None:
        """Disconnect and undo every change to the system. Safe to call twice."""

    async def connect(self, target: str | None = None, transport: str = "auto") -> None:
        """Begin connecting; returns as soon as the attempt runs.

        `target` is a pairing URI, a known gateway's name or fingerprint (or a
        unique prefix of it), or None for the gateway seen last. Raises
        ClientError for what cannot be tried at all: `uri_invalid`,
        `gateway_unknown`, `transport_unavailable`, `nic_unavailable`. What
        goes wrong later is in the snapshot.
        """

    async def wait(self, timeout: float | None = None) -> ClientSnapshot:
        """The snapshot once the state is `connected`, `failed` or `idle`, or at time-out."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Close the session and undo every change to the system; state `idle`."""

    def forget(self, target: str) -> None:
        """Remove a known gateway by name or fingerprint; ClientError `gateway_unknown`."""

    def status(self) -> ClientSnapshot:
        raise NotImplementedError
