"""One-shot timers that go off however late they begin.

Textual 8.2.8 has a timer leave out the times that are over when it looks. One that goes off
once has no other time: where the machine takes longer from one line of the timer to the next
than the timer was to wait (a resize waits for 8 ms), it never goes off. After a switch of
sections that is the timer which lets the screen be drawn again, and the console stands still.
"""

from __future__ import annotations

from textual.message_pump import MessagePump
from textual.timer import Timer, TimerCallback


class SureTimers(MessagePump):
    """Mixed in before a class of Textual's."""

    def set_timer(
        self,
        delay: float,
        callback: TimerCallback | None = None,
        *,
        name: str | None = None,
        pause: bool = False,
    ) -> Timer:
        """As Textual's; late rather than never."""
        timer = super().set_timer(delay, callback, name=name, pause=pause)
        timer._skip = False  # it looks first in a later turn of the loop
        return timer
