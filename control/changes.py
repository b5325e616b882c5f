"""What a look at the console's own settings has found.

The file is watched by who starts the console (`services/console_settings.py`); the console only
hears of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from control.schema import Setting


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look has found."""

    settings: tuple[Setting, ...] = ()
    """Those of the console that have another value than at the last look."""
    problem: str = ""
    """What is wrong with the file, said once."""
