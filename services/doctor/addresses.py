"""The check of what stands in WireGuard devices' configs and cannot follow this host's networks."""

from __future__ import annotations

from services.doctor.checks import Checks, Outcome, ok, warn

CHECKS: Checks[tuple[str, str] | None] = Checks("gateway")


@CHECKS.check("wireguard-addresses", "WireGuard addresses")
def addresses(clash: tuple[str, str] | None) -> Outcome:
    """`clash`: the devices' network and the one it overlaps, if there is such a one."""
    if clash is None:
        return ok("The addresses in the devices' configs are nobody else's here.")
    pool, other = clash
    return warn(
        f"WireGuard devices have addresses of {pool}, and this device is in {other} now.",
        "Leave that network; or revoke these devices and add them again: they get others then.",
    )
