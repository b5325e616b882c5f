"""What the services tell, from the line to the screen; and time, which moves with it.

News goes one way: link > message > what is known of the service > the section on the screen.
Only that section's topics are watched. What comes from the service that is not shown any more
is dropped; what was known of it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from textual.screen import Screen

from control import schema
from control.errors import ControlError
from tui import terminal
from tui.banners import Banner
from tui.following import Settings
from tui.link import Connect, Link, Topics
from tui.news import LinkChanged, News, Reporter
from tui.screens.section import ALWAYS, SectionScreen
from tui.service import Service
from tui.store import Store
from tui.telling import Telling
from tui.undo import UNDO_SECONDS, Undo

SECOND = 1.0


class Watching(Telling):
    """The part of the app that follows its services. `clock`, `wall`: monotonic and Unix time."""

    settings: Settings

    def __init__(
        self,
        services: Mapping[str, Connect],
        role: str,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        super().__init__()
        self._services = {known: Service(known, reach) for known, reach in services.items()}
        self.role = role
        self._clock = clock
        self._wall = wall
        self._fresh: set[str] = set()
        """Topics with news that are not on the screen yet."""
        self._moved = float("-inf")
        """When time was last let move on the screen."""

    # Facts

    @property
    def roles(self) -> Collection[str]:
        return self._services.keys()

    @property
    def service(self) -> Service:
        """The one that is shown."""
        return self._services[self.role]

    @property
    def store(self) -> Store:
        return self.service.store

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    @property
    def wall(self) -> float:
        """Unix time."""
        return self._wall()

    @property
    def section_screen(self) -> SectionScreen | None:
        """The section on the screen, under whatever stands in front of it."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, SectionScreen):
                return screen
        return None

    @property
    def current_request(self) -> schema.Request | None:
        return self.service.waiting.current

    @property
    def shown_code(self) -> str | None:
        return self.service.shown_code

    @property
    def banners(self) -> list[Banner]:
        return self.service.banners(self.now)

    @property
    def undo(self) -> Undo | None:
        return self.service.undo(self.now)

    # News

    def open_link(self) -> None:
        """Reach for the service that is shown from now on."""
        self.link = Link(self.service.connect, Reporter(self, self.role), self.settings.interval)
        self.service.connecting()
        self.run_worker(
            self.link.run(), name="link", group="link", exclusive=True, exit_on_error=False
        )

    def on_link_changed(self, event: LinkChanged) -> None:
        if event.role != self.role:
            return
        if event.hello is not None:
            self.service.live(event.hello)
            self.run_worker(self._recall(self.role), group="recall", exclusive=True)
        else:
            self.service.lost(event.message, event.hint, self.now)
        self.refresh_bindings()
        if (screen := self.section_screen) is not None:
            screen.news(None)

    async def _recall(self, role: str) -> None:
        """Begin with the history that the service has; one of an older version has none."""
        try:
            traffic: schema.Traffic = await self.link.call("traffic")
        except ControlError:
            return
        if role != self.role:
            return
        self.store.recall(traffic, role == "client", self.now)
        if (screen := self.section_screen) is not None:
            screen.news(None)
            screen.rewatch()

    def on_news(self, event: News) -> None:
        if event.role != self.role:
            return
        topic = event.snapshot.topic
        one_more = self.service.put(topic, event.snapshot.data, self.now, self.wall)
        if one_more and self.settings.bell:
            self.bell()
        # The snapshots of one turn come one right behind the other: they are drawn together.
        if not self._fresh:
            self.call_later(self._draw_news)
        self._fresh.add(topic)

    def _draw_news(self) -> None:
        topics, self._fresh = self._fresh, set()
        if (screen := self.section_screen) is not None:
            screen.news(topics)
        self.second()

    def second(self) -> None:
        """Let countdowns and histories move, once a second.

        With the news where it comes as often: two repaints a second cost twice as much as
        one. The timer is there for when no news comes.
        """
        if not self.is_headless and terminal.gone():
            self.exit(0)
            return
        if self.now - self._moved < SECOND * 0.9:
            return
        self._moved = self.now
        self.place_messages()
        self.store.sample(self.now)
        self.settings.look()
        if (screen := self.section_screen) is not None:
            if self.service.drop_undo(self.now):
                screen.news(())
            screen.second()

    def want(self, section: Screen[None], topics: Topics) -> None:
        """Watch these topics for a section, while it is the one that is shown."""
        if self.section_screen is section:
            self.link.want({**ALWAYS[self.role], **topics})
            self.place_messages()

    def redraw_bars(self) -> None:
        """Something of the console's own has changed that the bars show."""
        if (screen := self.section_screen) is not None:
            screen.news(())

    # What is asked of the owner

    def offer_undo(self, done: str, method: str, undone: str, **params: Any) -> None:
        self.service.offer_undo(Undo(done, method, undone, params, self.now + UNDO_SECONDS))
        self.redraw_bars()

    def select_request(self, id: str | None) -> None:
        if id is None or not self.service.waiting.select(id, self.now):
            return
        if (screen := self.section_screen) is not None:
            screen.second()
