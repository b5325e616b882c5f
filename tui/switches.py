"""On and off: sharing, and the tunnel. Off asks first where somebody uses it."""

from __future__ import annotations

from tui import formats
from tui.console import Console
from tui.screens.modals import ConfirmScreen


def switch_sharing(console: Console) -> None:
    status = console.store.gateway
    if status is None:
        return
    if status.sharing == "off":
        console.start("share", "Sharing is on.")
    elif status.connected == 0:
        console.ask(_stop_sharing(console))
    else:
        question = ConfirmScreen(
            f"Stop sharing “{formats.clean(status.name, 32)}”?",
            f"{formats.count(status.connected, 'device')} will lose the Internet at once.",
            "Stop",
        )
        console.ask(_stop_sharing(console, question))


async def _stop_sharing(console: Console, question: ConfirmScreen | None = None) -> None:
    if question is not None and not await console.push_screen_wait(question):
        return
    if await console.carry_out("unshare", "Sharing is off."):
        console.offer_undo("Sharing is off.", "share", "Sharing is on.")


def switch_tunnel(console: Console) -> None:
    status = console.store.client
    if status is not None and status.state in ("connected", "reconnecting"):
        gateway = formats.clean(status.gateway or "the gateway", 32)
        question = ConfirmScreen(
            f"Disconnect from “{gateway}”?",
            "Connections through the tunnel end, and traffic leaves outside it again.",
            "Disconnect",
        )
        console.ask(_disconnect(console, question))
    elif status is not None and status.state not in ("idle", "failed"):
        console.start("disconnect", "Disconnected.")
    else:
        console.start("connect", "Connecting.")


async def _disconnect(console: Console, question: ConfirmScreen) -> None:
    if await console.push_screen_wait(question):
        await console.carry_out("disconnect", "Disconnected.")
