"""The sessions of one round of attempts: who we are, and what the plan holds at that moment."""

from __future__ import annotations

from dataclasses import replace

from client.plan import Plan
from sealing.identity import generate_identity
from vshp.config import Carrier, Hello, Suite
from vshp.datagram_session import DatagramClientSession
from vshp.session import ClientSession


class Sessions:
    """Implements `SessionMaker`."""

    def __init__(self, identity: bytes, plan: Plan, hello: Hello, suite: Suite) -> None:
        self._identity = identity
        self._plan = plan
        self._hello = hello
        self._suite = suite

    def _who(self) -> tuple[bytes, bytes | None, Hello]:
        """Identity, the key that is expected, and what we say of ourselves."""
        plan = self._plan
        if plan.probing:
            # Whoever is there learns nothing of us.
            return generate_identity(), None, Hello("", "")
        return self._identity, plan.public_key, self._hello

    def stream(self, now: float, usb: bool) -> ClientSession:
        """For a byte stream; `usb`: which a cable carries, as the gateway cannot see by itself."""
        plan = self._plan
        identity, key, hello = self._who()
        return ClientSession(
            identity,
            key,
            replace(hello, carrier=Carrier.USB) if usb else hello,
            now=now,
            secret=plan.secret if key else None,
            resume=plan.resume if key else None,
            suite=self._suite,
        )

    def datagram(self, now: float, address: str) -> DatagramClientSession:
        """For datagrams to `address`, as the link names it."""
        plan = self._plan
        identity, key, hello = self._who()
        return DatagramClientSession(
            identity,
            key,
            hello,
            address=address,
            now=now,
            secret=plan.secret if key else None,
            resume=plan.resume if key else None,
            suite=self._suite,
        )
