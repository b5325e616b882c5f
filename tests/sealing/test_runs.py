"""Sealed datagrams as UDP_SEGMENT runs: nothing lost, nothing reordered, every run sendable."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sealing.runs import MAX_DATAGRAM_QUEUE, MAX_GSO_BYTES, MAX_GSO_SEGMENTS, SealedRuns


def put(runs: SealedRuns, datagram: bytes) -> bool:
    at = runs.place(len(datagram))
    if at < 0:
        return False
    runs.view[at : at + len(datagram)] = datagram
    return True


def cut(runs: list[tuple[memoryview, int]]) -> list[bytes]:
    """The datagrams that the kernel makes of the runs."""
    return [bytes(run[at : at + size]) for run, size in runs for at in range(0, len(run), size)]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([32, 148, 1000, 1452, 9000]), max_size=160), st.integers(1, 40))
def test_the_runs_are_the_datagrams_in_order(sizes: list[int], every: int) -> None:
    runs = SealedRuns(100)
    sent, got = list[bytes](), list[bytes]()
    for n, size in enumerate(sizes):
        datagram = n.to_bytes(4, "big") * (size // 4)
        assert runs.queued == sum(map(len, sent[len(got) :]))
        if put(runs, datagram):
            sent.append(datagram)
        else:
            assert runs.queued + size > MAX_DATAGRAM_QUEUE
        if n % every == 0:
            taken = runs.take()
            for run, size in taken:
                pieces = -(-len(run) // size)
                assert pieces == 1 or (pieces <= MAX_GSO_SEGMENTS and len(run) <= MAX_GSO_BYTES)
            got += cut(taken)
            assert runs.queued == 0
    assert got + cut(runs.take()) == sent


def test_equal_sizes_and_one_shorter_leave_together() -> None:
    runs = SealedRuns(4096)
    for size in (1452, 1452, 1452, 700, 700, 1452):
        put(runs, bytes(size))
    assert [(len(run), size) for run, size in runs.take()] == [
        (3 * 1452 + 700, 1452),
        (700, 700),
        (1452, 1452),
    ]


def test_views_stay_good_while_the_buffer_grows() -> None:
    runs = SealedRuns(64)
    put(runs, b"a" * 64)
    (view, _), *_ = runs.take()
    assert put(runs, b"b" * 32)
    assert put(runs, b"c" * 100)
    assert bytes(view) == b"b" * 32 + b"a" * 32
    assert cut(runs.take()) == [b"b" * 32, b"c" * 100]


def test_a_full_queue_takes_no_more_until_it_was_taken() -> None:
    runs = SealedRuns(64)
    while put(runs, bytes(9000)):
        pass
    assert MAX_DATAGRAM_QUEUE - 9000 < runs.queued <= MAX_DATAGRAM_QUEUE
    assert len(runs.buffer) == MAX_DATAGRAM_QUEUE
    runs.take()
    assert put(runs, bytes(9000))
