"""Waiting until the console is at rest, whatever else the machine does meanwhile.

Textual's own `wait_for_idle` sleeps for a fiftieth of a second and looks at how
much processor time that took: on a busy machine the sleep is over within one
turn of the loop, and nothing of what a key or a piece of news sets off has
happened yet. What stands on the screen then is chance.

With services in the same process all of it happens by callbacks that are ready:
messages, workers, calls and their answers, layout, repaints. So the console is
at rest when the loop has nothing left to call, no screen has anything left to
draw, and neither a resize, an animation, an update that is held together (as a
switch of sections is) nor the search of the command palette is under way. What
else comes by a clock or a descriptor is not waited for: a test that expects such
a thing waits for it by name.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual import notifications
from textual._context import active_app
from textual.app import App
from textual.command import CommandPalette
from textual.screen import Screen
from textual.widgets._toast import Toast

DEADLINE = 60.0
"""Seconds until a console that never rests has failed."""
STEP = 0.005
"""Seconds between two looks at what does not end within the loop."""
SEARCH = CommandPalette._GATHER_COMMANDS_GROUP
"""The group of the palette's worker, which looks for commands a tenth of a second at a time."""


async def at_rest(app: App[Any]) -> None:
    """Let everything happen that is going to; AssertionError when it does not end."""
    loop: Any = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                await asyncio.sleep(0)
                if loop._ready:
                    continue
                if app._exit or app._exception is not None:
                    return
                if any(_draw(screen) for screen in (*app._background_screens, app.screen)):
                    continue
                if not _by_the_clock(app):
                    return
                await asyncio.sleep(STEP)
    except TimeoutError:
        raise AssertionError(f"the console does not come to rest: {_by_the_clock(app)}") from None


def _draw(screen: Screen[Any]) -> bool:
    """Draw at once what the screen's timer is to draw soon; whether there was any."""
    due: bool = screen._update_timer._active.is_set()
    if due:
        screen._on_timer_update()
    return due


def _by_the_clock(app: App[Any]) -> list[object]:
    """What is going on that ends by itself, though not without some time."""
    searches = [each for each in app.workers if each.is_running and each.group == SEARCH]
    resizing = [app._resize_timer] if app._resize_timer is not None else []
    held = ["an update that is held together"] if app._batch_count else []
    return [*held, *searches, *resizing, *app.animator._animations, *app.animator._scheduled]


async def _idle(*_: float) -> None:
    await at_rest(active_app.get())


def make_restful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a pilot's own pauses and keys wait like this, and messages in the corner stay."""
    monkeypatch.setattr("textual.app.wait_for_idle", _idle)
    monkeypatch.setattr("textual.pilot.wait_for_idle", _idle)
    # They leave by the clock of the machine: a slow one would show fewer of them.
    monkeypatch.setattr(notifications, "time", lambda: 0.0)
    monkeypatch.setattr(Toast, "set_timer", lambda *_, **__: None)
