"""What each counter of the product counts: one registry, by the counters' names.

A counter's name says what was gone through and what became of it, `tcp__no_flow__rst_sent`
(`gateway.nat.counters`). In a pattern `*` stands for what the code puts in there: a reason, an
outcome, a protocol; that comes from enumerations of the product, never from a peer.

`vpnshare counters` shows the help beside the count, and for `vpnshare metrics` each pattern is
a metric of its own, the part behind `*` its label. The first pattern that fits a name counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from control.schema import Refusal


@dataclass(frozen=True, slots=True)
class Counted:
    """The counters of one pattern."""

    pattern: str
    help: str
    named: str = ""
    """The metric's name, where that made of the pattern is another's."""

    @property
    def metric(self) -> str:
        """Its name in the conventions of Prometheus."""
        words = [word.replace("*", "").strip("_") for word in self.pattern.split("__")]
        named = self.named or "_".join(word for word in words if word)
        return f"vpnshare_{named}_total"

    @property
    def refuses(self) -> bool:
        """Whether all of them count what was refused or dropped here."""
        return self.pattern.split("__")[-1] in _REFUSALS or "__from_network__" in self.pattern

    @property
    def labelled(self) -> bool:
        """Whether it has the label `what`."""
        return "*" in self.pattern


_REFUSALS = {"dropped", "dropped_by_connection", "icmp_sent", "refused", "rst_sent"}
"""What a pattern ends with whose counters say that something was not let through. A `*` in that
place may be somebody else's refusal (`tcp__connect__refused`)."""
_BY_US = "__refused_"
"""In a name: refused by the gateway, for a reason that follows."""

