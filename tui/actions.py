"""Everything a user can do, once: the source of keys, footer, palette and help.

An `Action` belongs to the whole console or to one section, to one role or to
both. `bindings` turns it into Textual bindings whose ids are the action's id,
so that a keymap can move any of them; `table` prints the list for documents.
The method that carries an action out is named after it: `flow.close` is
`action_flow_close` on the section's screen or on the app. Actions that change
something (`write`) do not exist on a read-only connection; those that cannot
be taken back (`danger`) ask first and name what they will hit.
"""

from __future__ import annotations

import string
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from textual.binding import Binding, BindingType
from textual.keys import KEY_NAME_REPLACEMENTS, Keys

BOTH = frozenset({"gateway", "client"})
GATEWAY = frozenset({"gateway"})
CLIENT = frozenset({"client"})

EVERYWHERE = "everywhere"
LISTS = "lists"
"""The scope of what every section with a list has."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do."""

    id: str
    key: str
    """Textual key names, alternatives separated by commas."""
    label: str
    """One or two words for the footer; empty: not shown there."""
    title: str
    """For the palette and help."""
    scope: str = EVERYWHERE
    """`everywhere`, `lists`, or the section's id."""
    roles: frozenset[str] = BOTH
    write: bool = False
    danger: bool = False
    priority: bool = False
    """While it makes sense, its key means it before anything else of the section."""

    @property
    def method(self) -> str:
        """The name of the Textual action."""
        return self.id.replace(".", "_").replace("-", "_")

    @property
    def keys(self) -> str:
        """The keys as people write them."""
        return display_keys(self.key)


