"""The checksum against a plain sum over words, and against scapy's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from netstack import checksum


def by_words(data: bytes) -> int:
    """RFC 1071, 4.1, word for word."""
    if len(data) & 1:
        data += b"\0"
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=1, max_size=300).filter(any))
def test_short_data(data: bytes) -> None:
    assert checksum.finish(checksum.add(data)) == by_words(data) == scapy_checksum(data)


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8191, 8192, 9001, 16385, 40001, 65535])
def test_long_data(size: int) -> None:
    data = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(size))
    assert checksum.finish(checksum.add(data)) == by_words(data)
    assert checksum.finish(checksum.add(memoryview(data))) == by_words(data)


@pytest.mark.parametrize("data", [b"\xff\xff", b"\xff\xff\xff\xff", b"\xff\xfe\x00\x01"])
def test_the_sum_ffff_gives_the_checksum_zero(data: bytes) -> None:
    assert checksum.finish(checksum.add(data)) == 0 == by_words(data)


@settings(deadline=None, max_examples=100)
@given(st.binary(min_size=2, max_size=100).filter(any))
def test_what_is_finished_is_valid(data: bytes) -> None:
    even = data + b"\0" * (len(data) & 1)
    field = checksum.finish(checksum.add(even)).to_bytes(2, "big")
    assert checksum.valid(checksum.add(even + field))
    broken = bytes((even[0] ^ 0x10,)) + even[1:]
    assert not checksum.valid(checksum.add(broken + field))


def test_parts_add_up() -> None:
    head, tail = b"\x12\x34\xff\xff", b"odd"
    assert checksum.fold(checksum.add(head) + checksum.add(tail)) == checksum.fold(
        checksum.add(head + tail)
    )
