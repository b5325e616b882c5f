"""What a device may do, by the console: a template while approving, and a device's rules."""

from __future__ import annotations

from typing import Any

from control import schema
from control.errors import ControlError
from tui import formats
from tui.console import Console
from tui.screens.edit import Choice, ChoiceScreen, EditScreen

PAUSE = Choice("pause", "Pause", "stop it for now")
RESUME = Choice("resume", "Resume", "end the pause")
CLEAR = Choice("clear", "No rules", "everything is allowed")
WRITE = Choice("write", "Write one", "quota, speed, end, hours, destination")
_TEMPLATE = "template:"
WORDS = {
    "quota": "quota", "up": "limit_up", "down": "limit_down", "for": "for", "until": "until",
    "hours": "hours", "flows": "max_flows",
}  # fmt: skip
"""The first word of a rule as it is typed, and its field; `allow` and `deny` are destinations."""
NONE = "none"
HELP = "One rule, first its word: quota, up, down, for, until, hours, flows, deny, allow"
EXAMPLES = "quota 1GB/day, down 20mbit, for 2h, deny ads.example; none takes it away"


async def approve_with_rules(app: Console, request: schema.Request) -> None:
    """Have a template chosen, and let the device in with it."""
    label = formats.clean(request.label) or "The device"
    choices = await _templates(app)
    if not choices:
        return
    chosen = await app.push_screen_wait(
        ChoiceScreen(f"Approve “{formats.clean(request.label, 32)}” with", choices, "",
                     verb="approve")
    )  # fmt: skip
    if chosen is not None:
        name = chosen.value.removeprefix(_TEMPLATE)
        done = f"{label} is approved with the rules {name}."
        await app.carry_out("approve", done, id=request.id, template=name)


async def change_rules(app: Console, peer: schema.Peer) -> None:
    """Have a change of a device's rules chosen or written, and carry it out."""
    label = formats.clean(peer.label) or "the device"
    try:
        found: schema.DeviceRules = await app.link.call("rules", id=peer.id)
    except ControlError as error:
        app.tell(" ".join(filter(None, (error.message, error.hint))), "error")
        return
    choices = [
        RESUME if found.rules.get("paused") else PAUSE,
        WRITE,
        *await _templates(app),
        *([CLEAR] if found.rules else []),
    ]
    title = f"What “{formats.clean(peer.label, 32)}” may do"
    chosen = await app.push_screen_wait(ChoiceScreen(title, choices, "", verb="choose"))
    if chosen is None:
        return
    if chosen is WRITE:
        await _write(app, title, label, found)
    elif chosen.value.startswith(_TEMPLATE):
        name = chosen.value.removeprefix(_TEMPLATE)
        await app.carry_out(
            "set_rules", f"{label} has the rules {name}.", id=peer.id, template=name
        )
    elif chosen is CLEAR:
        await app.carry_out("set_rules", f"{label} may do everything.", id=peer.id, clear=True)
    else:
        change = {"paused": chosen is PAUSE}
        done = f"{label} is paused." if chosen is PAUSE else f"{label} goes on."
        await app.carry_out("set_rules", done, id=peer.id, change=change)


async def _templates(app: Console) -> list[Choice]:
    """Those that can be used; where there is none, why is told."""
    try:
        found: list[schema.RuleTemplate] = await app.link.call("templates")
    except ControlError as error:
        app.tell(" ".join(filter(None, (error.message, error.hint))), "error")
        return []
    usable = [each for each in found if not each.reason]
    if not usable:
        why = found[0].reason if found else ""
        app.tell(f"There is no template that can be used. {why}".rstrip(), "warning")
    return [
        Choice(f"{_TEMPLATE}{each.name}", formats.clean(each.name, 32), formats.clean(each.line))
        for each in usable
    ]


async def _write(app: Console, title: str, label: str, found: schema.DeviceRules) -> None:
    async def submit(text: str) -> str | None:
        change = change_of(text, found.rules.get("destinations", []))
        if change is None:
            return f"It begins with one of: {', '.join(WORDS)}, deny, allow."
        try:
            answer = await app.link.call("set_rules", id=found.id, change=change)
        except ControlError as error:
            return error.message
        app.tell(f"{label}: {answer.line or 'everything is allowed'}")
        app.tell_unwritten(answer.unwritten)
        return None

    await app.push_screen_wait(EditScreen(title, HELP, "", EXAMPLES, submit))


def change_of(text: str, destinations: list[str]) -> dict[str, Any] | None:
    """A typed rule as a change; None where it is none.

    A destination goes before those that are there, since the first that fits decides; `deny none`
    and `allow none` take all of them away.
    """
    word, _, rest = text.strip().partition(" ")
    word, rest = word.lower(), rest.strip()
    if not rest:
        return None
    if word in ("deny", "allow"):
        return {"destinations": [] if rest == NONE else [f"{word} {rest}", *destinations]}
    if word not in WORDS:
        return None
    field = "until" if word == "for" and rest == NONE else WORDS[word]
    return {field: None if rest == NONE else rest}
