"""How commands reach the services of this instance."""

from __future__ import annotations

from services import paths
from services.control.elsewhere import advice, owner, whose
from services.control.errors import ServiceUnavailable
from services.control.oneshot import TIMEOUT, OneShot


def dial(role: str, timeout: float = TIMEOUT) -> OneShot:
    """A connection to the service of that role, for calls of at most `timeout` seconds.

    Raises `ControlError`.
    """
    return OneShot(str(paths.find().socket(role)), role, timeout)


def running(role: str | None = None) -> list[OneShot]:
    """Connections to the services that run (of `role` only, if given).

    Raises `ServiceUnavailable` when there is none, and whatever else is in the
    way (another user's service) when nothing better is found.
    """
    if role is not None:
        return [dial(role)]
    found = []
    for each in paths.ROLES:
        try:
            found.append(dial(each))
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
