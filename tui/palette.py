"""The command palette: the registry's actions, sections, themes, and devices by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui import actions, formats

if TYPE_CHECKING:
    from tui.app import ConsoleApp

_Entry = tuple[str, str, Callable[[], object]]
"""Name, help, what to run."""


class ConsoleCommands(Provider):
    """What the palette offers at this moment, in this section."""

    @property
    def console_app(self) -> ConsoleApp:
        return cast("ConsoleApp", self.app)

    async def discover(self) -> Hits:
        for name, help, run in self._entries():
            yield DiscoveryHit(name, run, help=help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, help, run in self._entries():
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), run, help=help)

    def _entries(self) -> Iterator[_Entry]:
        app = self.console_app
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            action = actions.BY_ID.get(binding.id or "")
            if action is None or not enabled or action.id == "palette.open":
                continue
            help = f"key {self.app.get_key_display(binding)}"
            if action.danger:
                help += ", asks first"
            yield action.title, help, partial(self._run, action.method, node)
        for number, section in enumerate(actions.sections(app.role), start=1):
            yield f"Go to {section.title}", f"key {number}", partial(app.action_section, number)
        for theme in app.themes.values():
            yield f"Theme: {theme.title}", "change the colours", partial(app.keep_theme, theme.name)
        for peer in app.store.peers[:50]:
            label = formats.clean(peer.label, 32)
            if label.strip():
                # Names go through the palette's markup: brackets would be read as such.
                plain = label.replace("[", "(").replace("]", ")")
                yield (
                    f"Flows of {plain}",
                    "only this device",
                    partial(app.show_flows, peer.id, label),
                )

    async def _run(self, method: str, node: object) -> None:
        await self.app.run_action(method, default_namespace=node)  # type: ignore[arg-type]
