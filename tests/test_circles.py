"""Files that cannot be read, or changed, one without the other: counted by their imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parent.parent
MAX_CIRCLE = 3


def modules(room: str) -> dict[str, ast.Module]:
    """The room's modules by name."""
    return {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted((PROJECT / room).rglob("*.py"))
        if path.name != "__init__.py"
    }


def imported(tree: ast.Module) -> Iterator[str]:
    """What a module imports, for its types alone included, as it may be named."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """All that is imported from there, by however many steps."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        for name in graph[ahead.pop()] - found:
            found.add(name)
            ahead.append(name)
    return found


def circles(room: str) -> list[set[str]]:
    """Sets of modules each of which leads to each other."""
    trees = modules(room)
    graph = {name: set(imported(tree)) & trees.keys() for name, tree in trees.items()}
    leads = {name: reached(graph, name) for name in graph}
    found = [{other for other in leads[name] if name in leads[other]} for name in graph]
    return [circle for circle in found if circle]


def test_a_circle_is_found() -> None:
    """By types alone, and of four files: that of TCP's machine."""
    machine = {
        f"netstack.tcp.{name}" for name in ("arrival", "connection", "handshake", "lifetime")
    }
    assert machine in circles("netstack")


def test_the_nat_has_no_large_circle() -> None:
    large = [sorted(circle) for circle in circles("gateway/nat") if len(circle) > MAX_CIRCLE]
    assert not large, large


def test_the_console_has_no_circle() -> None:
    """Sections and cards know `tui.console`, and the app knows them."""
    found = [sorted(circle) for circle in circles("tui")]
    assert not found, found
