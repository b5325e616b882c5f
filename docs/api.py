"""docs/api.md and docs/api.json, made from the tables that both ends of the control API use.

Run: .venv/bin/python -m docs.api

api.json is the API as values: it is what a later schema is judged by (`docs.api_judge`). So
this writes nothing when what is there would break who reads it: then either the schema goes
back, or `API_VERSION` is raised.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from control import methods as m
from control.codec import MAX_ANSWER, MAX_REQUEST
from control.errors import Code
from control.events import KINDS
from control.registry import SESSION_METHODS
from control.schema import API_VERSION
from control.server import MAX_CONNECTIONS, MAX_SUBSCRIPTIONS, OLDEST_API
from docs.api_judge import breaks

HERE = Path(__file__).resolve().parent
ROLES = {"gateway": m.GATEWAY, "client": m.CLIENT}
CHOICES = {
    "FlowsParams.sort": m.FLOW_SORTS,
    "LogsParams.level": m.LEVELS,
    "ConnectParams.transport": m.TRANSPORTS,
}
"""Parameters that are one of some words."""
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", Any: "any"}


def type_name(kind: Any) -> str:
    """A type as the description spells it: `string`, `list[Peer]`, `map[integer]`, `X | null`."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        names = [type_name(part) for part in parts if part is not type(None)]
        return " | ".join([*names, *(["null"] if type(None) in parts else [])])
    if origin is list:
        return f"list[{type_name(parts[0])}]"
    if origin is dict:
        return f"map[{type_name(parts[1])}]"
    if kind in _SCALARS:
        return _SCALARS[kind]
    return str(kind.__name__)


def records_in(kind: Any) -> Iterator[type]:
    """The records that a type is made of, each with those below it."""
    if isinstance(kind, type) and is_dataclass(kind):
        yield kind
        for hint in typing.get_type_hints(kind).values():
            yield from records_in(hint)
    for part in typing.get_args(kind):
        yield from records_in(part)


def described() -> dict[str, Any]:
    """The whole API as JSON values."""
    every = [method for table in ROLES.values() for method in table.values()]
    records = {each.__name__: each for method in every for each in records_in(method.result)}
    params = {method.params.__name__: method.params for method in every}
    return {
        "api": API_VERSION,
        "methods": {
            role: {
                method.name: {
                    "permission": method.permission.value,
                    "topic": method.topic,
                    "params": method.params.__name__,
                    "result": type_name(method.result),
                }
                for method in table.values()
            }
            for role, table in ROLES.items()
        },
        "params": {name: _params(params[name]) for name in sorted(params)},
        "records": {name: _record(records[name]) for name in sorted(records)},
        "errors": {code.name.lower(): int(code) for code in Code},
        "events": list(KINDS),
    }


def _record(kind: type) -> dict[str, str]:
    hints = typing.get_type_hints(kind)
    return {field.name: type_name(hints[field.name]) for field in fields(kind)}


