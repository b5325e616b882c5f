"""The fence around the NIC: what is written, what is put back, who is taken for logged in."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.system.fence import FORWARDING, SETTINGS, Fence, Inside, ruleset, table_name
from client.system.inbound import Inbound, inbound
from client.system.journal import Journal
from tests.client.fakes import RecordingRunner

NIC = Inside(7, ("10.77.0.2", "fd77::2"), True)


class Kernel:
    """/proc/sys/net as files, and a runner."""

    def __init__(self, path: Path, *installed: str, forwarding: str = "0") -> None:
        self.proc = path / "net"
        for name in SETTINGS:
            self.write(name, "0")
        for name in FORWARDING:
            self.write(name, forwarding)
        self.runner = RecordingRunner(installed)
        self.journal = Journal(path / "undo")
        self.fence = Fence(self.runner, self.journal, self.proc, forward=True)

    def write(self, name: str, value: str) -> None:
        (self.proc / name).parent.mkdir(parents=True, exist_ok=True)
        (self.proc / name).write_text(value + "\n")

    def read(self) -> list[str]:
        return [(self.proc / name).read_text().strip() for name in SETTINGS]


def loads(kernel: Kernel) -> list[str]:
    return [text for command, text in kernel.runner.take() if command == "nft -f -"]


def test_without_nft_nothing_is_touched(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.fence.load(51830, NIC, None)
    kernel.fence.unload([51830])
    assert kernel.runner.take() == [] and kernel.read() == ["0"] * 4


def test_settings_are_made_and_put_back(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "nft")
    kernel.write(SETTINGS[3], "1")
    kernel.fence.load(51830, NIC, None)
    kernel.fence.load(51830, None, None)
    assert kernel.read() == ["1"] * 4
    assert len(kernel.journal.entries()) == 3, "what was so before is nobody's to put back"
    assert kernel.journal.undo_all() == []
    assert kernel.read() == ["0", "0", "0", "1"]


def test_where_nobody_is_answered_no_setting_is_made(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "nft")
    kernel.fence.load(51830, NIC, [])
    assert kernel.read() == ["0"] * 4 and kernel.journal.entries() == []
    assert "chain answer" not in loads(kernel)[0]


def test_what_somebody_else_has_set_meanwhile_stays(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "nft")
    kernel.fence.load(51830, NIC, None)
    kernel.write(SETTINGS[0], "2")
    assert kernel.journal.undo_all() == []
    assert kernel.read() == ["2", "0", "0", "0"]


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("ipv4/ip_forward", "1"),
        ("../../kernel/core_pattern", "0"),
        (SETTINGS[0], "0\n|sh"),
        (7, "0"),
    ],
)
def test_a_forged_entry_sets_nothing(tmp_path: Path, name: object, before: str) -> None:
    kernel = Kernel(tmp_path, "nft")
    kernel.fence.load(51830, NIC, [])
    kernel.journal.record("sysctl", name=name, before=before)
    assert [error.name for error in kernel.journal.undo_all()] == ["journal_unreadable"]
    assert kernel.read() == ["0"] * 4


def test_a_table_that_stands_is_not_loaded_again(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "nft")
    kernel.runner.said = {"nft list tables": f"table inet {table_name(51830)}\n"}
    for _ in range(2):
        kernel.fence.load(51830, NIC, None)
    assert len(loads(kernel)) == 1
    kernel.fence.load(51830, Inside(8, NIC.addresses, True), None)
    assert len(loads(kernel)) == 1, "another NIC"
    kernel.runner.said = {}
    kernel.fence.load(51830, Inside(8, NIC.addresses, True), None)
    assert len(loads(kernel)) == 1, "somebody has flushed it"


def test_connections_are_followed_only_where_something_is_forwarded() -> None:
    """Else every packet of the host would pay for it."""
    plain = ruleset("t", 1, NIC, None, None)
    assert "ct state" not in plain and "iif 7 counter drop" in plain
    assert "ct state established,related accept" in ruleset("t", 1, NIC, None, True)
    closed = ruleset("t", 1, NIC, None, False)
    assert "ct state" not in closed and "oif 7 counter reject" in closed


def test_a_family_that_the_lease_lacks_is_closed() -> None:
    text = ruleset("t", 1, Inside(7, ("10.77.0.2",), False), [], None)
    assert "meta nfproto ipv6 counter drop" in text and "fib saddr oif" not in text


def test_who_has_passed_is_remembered_by_family_and_only_where_routes_are_looked_at() -> None:
    lines = [line.strip() for line in ruleset("t", 1, NIC, [], None).splitlines()]
    for word, address in (("ip", "10.77.0.2"), ("ip6", "fd77::2")):
        quick = lines.index(f"{word} daddr {address} {word} saddr @far_{word} accept")
        look = lines.index("fib saddr oif != 7 counter drop")
        assert quick < look < lines.index(f"add @far_{word} {{ {word} saddr }}")
    one = ruleset("t", 1, Inside(7, ("10.77.0.2",), True), [], None)
    assert "@far_ip " in one and "@far_ip6" not in one
    assert "@far" not in ruleset("t", 1, Inside(7, NIC.addresses, False), [], None)


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 00000000:1AE1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 2
   2: 0200C90A:0016 016433C6:D431 01 00000000:00000000 02:000A8E4B 00000000     0        0 3
   3: 0200C90A:1AE1 026433C6:1AE1 01 00000000:00000000 02:000A8E4B 00000000  1000        0 4
   4: 0200C90A:B0A2 036433C6:01BB 01 00000000:00000000 02:000A8E4B 00000000     0        0 5
   5: 0100007F:0016 0100007F:D432 01 00000000:00000000 02:000A8E4B 00000000     0        0 6
   6: 0200C90A:0016 046433C6:D433 06 00000000:00000000 03:000A8E4B 00000000     0        0 7
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0017 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 8
   1: 0000000000000000FFFF00000200C90A:0017 0000000000000000FFFF0000056433C6:D434 01 0:0 0:0 0 0 0 9
   2: 010220FD000000000000000002000000:0017 B80D0120000051000000000001000000:D435 01 0:0 0:0 0 0 0 9
"""


def test_who_is_logged_in_is_read_from_the_kernels_list(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(TCP)
    (tmp_path / "tcp6").write_text(TCP6)
    assert inbound(tmp_path) == (
        Inbound("10.201.0.2", 22, "198.51.100.1", 54321),
        Inbound("10.201.0.2", 23, "198.51.100.5", 54324),
        Inbound("fd20:201::2", 23, "2001:db8:51::1", 54325),
    )
    assert inbound(tmp_path / "nowhere") == ()
