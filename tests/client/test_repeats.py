"""What is the same at every attempt is said once, and again after a while, with a count."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from client.model import ClientState
from client.repeats import AGAIN, MAX_TEXTS, Repeats
from tests.client.gateway_double import GatewayDouble
from tests.client.test_client import Device
from vshp.config import CloseReason


def test_the_first_counts_and_the_rest_is_counted() -> None:
    repeats = Repeats()
    assert repeats.take("away", 100.0) == "away"
    assert [repeats.take("away", 100.0 + n) for n in range(3)] == [None] * 3
    assert repeats.take("away", 100.0 + AGAIN) == "away (3 times more since this was said last)"
    assert repeats.take("away", 100.0 + 2 * AGAIN) == "away", "none was left out between"
    repeats.take("away", 101.0 + 2 * AGAIN)
    assert repeats.take("away", 100.0 + 3 * AGAIN) == "away (once more since this was said last)"
    repeats.clear()
    assert repeats.take("away", 100.0 + 3 * AGAIN) == "away"


def test_two_that_take_turns_are_two_lines() -> None:
    repeats = Repeats()
    said = [repeats.take(text, float(n)) for n, text in enumerate(["tcp", "udp"] * 100)]
    assert [text for text in said if text] == ["tcp", "udp"]


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    repeats = Repeats()
    for n in range(MAX_TEXTS + 1):
        assert repeats.take(f"text {n}", float(n))
    assert repeats.take(f"text {MAX_TEXTS}", 20.0) is None
    assert repeats.take("text 1", 20.0) is None
    assert repeats.take("text 0", 20.0) == "text 0"


async def attempts(device: Device, count: int) -> None:
    """Until the gateway has been tried so often in vain, after a link."""
    seen: set[float | None] = set()

    def enough() -> bool:
        seen.update(record.at for record in device.client.endpoints())
        return len(seen - {None}) > count

    await device.until(enough)


async def test_a_gateway_that_stays_away_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "client")
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri(), "tcp")
        await device.client.wait(5)
        for links in (1, 2):
            await gateway.deafen()
            gateway.guests[-1].close(CloseReason.SHUTDOWN)
            await attempts(device, 3)
            said = [line for line in caplog.messages if line.startswith("unreachable: ")]
            assert len(said) == links, "and once more after a link"
            await gateway.listen()
            await device.until(lambda: device.state is ClientState.CONNECTED)
