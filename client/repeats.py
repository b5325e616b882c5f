"""What would be said at every attempt: at first, and then now and then, with a count.

Pure. A gateway that is away for a night is a few lines in the log, not thousands. Attempts may
fail in turn in two or three ways; so what is remembered is a text, not the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

AGAIN = 600.0
"""Seconds after which the same text is said again."""
MAX_TEXTS = 16
"""Texts that are remembered; the one said longest ago is forgotten."""


@dataclass(slots=True)
class _Said:
    at: float
    since: int = 0
    """How often it would have been said since."""


class Repeats:
    """Decides what is said. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}

    def clear(self) -> None:
        """All that follows is new."""
        self._said.clear()

    def take(self, text: str, now: float) -> str | None:
        """The text as it is to be said now; None when it was said lately."""
        before = self._said.pop(text, None)
        if before is not None and now - before.at < AGAIN:
            before.since += 1
            self._said[text] = before
            return None
        if len(self._said) >= MAX_TEXTS:
            del self._said[min(self._said, key=lambda each: self._said[each].at)]
        self._said[text] = _Said(now)
        if before is None or not before.since:
            return text
        times = "once" if before.since == 1 else f"{before.since} times"
        return f"{text} ({times} more since this was said last)"
