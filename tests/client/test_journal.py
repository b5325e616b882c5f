"""The undo journal: order, durability, torn and foreign files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from client.model import ClientError
from client.system.journal import Journal


class Desk:
    """A journal whose one kind, `x`, remembers what was undone; `fails` lists what cannot be."""

    def __init__(self, path: Path) -> None:
        self.undone: list[int] = []
        self.fails: set[int] = set()
        self.journal = Journal(path)
        self.journal.register("x", self._undo)

    def _undo(self, entry: Mapping[str, Any]) -> None:
        if entry["n"] in self.fails:
            raise ClientError("tool_failed", "no")
        self.undone.append(entry["n"])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "state" / "undo")


def test_undone_last_first_then_gone(desk: Desk) -> None:
    for n in range(3):
        desk.journal.record("x", n=n)
    assert desk.journal.path.stat().st_mode & 0o777 == 0o600
    assert desk.journal.undo_all() == []
    assert desk.undone == [2, 1, 0]
    assert not desk.journal.path.exists()
    assert desk.journal.undo_all() == []
    assert desk.undone == [2, 1, 0]


def test_another_process_undoes_what_this_one_recorded(desk: Desk) -> None:
    desk.journal.record("x", n=1)
    later = Desk(desk.journal.path)
    assert later.journal.undo_all() == []
    assert later.undone == [1]


def test_a_failure_does_not_stop_the_others_and_is_kept(desk: Desk) -> None:
    for n in range(3):
        desk.journal.record("x", n=n)
    desk.fails = {1}
    assert [str(error) for error in desk.journal.undo_all()] == ["no"]
    assert desk.undone == [2, 0]
    assert desk.journal.entries() == [{"kind": "x", "n": 1}]


def test_only_some_kinds(desk: Desk) -> None:
    desk.journal.register("y", lambda entry: None)
    desk.journal.record("x", n=1)
    desk.journal.record("y")
    desk.journal.record("x", n=2)
    assert desk.journal.undo_all(only={"y"}) == []
    assert [entry["n"] for entry in desk.journal.entries()] == [1, 2]


def test_a_torn_last_line_was_a_change_not_made(desk: Desk) -> None:
    desk.journal.record("x", n=1)
    whole = desk.journal.path.read_bytes()
    for length in range(len(whole)):
        desk.undone.clear()
        desk.journal.path.write_bytes(whole + whole[:length])
        desk.journal.path.chmod(0o600)
        assert desk.journal.undo_all() == []
        assert desk.undone in ([1], [1, 1])


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_believed(desk: Desk, mode: int) -> None:
    desk.journal.record("x", n=1)
    desk.journal.path.chmod(mode)
    with pytest.raises(ClientError) as caught:
        desk.journal.undo_all()
    assert caught.value.name == "journal_unsafe"
    with pytest.raises(ClientError):
        desk.journal.record("x", n=2)


def test_a_symlink_is_not_followed(desk: Desk, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    desk.journal.path.parent.mkdir()
    os.symlink(target, desk.journal.path)
    with pytest.raises(ClientError) as caught:
        desk.journal.record("x", n=1)
    assert caught.value.name == "journal_unwritable"
    assert target.read_text() == ""
