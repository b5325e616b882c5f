"""The resolver as long as something is shared."""

from __future__ import annotations

from gateway.dns.flights import Reply
from gateway.dns.forwarder import DnsForwarder
from netstack.dns import REFUSED, error_reply


class SharedResolver:
    """The lease's resolver (the NAT's `DnsPort`): answers REFUSED while nothing is shared."""

    def __init__(self, forwarder: DnsForwarder) -> None:
        self.open = False
        self._forwarder = forwarder

    def query(self, wire: bytes, over_tcp: bool, client: str, reply: Reply) -> None:
        if self.open:
            self._forwarder.query(wire, over_tcp, client, reply)
            return
        refusal = error_reply(wire, REFUSED)
        if refusal is not None:
            reply(refusal)
