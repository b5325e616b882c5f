"""A check as the control API has it: made once for all who wait for it, told as a record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from client.client import Client
from control import schema as s
from control.methods import CheckParams
from eventloop.tasks import create_task
from gateway.gateway import Gateway
from services import interfaces
from services.check import client as client_side
from services.check import gateway as gateway_side
from services.check.asking import Way, ask_all
from services.check.places import Place, Whoami, parse_stun, parse_whoami
from services.check.verdict import PROBLEMS, Asker, Found, Verdict, Word, judge
from services.config import Config
from services.settings import Settings

Examine = Callable[[Sequence[int]], Awaitable[Found]]
"""Looks at those families."""


class Checker:
    """Checks on request, one at a time; who asks for the same meanwhile waits for the same."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self._turn = asyncio.Lock()
        self._work: dict[tuple[int, ...], asyncio.Task[s.Check]] = {}

    async def run(self, params: CheckParams) -> s.Check:
        """Look, and say what is to be thought of it."""
        families = params.families()
        work = self._work.get(families)
        if work is None or work.done():
            work = self._work[families] = create_task(self._look(families), "check")
        return await asyncio.shield(work)

    async def _look(self, families: tuple[int, ...]) -> s.Check:
        async with self._turn:
            found = await self._examine(families)
        return record(found, judge(found))


async def of_gateway(gateway: Gateway, settings: Settings, families: Sequence[int]) -> Found:
    """Look by a running gateway's guarded sockets."""
    found = gateway_side.before(gateway, families)
    return await _asked(found, gateway_side.GatewayWay(gateway), settings.config)


async def of_client(client: Client, settings: Settings, families: Sequence[int]) -> Found:
    """Look by a running client's tunnel."""
    now = client.status()
    there = await asyncio.to_thread(interfaces.look)
    passage = await client_side.passage_of(client) if now.lease is not None else None
    # Changes of the client's other settings wait for its next start; so a change of these two
    # is no word on what is in force, and the worst of it is a check that looks at less.
    config = settings.config
    routed = config.flag("client", "routes")
    try:
        found = client_side.before(now, routed, families, there, passage)
        if passage is None or now.lease is None:
            return found
        system = now.outlet == "nic" and config.flag("client", "dns")
        way = client_side.ClientWay(passage, now.lease.dns, system)
        return await _asked(found, way, config)
    finally:
        if passage is not None:
            passage.close()


async def _asked(found: Found, way: Way, config: Config) -> Found:
    """With what is said by who is asked, if anybody is to be asked."""
    families = [f for f in found.families if f in found.carried and f not in found.leaving]
    if found.absent is not None or not families:
        return found
    stun, whoami = servers(config)
    words, askers = await ask_all(way, stun, whoami, families)
    return replace(found, words=words, askers=askers)


def servers(config: Config) -> tuple[list[Place], list[Whoami]]:
    """Who is to be asked, by the settings."""
    return (
        [parse_stun(text) for text in config["check", "stun"]],
        [parse_whoami(text) for text in config["check", "whoami"]],
    )


def record(found: Found, verdict: Verdict) -> s.Check:
    """In the control API's words."""
    return s.Check(
        side=found.side,
        state=verdict.state.value,
        name=verdict.name,
        sentence=verdict.sentence,
        advice=verdict.advice,
        notes=[s.CheckNote(note) for note in verdict.notes],
        exits=[_exit(word) for word in found.words],
        askers=[_asker(asker) for asker in found.askers],
    )


def _exit(word: Word) -> s.CheckExit:
    address = None if word.address is None else str(word.address)
    return s.CheckExit(word.server, f"ipv{word.family}", address, PROBLEMS.get(word.problem, ""))


def _asker(asker: Asker) -> s.CheckAsker:
    return s.CheckAsker(
        asker.name, asker.server, [str(a) for a in asker.addresses], PROBLEMS.get(asker.problem, "")
    )
