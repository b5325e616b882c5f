"""Columns of a table, and the order and the choice of its rows that the user asks for.

Pure. Where the whole list is here, the table itself filters and sorts it by
`arranged`; where only a page of it is (flows), the service does, and the table
marks the heading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tui.widgets.painted import Tone

R = TypeVar("R")

Cell = tuple[str, Tone]
"""Text and tone."""

NORMAL_WIDTH = 72
WIDE_WIDTH = 120


@dataclass(frozen=True)
class Column(Generic[R]):
    """How one column is drawn, and how rows are sorted by it."""

    key: str
    title: str
    width: int
    """Cells; the least ones for a flexible column."""
    cell: Callable[[R], Cell]
    flex: int = 0
    """Share of the cells that are left over."""
    whole: bool = False
    """Whether it takes what its longest cell needs, before the others share what is left."""
    right: bool = False
    tier: int = 0
    """0: always there; 1: from 72 cells on; 2: from 120."""
    by: Callable[[R], Any] | None = None
    """What rows are sorted by, all of one type or None; None: by what the cell shows."""
    greatest_first: bool = False
    """How the order by this column begins."""


@dataclass(frozen=True, slots=True)
class Order:
    """The column that rows are sorted by."""

    key: str
    descending: bool


def next_order(columns: Sequence[Column[R]], order: Order | None) -> Order | None:
    """The order by the next of the columns; None, the list's own order, after the last."""
    keys = [column.key for column in columns]
    position = keys.index(order.key) + 1 if order is not None and order.key in keys else 0
    if order is not None and position == len(columns):
        return None
    return Order(columns[position].key, columns[position].greatest_first) if columns else None


def order_by(columns: Sequence[Column[R]], order: Order | None, key: str) -> Order | None:
    """The order by that column; the other way round where it is the order already."""
    if order is not None and order.key == key:
        return Order(key, not order.descending)
    for column in columns:
        if column.key == key:
            return Order(key, column.greatest_first)
    return order


def contains(text: str, words: str) -> bool:
    """Whether `text` has all of the words, in any order and case."""
    folded = text.casefold()
    return all(word in folded for word in words.casefold().split())


def arranged(
    rows: Sequence[R],
    columns: Sequence[Column[R]],
    order: Order | None,
    words: str,
    text_of: Callable[[R], str],
    heading: Callable[[R], object | None] | None = None,
) -> Sequence[R]:
    """The rows whose text has all words, in that order; rows that are equal stay as they were.

    Rows without a value come last, whichever way the order goes. A heading stands
    only over rows that are there, and not at all among rows that are sorted.
    """
    if not words.split() and order is None:
        return rows
    chosen: list[R] = []
    above: R | None = None
    for row in rows:
        if heading is not None and heading(row) is not None:
            above = row
        elif contains(text_of(row), words):
            if above is not None and order is None:
                chosen.append(above)
            above = None
            chosen.append(row)
    column = next((each for each in columns if order and each.key == order.key), None)
    if order is None or column is None:
        return chosen
    by = column.by or (lambda row: column.cell(row)[0].casefold())
    valued = [(by(row), row) for row in chosen]
    there = [pair for pair in valued if pair[0] is not None]
    there.sort(key=lambda pair: pair[0], reverse=order.descending)
    return [row for _, row in there] + [row for value, row in valued if value is None]
