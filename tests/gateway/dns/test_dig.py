"""Real programs on both sides: dig asks, dnsmasq answers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.dns.forwarder import DnsConfig, DnsForwarder
from gateway.dns.upstreams import Server
from gateway.vpn.detector import VpnDetector
from gateway.vpn.guard import EgressGuard
from tests.fakes.ports import free_port
from tests.fakes.waiting import settle
from tests.gateway.dns.world import World, world
from tests.gateway.vpn.namespace import Capture, Tunnel, Uplink, fresh_namespace, needs_namespaces
from tests.netstack.wires import name

pytestmark = pytest.mark.skipif(
    shutil.which("dnsmasq") is None or shutil.which("dig") is None,
    reason="needs dnsmasq and dig (apt: dnsmasq-base, bind9-dnsutils)",
)

LONG = "long.zone.test"
ZONE = f"""
no-resolv
no-hosts
local=/zone.test/
auth-ttl=300
local-ttl=300
neg-ttl=60
edns-packet-max=4096
host-record=host.zone.test,192.0.2.10,2001:db8::10
cname=alias.zone.test,host.zone.test
mx-host=zone.test,mail.zone.test,10
srv-host=_sip._udp.zone.test,host.zone.test,5060,1,2
txt-record=zone.test,"one two","three"
ptr-record=10.2.0.192.in-addr.arpa,host.zone.test
naptr-record=zone.test,100,10,U,E2U+sip,!^.*$!sip:x@zone.test!
caa-record=zone.test,0,issue,ca.test
dns-rr=zone.test,44,0401{"AB" * 20}
dns-rr=zone.test,52,030101{"CD" * 32}
dns-rr=zone.test,43,00010802{"EF" * 32}
dns-rr=zone.test,48,010103080301000112345678
dns-rr=zone.test,65,00010000010003026832
dns-rr=zone.test,64,000100
dns-rr=zone.test,13,03783836054c696e7578
dns-rr=zone.test,17,{(name("root.test") + name("")).hex()}
dns-rr=zone.test,18,0001{name("afs1").hex()}
dns-rr=zone.test,29,0012 1316 8000 0000 8000 0000 0098 9680
dns-rr=zone.test,37,0001000108AABB
dns-rr=zone.test,256,000a000168747470733a2f2f78
dns-rr=zone.test,39,{name("test.zone").hex()}
dns-rr=zone.test,61,99aabbcc
dns-rr=zone.test,65280,DEADBEEF
""" + "\n".join(f'txt-record={LONG},"{n:03d}{"x" * 240}"' for n in range(15))

TYPES = {
    "A host.zone.test": "192.0.2.10",
    "AAAA host.zone.test": "2001:db8::10",
    "CNAME alias.zone.test": "host.zone.test.",
    "A alias.zone.test": "192.0.2.10",
    "MX zone.test": "10 mail.zone.test.",
    "SRV _sip._udp.zone.test": "1 2 5060 host.zone.test.",
    "TXT zone.test": '"one two" "three"',
    "PTR 10.2.0.192.in-addr.arpa": "host.zone.test.",
    "NAPTR zone.test": '"E2U+sip"',
    "CAA zone.test": '0 issue "ca.test"',
    "SSHFP zone.test": "4 1 ABAB",
    "TLSA zone.test": "3 1 1 CDCD",
    "DS zone.test": "1 8 2 EFEF",
    "DNSKEY zone.test": "257 3 8",
    "HTTPS zone.test": 'alpn="h2"',
    "SVCB zone.test": "1 .",
    "HINFO zone.test": '"x86" "Linux"',
    "RP zone.test": "root.test. .",
    "AFSDB zone.test": "1 afs1.",
    "LOC zone.test": "0 0 0",
    "CERT zone.test": "PKIX 1 ",
    "URI zone.test": '"https://x"',
    "DNAME zone.test": "test.zone.",
    "TYPE61 zone.test": "",
    "TYPE65280 zone.test": "DEADBEEF",
}
"""What dig prints of each; 25 types."""


@contextlib.asynccontextmanager
async def dnsmasq(folder: Path) -> AsyncIterator[Server]:
    """A dnsmasq that has said that it serves."""
    port = free_port()
    config = folder / "dnsmasq.conf"
    config.write_text(ZONE)
    process = await asyncio.create_subprocess_exec(
        "dnsmasq", "--keep-in-foreground", f"--conf-file={config}", f"--port={port}",
        "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--pid-file=",
        "--log-facility=-",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(20):
            while b": started" not in said:
                line = await process.stderr.readline()
                assert line, said.decode()
                said += line
        yield Server("127.0.0.1", port)
        assert process.returncode is None, "dnsmasq ended by itself"
    finally:
        ended = process.returncode
        if ended is None:
            process.terminate()
        said += await process.stderr.read()
        await process.wait()
        # Shown when the test fails.
        print(f"dnsmasq {'served to the end' if ended is None else f'ended with {ended}'}:")
        print(said.decode())


@contextlib.asynccontextmanager
async def zone(folder: Path) -> AsyncIterator[World]:
    async with dnsmasq(folder) as server, world(config=DnsConfig(servers=(server,))) as w:
        yield w


async def test_25_record_types(tmp_path: Path) -> None:
    async with zone(tmp_path) as w:
        for question, expected in TYPES.items():
            type_, owner = question.split()
            for transport in ("+notcp", "+tcp"):
                printed = await w.dig("-t", type_, owner, transport)
                assert "status: NOERROR" in printed, printed
                assert expected.lower() in printed.lower(), printed
                assert "WARNING" not in printed, printed
        assert w.forwarder.counters["dns__query__hit"] == len(TYPES)


async def test_an_answer_of_4_000_bytes(tmp_path: Path) -> None:
    async with zone(tmp_path) as w:
        for options in (("+bufsize=4096",), ("+bufsize=1232",), ("+noedns",), ("+tcp",)):
            printed = await w.dig("TXT", LONG, *options)
            assert printed.count("xxxxxxxx" * 30) == 15, printed
            assert ("retrying in TCP" in printed) == (options[0] in ("+bufsize=1232", "+noedns"))
        cut = await w.dig("TXT", LONG, "+bufsize=1232", "+ignore")
        assert " tc " in cut.replace(";", " "), cut


async def test_a_denial_without_soa_is_asked_again(tmp_path: Path) -> None:
    async with zone(tmp_path) as w:
        for _ in range(3):
            printed = await w.dig("A", "nothing.zone.test")
            assert "status: NXDOMAIN" in printed
        # dnsmasq denies names of its own without an SOA: not to be kept (RFC 2308 5).
        assert "dns__query__hit" not in w.forwarder.counters
        assert w.forwarder.counters["dns__query__asked"] == 3


@needs_namespaces
async def test_resolvers_of_the_vpn_are_reached_through_the_vpn_only() -> None:
    """A resolver whose address belongs to the LAN is asked in the VPN, or not at all."""
    with fresh_namespace():
        Uplink()
        tunnel = Tunnel().up()
        capture = Capture()
        detector = VpnDetector()
        await detector.start()
        guard = EgressGuard(detector)
        forwarder = DnsForwarder(guard, DnsConfig(servers=(Server("192.0.2.1"),)))
        answers: list[bytes] = []
        question = bytes.fromhex("00010100000100000000000001610000010001")
        forwarder.query(question, False, "peer", answers.append)
        sent: list[bytes] = []

        def came() -> bool:
            sent.extend(tunnel.packets())
            return bool(sent)

        await settle(came)
        packet = sent[0]
        assert packet[16:20] == bytes([192, 0, 2, 1])
        assert packet[12:16] == bytes([10, 8, 0, 2])
        tunnel.close()
        await settle(lambda: not detector.network.usable)
        forwarder.vpn_changed()
        await settle(lambda: answers)
        assert [a[3] & 15 for a in answers] == [2]
        forwarder.query(question, False, "peer", answers.append)
        await asyncio.sleep(1.3)
        assert capture.packets() == []
        forwarder.close()
        await detector.stop()
        capture.close()
