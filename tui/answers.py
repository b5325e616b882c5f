"""What the owner answers: to a device that waits, and to a first contact's digits."""

from __future__ import annotations

from control import schema
from tui import formats
from tui.console import Console


def label(request: schema.Request) -> str:
    """What a waiting device is called in a sentence."""
    return formats.clean(request.label) or "The device"


def approve(console: Console, request: schema.Request) -> None:
    console.start("approve", f"{label(request)} is approved.", id=request.id)


async def deny(console: Console, request: schema.Request) -> None:
    """It may be taken back, but where the denial forgets a WireGuard app's config."""
    done = f"{label(request)} is denied."
    if await console.carry_out("deny", done, id=request.id) and request.via != "wireguard":
        console.offer_undo(done, "undeny", f"{label(request)} may ask again.", id=request.id)


def agree(console: Console, code: str) -> None:
    """The gateway shows the same digits."""
    console.start("confirm", "The digits are the same: the gateway is believed.", code=code)


def refuse(console: Console) -> None:
    """It shows others."""
    console.start("refuse", "Other digits: nothing was taken from what answered.")
