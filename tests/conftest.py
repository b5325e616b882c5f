"""What all tests share: an environment that the machine's own settings do not reach."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from eventloop.poller import PolledLoop
from tests.order import ALONE, may_weigh, spread

# Each run tries the same examples, and how long one takes on a busy machine is no error of the
# code. To look for others: `pytest --hypothesis-profile=search`.
_NO_CLOCK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", _NO_CLOCK, derandomize=True)
settings.register_profile("search", _NO_CLOCK)
settings.load_profile("same")

_PREFIXES = ("VPNSHARE_", "TEXTUAL", "XDG_")
_NAMES = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "NOTIFY_SOCKET", "PREFIX")
_KEPT = ("VPNSHARE_VENV", "VPNSHARE_TEST_", "TEXTUAL_SNAPSHOT_")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background job of a shell has Ctrl-C ignored, and what it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what would steer the product or its output."""
    for name in list(os.environ):
        if name.startswith(_KEPT):
            continue
        if name.startswith(_PREFIXES) or name in _NAMES:
            monkeypatch.delenv(name)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Who asks for the tests that weigh the machine has the others' files not even imported."""
    if config.getoption("markexpr") != ALONE or collection_path.suffix != ".py":
        return None
    return None if may_weigh(collection_path.read_text(encoding="utf-8")) else True


def pytest_collection_finish() -> None:
    """What has been imported and collected stays: it is not gone through again for garbage.

    And what the console's tests leave behind is looked for less often, which else is a third of
    what they take. A test that asks for a collection by name has it as ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_itemcollected(item: pytest.Item) -> None:
    """And so a file says of itself that it holds some."""
    if item.get_closest_marker(ALONE) and not may_weigh(item.path.read_text(encoding="utf-8")):
        raise pytest.UsageError(f"{item.nodeid}: say pytest.mark.{ALONE} in that file itself")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several workers share the files, they take them in an order of ours."""
    if hasattr(config, "workerinput"):
        files = dict.fromkeys(item.path.relative_to(config.rootpath) for item in items)
        place = {config.rootpath / file: at for at, file in enumerate(spread(list(files)))}
        items.sort(key=lambda item: place[item.path])


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the services run on."""
    return {"polled": PolledLoop}
