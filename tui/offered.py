"""Which of the actions that work everywhere are offered now, and what the footer calls them."""

from __future__ import annotations

from collections.abc import Callable

from tui import actions
from tui.console import Console
from tui.store import LinkState


def offered(console: Console, action: str) -> bool | None:
    """Whether the app's action of that name makes sense now; None greys its key."""
    known = actions.BY_METHOD.get(action)
    if known is None or known.scope != actions.EVERYWHERE:
        return True
    if console.role not in known.roles or (known.write and console.store.link.read_only):
        return False
    when = _WHEN.get(known.id)
    return True if when is None else when(console)


def _one_waits(console: Console) -> bool:
    return console.current_request is not None


def _digits_wait(console: Console) -> bool:
    return console.shown_code is not None


_WHEN: dict[str, Callable[[Console], bool | None]] = {
    "request.approve": _one_waits,
    "request.rules": _one_waits,
    "request.deny": _one_waits,
    "code.agree": _digits_wait,
    "code.refuse": _digits_wait,
    "change.undo": lambda console: console.undo is not None and console.at_section,
    "banner.hide": lambda console: console.at_section and bool(console.banners),
    "pair.open": lambda console: console.section != "pair",
    "role.switch": lambda console: len(console.roles) > 1,
    "link.retry": lambda console: console.store.link.state is LinkState.LOST,
    "item.copy": lambda console: True if console.copied() is not None else None,
}
"""Of those that do not always make sense."""


def footer_label(console: Console, id: str) -> str | None:
    """The footer's words for an action where they depend on the state."""
    store = console.store
    if id == "dns.recent" and store.dns is not None:
        return "Forget" if store.dns.recent_limit else "Keep"
    if id == "share.toggle" and store.gateway is not None:
        return "Share" if store.gateway.sharing == "off" else "Unshare"
    if id == "role.switch":
        return "Client" if console.role == "gateway" else "Gateway"
    if id == "tunnel.toggle" and store.client is not None:
        return "Connect" if store.client.state in ("idle", "failed") else "Disconnect"
    return None
