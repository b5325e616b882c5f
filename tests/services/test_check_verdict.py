"""Each row of the verdict, and what is told besides."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from services.check.verdict import NOTES, PROBLEMS, ROWS, Asker, Found, Outside, State, Word, judge

ONE, TWO = "one.test", "two.test:19302"
EXIT4, EXIT6 = ip_address("203.0.113.7"), ip_address("2001:db8:e::7")
HOME6 = ip_address("2001:db8:a::23")
WLAN = Outside("wlan0", ip_network("2001:db8:a::/64"))
NAME = "whoami.test"
RESOLVER = ip_address("198.51.100.53")

GOOD = Found(
    "gateway",
    outside=(WLAN, Outside("wlan0", ip_network("192.0.2.9/32"))),
    words=(Word(ONE, 4, EXIT4), Word(TWO, 4, EXIT4), Word(ONE, 6, EXIT6), Word(TWO, 6, EXIT6)),
    askers=(Asker(NAME, addresses=(EXIT4,)), Asker(NAME, "ns.test", 4, (EXIT4,))),
)


def silent(server: str, family: int) -> Word:
    return Word(server, family, problem="silent")


QUIET = replace(
    GOOD,
    words=tuple(silent(server, family) for server in (ONE, TWO) for family in (4, 6)),
    askers=(Asker(NAME, problem="silent"), Asker(NAME, "ns.test", 4, problem="silent")),
)
ONLY4 = (Word(ONE, 4, EXIT4), Word(TWO, 4, EXIT4))

CASES: dict[str, tuple[Found, str, State, str]] = {
    "good": (GOOD, "inside", State.GOOD, "Traffic leaves by the VPN"),
    "good on the client": (replace(GOOD, side="client"), "inside", State.GOOD, "into the tunnel"),
    "no vpn": (
        replace(QUIET, absent=("There is no VPN.", "Turn it on.")), "not_asked", State.UNKNOWN,
        "There is no VPN.",
    ),
    "bypass": (replace(GOOD, bypass=True), "bypass", State.BROKEN, "Bypass is on"),
    "a route beside the tunnel": (
        replace(GOOD, side="client", leaving={6: "eth0"}), "route_outside", State.BROKEN,
        "IPv6 leaves this device by eth0",
    ),
    "IPv6 outside": (
        replace(GOOD, words=(*ONLY4, Word(ONE, 6, HOME6), Word(TWO, 6, HOME6))), "exit_outside",
        State.BROKEN, f"IPv6 leaves outside the VPN: {ONE} saw {HOME6}, which is of wlan0's",
    ),
    "IPv6 outside by one server's word": (
        replace(GOOD, words=(*ONLY4, Word(ONE, 6, EXIT6), Word(TWO, 6, HOME6))), "exit_outside",
        State.BROKEN, f"{TWO} saw {HOME6}",
    ),
    "names outside": (
        replace(GOOD, askers=(Asker(NAME, addresses=(RESOLVER, HOME6)),)), "names_outside",
        State.BROKEN, f"the server of {NAME} saw {HOME6}",
    ),
    "a server that lies": (
        replace(GOOD, words=(Word(ONE, 4, EXIT4), Word(TWO, 4, ip_address("8.8.8.8")))),
        "servers_disagree", State.UNKNOWN, f"{ONE} saw {EXIT4}, {TWO} saw 8.8.8.8. One of them",
    ),
    "a server that lies about one family": (
        replace(GOOD, words=(*ONLY4, Word(ONE, 6, EXIT6), Word(TWO, 6, ip_address("2001:db8::")))),
        "servers_disagree", State.UNKNOWN, "disagree about IPv6",
    ),
    "blocked": (QUIET, "blocked", State.UNKNOWN, "Nobody has answered"),
    "STUN blocked": (
        replace(QUIET, askers=GOOD.askers), "blocked", State.UNKNOWN, "Names are answered, but no",
    ),
    "one server": (
        replace(QUIET, words=(Word(ONE, 4, EXIT4), silent(TWO, 4))), "one_witness", State.UNKNOWN,
        f"One server's word stands alone: {ONE} saw {EXIT4}.",
    ),
    "one server and the name's own": (
        replace(GOOD, words=(Word(ONE, 4, EXIT4), silent(TWO, 4))), "inside", State.GOOD,
        f"sees {EXIT4}.",
    ),
    "one server and a name's own that was asked by others": (
        replace(GOOD, words=(Word(ONE, 4, EXIT4),), askers=(Asker(NAME, addresses=(EXIT4,)),)),
        "one_witness", State.UNKNOWN, "stands alone",
    ),
    "IPv4 alone": (
        replace(GOOD, words=(*ONLY4, silent(ONE, 6), silent(TWO, 6))), "inside", State.GOOD,
        f"sees {EXIT4}.",
    ),
    "the VPN answers port 53": (
        replace(GOOD, askers=(Asker(NAME, addresses=(RESOLVER,)),
                              Asker(NAME, "ns.test", 4, (RESOLVER,)))),
        "inside", State.GOOD, f"sees {EXIT4} and {EXIT6}.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_verdict(case: str) -> None:
    found, name, state, words = CASES[case]
    verdict = judge(found)
    assert (verdict.name, verdict.state) == (name, state)
    assert words in verdict.sentence
    assert bool(verdict.advice) == (state is not State.GOOD)


def test_every_row_has_a_case() -> None:
    assert {name for _, name, _, _ in CASES.values()} == {name for name, _, _ in ROWS}


def notes(found: Found) -> str:
    return " ".join(judge(found).notes)


def test_who_asks_names() -> None:
    assert "Names are asked from the same address." in notes(GOOD)
    other = replace(GOOD, askers=(Asker(NAME, addresses=(RESOLVER,)),))
    assert f"Names are asked from {RESOLVER}: the VPN's resolver" in notes(other)
    assert "could not be seen: no answer." in notes(QUIET)
    assert "Names" not in notes(replace(GOOD, askers=()))


def test_port_53_is_the_vpns_only_where_a_names_own_server_saw_another() -> None:
    def asked(*addresses: str, family: int = 4) -> str:
        seen = tuple(map(ip_address, addresses))
        return notes(replace(GOOD, askers=(Asker(NAME, "ns.test", family, seen),)))

    assert f"The VPN answers port 53 itself: ns.test was asked, and saw {RESOLVER}." in asked(
        str(RESOLVER)
    )
    for honest in ((str(EXIT4),), (str(EXIT4), str(RESOLVER)), ()):
        assert "port 53" not in asked(*honest)
    # By another family it was asked from another address.
    assert "port 53" not in asked(str(EXIT6), family=6)
    assert "port 53" not in asked(str(EXIT4), family=6)
    # Where it is not known who we are, nobody is said to be another.
    assert "port 53" not in notes(replace(QUIET, askers=(Asker(NAME, "ns.test", 4, (RESOLVER,)),)))


def test_a_family_that_is_not_compared_is_told() -> None:
    only4 = replace(GOOD, words=ONLY4)
    assert "IPv6: nobody has answered" in notes(only4)
    without = replace(only4, carried=frozenset((4,)))
    assert "The VPN carries no IPv6: nothing of it was sent." in notes(without)
    assert "The lease carries no IPv6" in notes(replace(without, side="client"))
    assert "IPv6" not in notes(replace(only4, families=(4,)))
    one = replace(GOOD, words=(*ONLY4, Word(ONE, 6, EXIT6)))
    assert f"IPv6: {ONE} alone saw {EXIT6}." in notes(one)
    assert "IPv" not in notes(GOOD)


def test_a_client_is_told_that_the_gateway_knows_more() -> None:
    assert "there: vpnshare check" in notes(replace(GOOD, side="client"))
    assert "there: vpnshare check" not in notes(GOOD)
    assert "there: vpnshare check" not in notes(replace(QUIET, side="client"))


def test_nothing_more_is_said_where_nothing_was_asked() -> None:
    assert len(NOTES) == 4
    assert not judge(replace(GOOD, absent=("There is no VPN.", "Turn it on."))).notes


def test_problems_are_words_within_a_sentence() -> None:
    assert all(words[0].islower() and not words.endswith(".") for words in PROBLEMS.values())
