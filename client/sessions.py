"""The sessions of one round of attempts: who we are, and what the plan holds at that moment."""

from __future__ import annotations

from dataclasses import replace

from client.plan import Plan
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

    def stream(self, now: float, usb: bool) -> ClientSession:
        """For a byte stream; `usb`: which adb carries, as the gateway cannot see by itself."""
        plan = self._plan
        hello = replace(self._hello, carrier=Carrier.USB) if usb else self._hello
        return ClientSession(
            self._identity,
            plan.public_key,
            hello,
            now=now,
            secret=plan.secret,
            resume=plan.resume,
            suite=self._suite,
        )

    def datagram(self, now: float, address: str) -> DatagramClientSession:
        """For datagrams to `address`, as the link names it."""
        plan = self._plan
        return DatagramClientSession(
            self._identity,
            plan.public_key,
            self._hello,
            address=address,
            now=now,
            secret=plan.secret,
            resume=plan.resume,
            suite=self._suite,
        )