@dataclass(frozen=True, slots=True)
class Section:
    """A screen with a number key of its own."""

    id: str
    title: str
    roles: frozenset[str]
    short: str = ""
    """Its title where there is less room; empty: the same."""

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes of the actions that it has."""
        lists = () if self.id in _WITHOUT_LISTS else (LISTS,)
        return frozenset((EVERYWHERE, self.id, *lists))


_WITHOUT_LISTS = frozenset({"overview", "tunnel", "pair"})
"""The sections that have no list to filter and to sort."""


SECTIONS: tuple[Section, ...] = (
    Section("overview", "Overview", GATEWAY),
    Section("pair", "Pair", GATEWAY),
    Section("peers", "Peers", GATEWAY),
    Section("flows", "Flows", GATEWAY),
    Section("dns", "DNS", GATEWAY),
    Section("log", "Log", GATEWAY),
    Section("doctor", "Doctor", GATEWAY, "Doc"),
    Section("settings", "Settings", GATEWAY, "Set"),
    Section("tunnel", "Tunnel", CLIENT),
    Section("connect", "Connect", CLIENT),
    Section("links", "Links", CLIENT),
    Section("flows", "Flows", CLIENT),
    Section("log", "Log", CLIENT),
    Section("doctor", "Doctor", CLIENT, "Doc"),
    Section("settings", "Settings", CLIENT, "Set"),
)
"""In the order of their keys, role by role."""

MAX_SECTIONS = 9


def sections(role: str) -> list[Section]:
    """The sections of a role; the first has key 1."""
    return [section for section in SECTIONS if role in section.roles]


def section_key(role: str, id: str) -> str:
    """The key of a section and its name: `7 Doctor`."""
    known = sections(role)
    number = next(n for n, section in enumerate(known, start=1) if section.id == id)
    return f"{number} {known[number - 1].title}"


ACTIONS: tuple[Action, ...] = (
    # A device that waits is more urgent than anything else
    Action("request.approve", "a", "Approve", "Approve the waiting device", roles=GATEWAY,
           write=True),
    Action("request.rules", "A", "", "Approve the waiting device with rules of a template",
           roles=GATEWAY, write=True),
    Action("request.deny", "d", "Deny", "Deny the waiting device", roles=GATEWAY, write=True),
    Action("change.undo", "u", "Undo", "Take the last change back, while that is offered",
           write=True, priority=True),
    Action("banner.hide", "escape", "", "Hide the banner that is shown", priority=True),
    # Pair
    Action("pair.renew", "n", "New code", "Make a new pairing code", "pair", GATEWAY, write=True),
    Action(
        "pair.details", "space", "QR/Text", "Switch between the QR code and its text",
        "pair", GATEWAY,
    ),
    Action("pair.wireguard", "g", "WireGuard", "Make a device for a WireGuard app", "pair",
           GATEWAY, write=True),
    Action("pair.invite", "i", "Invite", "Invite a WireGuard device that makes its own key",
           "pair", GATEWAY, write=True),
    # Peers
    Action(
        "peer.revoke", "x", "Revoke", "Revoke the device: it must pair again", "peers", GATEWAY,
        write=True, danger=True,
    ),
    Action("peer.rename", "e", "Rename", "Give the device another name", "peers", GATEWAY,
           write=True),
    Action("peer.renew", "n", "New key",
           "Give the device with a WireGuard app another key and config", "peers", GATEWAY,
           write=True),
    Action("peer.rules", "l", "Rules",
           "Pause the device, choose a template for it, write or take away its rules", "peers",
           GATEWAY, write=True),
    Action("peer.flows", "f", "Its flows", "Show the device's flows", "peers", GATEWAY),
    Action("peer.page", "enter", "Its page", "Show what the device has used, and all about it",
           "peers", GATEWAY),
    # Flows
    Action("flow.details", "enter", "Details", "Show or hide one flow's details", "flows"),
    Action("flow.follow", "f", "Follow", "Keep the selected flow in view as the order changes",
           "flows"),
    Action("flow.group", "g", "Group", "Group the flows by device (program), by name, or not",
           "flows"),
    Action("flow.peer", "m", "", "Only the selected flow's device or program, or all again",
           "flows"),
    Action("flow.close", "x", "Close", "Close the flow: the device sees a reset", "flows", GATEWAY,
           write=True, danger=True),
    # DNS
    Action("dns.recent", "v", "Keep", "Keep the last questions to look at, or stop keeping them",
           "dns", GATEWAY, write=True),
    Action("dns.question", "enter", "Question", "Show the whole question", "dns", GATEWAY),
    # Log
    Action("log.level", "l", "Level", "Show less or more: the next level", "log"),
    Action("log.follow", "f", "Follow", "Stay at the newest line", "log"),
    Action("log.device", "m", "Device", "Only the selected line's device, or all again", "log"),
    Action("log.line", "enter", "Line", "Show the whole line", "log"),
    # Doctor
    Action("doctor.run", "e", "Examine", "Examine the service again", "doctor"),
    Action("doctor.check", "v", "VPN?", "Ask servers outside whether traffic leaves by the VPN",
           "doctor"),
    Action("doctor.details", "enter", "Details", "Show the whole finding", "doctor"),
    # Settings
    Action("setting.change", "e,enter", "Change",
           "Change the setting (asks first if it weakens a promise)", "settings", write=True),
    Action("setting.default", "u", "Default", "Set it back to its default", "settings",
           write=True),
    # Client
    Action("gateway.connect", "enter", "Connect", "Connect to the selected gateway", "connect",
           CLIENT, write=True),
    Action("gateway.uri", "u", "URI", "Connect by a pairing URI", "connect", CLIENT, write=True),
    Action("gateway.near", "n", "Near", "Look for gateways near this device, and choose one",
           "connect", CLIENT, write=True),
    Action("gateway.forget", "x", "Forget", "Forget the gateway: it must be paired again",
           "connect", CLIENT, write=True, danger=True),
    Action("links.details", "enter", "Details", "Show all that is known of the endpoint or link",
           "links", CLIENT),
    Action("links.other", "l", "Other list", "Go from the endpoints to the past links, and back",
           "links", CLIENT),
    # Every list
    Action("list.filter", "slash", "Filter", "Show only what contains these words", LISTS),
    Action("list.sort", "o", "Sort", "Sort by the next column (as a click on its title)", LISTS),
    Action("list.reverse", "i", "", "Reverse the order", LISTS),
    Action("list.clear", "escape", "", "Clear the filter, then the order", LISTS),
    # Everywhere, gateway
    Action("share.toggle", "s", "Share", "Start or stop sharing", roles=GATEWAY, write=True),
    Action("pair.open", "p", "Pair", "Pair a device: show the QR code", roles=GATEWAY),
    # Everywhere, client: a first contact waits for its own user
    Action("code.agree", "a", "Same digits", "Say that the gateway shows the same digits",
           roles=CLIENT, write=True),
    Action("code.refuse", "d", "Other digits", "Say that the gateway shows other digits",
           roles=CLIENT, write=True),
    Action("tunnel.toggle", "c", "Connect", "Connect to the last gateway, or disconnect",
           roles=CLIENT, write=True),
    # Everywhere
    Action("link.retry", "r", "Retry", "Reach for the service again now"),
    Action("item.copy", "y", "Copy", "Copy what is under the cursor: address, name, URI, finding"),
    Action("role.switch", "w", "Service", "Switch between the gateway and the client service"),
    Action("theme.pick", "t", "Theme", "Choose a theme"),
    Action("palette.open", "colon,ctrl+p", "", "Find an action by its name"),
    Action("help.open", "question_mark", "Help", "Show all keys"),
    Action("console.quit", "q,ctrl+q,ctrl+c", "Quit", "Close the console; the service goes on"),
)  # fmt: skip

BY_ID: dict[str, Action] = {action.id: action for action in ACTIONS}
BY_METHOD: dict[str, Action] = {action.method: action for action in ACTIONS}
ORDER: dict[str, int] = {action.id: position for position, action in enumerate(ACTIONS)}

_DISPLAY = {
    "slash": "/",
    "colon": ":",
    "question_mark": "?",
    "escape": "esc",
    "enter": "enter",
    "space": "space",
}


def display_key(key: str) -> str:
    """A key's name as it stands on the keyboard."""
    return _DISPLAY.get(key, key.replace("ctrl+", "^"))


