"""The console on pretend services, with a clock that the test turns."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.pilot import Pilot

from tests.fakes.services import WALL, Pretend, PretendClient, PretendGateway
from tests.tui.rest import at_rest, make_restful
from tui.app import ConsoleApp

_parse = Stylesheet._parse_rules
_parsed: dict[tuple[object, ...], list[RuleSet]] = {}


def parse_once(
    sheet: Stylesheet,
    css: str,
    read_from: tuple[str, str],
    is_default_rules: bool = False,
    tie_breaker: int = 0,
    scope: str = "",
) -> list[RuleSet]:
    """The rules of a style sheet, which one app has as the next: they are read, never changed."""
    arguments = (css, read_from, is_default_rules, tie_breaker, scope)
    key = (*arguments, *sorted(sheet._variables.items()))
    if key not in _parsed:
        _parsed[key] = _parse(sheet, *arguments)
    return _parsed[key]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tester's terminal is must not matter."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    # Seconds pass when the test says so, through `Console.advance`.
    monkeypatch.setattr(ConsoleApp, "set_interval", lambda *_, **__: None)
    monkeypatch.setattr(Stylesheet, "_parse_rules", parse_once)
    make_restful(monkeypatch)


class Clock:
    """Monotonic seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Console:
    """An app under test with what drives it."""

    app: ConsoleApp
    pilot: Pilot[int]
    clock: Clock
    gateway: PretendGateway
    client: PretendClient

    async def settle(self) -> None:
        """Let calls, news and repaints come to rest."""
        await at_rest(self.app)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def advance(self, seconds: float) -> None:
        """Move the clock, as the app's own second does."""
        self.clock.now += seconds
        self.app.second()
        await self.settle()

    @property
    def text(self) -> str:
        """The screen as characters."""
        strips = self.app.screen._compositor.render_strips(self.app.size)
        return "\n".join(strip.text for strip in strips)

    @property
    def told(self) -> list[str]:
        """The messages in the corner."""
        return [notification.message for notification in self.app._notifications]


OpenConsole = Callable[..., AbstractAsyncContextManager[Console]]


@pytest.fixture
def gateway() -> PretendGateway:
    return PretendGateway()


@pytest.fixture
def client() -> PretendClient:
    return PretendClient()


@pytest.fixture
def make_app(gateway: PretendGateway, client: PretendClient) -> Callable[..., ConsoleApp]:
    """An app that does not run yet."""

    def make(role: str = "gateway", *, both: bool = False, **options: Any) -> ConsoleApp:
        services: dict[str, Pretend] = {"gateway": gateway, "client": client}
        reached = {
            name: service.connect for name, service in services.items() if both or name == role
        }
        clock = options.pop("clock", Clock())
        return ConsoleApp(reached, role, clock=clock, wall=lambda: WALL, **options)

    return make


@pytest.fixture
def console(
    make_app: Callable[..., ConsoleApp], gateway: PretendGateway, client: PretendClient
) -> OpenConsole:
    @asynccontextmanager
    async def open_console(
        role: str = "gateway",
        *,
        size: tuple[int, int] = (80, 24),
        messages: bool = False,
        **options: Any,
    ) -> AsyncIterator[Console]:
        clock = Clock()
        app = make_app(role, clock=clock, **options)
        async with app.run_test(size=size, notifications=messages) as pilot:
            opened = Console(app, pilot, clock, gateway, client)
            await opened.settle()
            yield opened

    return open_console
