"""An answer before judges: in turn, each of what the one before has left, until one condemns."""

from __future__ import annotations

import struct

import pytest

from gateway.dns.judging import Fault, Judge, Where, judge_answer
from netstack.dns import Answer, parse_answer
from tests.netstack import wires

ASKED = wires.question("good.test", 15)
MAIL = wires.record(15, b"\0\x0a" + wires.name("mail.good.test"))
PLAIN = wires.reply(ASKED, [MAIL])


def with_address_beside() -> bytes:
    whole = bytearray(PLAIN)
    whole += wires.record(wires.A, bytes((203, 0, 113, 1)), owner=wires.name("mail.good.test"))
    struct.pack_into("!H", whole, 10, 1)
    return bytes(whole)


WHOLE = with_address_beside()
STAGES = {"W": WHOLE, "P": PLAIN}
"""Of an answer: as it came, and less what was beside it."""


class Judges:
    """Each says what it is to say, and keeps what it was shown."""

    def __init__(self, *says: Where) -> None:
        self.shown: list[bytes] = []
        faults = (Fault.RULES, Fault.PRIVATE)
        self.all = [(fault, self._judge(each)) for fault, each in zip(faults, says, strict=True)]

    def _judge(self, says: Where) -> Judge:
        def judge(wire: bytes, answer: Answer) -> Where:
            assert answer == parse_answer(wire), "of what it is shown"
            self.shown.append(wire)
            return says

        return judge


@pytest.mark.parametrize(
    ("says", "fault", "cuts", "shown", "left"),
    [
        ((Where.NOWHERE, Where.NOWHERE), None, 0, "WW", "W"),
        ((Where.BESIDE, Where.NOWHERE), None, 1, "WP", "P"),
        ((Where.NOWHERE, Where.BESIDE), None, 1, "WW", "P"),
        ((Where.BESIDE, Where.BESIDE), None, 2, "WP", "P"),
        ((Where.INSIDE, Where.BESIDE), Fault.RULES, 0, "W", "W"),
        ((Where.NOWHERE, Where.INSIDE), Fault.PRIVATE, 0, "WW", "W"),
        ((Where.BESIDE, Where.INSIDE), Fault.PRIVATE, 1, "WP", "P"),
    ],
)
def test_judges_see_what_is_left_and_the_first_that_condemns_ends_it(
    says: tuple[Where, Where], fault: Fault | None, cuts: int, shown: str, left: str
) -> None:
    judges = Judges(*says)
    judged = judge_answer(WHOLE, parse_answer(WHOLE), judges.all)
    assert (judged.fault, judged.cuts, judged.wire) == (fault, cuts, STAGES[left])
    assert judged.answer == parse_answer(STAGES[left])
    assert judges.shown == [STAGES[each] for each in shown]


def test_without_judges_an_answer_is_as_it_was() -> None:
    answer = parse_answer(WHOLE)
    judged = judge_answer(WHOLE, answer, ())
    assert (judged.wire, judged.answer, judged.fault, judged.cuts) == (WHOLE, answer, None, 0)