_TABLE = """
tunnel__packets | Packets that came from devices, whatever became of them.
flows__gave_way | Connections that were ended for a device that had less than its share.
flows__taken_back | Connections of a device above its share that were ended for another.
flows__closed__* | Connections that the gateway ended, by why.
ip__fragment__held | Fragments that wait for the rest of their packet.
ip__reassembly__evicted | Packets in pieces that were given up for newer ones.
ip__reassembly__timed_out | Packets in pieces whose rest did not come.
ip__*__dropped | IP packets of devices that were dropped, by why.
ip__*__icmp_sent | IP packets of devices that were answered with an ICMP error, by why.
offload__*__dropped | Large packets of a device's kernel that were malformed, by how.
tcp__connect__* | Connections that devices began, by what became of them.
tcp__syn__forwarded | Connections that were begun for a device.
tcp__syn__answered | Connections of a device to the gateway's own resolver.
tcp__syn__held | Connections that wait until others of the device are made.
tcp__syn_held__* | SYNs that waited in vain for a connection, by why. | tcp_syn_held_lost
tcp__segment__forwarded | TCP segments of devices that were taken.
tcp__segment__outside_window | TCP segments outside the window, answered with an ACK.
tcp__rst__outside_window | Resets outside the window, ignored (RFC 5961).
tcp__ack__out_of_range | ACKs of what was never sent.
tcp__syn_received__bad_ack | ACKs that do not fit the SYN, answered with a reset.
tcp__closed__* | TCP connections that have ended, by how.
tcp__data__after_fin | Data behind the end of a connection.
tcp__timestamps__missing | Segments without the time stamp that was agreed on.
tcp__handshake__sent_again | SYNs and their answers that were sent again.
tcp__challenge_ack__* | ACKs to segments that may be forged, sent or withheld (RFC 5961).
tcp__recovery__* | Losses that TCP has mended, by how it knew.
tcp__network__* | Sockets to the network that have ended, by how.
tcp__drain__timed_out | Connections whose last bytes nobody took in time.
tcp__unacknowledged__bound_reached | Times that a device had as much unacknowledged as it may.
tcp__*__timed_out | TCP connections given up, by the state they were in.
tcp__*__rst_sent | TCP segments of devices that were answered with a reset, by why.
tcp__*__icmp_sent | TCP segments of devices that were answered with an ICMP error, by why.
tcp__*__dropped_by_connection | Segments that a connection did not take, by why.
tcp__*__dropped | TCP segments of devices that were dropped, by why.
udp__datagram__forwarded | Datagrams of devices that went to the network.
udp__segments__* | Datagrams of devices that came in one go, by what became of them.
udp__from_tunnel__datagrams | Datagrams that came out of the tunnel to the proxy.
udp__from_network__* | Datagrams from the network that were kept from a device, by why.
udp__to_tunnel__* | Datagrams for the tunnel, by whether they went or why not.
udp__icmp_error__* | ICMP errors on a device's datagrams, by what became of them.
udp__mapping__evicted | UDP mappings that were given up for newer ones.
udp__remotes__* | Hosts that a mapping has forgotten, for it had many or may not.
udp__idle__expired | UDP mappings that nobody used any more.
udp__open__bound_reached | UDP sockets refused to a program, for there are many.
udp__*__icmp_sent | Datagrams of devices that were answered with an ICMP error, by why.
udp__*__dropped | Datagrams of devices that were dropped, by why.
icmp__echo__forwarded | Pings of devices that went to the network.
icmp__echo_reply__to_tunnel | Answers to pings that went to devices.
icmp__gateway_echo__answered | Pings of the gateway's own address.
icmp__from_network__* | ICMP messages from the network that were kept from a device, by why.
icmp__icmp_error__* | ICMP errors on a device's pings, by what became of them.
icmp__idle__expired | Ping sessions that nobody used any more.
icmp__session__evicted | Ping sessions that were given up for newer ones.
icmp__*__icmp_sent | Pings of devices that were answered with an ICMP error, by why.
icmp__*__dropped | ICMP messages of devices that were dropped, by why.
dns__question__forwarded | Questions that devices asked by UDP.
dns__too_many__dropped | Questions dropped, for the device had many open.
dns__answer__to_tunnel | Answers that went to devices by UDP.
dns__answer__* | Answers of resolvers that were not believed, by why.
dns__*__refused | Questions that a device may not ask now, by why.
dns__tcp__* | Questions that devices asked by TCP, by what became of them.
dns__query__* | Questions that devices asked, by what they were answered with.
dns__reply__* | Answers that were cut or changed before they went to a device, by how.
dns__upstream__* | Questions to the resolvers of the VPN, by what became of them.
dns__netd__* | Questions to Android's resolver, by what became of them.
egress__*_outside_vpn | Times that bytes passed outside the VPN, by direction: an alarm.
guard__refused__* | Sockets that were not opened, since they could leave the VPN, by why.
listener__dead | Listeners that the system has ended.
listener__dead__* | Listeners the system ended, by whether they are open again. | listener_after
listener__full__oldest_closed | Strangers that were hung up on for a newer one.
listener__*__refused | Strangers that were hung up on at once, by why.
link__udp__* | Datagrams of links that did not go or come, and links that had to move, by why.
link__address__moved | Links that have moved to another address of this device.
link__icmp_error__received | ICMP errors on a link's datagrams.
link__unsendable__dropped | Datagrams of a link that the system did not take.
link__* | Links that broke, by how.
pairing__code__* | Codes that were not confirmed, by who refused.
pairing__desk_full__gave_way | Requests that gave way to newer ones.
pairing__*__refused | Requests that were refused, by why.
session__opened | Sessions that began.
session__resumed | Sessions that went on over another link.
session__lease__renewed | Leases that were renewed.
session__grace__expired | Sessions whose device did not come back in time.
session__*__not_resumed | Sessions that could not go on over another link, by why.
session__*__refused | Sessions that were refused, by why.
session__*__closed | Sessions that were closed for what the other side did, by what.
session__closed | Links that ended with their session. | session_link_closed
session__* | Links that broke with their session, by why.
handshake__key__shown | Handshakes in which a device asked for the gateway's key only.
handshake__cookie__answered | Handshakes that had to prove their address, and did.
handshake__forged_answer__restarted | Handshakes begun anew after a forged answer.
handshake__unanswered__resent | Handshake messages that were sent again.
handshake__*__refused | Handshakes that were refused, by why.
handshake__*__dropped | Handshake messages that were dropped, by why.
initiation__cookie_missing__asked | Strangers that were asked to prove their address.
initiation__*__refused | First messages that were refused, by why.
initiation__*__dropped | First messages that were dropped, by why.
reply__queue_full__dropped | Answers to handshakes that were dropped, for many were waiting.
record__rekey__* | Changes of a session's keys, by who began them.
frame__unknown_optional__skipped | Frames of a later version that may be passed over.
ping__*__ignored | Pings of the other side that were not answered, by why.
pong__unasked__ignored | Answers to pings that nobody had sent.
control__unacknowledged__resent | Control messages that were sent again.
control__*__dropped | Control messages that were dropped, by why.
packet__before_lease__dropped | Packets of a device that has no lease.
datagram__address__* | Addresses that a session has moved to, and those it was asked to prove.
datagram__*__dropped | Datagrams that were no record of a session, by why.
writer__*__dropped | Packets for a device that were dropped before they were sent, by why.
*__flood__first_sifted | First messages that the kernel dropped in a flood of strangers.
*__flood__*sifted | Datagrams that the kernel dropped in a flood of strangers.
*__flood__dropped | Datagrams of strangers that were not looked at in a flood.
wireguard__data__*__dropped | WireGuard's data messages that were dropped, by why.
wireguard__writer__*__dropped | Packets for a WireGuard device that were dropped, by why.
wireguard__initiation__sent | Handshakes that the gateway began.
wireguard__initiation__answered | Handshakes of WireGuard devices that were answered.
wireguard__response__accepted | Handshakes of the gateway's that a WireGuard device answered.
wireguard__cookie__accepted | Cookies that a WireGuard device sent.
wireguard__handshake__under_load__* | Handshakes while many came, by what became of them.
wireguard__endpoint__moved | WireGuard devices that were told another address of the gateway.
wireguard__listen__* | WireGuard's ports that could not be opened, and those opened again.
wireguard__*__dropped | WireGuard's messages that were dropped, by why.
wireguard__* | Links of WireGuard devices that ended, by why.
ingress__*__dropped | Packets for this device that do not fit its lease, by why.
nic__*__dropped | Packets that this device's interface did not take, by why.
outlet__not_ready__dropped | Packets that came before this device was ready for them.
announcement__gateway__heard | Times that the gateway was heard on this network.
cable__greeting__* | Greetings of a phone on the cable that had to be repeated, or came late.
cable__stale__skipped | What a phone on the cable still sent for a session before, and was skipped.
cable__token__repeated | Questions for this device's key that a phone on the cable asked twice.
cable__stream__unknown | Messages of a phone on the cable for streams that there are none of.
cable__open__refused | Streams that a phone on the cable wanted to open here.
cable__port__reset | Times that a phone on the cable was silent, and its USB port was reset.
cable__violation__* | Sessions with a phone on the cable that its violation has ended, by which.
router__*__refused | Routers that do not answer as the gateway, by how.
names__answer__not_asked | Answers of the resolver to questions that were not asked.
proxy__connections | Programs that connected to the proxy.
proxy__connect__* | Connections that programs asked the proxy for, by what became of them.
proxy__dial__* | Connections that the proxy began, by what became of them.
proxy__answer__not_taken | Programs that did not take the proxy's answer.
proxy__udp__*__dropped | Datagrams of programs that the proxy dropped, by why.
proxy__udp__*__told | Datagrams of programs that failed, and were told so, by why.
proxy__udp__datagram__forwarded | Datagrams of programs that went into the tunnel.
proxy__socks__*__asked | What programs asked for by SOCKS, by what it was.
proxy__socks__*__failed | What programs asked for by SOCKS and did not get.
proxy__http__*__asked | What programs asked for by HTTP, by what it was.
proxy__http__pac__answered | Times that the proxy's configuration was asked for.
proxy__http__request__forwarded | Requests by HTTP that went on to a server.
proxy__no_descriptors__waits | Times that the proxy waited for a free descriptor.
proxy__*__timed_out | Programs that the proxy hung up on, for they were slow, by when.
proxy__*__refused | What the proxy refused, by why.
proxy__*__oldest_closed | Programs that were hung up on for a newer one, by when.
proxy__*__closed | Connections that the proxy closed, by why.
endpoint__*__refused | Places told by a gateway that were not dialled, by why.
lease__*__refused | Leases that were not taken, by why.
"""

REGISTRY: tuple[Counted, ...] = tuple(
    Counted(*line.split(" | ")) for line in _TABLE.strip().splitlines()
)
_SHAPES = [
    (re.compile(re.escape(each.pattern).replace(r"\*", "([a-z0-9_]*?)")), each) for each in REGISTRY
]


@cache
def counted(name: str) -> tuple[Counted, str] | None:
    """Which counters `name` is one of, and what stands for `*`; None: it is in no pattern."""
    for shape, each in _SHAPES:
        if found := shape.fullmatch(name):
            return each, "__".join(part for part in found.groups() if part)
    return None


def meaning(name: str) -> str:
    """What the counter counts, for a person."""
    found = counted(name)
    return found[0].help if found else "No help is known for it."


def refusals(counters: Mapping[str, int]) -> list[Refusal]:
    """Those that count what was refused or dropped, the largest first."""
    found = []
    for name, count in counters.items():
        each, what = counted(name) or (None, "")
        if count and each is not None and (each.refuses or _BY_US in name):
            found.append(Refusal(name, count, each.help, what))
    return sorted(found, key=lambda refusal: (-refusal.count, refusal.name))
