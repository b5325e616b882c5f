"""The poller under real descriptors: the fast lane, and the loop beside it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from time import monotonic

import pytest

from eventloop.poller import EVERYTHING, NEVER, PolledLoop, Poller, running_poller

Pair = tuple[socket.socket, socket.socket]


class Watcher:
    """A handler that keeps what it was told."""

    def __init__(self) -> None:
        self.masks: list[int] = []

    def ready(self, mask: int, now: float) -> None:
        self.masks.append(mask)


class Owner:
    """An owner that keeps what it was told, and sets its alarm again `again` times."""

    def __init__(self, at: float = NEVER, again: int = 0) -> None:
        self.alarm_at = at
        self.again = again
        self.alarms: list[float] = []
        self.batches: list[float] = []

    def alarm(self, now: float) -> None:
        self.alarms.append(now)
        if self.again:
            self.again -= 1
            self.alarm_at = now + 0.01

    def after_batch(self, now: float) -> None:
        self.batches.append(now)


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    near.setblocking(False)
    yield near, far
    near.close()
    far.close()


class Closer:
    """Closes another socket and opens a third, which gets its number, in the middle of a batch."""

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self.victim: socket.socket | None = None
        self.fresh: socket.socket | None = None
        self.watcher = Watcher()

    def ready(self, mask: int, now: float) -> None:
        if self.victim is None:
            return
        number = self.victim.fileno()
        self.poller.forget(number)
        self.victim.close()
        self.victim = None
        self.fresh = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if self.fresh.fileno() != number:
            os.dup2(self.fresh.fileno(), number)
            self.fresh.close()
            self.fresh = socket.socket(fileno=number)
        self.poller.watch(number, self.watcher, select.EPOLLIN | select.EPOLLET)


def test_events_of_a_closed_socket_do_not_reach_the_one_with_its_number(poller: Poller) -> None:
    first, first_far = socket.socketpair()
    second, second_far = socket.socketpair()
    closers = {first.fileno(): Closer(poller), second.fileno(): Closer(poller)}
    closers[first.fileno()].victim = second
    closers[second.fileno()].victim = first
    for number, closer in closers.items():
        poller.watch(number, closer, select.EPOLLIN | select.EPOLLET)
    owner = Owner()
    poller.attach(owner)
    first_far.send(b"x")
    second_far.send(b"x")
    assert poller.select(0) == []
    # Whichever came first has closed the other, whose event was in the same batch.
    done = [closer for closer in closers.values() if closer.fresh is not None]
    assert len(done) == 1
    assert done[0].watcher.masks == []
    assert len(owner.batches) == 1
    for sock in (first, second, first_far, second_far, done[0].fresh):
        assert sock is not None
        sock.close()


class Faulty:
    def ready(self, mask: int, now: float) -> None:
        raise RuntimeError("broken")


def test_a_handler_that_fails_does_not_cost_the_others_their_events(
    poller: Poller, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    watcher = Watcher()
    poller.watch(pairs[0][0].fileno(), Faulty())
    poller.watch(pairs[1][0].fileno(), watcher)
    poller.select(0)
    assert watcher.masks
    assert "broken" in caplog.text
    assert not poller.in_batch
    for near, far in pairs:
        near.close()
        far.close()


def test_an_owner_that_fails_does_not_cost_the_others_their_turn(
    poller: Poller, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    class FaultyOwner(Owner):
        def after_batch(self, now: float) -> None:
            raise RuntimeError("broken")

    healthy = Owner()
    poller.attach(FaultyOwner())
    poller.attach(healthy)
    poller.watch(pair[0].fileno(), Watcher())
    poller.select(0)
    assert healthy.batches
    assert "broken" in caplog.text


def test_other_masks_and_no_events_at_all(poller: Poller, pair: Pair) -> None:
    near, far = pair
    watcher = Watcher()
    poller.watch(near.fileno(), watcher, select.EPOLLIN)
    poller.select(0)
    assert watcher.masks == []
    poller.change(near.fileno(), select.EPOLLIN | select.EPOLLOUT)
    poller.select(0)
    assert watcher.masks == [select.EPOLLOUT]
    poller.unwatch(near.fileno())
    poller.unwatch(near.fileno())
    far.send(b"x")
    poller.select(0)
    assert len(watcher.masks) == 1
    assert poller.watched() == 0


def test_another_handler_hears_the_present_state_and_the_one_before_no_more(
    poller: Poller, pair: Pair
) -> None:
    near, far = pair
    first, second = Watcher(), Watcher()
    far.send(b"x")
    poller.watch_instead(near.fileno(), first)
    poller.select(0)
    assert first.masks == [select.EPOLLIN | select.EPOLLOUT]
    poller.watch_instead(near.fileno(), second, select.EPOLLIN | select.EPOLLET)
    far.send(b"y")
    poller.select(0)
    poller.select(0)
    assert (len(first.masks), second.masks) == (1, [select.EPOLLIN])
    assert poller.watched() == 1


def test_unwatching_what_was_closed_first_is_no_error(poller: Poller) -> None:
    near, far = socket.socketpair()
    number = near.fileno()
    poller.watch(number, Watcher())
    near.close()
    poller.unwatch(number)
    assert poller.watched() == 0
    far.close()


def test_an_alarm_is_called_in_time_once_and_may_be_set_again(poller: Poller) -> None:
    begun = monotonic()
    owner = Owner(begun + 0.02, again=2)
    poller.attach(owner)
    while owner.alarm_at != NEVER and monotonic() < begun + 10:
        poller.select(0.2)
    assert len(owner.alarms) == 3
    assert owner.alarms[0] >= begun + 0.02
    assert owner.alarm_at == NEVER
    assert len(owner.batches) == 3
    poller.detach(owner)
    poller.detach(owner)
    owner.alarm_at = monotonic()
    poller.select(0)
    assert len(owner.alarms) == 3


class Epoll:
    """The poller's own epoll, and how long it was told to wait."""

    def __init__(self, real: select.epoll) -> None:
        self.real = real
        self.closed = False
        self.waits: list[float] = []

    def poll(self, timeout: float, events: int) -> list[tuple[int, int]]:
        self.waits.append(timeout)
        return self.real.poll(timeout, events)

    def close(self) -> None:
        self.real.close()


