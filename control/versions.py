"""When what runs and what reads it are of different versions: the sentence, and what to do."""

from __future__ import annotations

import re

_RELEASE = re.compile(r"\d+(?:\.\d+)*")


def release(version: str) -> tuple[int, ...]:
    """The numbers that versions are ordered by: `0.2.0+g1a2b3c4` is (0, 2, 0)."""
    found = _RELEASE.match(version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def differ(role: str, service: str, ours: str) -> tuple[str, str] | None:
    """What to say when the service of `role` runs version `service`, and this program is `ours`."""
    if service == ours:
        return None
    found = f"The {role} runs {service}, this is {ours}."
    if release(service) > release(ours):
        return found, "This program is the older one: bring it up to date."
    return found, "Have it change over: vpnshare restart"
