"""An answer before anybody is told it: judged in turn, cut where that is enough: pure.

Each judge says where in an answer that stands which is not to be given on. What is beside the
answer (the additional section) is cut off, and those that follow judge what is left; what is in
the answer itself condemns it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from netstack.dns import Answer, parse_answer, without_additional


class Where(Enum):
    """Where something stands that is not to be given on."""

    NOWHERE = "nowhere"
    BESIDE = "beside"
    """In the additional section only."""
    INSIDE = "inside"


class Fault(Enum):
    """Why an answer is condemned."""

    RULES = "rules"
    """It leads to a name that the asker's rules refuse (`aliases`)."""
    PRIVATE = "private"
    """It gives a public name a private address (`rebinding`)."""


Judge = Callable[[bytes, Answer], Where]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is left of an answer."""

    wire: bytes
    answer: Answer
    fault: Fault | None = None
    """None: it may be given on."""
    cuts: int = 0
    """How often something beside it was cut off."""


def judge_answer(wire: bytes, answer: Answer, judges: Iterable[tuple[Fault, Judge]]) -> Judged:
    """Have all judge an answer in turn, until one condemns it."""
    cuts = 0
    for fault, judge in judges:
        where = judge(wire, answer)
        if where is Where.INSIDE:
            return Judged(wire, answer, fault, cuts)
        if where is Where.BESIDE:
            cuts += 1
            wire = without_additional(wire, answer.edns)
            answer = parse_answer(wire)
    return Judged(wire, answer, None, cuts)
