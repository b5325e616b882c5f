"""How commands reach the services of this instance."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from control import paths
from control.elsewhere import advice, owner, whose
from control.errors import ControlError, ServiceUnavailable
from control.oneshot import TIMEOUT, OneShot
from services import account

LOOK = 2.0
"""Seconds until a service that does not answer is taken to run."""


def dial(role: str, timeout: float = TIMEOUT) -> OneShot:
    """A connection to the service of that role, ours or else the whole machine's, for calls of
    at most `timeout` seconds.

    Raises `ControlError`.
    """
    ours, *others = (str(place.socket(role)) for place in account.places(role))
    try:
        return OneShot(ours, role, timeout)
    except ServiceUnavailable:
        for path in others:
            # Not to be seen by who may not use it: told as somebody else's.
            if os.path.exists(path):
                return OneShot(path, role, timeout)
        raise


_AFFAIR = {
    "gateway": (
        "Only the client service runs here, and this is the gateway's affair.",
        "Say the same on the gateway that this device uses; to share this device's own VPN: "
        "vpnshare up",
    ),
    "client": (
        "Only the gateway service runs here, and this is the affair of a device that uses one.",
        "Say the same on such a device; to use another gateway's VPN here: vpnshare join",
    ),
}
"""By the role that a command is for."""


def affair(error: ServiceUnavailable, words: Sequence[str]) -> ServiceUnavailable:
    """The error, or whose affair the command line `words` is where this machine is on the other
    side. Who names a role means the service of here.
    """
    role = error.absent
    if role is None or any(word.partition("=")[0] == "--role" for word in words):
        return error
    if not _runs("client" if role == "gateway" else "gateway"):
        return error
    return ServiceUnavailable(*_AFFAIR[role])


def _runs(role: str) -> bool:
    """Whether such a service runs here, whosever it is."""
    try:
        dial(role, LOOK).close()
    except ServiceUnavailable:
        return owner(role) is not None
    except ControlError:
        # It lets us not in, or is too busy to say so.
        return True
    return True


def socket_of(role: str) -> str:
    """Where the service of that role answers; where ours would, if none does."""
    with contextlib.suppress(ControlError), dial(role) as service:
        return service.path
    return str(paths.find().socket(role))


def running(role: str | None = None, timeout: float = TIMEOUT) -> list[OneShot]:
    """Connections to the services that run (of `role` only, if given), for calls of at most
    `timeout` seconds.

    Raises `ServiceUnavailable` when there is none, and whatever else is in the
    way (another user's service) when nothing better is found.
    """
    if role is not None:
        return [dial(role, timeout)]
    found = []
    for each in paths.ROLES:
        try:
            found.append(dial(each, timeout))
        except ServiceUnavailable:
            continue
    if not found:
        for each in paths.ROLES:
            if user := owner(each):
                raise ServiceUnavailable(f"No service of {whose()} runs here.", advice(each, user))
        raise ServiceUnavailable(
            "No service is running here.",
            "Share this device's VPN: vpnshare up; use another's: vpnshare join",
        )
    return found
