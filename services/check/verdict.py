"""What is to be thought of the answers: a verdict in words, and what else there is to say.

Theory of operation. What was found (`Found`) is held against the rows of `ROWS`, in their order:
the first that has something to say is the verdict. Broken is only what was seen to be: a packet
would have gone, or has come out, where it must not. Good is what two witnesses say who could have
contradicted each other. All else cannot be told, and why is said. `NOTES` are told besides.

A server that lies can name any address, but none of this device's networks outside the VPN, which
it does not know: one that names such an address is believed alone.

Pure: nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

OTHERS = "Ask other servers: vpnshare set check.stun HOST"

PROBLEMS = {
    "silent": "no answer",
    "refused": "nobody listens there",
    "unreachable": "no way there",
    "unnamed": "its name could not be looked up",
    "no_address": "it has no address of that kind",
    "error": "it answers with an error",
    "unreadable": "its answers are none",
    "unaskable": "the package aiodns is not installed",
    "untold": "its answer names no address",
}
"""Why a server has not told an address: stable names, and words for people."""


class State(StrEnum):
    """How it stands."""

    GOOD = "good"
    BROKEN = "broken"
    UNKNOWN = "unknown"
    """It cannot be told."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a STUN server says: from where a packet of ours came."""

    server: str
    """As it stands in `check.stun`."""
    family: int
    """4 or 6."""
    address: Address | None = None
    problem: str = ""
    """Of PROBLEMS, where there is no address."""