def _params(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in fields(kind):
        required = field.default is MISSING and field.default_factory is MISSING
        found[field.name] = {"type": type_name(hints[field.name]), "required": required}
        if choices := CHOICES.get(f"{kind.__name__}.{field.name}"):
            found[field.name]["choices"] = list(choices)
    return found


def said_of(kind: type) -> dict[str, str]:
    """What the source says below each field of a record, or member of an enumeration."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    said: dict[str, str] = {}
    name = ""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            name = target.id if isinstance(target, ast.Name) else ""
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            said[name] = _cell(str(node.value.value))
    return said


def _cell(text: str) -> str:
    """A text as a table takes it."""
    return " ".join(text.split()).replace("|", "\\|")


INTRODUCTION = f"""# The control API

<!-- Made by `python -m docs.api`; what it says stands in control. -->

Everything that the command and the console do, they do by this API. It is for your own programs, \
too. From a shell:

```sh
vpnshare api                                    # the methods of what runs here
vpnshare api peers                              # the result, as JSON
vpnshare api flows '{{"sort": "rate", "descending": true, "limit": 5}}'
vpnshare watch peers | jq -c .                  # a line whenever it changes
```

`api` and `watch` print JSON, an error as the object that [commands.md](commands.md#json) shows. \
`watch` goes on when the service is restarted, and says so on standard error.

## By the socket

Each service listens on a Unix socket, `gateway.sock` or `client.sock`, in `$VPNSHARE_HOME`, else \
in `$XDG_RUNTIME_DIR/vpnshare` or, for root, `/run/vpnshare`. Its mode is 0600; only the \
service's own user and root are let in. The gateway that is a service of the machine has \
`/run/vpnshare-gateway/gateway.sock`, mode 0660: the group `vpnshare` is let in, too.

It speaks JSON-RPC 2.0, a message a line: UTF-8 JSON that ends in LF, of at most \
{MAX_REQUEST >> 10} KiB to the service and {MAX_ANSWER >> 20} MiB from it. Parameters are an \
object. \
Requests are answered in order. There are no batches: send several lines. A service has at most \
{MAX_CONNECTIONS} connections.

```
> {{"jsonrpc": "2.0", "id": 1, "method": "peers"}}
< {{"jsonrpc":"2.0","id":1,"result":[{{"id":"a1b2c3d4","label":"laptop", ...}}]}}
```

**Permission.** A method of permission `read` changes nothing. One of `write` does; a connection \
that has said `read_only` in `hello` may not call it.

**Topics.** A method that is a topic can be subscribed to: `subscribe` with its name sends its \
result now, and then when it has changed, at most once in `interval` seconds ({m.MIN_INTERVAL:g} \
to {m.MAX_INTERVAL:g}). What a slow reader misses is left out: a snapshot is the whole state, not \
a difference. A connection has at most {MAX_SUBSCRIPTIONS} subscriptions of at most \
{m.MAX_TOPICS} topics.

```
> {{"jsonrpc": "2.0", "id": 2, "method": "subscribe", "params": {{"topics": ["peers", "flows"], \
"params": {{"flows": {{"limit": 5}}}}}}}}
< {{"jsonrpc":"2.0","id":2,"result":{{"subscription":1}}}}
< \
{{"jsonrpc":"2.0","method":"snapshot","params":{{"subscription":1,"topic":"peers","revision":1,"data":[...]}}}}
```

**Versions.** This is version {API_VERSION}; services speak {OLDEST_API} to {API_VERSION}. \
`hello` agrees on one; who says nothing gets the newest. Within a version methods, topics, \
parameters with a default, and fields are added, so pass over what you do not know. None is taken \
away, and none changes its type: a change of the schema that would break a reader raises the \
version. [api.json](api.json) holds the whole of it for programs.

**Times** are seconds: `*_at` is Unix time, `*_in` counts down from now. Sizes are bytes, rates \
bytes a second. `from_tunnel` is what came out of the tunnel: on a gateway what devices sent, on \
a client what it received.
"""


def page() -> str:
    """docs/api.md."""
    parts = [INTRODUCTION]
    parts.append("## Errors\n\nAn error has a `code`, a `message` for people and, in `data`, "
                 "perhaps a `hint` that names the fix and a `name` that is stable.\n")  # fmt: skip
    said = said_of(Code)
    codes = ((str(int(code)), code.name.lower(), said.get(code.name, "")) for code in Code)
    parts.append(_table(("code", "name", "meaning"), codes))
    for role, table in ROLES.items():
        parts.append(f"## Methods of the {role}\n")
        rows = (
            (f"`{method.name}`", method.help, _link(method.params.__name__),
             f"{_link(type_name(method.result))}", method.permission.value,
             "yes" if method.topic else "")
            for method in sorted(table.values(), key=lambda method: method.name)
        )  # fmt: skip
        titles = ("method", "what", "parameters", "result", "permission", "topic")
        parts.append(_table(titles, rows))
    parts.append("`hello`, `subscribe` and `unsubscribe` are about the connection that they come "
                 "by: `vpnshare api` does not have them.\n")  # fmt: skip
    assert {"hello", "subscribe", "unsubscribe"} == SESSION_METHODS
    every = [method for table in ROLES.values() for method in table.values()]
    params = {method.params.__name__: method.params for method in every}
    records = {each.__name__: each for method in every for each in records_in(method.result)}
    parts.append("## Parameters\n\nA parameter without a default has to be given.\n")
    parts += [_params_section(params[name]) for name in sorted(params) if fields(params[name])]
    parts.append("## Records\n")
    parts += [_record_section(records[name]) for name in sorted(records)]
    parts.append("## Events\n\nThe kinds of events are in [hooks.md](hooks.md).\n")
    return "\n".join(parts)


def _link(name: str) -> str:
    """A type whose records lead to what they are."""
    if name == m.NoParams.__name__:
        return "-"
    inner = name.removeprefix("list[").removesuffix("]")
    text = f"[{inner}](#{inner.lower()})"
    return f"list of {text}" if inner != name else text


def _about(kind: type) -> str:
    text = inspect.getdoc(kind) or ""
    return "" if text.startswith(f"{kind.__name__}(") else f"{text}\n"


def _params_section(kind: type) -> str:
    said = said_of(kind)
    rows = []
    for field in fields(kind):
        default = "" if field.default is MISSING else f"`{json.dumps(field.default)}`"
        if field.default_factory is not MISSING:
            default = f"`{json.dumps(field.default_factory())}`"
        text = said.get(field.name, "")
        if choices := CHOICES.get(f"{kind.__name__}.{field.name}"):
            text = f"{text} One of: {', '.join(choices)}.".strip()
        rows.append((f"`{field.name}`", _spelled(kind, field.name), default, text))
    table = _table(("parameter", "type", "default", "meaning"), rows)
    return "\n".join((f"### {kind.__name__}\n", _about(kind), table))


def _record_section(kind: type) -> str:
    said = said_of(kind)
    rows = (
        (f"`{field.name}`", _spelled(kind, field.name), said.get(field.name, ""))
        for field in fields(kind)
    )
    table = _table(("field", "type", "meaning"), rows)
    return "\n".join((f"### {kind.__name__}\n", _about(kind), table))


def _spelled(kind: type, name: str) -> str:
    return _cell(type_name(typing.get_type_hints(kind)[name]))


def _table(titles: tuple[str, ...], rows: typing.Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    lines += [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write both files."""
    stored, now = HERE / "api.json", described()
    if stored.exists():
        before = json.loads(stored.read_text())
        if before["api"] == now["api"] and (broken := breaks(before, now)):
            print("This breaks who reads the API (or raise API_VERSION):", file=sys.stderr)
            print("\n".join(f"  {each}" for each in broken), file=sys.stderr)
            return 1
    stored.write_text(json.dumps(now, indent=1) + "\n")
    (HERE / "api.md").write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
