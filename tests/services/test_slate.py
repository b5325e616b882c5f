"""Revocations on a slate: in place, whole, and never mistaken for none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.slate import MAX_KEYS, SIZE, Slate, SlateLost


def keys(count: int) -> frozenset[bytes]:
    return frozenset(number.to_bytes(32, "big") for number in range(count))


@pytest.fixture
def slate(tmp_path: Path) -> Slate:
    slate = Slate(tmp_path / "gateway.slate")
    slate.prepare()
    return slate


@pytest.mark.parametrize("count", [0, 1, 7, MAX_KEYS])
def test_what_is_written_is_read(slate: Slate, count: int) -> None:
    slate.write(keys(count))
    assert slate.read() == keys(count)
    slate.blank()
    assert slate.read() == frozenset()


def test_it_is_made_once_with_all_its_room_and_for_us_only(slate: Slate) -> None:
    before = slate.path.stat()
    assert before.st_size == SIZE and before.st_mode & 0o777 == 0o600
    slate.write(keys(3))
    slate.prepare()
    after = slate.path.stat()
    assert slate.read() == keys(3)
    assert (after.st_ino, after.st_size, after.st_blocks) == (
        before.st_ino, before.st_size, before.st_blocks,
    )  # fmt: skip


def test_none_is_none(tmp_path: Path) -> None:
    slate = Slate(tmp_path / "nowhere" / "slate")
    assert slate.read() == frozenset()
    slate.blank()
    assert not slate.path.exists()


def test_too_many_are_said_to_be_too_many(slate: Slate) -> None:
    slate.write(keys(MAX_KEYS + 1))
    with pytest.raises(SlateLost, match="too small"):
        slate.read()


@pytest.mark.parametrize("length", [0, 1, 40, SIZE - 1, SIZE + 1])
def test_one_that_is_cut_or_longer_is_lost(slate: Slate, length: int) -> None:
    slate.write(keys(2))
    os.truncate(slate.path, length)
    with pytest.raises(SlateLost, match="damaged"):
        slate.read()


def test_every_changed_byte_is_noticed(slate: Slate) -> None:
    slate.write(keys(2))
    whole = slate.path.read_bytes()
    for at in range(0, SIZE, 13):
        slate.path.write_bytes(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
        with pytest.raises(SlateLost):
            slate.read()


def test_one_that_cannot_be_read_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "slate"
    path.mkdir()
    with pytest.raises(SlateLost, match="cannot be read"):
        Slate(path).read()


def test_an_empty_file_says_that_there_was_one(tmp_path: Path) -> None:
    """What a full disk still takes: a name."""
    slate = Slate(tmp_path / "slate")
    assert not slate.lost()
    slate.path.touch(0o600)
    assert slate.lost()
    slate.blank()
    assert not slate.lost() and slate.read() == frozenset()


def test_one_that_could_not_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    slate = Slate(tmp_path / "slate")
    with pytest.raises(OSError, match="No space"):
        slate.prepare()
    assert not slate.path.exists()
