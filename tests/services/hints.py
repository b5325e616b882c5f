"""Every hint in the program that names a command of it, found in the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from control.calling import COMMAND
from services.trust import rooms

ROOT = Path(__file__).resolve().parents[2]
ROOMS = rooms(ROOT)
END = re.compile(r"(?<!:)[,;:](?=\s|$)|\.(?=\s|$)|[)`\n]|\s[(>]|\s{2,}| or: | \| |$")
"""Where a command in a sentence is over."""
UNTOLD = re.compile(r"(?<![\w./~@'-])vpnshare (?!COMMAND)[a-z-]+")
"""What looks like a command of ours, whether it is one or not."""

SAMPLES = {
    "ADDRESS": "192.0.2.1", "CODE": "483920", "DIGITS": "483920", "FILE": "file", "FOLDER": "/tmp",
    "GATEWAY": "phone", "HOST": "192.0.2.1", "HOST:PORT": "192.0.2.1:47800", "ID": "a1b2",
    "NAME": "phone", "NETWORK": "10.77.0.0/16",
    "PUBKEY": "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
    "SERIAL": "abc", "USER@HOST": "me@phone", "VALUE": "x",
}  # fmt: skip
"""What a person would put in."""


@dataclass(frozen=True)
class Hint:
    """A command in a sentence: where, and its words as somebody types them."""

    place: str
    words: str
    sink: str
    """The innermost call that takes the sentence, by name; empty where it is kept."""


def sentences(path: Path) -> Iterator[tuple[int, str, str]]:
    """Each text of a file that is no docstring: line, text, and the call that takes it.

    None of a file that does not name the program, in which there can be no command of it.
    """
    source = path.read_text()
    if "vpnshare" not in source:
        return
    nodes: list[ast.AST] = [ast.parse(source)]
    parents: dict[ast.AST, ast.AST] = {}
    for node in nodes:
        children = list(ast.iter_child_nodes(node))
        parents.update(dict.fromkeys(children, node))
        nodes += children
    for node in nodes:
        if isinstance(parents.get(node), ast.JoinedStr | ast.Expr):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            verb = "approve" if path.name == "acting.py" else "connect"
            text = "".join(_part(value, verb) for value in node.values)
        else:
            continue
        above = parents.get(node)
        while above is not None and not isinstance(above, ast.Call | ast.stmt):
            above = parents.get(above)
        sink = ""
        if isinstance(above, ast.Call):
            called = above.func
            sink = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        yield node.lineno, text, sink


def _part(value: ast.expr, verb: str) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    assert isinstance(value, ast.FormattedValue)
    source = ast.unparse(value.value)
    for word, sample in (
        ("role", "gateway"), ("action", "add"), ("_named", ""),
        ("verb", verb), ("near", "status"), ("_target", "192.0.2.1:47800"), ("key", "gateway.name"),
        ("scheme", "tcp"), ("serial", "192.0.2.1"), ("code", "483920"), (".id", "a1b2"),
    ):  # fmt: skip
        if word in source:
            return sample
    return "x"


def everywhere() -> list[Hint]:
    """All hints of all rooms."""
    return [
        Hint(f"{path.relative_to(ROOT)}:{line}", words, sink)
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, text, sink in sentences(path)
        for words in commands_in(text)
    ]


def commands_in(text: str) -> list[str]:
    """The commands that a sentence names, without `vpnshare`, samples for what is to be put in."""
    return [
        " ".join(SAMPLES.get(word, word) for word in found.split())
        for found in (_rest(text, match) for match in COMMAND.finditer(text))
    ]


def _rest(text: str, match: re.Match[str]) -> str:
    begin = match.start("verb")
    end = END.search(text, begin)
    assert end is not None
    return text[begin : end.start()]
