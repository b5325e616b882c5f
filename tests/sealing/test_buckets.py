"""Token buckets: bursts, steady rates, and how many addresses are remembered."""

from __future__ import annotations

from sealing.buckets import MAX_BUCKETS, Buckets, TokenBucket


def test_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(2.0, 5.0, 100.0)
    assert sum(bucket.take(100.0) for _ in range(20)) == 5
    assert not bucket.take(100.4)
    assert bucket.take(100.6)
    assert sum(bucket.take(100.6 + n / 10) for n in range(1, 101)) == 20


def test_what_is_saved_up_is_bounded_by_the_burst() -> None:
    bucket = TokenBucket(2.0, 5.0, 0.0)
    assert bucket.level(1e6) == 5.0
    assert sum(bucket.take(1e6) for _ in range(20)) == 5


def test_each_address_has_a_bucket_of_its_own() -> None:
    buckets = Buckets(1.0, 3.0)
    assert [buckets.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert buckets.take(b"b", 0.0)


def test_the_address_seen_longest_ago_is_forgotten() -> None:
    buckets = Buckets(0.0, 1.0)
    for n in range(MAX_BUCKETS):
        assert buckets.take(n, 0.0)
    assert not buckets.take(0, 0.0)
    assert buckets.take("newcomer", 0.0)
    assert len(buckets) == MAX_BUCKETS
    assert not buckets.take(0, 0.0)
    assert buckets.take(1, 0.0)
