"""Every counter of the product has a help text: those in the code, and those that are counted."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.main import main
from control.exits import Exit
from services import metrics
from services.counted import REGISTRY, counted, meaning, refusals
from services.trust import rooms
from tests.fakes.services import PretendClient, PretendGateway

ROOT = Path(__file__).resolve().parents[2]
ROOMS = rooms(ROOT)
PREFIXES = {"reach": "cable__", "wireguard": "wireguard__"}
"""What is put before a room's names where they come together."""
NAME = re.compile(r"[a-z0-9_*]+__[a-z0-9_*]+")
"""What looks like a counter's name, `*` for what is put in: all have two underscores."""
TAILS = {"too_big__dropped", "too_big__icmp_sent", "socket_full__dropped"}
"""Outcomes that get their protocol from whoever counts them."""

BY_CONNECTION = "_by_connection"
"""What `splice.peer` puts behind the name of what a connection drops."""


def names(node: ast.AST) -> set[str]:
    """What a string in the code may be, `*` for what is known when it runs only."""
    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.JoinedStr(values=values):
            return {"".join(str(v.value) if isinstance(v, ast.Constant) else "*" for v in values)}
        case ast.IfExp(body=body, orelse=orelse):
            return names(body) | names(orelse)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return {one + other for one in names(left) for other in names(right)}
    return {"*"}


def strings(node: ast.AST) -> Iterator[str]:
    """Every string below, put together where it is in pieces; no docstring."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return
        case ast.JoinedStr() | ast.BinOp(op=ast.Add()) | ast.Constant(value=str()):
            yield from names(node)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from strings(child)


def in_the_code() -> set[str]:
    """The names of all counters in the code, with those that end where an outcome begins."""
    found: set[str] = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path.name == "counted.py":
                continue
            source = path.read_text(encoding="utf-8")
            if "__" in source:
                found |= {
                    PREFIXES.get(room, "") + text
                    for text in strings(ast.parse(source))
                    if NAME.fullmatch(text) and not text.startswith("_") and "__" in text.strip("_")
                }
    return found


NAMES = in_the_code()


def is_told(name: str) -> bool:
    """Whether there is help for it; what has two parts may get what becomes of a packet behind."""
    filled = name.replace("*", "x")
    return bool(counted(filled) or (name.count("__") == 1 and counted(f"{filled}__dropped")))


def test_every_counter_in_the_code_has_help() -> None:
    assert len(NAMES) > 200
    untold = {name for name in NAMES if not name.startswith("*") and not is_told(name)}
    assert untold - TAILS == set()
    for tail in TAILS:
        assert all(is_told(f"{protocol}__{tail}") for protocol in ("udp", "icmp"))


def test_no_help_is_of_a_counter_that_is_gone() -> None:
    """Each pattern's own words are in the code, in one name or as what others put together."""
    shapes = [re.compile(re.escape(name).replace(r"\*", "[a-z0-9_]*")) for name in NAMES]
    ends = tuple(name.lstrip("*") for name in NAMES if name.startswith("*"))

    def is_there(pattern: str) -> bool:
        pattern = pattern.removesuffix(BY_CONNECTION)
        filled = pattern.replace("*", "x")
        if any(shape.fullmatch(filled) for shape in shapes):
            return True
        told = re.compile(re.escape(pattern).replace(r"\*", "[a-z0-9_]*"))
        return any(told.fullmatch(name.replace("*", "x")) for name in NAMES) or filled.endswith(
            ends
        )

    assert [each.pattern for each in REGISTRY if not is_there(each.pattern)] == []


def test_what_a_connection_drops_has_help() -> None:
    assert BY_CONNECTION in (ROOT / "splice/peer.py").read_text(encoding="utf-8")
    for name in {each for each in NAMES if re.fullmatch("tcp__.*__dropped", each)}:
        assert counted(name.replace("*", "x") + BY_CONNECTION), name