@dataclass(frozen=True, slots=True)
class Asker:
    """What a name's own server says: who has asked it."""

    name: str
    server: str = ""
    """Whom the question was sent to: the name's own server; empty: whoever is asked for names."""
    family: int = 0
    """By which it was sent there; 0 where that is not ours to choose."""
    addresses: tuple[Address, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """A network that this device has beside the VPN: its packets come from there."""

    interface: str
    network: Network


@dataclass(frozen=True, slots=True)
class Found:
    """All that the verdict looks at."""

    side: str
    """`gateway` or `client`."""
    absent: tuple[str, str] | None = None
    """Why nothing was asked, and what to do: there is no VPN, or no tunnel."""
    bypass: bool = False
    families: tuple[int, ...] = (4, 6)
    """Those that were to be looked at."""
    carried: frozenset[int] = frozenset((4, 6))
    """Those that the VPN, or the lease, has."""
    leaving: Mapping[int, str] = field(default_factory=dict)
    """By family the interface by which the system would send it outside the tunnel; nothing of
    that family was sent."""
    outside: tuple[Outside, ...] = ()
    words: tuple[Word, ...] = ()
    askers: tuple[Asker, ...] = ()

    def exits(self, family: int) -> dict[Address, list[str]]:
        """The addresses that STUN's servers saw, with the servers."""
        found: dict[Address, list[str]] = {}
        for word in self.words:
            if word.family == family and word.address is not None:
                found.setdefault(word.address, []).append(word.server)
        return found

    def compared(self, family: int) -> Address | None:
        """The exit that two witnesses agree about. One may be a name's own server, asked over
        that family."""
        exits = self.exits(family)
        if len(exits) != 1:
            return None
        ((address, servers),) = exits.items()
        direct = [a for a in self.askers if a.family == family and address in a.addresses]
        return address if len(servers) + len(direct) > 1 else None

    def beside(self, address: Address) -> Outside | None:
        """The network outside the VPN that the address is of."""
        for one in self.outside:
            if address.version == one.network.version and address in one.network:
                return one
        return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it stands, in words."""

    state: State
    name: str
    """Of the row: stable, for scripts."""
    sentence: str
    advice: str = ""
    notes: tuple[str, ...] = ()


Said = tuple[str, str] | None
"""A sentence, and what to do."""


def judge(found: Found) -> Verdict:
    """The verdict on what was found."""
    notes = () if found.absent else tuple(filter(None, (note(found) for note in NOTES)))
    for name, state, row in ROWS:
        if (said := row(found)) is not None:
            return Verdict(state, name, *said, notes)
    raise AssertionError("the last row always has something to say")


def _absent(found: Found) -> Said:
    return found.absent


def _bypass(found: Found) -> Said:
    if not found.bypass:
        return None
    return (
        "Bypass is on: what devices send may leave outside the VPN.",
        "vpnshare set gateway.bypass off",
    )


def _leaving(found: Found) -> Said:
    for family, interface in found.leaving.items():
        return (
            f"IPv{family} leaves this device by {interface}, not by the tunnel. Nothing was sent "
            "there to look.",
            "Find out why: vpnshare doctor --role client",
        )
    return None


def _exit_outside(found: Found) -> Said:
    for word in found.words:
        if word.address is not None and (beside := found.beside(word.address)):
            return (
                f"IPv{word.family} leaves outside the VPN: {word.server} saw {word.address}, which "
                f"is of {beside.interface}'s network.",
                f"Have the VPN's app carry IPv{word.family} or block it, reconnect it, and look "
                "again: vpnshare check",
            )
    return None


def _names_outside(found: Found) -> Said:
    for asker in found.askers:
        for address in asker.addresses:
            if beside := found.beside(address):
                return (
                    f"Names are asked outside the VPN: the server of {asker.name} saw {address}, "
                    f"which is of {beside.interface}'s network.",
                    "On the gateway, name a resolver, which is asked through the VPN: vpnshare set "
                    "dns.servers ADDRESS",
                )
    return None


def _disagree(found: Found) -> Said:
    for family in found.families:
        exits = found.exits(family)
        if len(exits) > 1:
            saw = ", ".join(f"{_listed(who)} saw {address}" for address, who in exits.items())
            return (
                f"The servers disagree about IPv{family}: {saw}. One of them lies, or the VPN "
                "leaves by several addresses.",
                OTHERS,
            )
    return None


def _silence(found: Found) -> Said:
    if any(word.address is not None for word in found.words):
        return None
    if any(asker.addresses for asker in found.askers):
        return (
            "Names are answered, but no STUN server is: the VPN blocks it, or they are down.",
            OTHERS,
        )
    return (
        "Nobody has answered: the VPN carries nothing at this moment, or blocks what was asked.",
        "See whether the VPN works by itself; then: vpnshare check",
    )


def _alone(found: Found) -> Said:
    if any(found.compared(family) for family in found.families):
        return None
    saw = " and ".join(
        f"{_listed(who)} saw {address}"
        for family in found.families
        for address, who in found.exits(family).items()
    )
    return (
        f"One server's word stands alone: {saw}. It cannot be held against another's.",
        OTHERS,
    )


def _good(found: Found) -> Said:
    exits = _listed(str(a) for f in found.families if (a := found.compared(f)))
    if found.side == "client":
        return f"Traffic goes into the tunnel, and the Internet sees {exits}.", ""
    return f"Traffic leaves by the VPN: the Internet sees {exits}.", ""


ROWS: tuple[tuple[str, State, Callable[[Found], Said]], ...] = (
    ("not_asked", State.UNKNOWN, _absent),
    ("bypass", State.BROKEN, _bypass),
    ("route_outside", State.BROKEN, _leaving),
    ("exit_outside", State.BROKEN, _exit_outside),
    ("names_outside", State.BROKEN, _names_outside),
    ("servers_disagree", State.UNKNOWN, _disagree),
    ("blocked", State.UNKNOWN, _silence),
    ("one_witness", State.UNKNOWN, _alone),
    ("inside", State.GOOD, _good),
)
"""The verdicts by name, in the order in which they are tried."""


def _uncompared(found: Found) -> str:
    said = []
    for family in found.families:
        if family in found.leaving or found.compared(family):
            continue
        exits = found.exits(family)
        if family not in found.carried:
            whose = "VPN" if found.side == "gateway" else "lease"
            said.append(f"The {whose} carries no IPv{family}: nothing of it was sent.")
        elif not exits:
            said.append(f"IPv{family}: nobody has answered what was sent into it.")
        elif len(exits) == 1 and any(found.compared(other) for other in found.families):
            ((address, who),) = exits.items()
            said.append(f"IPv{family}: {_listed(who)} alone saw {address}.")
    return " ".join(said)


def _port_53(found: Found) -> str:
    for family in found.families:
        exits = found.exits(family)
        for asker in found.askers:
            if asker.family == family and asker.addresses and len(exits) == 1:
                strange = [a for a in asker.addresses if a.version == family and a not in exits]
                if strange and len(strange) == len(asker.addresses):
                    return (
                        f"The VPN answers port 53 itself: {asker.server} was asked, and saw "
                        f"{_listed(map(str, strange))}. Whoever is named as resolver, the VPN's is "
                        "asked."
                    )
    return ""


def _names(found: Found) -> str:
    asked = [asker for asker in found.askers if not asker.server]
    if not asked:
        return ""
    seen = list(dict.fromkeys(address for asker in asked for address in asker.addresses))
    if not seen:
        why = _listed(dict.fromkeys(PROBLEMS.get(each.problem, each.problem) for each in asked))
        return f"Who asks names could not be seen: {why}."
    exits = {address for family in found.families for address in found.exits(family)}
    if exits.issuperset(seen):
        return "Names are asked from the same address."
    return (
        f"Names are asked from {_listed(map(str, seen))}: the VPN's resolver, or one that it "
        "passes questions on to."
    )


def _gateway_too(found: Found) -> str:
    if found.side != "client" or not any(word.address for word in found.words):
        return ""
    return "Whether its VPN holds, the gateway itself finds out; there: vpnshare check"


NOTES: tuple[Callable[[Found], str], ...] = (_uncompared, _port_53, _names, _gateway_too)


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
