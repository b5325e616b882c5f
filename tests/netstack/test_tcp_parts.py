"""The small value types: ranges, reassembly, round trips, windows of congestion controls."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.tcp.bbr import Bbr
from netstack.tcp.buffers import CAPACITY, SendBufferPool
from netstack.tcp.config import mss_for
from netstack.tcp.constants import MASK, MAX_REASSEMBLY_BLOCKS
from netstack.tcp.cubic import Cubic
from netstack.tcp.ranges import RangeSet
from netstack.tcp.reassembly import Reassembly
from netstack.tcp.receiver import window_shift
from netstack.tcp.rtt import RttEstimator
from netstack.tcp.sequence import unwrap

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=25)

# --- sequence ------------------------------------------------------------------------------------


@given(st.integers(0, 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1))
def test_unwrap_finds_every_number_within_half_the_space(reference: int, offset: int) -> None:
    number = reference + offset
    assert unwrap(number & MASK, reference) == number


# --- ranges --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(SPANS, st.integers(0, 70), st.integers(0, 70), st.integers(0, 70))
def test_ranges_are_a_set(spans: list[tuple[int, int]], cut: int, low: int, high: int) -> None:
    ranges, model = RangeSet(), set[int]()
    for start, length in spans:
        new = set(range(start, start + length))
        assert ranges.add(start, start + length) == len(new - model)
        model |= new
    ranges.discard_below(cut)
    model -= set(range(cut))
    assert {n for start, end in ranges for n in range(start, end)} == model
    assert ranges.total == len(model)
    assert all(a < b for a, b in zip(ranges.ends, ranges.starts[1:], strict=False)), "disjoint"
    high = max(low, high)
    assert ranges.covered(low, high) == len(model & set(range(low, high)))
    start, end = ranges.gap(low)
    assert start == next(n for n in range(low, 200) if n not in model)
    later = [n for n in sorted(model) if n > start]
    assert end == (later[0] if later else None)


# --- reassembly ----------------------------------------------------------------------------------

STREAM = random.Random(5).randbytes(100)


@settings(deadline=None, max_examples=300)
@given(SPANS, st.integers(0, 80))
def test_reassembly_returns_the_stream(spans: list[tuple[int, int]], nxt: int) -> None:
    queue, model = Reassembly(), set[int]()
    for start, length in spans:
        assert queue.insert(start, memoryview(STREAM)[start : start + length])
        model |= set(range(start, start + length))
    blocks = queue.recent_blocks(100)
    assert len(blocks) == len(queue)
    assert {n for start, end in blocks for n in range(start, end)} == model
    if spans:
        last = spans[-1][0]
        assert blocks[0][0] <= last < blocks[0][1], "the block that changed last comes first"
    block = queue.take(nxt)
    expected = bytearray()
    while nxt + len(expected) in model:
        expected.append(STREAM[nxt + len(expected)])
    assert bytes(block or b"") == expected
    assert all(start > nxt for start, _ in queue.recent_blocks(100))


def test_reassembly_is_bounded() -> None:
    queue = Reassembly()
    for index in range(MAX_REASSEMBLY_BLOCKS):
        assert queue.insert(index * 2, memoryview(b"x"))
    assert not queue.insert(MAX_REASSEMBLY_BLOCKS * 2, memoryview(b"x"))
    assert queue.insert(1, memoryview(b"x")), "what fills a hole is taken even so"


# --- round trips ---------------------------------------------------------------------------------


def test_rto_follows_rfc_6298() -> None:
    rtt = RttEstimator(0.2, 60.0)
    assert rtt.rto == 1.0
    rtt.sample(0.1)
    assert (rtt.srtt, rtt.variation) == (0.1, 0.05)
    assert rtt.rto == pytest.approx(0.3)
    rtt.sample(0.2)
    assert rtt.srtt == pytest.approx(0.1125)
    assert rtt.variation == pytest.approx(0.0625)
    for _ in range(200):
        rtt.sample(0.01)
    assert rtt.rto == 0.2, "the floor"
    assert [rtt.backed_off(n) for n in (0, 1, 2)] == [0.2, 0.4, 0.8]
    assert rtt.backed_off(100) == 60.0, "the ceiling"


# --- congestion ----------------------------------------------------------------------------------

MSS = 1000


class Path:
    """A path of `rtt` s and `rate` bytes/s on which a window is sent each round trip."""

    def __init__(self, control: Cubic | Bbr, rtt: float, rate: float) -> None:
        self.control = control
        self.rtt = rtt
        self.rate = rate
        self.una = 0
        self.now = 100.0

    def fly(self, rounds: int, lost: float = 0.0) -> list[float]:
        """The windows after each round; `lost`: the share of each that is sent again."""
        windows = []
        for _ in range(rounds):
            flight = int(self.control.cwnd)
            nxt = self.una + flight
            self.control.on_sent(nxt, self.una, self.now)
            self.control.on_resent(int(flight * lost))
            elapsed = max(self.rtt, flight / self.rate)
            for _ in range(10):
                acked = min(flight // 10 + 1, nxt - self.una)
                before = nxt - self.una
                self.una += acked
                self.now += elapsed / 10
                self.control.on_ack(acked, self.una, nxt, 0, before, self.now, elapsed)
            windows.append(self.control.cwnd)
        return windows


def test_cubic_slow_start_doubles_and_a_loss_takes_three_tenths() -> None:
    control = Cubic(MSS)
    assert control.cwnd == 10 * MSS
    control.on_ack(10 * MSS, 10 * MSS, 20 * MSS, 0, 10 * MSS, 1.0, 0.1)
    assert control.cwnd == 20 * MSS
    control.on_loss(20 * MSS, 30 * MSS)
    assert control.cwnd == control.ssthresh == pytest.approx(14 * MSS)
    control.on_ack(MSS, 11 * MSS, 30 * MSS, 0, 20 * MSS, 1.1, 0.1)
    assert control.cwnd == pytest.approx(14 * MSS), "no growth in recovery"


def test_cubic_follows_its_curve_past_the_old_window() -> None:
    """RFC 9438, 4.2: it reaches W_max after K = cbrt(W_max x 0.3 / 0.4) seconds."""
    control = Cubic(MSS)
    control.cwnd = 1000.0 * MSS
    control.on_loss(1000 * MSS, 0)
    una, now = 0, 0.0
    k = (1000 * 0.3 / 0.4) ** (1 / 3)
    while now < k:
        acked = int(control.cwnd)
        una += acked
        control.on_ack(acked, una, una + acked, 0, acked, now, 0.1)
        now += 0.1
    assert control.cwnd == pytest.approx(1000 * MSS, rel=0.01)


def test_cubic_does_not_grow_when_the_user_is_the_limit() -> None:
    control = Cubic(MSS)
    control.on_ack(MSS, MSS, 2 * MSS, 0, MSS, 1.0, 0.1)
    assert control.cwnd == 10 * MSS


def test_cubic_after_a_time_out_starts_with_one_segment() -> None:
    control = Cubic(MSS)
    control.on_timeout(10 * MSS, 10 * MSS, False)
    assert (control.cwnd, control.ssthresh) == (MSS, 7 * MSS)
    control.on_timeout(MSS, 10 * MSS, True)
    assert control.ssthresh == 7 * MSS, "once per loss"
    control.on_ack(MSS, MSS, 10 * MSS, 0, 10 * MSS, 1.0, 0.1)
    assert control.cwnd == 2 * MSS, "slow start during the recovery"


PRODUCT = 0.02 * 4.8e6


def test_bbr_settles_at_twice_the_product() -> None:
    windows = Path(Bbr(MSS), 0.02, 4.8e6).fly(40)
    assert max(windows) < 16 * PRODUCT, "three rounds without growth end the startup"
    assert windows[-1] == pytest.approx(2 * PRODUCT, rel=0.1)


def test_bbr_is_not_moved_by_few_losses() -> None:
    path = Path(Bbr(MSS), 0.02, 4.8e6)
    path.fly(40)
    path.control.on_loss(100, 200)
    assert path.fly(40, lost=0.05)[-1] == pytest.approx(2 * PRODUCT, rel=0.1)


def test_bbr_yields_to_heavy_loss_and_comes_back() -> None:
    path = Path(Bbr(MSS), 0.02, 4.8e6)
    path.fly(40)
    assert path.fly(20, lost=0.25)[-1] < PRODUCT
    assert path.fly(100)[-1] == pytest.approx(2 * PRODUCT, rel=0.1)


def lose(path: Path, segments: int) -> None:
    """Within one window, whose first segment has arrived; the rest of it arrives thereafter."""
    flight = int(path.control.cwnd)
    nxt = path.una + flight
    path.control.on_sent(nxt, path.una, path.now)
    path.una += MSS
    path.now += path.rtt
    path.control.on_ack(MSS, path.una, nxt, 0, flight, path.now, path.rtt)
    for _ in range(segments):
        path.control.on_resent(MSS)
    path.una, acked = nxt, flight - MSS
    path.now += path.rtt
    path.control.on_ack(acked, nxt, nxt, 0, acked, path.now, path.rtt)


def test_bbr_remembers_for_a_second_what_a_buffer_held() -> None:
    path = Path(Bbr(MSS), 0.02, 4.8e6)
    path.fly(40)
    lose(path, 40)
    held = path.fly(20)
    assert max(held) == min(held) == pytest.approx(0.7 * 2 * PRODUCT, rel=0.1)
    assert path.fly(60)[-1] == pytest.approx(2 * PRODUCT, rel=0.1)


def test_a_burst_of_losses_counts_once() -> None:
    """What is sent again before the window has been acknowledged belongs to the same burst."""
    few, many = Bbr(MSS), Bbr(MSS)
    for control, segments in ((few, 25), (many, 100)):
        path = Path(control, 0.02, 4.8e6)
        path.fly(40)
        lose(path, segments)
    assert few._ceiling == pytest.approx(many._ceiling)
    assert few._ceiling == pytest.approx(0.7 * 2 * PRODUCT, rel=0.1)


def test_a_few_losses_of_a_small_window_are_no_burst() -> None:
    path = Path(Bbr(MSS), 0.02, 4.8e5)
    before = path.fly(40)[-1]
    lose(path, 8)
    assert path.fly(20)[-1] == pytest.approx(before, rel=0.1)
    lose(path, 9)
    assert path.fly(20)[-1] < 0.8 * before


def test_what_a_time_out_sends_again_is_no_burst() -> None:
    control = Bbr(MSS)
    path = Path(control, 0.02, 4.8e6)
    path.fly(40)
    control.on_timeout(0, path.una + 100 * MSS, False)
    for _ in range(100):
        control.on_resent(MSS)
    assert not control._ceiling


def test_what_a_link_that_is_back_sends_again_is_no_burst() -> None:
    control = Bbr(MSS)
    nxt = 1000 + 60 * MSS
    for _ in range(20):
        control.on_resent(MSS)
    control.on_ack(5 * MSS, 1000 + 5 * MSS, nxt, 0, 60 * MSS, 1.0, 0.01)
    for _ in range(20):
        control.on_resent(MSS)
    assert not control._ceiling
    control.on_ack(55 * MSS, nxt, nxt + 60 * MSS, 0, 55 * MSS, 1.1, 0.01)
    for _ in range(20):
        control.on_resent(MSS)
    assert control._ceiling


def test_bbr_lowers_its_window_to_see_the_round_trip() -> None:
    path = Path(Bbr(MSS), 0.02, 4.8e6)
    path.fly(40)
    begin = path.now
    windows = []
    while path.now < begin + 15:
        windows += path.fly(1)
    assert min(windows) <= PRODUCT
    assert windows[-1] == pytest.approx(2 * PRODUCT, rel=0.1)


def busy_turns(
    control: Bbr, rate: float, bundle: float, turns: int, most: int = 1 << 40
) -> list[int]:
    """What is in flight at the end of each turn, where both ends come round every `bundle` s and
    acknowledge all that came meanwhile at once. An idle path's RTT was seen before: 0.1 ms.
    `most`: what the peer's window allows."""
    now, una, nxt = 100.0, 0, 0
    control.on_sent(MSS, 0, now)
    control.on_ack(MSS, MSS, MSS, 0, MSS, now + 0.0001, 0.0001)
    una = nxt = MSS
    now += 1.0
    in_flight = []
    for _ in range(turns):
        while nxt - una + MSS <= min(control.cwnd, most):
            control.on_sent(nxt + MSS, una, now)
            nxt += MSS
        in_flight.append(nxt - una)
        now += bundle
        for _ in range(min(nxt - una, int(rate * bundle)) // MSS):
            before = nxt - una
            una += MSS
            control.on_ack(MSS, una, nxt, 0, before, now, max(bundle, before / rate))
    return in_flight


@pytest.mark.parametrize("bundle", [0.001, 0.003, 0.01])
def test_bbr_is_not_deceived_by_acks_that_come_bundled(bundle: float) -> None:
    """As much is in flight as the path takes while its ends are busy, and little more."""
    rate = 50e6
    settled = busy_turns(Bbr(MSS), rate, bundle, 1000)[300:]
    taken = [min(flight, rate * bundle) for flight in settled]
    assert sum(taken) / len(taken) > 0.93 * rate * bundle
    assert max(settled) <= rate * (2 * bundle + 0.003)


def test_bbr_finds_the_path_behind_a_window_of_the_peer() -> None:
    """Where the peer's window ends the startup, and not our own, the queue is short as well."""
    settled = busy_turns(Bbr(MSS), 50e6, 0.003, 1000, most=1_000_000)[300:]
    assert max(settled) <= 450_000


# --- buffers and windows -------------------------------------------------------------------------


def test_the_pool_is_bounded() -> None:
    pool = SendBufferPool(max_free=2)
    buffers = [pool.take() for _ in range(4)]
    assert len(buffers[0].view) == CAPACITY
    for buf in buffers:
        buf.release()
    assert pool.taken == 0
    assert [pool.take() in buffers for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("largest", "shift"), [(1, 0), (65535, 0), (65536, 1), (1 << 20, 5), (1 << 40, 14)]
)
def test_window_shift(largest: int, shift: int) -> None:
    assert window_shift(largest) == shift


def test_mss_leaves_room_for_both_headers() -> None:
    assert mss_for(1500, 4) == 1460
    assert mss_for(1500, 6) == 1440
