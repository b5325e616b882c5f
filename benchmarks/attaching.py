"""A client's link and a NIC put together, for workers (`turns.py`), whatever their tree is like."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import SimpleNamespace
from typing import Any


def attached(link: Any, nic: Any, lease: Any) -> Any:
    """The link's port, by which it writes to the NIC; None in a tree where it does so itself.
    Nothing watches the NIC."""
    link.poller = link._poller = SimpleNamespace(watch=lambda *_: None)
    try:
        from client.outlet.nic.ingress import Ingress
        from client.outlet.nic.pump import NicPort
    except ImportError:
        more: list[Any] = []
        if "ingress" in inspect.signature(link.attach).parameters:
            more.append(import_module("client.ingress").Ingress())
            more[0].admit(lease, import_module("client.judgement").HostFacts())
        link.attach(nic, lease, *more)
        return None
    from client.judgement import HostFacts

    ingress = Ingress()
    ingress.admit(lease, HostFacts())
    port = NicPort(nic, ingress)
    link.attach(port, lease)
    return port