def display_keys(keys: str) -> str:
    """Several keys, separated by commas, as people write them."""
    return " ".join(display_key(key) for key in keys.split(","))


def bindings(scope: str) -> list[BindingType]:
    """The bindings of the actions in `scope`, ready for a `BINDINGS` attribute."""
    made: list[BindingType] = [
        Binding(
            action.key,
            action.method,
            action.label or action.title,
            show=bool(action.label),
            key_display=display_key(action.key.split(",")[0]),
            tooltip=action.title,
            id=action.id,
            priority=action.priority,
        )
        for action in ACTIONS
        if action.scope == scope
    ]
    if scope == EVERYWHERE:
        made += [
            Binding(str(n), f"section({n})", f"Section {n}", show=False, id=f"section.{n}")
            for n in range(1, MAX_SECTIONS + 1)
        ]
    return made


def _sign(character: str) -> str:
    """Textual's name of a punctuation mark: `question_mark`."""
    name = unicodedata.name(character).lower().replace(" ", "_").replace("-", "_")
    return KEY_NAME_REPLACEMENTS.get(name, name)


_KEY_NAMES = frozenset(key.value for key in Keys) | {_sign(sign) for sign in string.punctuation}
_MODIFIERS = ("ctrl+", "alt+", "shift+", "super+")


def is_key(name: str) -> bool:
    """Whether a terminal can send a key of that name: a character, `slash`, `f5`, `ctrl+k`."""
    name = name.strip()
    while name.startswith(_MODIFIERS):
        name = name.partition("+")[2]
    if len(name) == 1:
        return name.isprintable() and name != " "
    return name in _KEY_NAMES


def usable(keymap: Mapping[str, str]) -> dict[str, str]:
    """A user's keys without those that would leave an action with no key at all."""
    return {
        id: keys
        for id, keys in keymap.items()
        if id in BY_ID and all(is_key(key) for key in keys.split(","))
    }


def _near(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, where something is near."""
    found = get_close_matches(word, list(known), 1)
    return f" Did you mean {found[0]}?" if found else ""


def keymap_problems(keymap: Mapping[str, str]) -> list[str]:
    """What is wrong with a user's keys: actions and keys that do not exist, keys taken twice."""
    problems = [
        f"There is no action {id[:40]!r} to give a key to.{_near(id[:40], BY_ID)}"
        for id in keymap
        if id not in BY_ID
    ]
    for id, keys in keymap.items():
        wrong = [key.strip()[:40] for key in keys.split(",") if not is_key(key)]
        if wrong and id in BY_ID:
            near = _near(wrong[0], sorted(_KEY_NAMES))
            problems.append(f"No key is called {wrong[0]!r}: {id} keeps its own.{near}")
    keymap = usable(keymap)
    taken: dict[tuple[str, str, str, bool], str] = {}
    for role in sorted(BOTH):
        for section in sections(role):
            for action in for_role(role):
                if action.scope not in section.scopes:
                    continue
                for key in keymap.get(action.id, action.key).split(","):
                    # What has priority is meant to go before the section's own.
                    place = (role, section.id, key.strip(), action.priority)
                    first = taken.setdefault(place, action.id)
                    if first != action.id and (first in keymap or action.id in keymap):
                        problem = f"The key {display_key(key)} clashes: {first}, {action.id}."
                        if problem not in problems:
                            problems.append(problem)
    return problems


def for_role(role: str) -> Iterable[Action]:
    """What a role has, in the registry's order."""
    return (action for action in ACTIONS if role in action.roles)


def table(everywhere_only: bool = False) -> str:
    """The key table in Markdown, for the console's document; its first part for the README."""
    lines = ["| Key | Where | What it does |", "|---|---|---|"]
    places = {section.id: section.title for section in SECTIONS} | {LISTS: "every list"}
    roles_of = {
        section.id: frozenset().union(*(s.roles for s in SECTIONS if s.id == section.id))
        for section in SECTIONS
    }
    for role in ("gateway", "client"):
        keys = ", ".join(
            f"`{n}` {section.title}" for n, section in enumerate(sections(role), start=1)
        )
        lines.append(f"| `1`…`{len(sections(role))}` | {role} | Sections: {keys} |")
    for action in ACTIONS:
        if everywhere_only and action.scope != EVERYWHERE:
            continue
        where = places.get(action.scope, "everywhere")
        if len(action.roles) == 1:
            (role,) = action.roles
            if action.scope == EVERYWHERE:
                where = role
            elif len(roles_of.get(action.scope, ())) > 1:
                where += f" ({role})"
        keys = " ".join(f"`{display_key(key)}`" for key in action.key.split(","))
        asks = " (asks first)" if action.danger else ""
        lines.append(f"| {keys} | {where} | {action.title}{asks} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table("--everywhere" in sys.argv[1:]), end="")
