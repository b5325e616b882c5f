"""The resolver's three ways, on files of our own and a scripted runner."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from client.model import ClientError
from client.system.files import FileWatch
from client.system.journal import Journal
from client.system.resolv_conf import LOST, MARKER, manners
from client.system.resolver import RESOLVER_KINDS, Resolver
from tests.client.fakes import RecordingRunner

SERVERS = ["10.7.0.1", "fd07::1"]
BEFORE = "nameserver 192.0.2.53\nsearch lan\n"


class Etc:
    """A folder that plays /etc and /run."""

    def __init__(self, path: Path, *installed: str) -> None:
        self.runner = RecordingRunner(installed)
        self.conf = path / "etc" / "resolv.conf"
        self.resolved = path / "run" / "resolve"
        self.state = path / "state"
        self.conf.parent.mkdir()
        self.conf.write_text(BEFORE)
        self.again()

    def again(self) -> None:
        """A new process over the same files."""
        self.journal = Journal(self.state / "undo")
        self.resolver = Resolver(
            self.runner, self.journal, self.conf, self.resolved, self.conf.parent / "order"
        )

    def files(self) -> list[str]:
        return sorted(os.listdir(self.conf.parent))


def test_the_file_is_replaced_and_comes_back(tmp_path: Path) -> None:
    etc = Etc(tmp_path)
    etc.conf.chmod(0o640)
    assert etc.resolver.set("vshp0", SERVERS) == str(etc.conf)
    lines = etc.conf.read_text().splitlines()
    assert lines[0].startswith(MARKER)
    assert lines[2:5] == ["nameserver 10.7.0.1", "nameserver fd07::1", "search lan"]
    etc.again()
    assert etc.journal.undo_all() == []
    assert etc.conf.read_text() == BEFORE
    assert etc.conf.stat().st_mode & 0o777 == 0o640
    assert etc.files() == ["resolv.conf"]
    assert os.listdir(etc.state) == []


def test_a_missing_file_is_missing_again(tmp_path: Path) -> None:
    etc = Etc(tmp_path)
    etc.conf.unlink()
    etc.resolver.set("vshp0", SERVERS)
    assert etc.journal.undo_all() == []
    assert etc.files() == []


@pytest.mark.parametrize("target", ["elsewhere", "../gone/resolv.conf"])
def test_a_symlink_is_put_aside_never_written_through(tmp_path: Path, target: str) -> None:
    etc = Etc(tmp_path)
    etc.conf.rename(etc.conf.parent / "elsewhere")
    etc.conf.symlink_to(target)
    etc.resolver.set("vshp0", SERVERS)
    assert not etc.conf.is_symlink()
    assert (etc.conf.parent / "elsewhere").read_text() == BEFORE
    assert etc.journal.undo_all() == []
    assert os.readlink(etc.conf) == target
    assert etc.files() == ["elsewhere", "resolv.conf"]


def test_a_mount_point_is_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = Etc(tmp_path)

    def busy(*paths: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "rename", busy)
    inode = etc.conf.stat().st_ino
    etc.resolver.set("vshp0", SERVERS)
    assert "nameserver 10.7.0.1" in etc.conf.read_text()
    assert etc.journal.undo_all() == []
    assert etc.conf.read_text() == BEFORE
    assert etc.conf.stat().st_ino == inode
    assert etc.files() == ["resolv.conf"]


def test_somebody_elses_newer_file_stays(tmp_path: Path) -> None:
    etc = Etc(tmp_path)
    etc.resolver.set("vshp0", SERVERS)
    etc.conf.write_text("nameserver 192.0.2.99\n")
    assert etc.journal.undo_all() == []
    assert etc.conf.read_text() == "nameserver 192.0.2.99\n"
    assert os.listdir(etc.state) == []


def test_unwritable_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = Etc(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(ClientError) as caught:
        etc.resolver.set("vshp0", SERVERS)
    assert caught.value.name == "resolver_unwritable"
    assert "dns = false" in caught.value.hint
    monkeypatch.undo()
    assert etc.journal.undo_all() == []
    assert etc.conf.read_text() == BEFORE
    assert etc.files() == ["resolv.conf"]


@pytest.mark.parametrize("stub_by", ["link", "text"])
def test_systemd_resolved(tmp_path: Path, stub_by: str) -> None:
    etc = Etc(tmp_path, "resolvectl", "resolvconf")
    etc.resolved.mkdir(parents=True)
    if stub_by == "link":
        (etc.resolved / "stub-resolv.conf").write_text("nameserver 127.0.0.53\n")
        etc.conf.unlink()
        etc.conf.symlink_to(etc.resolved / "stub-resolv.conf")
    else:
        etc.conf.write_text("nameserver 127.0.0.53\n")
    etc.resolver.set("vshp0", SERVERS)
    assert etc.runner.take() == [
        ("resolvectl dns", ""),
        ("resolvectl dns vshp0 10.7.0.1 fd07::1", ""),
        ("resolvectl domain vshp0 ~.", ""),
        ("resolvectl default-route vshp0 yes", ""),
    ]
    etc.runner.errors = {"revert": 'Failed to resolve interface "vshp0": No such device'}
    assert etc.journal.undo_all() == []
    assert etc.runner.take() == [("resolvectl revert vshp0", "")]


def test_resolved_that_does_not_answer_for_the_system_is_passed_by(tmp_path: Path) -> None:
    etc = Etc(tmp_path, "resolvectl")
    etc.resolved.mkdir(parents=True)
    assert etc.resolver.set("vshp0", SERVERS) == str(etc.conf)


def test_resolved_that_is_linked_and_dead_is_passed_by(tmp_path: Path) -> None:
    etc = Etc(tmp_path, "resolvectl")
    etc.resolved.mkdir(parents=True)
    target = etc.resolved / "stub-resolv.conf"
    target.write_text("nameserver 127.0.0.53\nsearch corp.example\noptions edns0 trust-ad\n")
    etc.conf.unlink()
    etc.conf.symlink_to(target)
    etc.runner.errors = {"resolvectl": "Failed to connect to bus: No such file or directory"}
    assert etc.resolver.set("vshp0", SERVERS) == str(etc.conf)
    lines = etc.conf.read_text().splitlines()
    assert lines[2:6] == ["nameserver 10.7.0.1", "nameserver fd07::1", "search corp.example",
                          "options edns0"]  # fmt: skip
    assert etc.journal.undo_all() == []
    assert os.readlink(etc.conf) == str(target)


def test_resolved_that_dies_later_stands_in_no_ones_way(tmp_path: Path) -> None:
    etc = Etc(tmp_path, "resolvectl")
    etc.resolved.mkdir(parents=True)
    etc.conf.write_text("nameserver 127.0.0.53\n")
    assert etc.resolver.set("vshp0", SERVERS) == "systemd-resolved"
    etc.runner.errors = {
        "revert": "Failed to revert interface: Could not activate remote peer: activation failed"
    }
    assert etc.journal.undo_all() == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("search a.example b.example\noptions ndots:2 timeout:1\nnameserver 192.0.2.1\n",
         ["search a.example b.example", "options ndots:2 timeout:1"]),
        ("domain a.example\nsearch\toffice  lan\n", ["search office lan"]),
        ("search office\ndomain lan\noptions rotate\noptions trust-ad\noptions edns0\n",
         ["domain lan", "options rotate", "options edns0"]),
        ("# search nothing\nsearch\nsortlist 10.0.0.0\nsearch \x1b[31m\n", []),
        ("search " + "x" * 2000 + "\n", []),
    ],
)  # fmt: skip
def test_what_concerns_the_network_is_kept(text: str, kept: list[str]) -> None:
    assert manners(text) == kept


def test_another_instances_text_is_no_original(tmp_path: Path) -> None:
    first = Etc(tmp_path)
    first.resolver.set("vshp0", SERVERS)
    other = Journal(tmp_path / "other" / "undo")
    second = Resolver(first.runner, other, first.conf, first.resolved, tmp_path / "order")
    second.set("vshp1", ["10.8.0.1"])
    assert first.journal.undo_all() == []
    assert "nameserver 10.8.0.1" in first.conf.read_text()
    assert other.undo_all() == []
    assert first.conf.read_text() == BEFORE


def test_nor_is_it_where_a_link_was(tmp_path: Path) -> None:
    first = Etc(tmp_path)
    first.conf.rename(first.conf.with_name("elsewhere"))
    first.conf.symlink_to("elsewhere")
    first.resolver.set("vshp0", SERVERS)
    other = Journal(tmp_path / "other" / "undo")
    second = Resolver(first.runner, other, first.conf, first.resolved, tmp_path / "order")
    second.set("vshp1", ["10.8.0.1"])
    assert "search lan" in first.conf.read_text()
    first.journal.undo_all()
    other.undo_all()
    assert os.readlink(first.conf) == "elsewhere"


def test_a_text_of_a_run_whose_journal_is_lost_is_followed_to_the_original(tmp_path: Path) -> None:
    etc = Etc(tmp_path)
    etc.resolver.set("vshp0", SERVERS)
    (etc.state / "undo").unlink()
    etc.again()
    etc.resolver.set("vshp0", ["10.8.0.1"])
    assert "search lan" in etc.conf.read_text()
    assert etc.journal.undo_all() == []
    assert etc.conf.read_text() == BEFORE


def test_an_original_that_is_lost_is_replaced_by_a_sentence(tmp_path: Path) -> None:
    etc = Etc(tmp_path)
    etc.resolver.set("vshp0", SERVERS)
    for file in etc.state.iterdir():
        file.unlink()
    etc.again()
    etc.resolver.set("vshp0", ["10.8.0.1"])
    assert etc.journal.undo_all() == []
    assert etc.conf.read_text() == LOST


def test_a_backup_that_others_can_write_is_not_followed(tmp_path: Path) -> None:
    etc = Etc(tmp_path)
    etc.resolver.set("vshp0", SERVERS)
    (etc.state / "undo").unlink()
    (backup,) = etc.state.iterdir()
    backup.chmod(0o666)
    etc.again()
    etc.resolver.set("vshp0", ["10.8.0.1"])
    etc.journal.undo_all()
    assert etc.conf.read_text() == LOST


def test_openresolv(tmp_path: Path) -> None:
    etc = Etc(tmp_path, "resolvconf")
    etc.resolver.set("vshp0", SERVERS)
    assert etc.runner.take() == [
        ("resolvconf -a vshp0 -m 0 -x", "nameserver 10.7.0.1\nnameserver fd07::1\nsearch lan\n")
    ]
    assert etc.journal.undo_all() == []
    assert etc.runner.take() == [("resolvconf -d vshp0 -f", "")]


def test_classic_resolvconf_would_keep_other_servers_and_is_passed_by(tmp_path: Path) -> None:
    etc = Etc(tmp_path, "resolvconf")
    (etc.conf.parent / "order").write_text("lo.*\ntun*\n")
    assert etc.resolver.set("vshp0", SERVERS) == str(etc.conf)
    assert etc.runner.take() == []


@pytest.mark.parametrize("token", ["../../etc/passwd", 7, ""])
def test_a_forged_entry_touches_nothing(tmp_path: Path, token: object) -> None:
    etc = Etc(tmp_path)
    etc.journal.record("resolv.conf", token=token, link=None, existed=True, mode=0o644)
    assert [error.name for error in etc.journal.undo_all()] == ["journal_unreadable"]
    assert etc.conf.read_text() == BEFORE


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_somebody_overwrote_is_ours_again_and_theirs_in_the_end(
    tmp_path: Path, in_place: bool
) -> None:
    etc = Etc(tmp_path)
    assert etc.resolver.held()
    etc.resolver.set("vshp0", SERVERS)
    assert etc.resolver.held()
    theirs = "nameserver 192.0.2.7\n"
    if in_place:
        etc.conf.write_text(theirs)
    else:
        fresh = etc.conf.with_name("fresh")
        fresh.write_text(theirs)
        fresh.rename(etc.conf)
    assert not etc.resolver.held()
    etc.journal.undo_all(only=RESOLVER_KINDS)
    etc.resolver.set("vshp0", SERVERS)
    assert etc.resolver.held()
    assert "nameserver 10.7.0.1" in etc.conf.read_text()
    assert etc.journal.undo_all() == []
    assert etc.conf.read_text() == theirs
    assert etc.files() == ["resolv.conf"]
    assert os.listdir(etc.state) == []


async def test_every_way_of_writing_the_file_is_news(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    news = asyncio.Event()
    watch = FileWatch(path, news.set)
    watch.start()

    async def told() -> None:
        async with asyncio.timeout(5):
            await news.wait()
        news.clear()

    path.write_text("2")
    await told()
    for number in range(2):
        fresh = tmp_path / "fresh"
        fresh.write_text(str(number))
        fresh.rename(path)
        await told()
        path.write_text("in place again")
        await told()
    path.unlink()
    path.write_text("3")
    await told()
    watch.stop()
    watch.stop()


async def test_a_folder_that_is_not_there_gives_no_news(tmp_path: Path) -> None:
    watch = FileWatch(tmp_path / "none" / "resolv.conf", lambda: None)
    watch.start()
    watch.stop()