def test_the_first_that_fits_counts_and_the_rest_is_what() -> None:
    assert counted("tcp__connect__refused") == (by("tcp__connect__*"), "refused")
    assert counted("tcp__no_flow__rst_sent") == (by("tcp__*__rst_sent"), "no_flow")
    assert counted("proxy__socks__password_wrong__refused") == (
        by("proxy__*__refused"), "socks__password_wrong",
    )  # fmt: skip
    assert counted("odd") is None and "No help" in meaning("odd")


def by(pattern: str) -> object:
    (found,) = (each for each in REGISTRY if each.pattern == pattern)
    return found


def test_each_is_a_sentence_and_no_pattern_stands_behind_one_that_takes_all_of_it() -> None:
    for each in REGISTRY:
        assert each.help.endswith(".") and "  " not in each.help and len(each.help) < 100
        found = counted(each.pattern.replace("*", "x"))
        assert found is not None and found[0] == each, each.pattern


def test_what_is_of_another_version_is_bounded_and_not_lost(gateway: PretendGateway) -> None:
    many = {f"tcp__connect__kind_{n}": 1 for n in range(3 * metrics.MAX_KINDS)}
    odd = {f"odd{n}": 1 for n in range(3 * metrics.MAX_KINDS)}
    state = metrics.State(gateway=replace(gateway.status, counters=many | odd))
    for name in ("vpnshare_tcp_connect_total", "vpnshare_other_total"):
        (metric,) = (each for each in metrics.METRICS if each.name == name)
        samples = list(metric.read(state))
        assert len(samples) == metrics.MAX_KINDS + 1
        assert sum(value for _, value in samples) == 3 * metrics.MAX_KINDS


def test_the_command_says_what_each_counts(
    gateway: PretendGateway, client: PretendClient, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.status = replace(gateway.status, counters={"tcp__connect__refused": 7, "odd": 1})
    client.status = replace(client.status, counters={"link__icmp_error__received": 3})
    assert main(["counters"]) == Exit.OK
    shown = capsys.readouterr().out
    assert re.search(r"^gateway +tcp__connect__refused +7 +Connections", shown, re.MULTILINE)
    assert re.search(r"^client +link__icmp_error__received +3 +ICMP", shown, re.MULTILINE)
    assert main(["counters", "connect", "--role", "gateway", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == [{
        "role": "gateway", "name": "tcp__connect__refused", "count": 7,
        "help": meaning("tcp__connect__refused"),
    }]  # fmt: skip
    assert main(["counters", "--device", "tablet", "--json"]) == Exit.NOT_FOUND
    capsys.readouterr()
    label = gateway.peers[0].label
    assert main(["counters", "no_flow", "--device", label, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == [{
        "role": "gateway", "name": "tcp__no_flow__rst_sent", "count": 3,
        "help": meaning("tcp__no_flow__rst_sent"),
    }]  # fmt: skip
    assert main(["counters", "nothing"]) == Exit.OK
    assert "No counter" in capsys.readouterr().out


def test_what_a_device_was_refused_is_told_apart() -> None:
    """By us: that a server refuses a connection is no refusal of ours."""
    kept = {
        "tcp__no_flow__rst_sent": 3, "ip__no_room__dropped": 7, "icmp__too_big__icmp_sent": 3,
        "dns__query__refused_rules": 9, "udp__from_network__refused_rules": 1,
        "dns__too_many__dropped": 2, "tcp__window__dropped_by_connection": 1,
        "icmp__from_network__truncated": 1,
    }  # fmt: skip
    other = {
        "tcp__connect__refused": 50, "tcp__network__refused": 5, "tunnel__packets": 9000,
        "udp__datagram__forwarded": 8, "tcp__closed__both_sides": 4, "flows__gave_way": 1,
        "ip__bad_checksum__dropped": 0, "tcp__handshake__sent_again": 2,
    }  # fmt: skip
    found = refusals({**other, **kept})
    assert {each.name: each.count for each in found} == kept
    assert [each.name for each in found][:4] == [
        "dns__query__refused_rules", "ip__no_room__dropped", "icmp__too_big__icmp_sent",
        "tcp__no_flow__rst_sent",
    ]  # fmt: skip
    reset = found[3]
    assert (reset.help, reset.what) == (meaning(reset.name), "no_flow")
    assert next(each for each in found if each.name == "dns__too_many__dropped").what == ""
