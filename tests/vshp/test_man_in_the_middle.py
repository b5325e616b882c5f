"""A man in the middle of a first contact has one guess in a million, whatever he does.

The suite plays some hundred whole first contacts, seven strategies in turn. The
long form plays ten thousand:

    VPNSHARE_MIDDLE=10000 python -m pytest -s tests/vshp/test_man_in_the_middle.py
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.vshp import mallory
from tests.vshp.dialogue import events, feed
from tests.vshp.mallory import (
    GRANTS,
    STRATEGIES,
    Gateway,
    Tally,
    TowardGateway,
    odds,
    play,
    whole_client_leg,
)
from vshp import pairing
from vshp.events import LeaseGranted
from vshp.session import ClientSession

TRIES = int(os.environ.get("VPNSHARE_MIDDLE", "490"))
EACH = -(-TRIES // len(STRATEGIES))


@pytest.mark.slow
@pytest.mark.timeout(120 + TRIES / 10)
def test_no_strategy_is_better_than_chance() -> None:
    total = Tally()
    for name, strategy in STRATEGIES.items():
        tally = play(strategy, EACH)
        print(f"\n{name:28} {tally}", end="", flush=True)
        assert not tally.beyond_chance(), name
        total.tries += tally.tries
        total.shown += tally.shown
        total.ends += tally.ends
        total.whole += tally.whole
    print(f"\n{'all':28} {total}", flush=True)
    assert total.tries >= TRIES and total.shown > TRIES / 2
    assert not total.beyond_chance()


def broken_reveal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway takes any share at the reveal."""
    monkeypatch.setattr("vshp.gateway_role.commitment_holds", lambda commitment, share: True)


def broken_hiding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commitment tells what it commits to."""
    monkeypatch.setattr("vshp.client_role.code_commitment", lambda share: share)
    monkeypatch.setattr(pairing, "code_commitment", lambda share: share)


def broken_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code says nothing about the handshake."""
    code = pairing.pairing_code
    for place in ("vshp.client_role", "vshp.gateway_role", "vshp.pairing"):
        monkeypatch.setattr(f"{place}.pairing_code", lambda handshake, c, g: code(bytes(32), c, g))


@pytest.mark.parametrize(
    ("breaks", "strategy"),
    [
        (broken_reveal, mallory.another_share_at_the_reveal),
        (broken_hiding, mallory.gateway_first_then_a_share),
        (broken_binding, mallory.mirrored),
    ],
)
def test_without_each_part_of_the_pairing_code_he_is_found_out(
    breaks: Callable[[pytest.MonkeyPatch], None],
    strategy: Callable[[], Iterator[mallory.Try]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same strategies and the same judgement, on a protocol that was broken on purpose."""
    breaks(monkeypatch)
    tally = play(strategy, 20)
    assert tally.beyond_chance(), tally
    assert tally.ends > 10


@pytest.mark.parametrize("strategy", GRANTS.values(), ids=GRANTS.keys())
def test_who_grants_by_himself_gives_nothing(strategy: Callable[[], ClientSession]) -> None:
    victim = strategy()
    assert victim.lease is None
    assert not [event for event in events(victim) if isinstance(event, LeaseGranted)]
    assert victim.closed
    (named,) = [name for name in victim.counters if name.startswith("session__")]
    assert named in {
        "session__config_before_consent__closed",
        "session__payload_unexpected__closed",
        "session__handshake_failed__closed",
    }


def test_the_digits_of_another_session_are_not_these() -> None:
    """He shows the gateway's owner a session of his own: its digits are typed, or compared."""
    ours = whole_client_leg()
    gateway, mallory = Gateway(), TowardGateway()
    feed(mallory, gateway.answer(mallory))
    gateway.disclose(mallory)
    theirs = gateway.show(mallory)
    assert theirs is not None
    assert theirs != ours or whole_client_leg() != ours


def test_the_judgement() -> None:
    assert odds(0, 10_000, 1e-6) == 1.0
    assert odds(1, 10_000, 1e-6) == pytest.approx(0.00995, rel=1e-3)
    assert odds(100, 10_000, 0.01) == pytest.approx(0.5, abs=0.05)
    assert odds(10_000, 10_000, 0.01) == 0.0
    assert not Tally(10_000, 10_000, 130, 1).beyond_chance()
    assert Tally(10_000, 10_000, 170, 0).beyond_chance()
    assert Tally(10_000, 10_000, 100, 4).beyond_chance()
