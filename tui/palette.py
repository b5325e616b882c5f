"""The command palette: actions, sections, themes, and by name devices, settings and flows.

What no section has asked the service for yet is asked when the palette opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from control.errors import ControlError
from tui import actions, formats
from tui.console import Console, console_of

MAX_OFFERED = 50
"""Devices, and flows, that are offered."""


def _plain(text: str) -> str:
    """Names go through the palette's markup: brackets would be read as such."""
    return text.replace("[", "(").replace("]", ")")


_Entry = tuple[str, str, Callable[[], object]]
"""Name, help, what to run."""


class ConsoleCommands(Provider):
    """What the palette offers at this moment, in this section."""

    @property
    def console_app(self) -> Console:
        return console_of(self.app)

    async def startup(self) -> None:
        app = self.console_app
        for topic in ("peers", "settings", "flows"):
            if not app.store.has(topic) and (app.role == "gateway" or topic != "peers"):
                with suppress(ControlError):
                    app.store.put(topic, await app.link.call(topic), app.now)

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
        for peer in app.store.peers[:MAX_OFFERED]:
            label = formats.clean(peer.label, 32)
            if label.strip():
                plain = _plain(label)
                yield (
                    f"Flows of {plain}",
                    "only this device",
                    partial(app.show_flows, peer.id, label),
                )
                yield f"Device {plain}", "in Peers", partial(app.show_row, "peers", peer.id)
        for setting in app.store.settings:
            key = formats.clean(setting.key, 60)
            help = _plain(formats.clean(setting.help, 60))
            yield f"Setting {key}", help, partial(app.show_row, "settings", setting.key)
        offered = {
            f"{formats.clean(flow.protocol, 5)} {formats.clean(flow.name or flow.destination, 60)}"
            for flow in app.store.flows.flows[:MAX_OFFERED]
        }
        for words in sorted(offered):
            # An address of IPv6 stands in brackets, which would be markup here.
            yield f"Flow {_plain(words)}", "in Flows", partial(app.find_flows, words)

    async def _run(self, method: str, node: object) -> None:
        await self.app.run_action(method, default_namespace=node)  # type: ignore[arg-type]
