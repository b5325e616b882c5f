"""What can happen, by kind: the vocabulary of the topic `events`, of hooks and of the log.

A kind is a stable name. Its level says how grave it is: `info` for what was meant to happen,
`warning` for what somebody may have to look after, `error` for what has stopped the service's
main job. `docs/hooks.md` is made from this table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """What an event of a kind means."""

    level: str
    """`info`, `warning` or `error`, as in the log."""
    gateway: str = ""
    """What it means from a gateway; empty: a gateway has none."""
    client: str = ""
    """Likewise from a client."""


KINDS: dict[str, Kind] = {
    "asked": Kind("info", "a device asks to be let in", "the gateway's owner is being asked"),
    "waits_no_more": Kind("info", "nobody answered in time, or the device gave up"),
    "approved": Kind("info", "the owner has let a device in, or its pairing code has"),
    "denied": Kind("info", "the owner has turned a device away"),
    "denial_undone": Kind("info", "the owner has taken a denial back: the device may ask again"),
    "revoked": Kind("info", "a device is not trusted any more"),
    "refused": Kind("warning", "a device is turned away by itself: revoked, unknown, too many"),
    "strangers": Kind("warning", "strangers ask for more than all of them may have"),
    "connected": Kind("info", "a device has its lease", "there is a lease"),
    "resumed": Kind(
        "info", "a device is back with all its connections",
        "the link is back, with all connections",
    ),
    "moved": Kind("info", "a device has found a better link", "a better link was found"),
    "link_lost": Kind("warning", "a device's link broke; it is waited for", "the link broke"),
    "given_up": Kind("warning", "a device did not come back: its connections are closed"),
    "disconnected": Kind("info", "a device has said goodbye", "this device's user disconnected"),
    "failed": Kind("error", client="it is not tried again by itself"),
    "code_shown": Kind("info", client="digits wait to be compared with the gateway's"),
    "rules_changed": Kind("info", "the owner has changed what a device may do"),
    "gate_closed": Kind(
        "warning", "by its rules a device may not use the tunnel now: paused, ended, outside its "
        "hours, or its quota is used",
        "the gateway's owner does not let this device use the tunnel now",
    ),
    "gate_opened": Kind(
        "info", "by its rules a device may use the tunnel again",
        "this device may use the tunnel again",
    ),
    "sharing_on": Kind("info", "sharing was turned on", "the gateway shares again"),
    "sharing_off": Kind("info", "sharing was turned off", "the gateway does not share"),
    "vpn_up": Kind("info", "the VPN can be used", "the gateway's VPN is back"),
    "vpn_lost": Kind("warning", "the VPN is gone: nothing is forwarded",
                     "the gateway has no VPN: nothing is forwarded"),
    "alarm": Kind("error", "something left outside the VPN, or seems to: sharing was stopped"),
    "held": Kind("warning", client="no link: the block holds all traffic"),
    "opened": Kind("info", client="the block does not hold traffic any more"),
}  # fmt: skip
"""By name."""


def of_role(role: str) -> dict[str, Kind]:
    """The kinds that a service of this role has."""
    return {name: kind for name, kind in KINDS.items() if getattr(kind, role)}


def table() -> str:
    """All kinds in Markdown, for the document on hooks."""
    lines = ["| Kind | Level | From a gateway | From a client |", "|---|---|---|---|"]
    for name, kind in KINDS.items():
        lines.append(f"| `{name}` | {kind.level} | {kind.gateway} | {kind.client} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
