"""Which rules this gateway carries out, by the field of `rules.value.Rules`.

A rule that nothing carries out is taken by nobody: it would be a promise that is not kept.
"""

from __future__ import annotations

ENFORCED: frozenset[str] = frozenset(
    {"limit_up", "limit_down", "destinations", "max_flows", "until", "hours", "paused", "quota"}
)
