"""Whether a change of the control API breaks who reads it.

Two descriptions (`docs.api.described`) are compared by what they mean, not by the names of
their records. What a service answers may say more and be narrower than it was: a field is
added, a field is never null any more. What it takes may be wider: a parameter with a default is
added, one may be null now. All else breaks somebody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Description = dict[str, Any]


def breaks(before: Description, after: Description) -> list[str]:
    """What of `before` does not hold any more in `after`, a sentence each; empty: all does."""
    return list(_breaks(before, after))


def _breaks(before: Description, after: Description) -> Iterator[str]:
    for role, methods in before["methods"].items():
        for name, old in methods.items():
            new = after["methods"].get(role, {}).get(name)
            where = f"{role}.{name}"
            if new is None:
                yield f"{where}: the method is gone"
                continue
            if old["topic"] and not new["topic"]:
                yield f"{where}: it is no topic any more"
            if (old["permission"], new["permission"]) == ("read", "write"):
                yield f"{where}: who may only read may not call it any more"
            yield from _answers(before, after, old["result"], new["result"], where, frozenset())
            yield from _takes(
                before["params"][old["params"]], after["params"][new["params"]], where
            )
    for name, code in before["errors"].items():
        if after["errors"].get(name) != code:
            yield f"errors.{name}: it is not {code} any more"
    for kind in before["events"]:
        if kind not in after["events"]:
            yield f"events.{kind}: there is none any more"


def _answers(
    before: Description, after: Description, old: str, new: str, where: str, seen: frozenset[str]
) -> Iterator[str]:
    """What a reader of `old` does not find in `new`."""
    if old == "any":
        return
    old_parts, new_parts = old.split(" | "), new.split(" | ")
    if "null" in new_parts and "null" not in old_parts:
        yield f"{where}: it may be null now"
    old, new = (" | ".join(p for p in parts if p != "null") for parts in (old_parts, new_parts))
    for form in ("list[", "map["):
        if old.startswith(form) and new.startswith(form):
            inside = old[len(form) : -1], new[len(form) : -1]
            yield from _answers(before, after, *inside, f"{where}[]", seen)
            return
    if old in before["records"] and new in after["records"]:
        if old in seen:
            return
        fields = after["records"][new]
        for name, kind in before["records"][old].items():
            place = f"{where}.{name}"
            if name not in fields:
                yield f"{place}: the field is gone"
            else:
                yield from _answers(before, after, kind, fields[name], place, seen | {old})
        return
    if old != new and (old, new) != ("number", "integer"):
        yield f"{where}: it is {new} now, and was {old}"


def _takes(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    """What a caller may have given and is refused now."""
    for name, parameter in old.items():
        place = f"{where}({name})"
        now = new.get(name)
        if now is None:
            yield f"{place}: the parameter is gone"
            continue
        if now["required"] and not parameter["required"]:
            yield f"{place}: it has to be given now"
        was, kind = set(parameter["type"].split(" | ")), set(now["type"].split(" | "))
        if "number" in kind:
            kind.add("integer")
        if "any" not in kind and not was <= kind:
            yield f"{place}: it is {now['type']} now, and was {parameter['type']}"
        if "choices" in now:
            for choice in parameter.get("choices", ["any text"]):
                if choice not in now["choices"]:
                    yield f"{place}: {choice} is not taken any more"
    for name, parameter in new.items():
        if parameter["required"] and name not in old:
            yield f"{where}({name}): it is new, and has to be given"