def test_an_alarm_that_a_batch_makes_due_is_not_waited_for(
    poller: Poller, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait is measured from the end of the batch, and is a millisecond at the least."""
    near, far = pair

    class AtOnce(Owner):
        def after_batch(self, now: float) -> None:
            super().after_batch(now)
            if not self.alarms:
                self.alarm_at = poller.clock()

    owner = AtOnce()
    poller.attach(owner)
    poller.watch(near.fileno(), Watcher(), select.EPOLLIN | select.EPOLLET)
    far.send(b"x")
    epoll = Epoll(poller._epoll)
    monkeypatch.setattr(poller, "_epoll", epoll)
    poller.select(0.05)
    assert len(owner.alarms) == 1
    assert epoll.waits[1] == 0.0, epoll.waits


def test_what_an_alarm_begins_to_watch_is_heard_from_the_first_event_on(
    poller: Poller, pair: Pair
) -> None:
    near, far = pair
    watcher = Watcher()

    class Opener(Owner):
        def alarm(self, now: float) -> None:
            poller.watch(near.fileno(), watcher)

    poller.attach(Opener(at=monotonic()))
    poller.select(0)
    far.send(b"x")
    poller.select(0)
    assert watcher.masks
    assert watcher.masks[-1] & select.EPOLLIN


def test_select_waits_as_long_as_it_was_told_with_the_fast_lane_busy(
    poller: Poller, pair: Pair
) -> None:
    near, far = pair

    class Again(Watcher):
        def ready(self, mask: int, now: float) -> None:
            super().ready(mask, now)
            near.recv(16)
            if len(self.masks) < 5:
                far.send(b"x")

    # Each event makes the next; as nothing is asked of the loop, none ends the waiting.
    watcher = Again()
    poller.watch(near.fileno(), watcher, select.EPOLLIN)
    far.send(b"x")
    begun = monotonic()
    assert poller.select(0.05) == []
    assert monotonic() - begun >= 0.05
    assert len(watcher.masks) == 5


async def test_the_loops_own_descriptors_work_beside_the_fast_lane(pair: Pair) -> None:
    near, far = pair
    poller = running_poller()
    watcher = Watcher()
    poller.watch(near.fileno(), watcher, EVERYTHING)
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    far.send(b"x")
    writer.write(b"hello\n")
    assert await asyncio.wait_for(reader.readline(), 5) == b"hello\n"
    writer.close()
    server.close()
    await server.wait_closed()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print('child')", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert output == b"child\n"
    assert any(mask & select.EPOLLIN for mask in watcher.masks)
    poller.unwatch(near.fileno())


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


class Slow:
    """A handler that takes time, and looks at the clock as it goes; it keeps what all were told."""

    def __init__(self, poller: Poller, told: list[float]) -> None:
        self.poller = poller
        self.told = told

    def ready(self, mask: int, now: float) -> None:
        self.told.append(now)
        time.sleep(0.002)
        self.told.append(self.poller.clock())


class Keeper:
    """An owner that looks again after its batch; it keeps what it was told, too."""

    def __init__(self, poller: Poller, told: list[float]) -> None:
        self.poller = poller
        self.told = told
        self.alarm_at = NEVER

    def alarm(self, now: float) -> None:
        self.told.append(now)

    def after_batch(self, now: float) -> None:
        self.told.append(now)
        self.told.append(self.poller.look())


def test_nobody_is_told_an_earlier_time_than_somebody_before(poller: Poller) -> None:
    told: list[float] = []
    first, second = Keeper(poller, told), Keeper(poller, told)
    poller.attach(first)
    poller.attach(second)
    pairs = [socket.socketpair() for _ in range(3)]
    for near, far in pairs:
        near.setblocking(False)
        poller.watch(near.fileno(), Slow(poller, told), EVERYTHING & ~select.EPOLLET)
        far.send(b"x")
    for _ in range(3):
        first.alarm_at = monotonic()
        poller.select(0)
    for near, far in pairs:
        poller.unwatch(near.fileno())
        near.close()
        far.close()
    assert len(told) > 3 * (2 * 3 + 2 * 2)
    assert told == sorted(told)


async def test_a_handler_can_wake_a_task(pair: Pair) -> None:
    near, far = pair
    arrived = asyncio.Event()

    class Waker:
        def ready(self, mask: int, now: float) -> None:
            near.recv(16)
            arrived.set()

    running_poller().watch(near.fileno(), Waker(), select.EPOLLIN)
    asyncio.get_running_loop().call_later(0.01, far.send, b"x")
    # Without a timer of its own: nothing but the handler ends this wait.
    await arrived.wait()
    running_poller().unwatch(near.fileno())


async def test_a_timer_that_a_handler_sets_comes_before_one_that_was_there(pair: Pair) -> None:
    near, far = pair
    loop = asyncio.get_running_loop()
    order: list[str] = []
    done = asyncio.Event()

    class Setter:
        def ready(self, mask: int, now: float) -> None:
            near.recv(16)
            loop.call_later(0.02, order.append, "soon")

    def late() -> None:
        order.append("late")
        done.set()

    running_poller().watch(near.fileno(), Setter(), select.EPOLLIN)
    loop.call_later(0.2, late)
    far.send(b"x")
    await done.wait()
    assert order == ["soon", "late"]
    running_poller().unwatch(near.fileno())


async def test_the_loop_has_its_turn_while_the_fast_lane_is_always_ready(pair: Pair) -> None:
    near, _ = pair
    poller = running_poller()
    watcher = Watcher()
    # Level-triggered and never served: ready in every batch.
    poller.watch(near.fileno(), watcher, select.EPOLLOUT)
    woken = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, woken.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(woken.wait(), 5)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 5) == 7
    await asyncio.sleep(0.01)
    assert watcher.masks
    poller.unwatch(near.fileno())


def test_a_loop_without_a_poller_is_told_of() -> None:
    async def main() -> None:
        running_poller()

    with (
        pytest.raises(RuntimeError, match="PolledLoop"),
        asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner,
    ):
        runner.run(main())
    with asyncio.Runner(loop_factory=PolledLoop) as runner:
        runner.run(main())
