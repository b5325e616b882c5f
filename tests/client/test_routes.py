"""The exact commands of set-up and undo, on a scripted runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.model import ClientError
from client.system.journal import Journal
from client.system.killswitch import KillSwitch
from client.system.routes import Routes, TunnelAddresses
from client.system.run import CommandError
from tests.client.fakes import RecordingRunner

LEASE = TunnelAddresses("10.7.0.2", "fd07::2", "10.7.0.1", "fd07::1")
PLAIN = [{"priority": 0, "table": "local"}, {"priority": 32766, "table": "main"}]


def proc(path: Path, ipv6: bool = True, rp_filter: int = 0) -> Path:
    for name, value in {
        "ipv6/conf/all/disable_ipv6": 0 if ipv6 else 1,
        "ipv6/conf/vshp0/disable_ipv6": 1,
        "ipv4/conf/all/rp_filter": 0,
        "ipv4/conf/eth0/rp_filter": rp_filter,
    }.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(value))
    return path


@pytest.fixture
def runner() -> RecordingRunner:
    runner = RecordingRunner()
    runner.answers = {"ip -4 -j rule show": PLAIN, "ip -6 -j rule show": PLAIN}
    return runner


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "undo")


def test_set_up_and_undo_word_for_word(
    runner: RecordingRunner, journal: Journal, tmp_path: Path
) -> None:
    routes = Routes(runner, journal, proc(tmp_path / "proc"))
    assert routes.reserve(51830) == 51830
    routes.set_addresses("vshp0", LEASE)
    assert runner.take() == [
        (
            "ip -4 -batch -",
            "link set dev vshp0 multicast off addrgenmode none\n"
            "link set dev vshp0 up\n"
            "address add 10.7.0.2/32 dev vshp0\n"
            "route add 10.7.0.1/32 dev vshp0\n",
        ),
        (
            "ip -6 -batch -",
            "address add fd07::2/128 dev vshp0 nodad\nroute add fd07::1/128 dev vshp0\n",
        ),
    ]
    assert (tmp_path / "proc/ipv6/conf/vshp0/disable_ipv6").read_text() == "0"
    routes.take_all(block=True)
    assert runner.take() == [
        (
            "ip -4 -batch -",
            "route add default dev vshp0 table 51830\n"
            "route add unreachable default metric 4000 table 51830\n"
            "rule add pref 32765 not fwmark 51830 table 51830\n"
            "rule add pref 32764 table main suppress_prefixlength 7\n",
        ),
        (
            "ip -6 -batch -",
            "route add default dev vshp0 table 51830\n"
            "route add unreachable default metric 4000 table 51830\n"
            "rule add pref 32765 not fwmark 51830 table 51830\n"
            "rule add pref 32764 table main suppress_prefixlength 6\n",
        ),
    ]
    assert journal.undo_all() == []
    assert runner.take() == [
        (
            "ip -6 -force -batch -",
            "rule del pref 32764 table main suppress_prefixlength 6\n"
            "rule del pref 32765 not fwmark 51830 table 51830\n"
            "route flush table 51830\n",
        ),
        (
            "ip -4 -force -batch -",
            "rule del pref 32764 table main suppress_prefixlength 7\n"
            "rule del pref 32765 not fwmark 51830 table 51830\n"
            "route flush table 51830\n",
        ),
    ]


def test_journalled_before_it_is_made(
    runner: RecordingRunner, journal: Journal, tmp_path: Path
) -> None:
    routes = Routes(runner, journal, proc(tmp_path / "proc"))
    routes.reserve(51830)
    runner.errors = {"rule add": "RTNETLINK answers: Operation not permitted"}
    with pytest.raises(CommandError):
        routes.take_all(block=True)
    assert [entry["family"] for entry in journal.entries()] == [4]


def test_tables_marks_and_preferences_in_use_are_stepped_over(
    runner: RecordingRunner, journal: Journal, tmp_path: Path
) -> None:
    runner.answers["ip -4 -j rule show"] = [*PLAIN, {"priority": 5210, "fwmark": "0xca76"}]
    runner.answers["ip -6 -j route show table all"] = [{"dst": "default", "table": "51831"}]
    routes = Routes(runner, journal, proc(tmp_path / "proc"))
    assert 0xCA76 == 51830
    assert routes.reserve(51830) == 51832
    routes.take_all(block=False)
    assert "rule add pref 5209 not fwmark 51832 table 51832\n" in runner.take()[0][1]


def test_no_room_below_the_rules_in_use(
    runner: RecordingRunner, journal: Journal, tmp_path: Path
) -> None:
    runner.answers["ip -6 -j rule show"] = [*PLAIN, {"priority": 3, "table": "main"}]
    with pytest.raises(ClientError, match="leave no room"):
        Routes(runner, journal, proc(tmp_path / "proc")).reserve(51830)


def test_a_host_without_ipv6_is_left_without(
    runner: RecordingRunner, journal: Journal, tmp_path: Path
) -> None:
    routes = Routes(runner, journal, proc(tmp_path / "proc", ipv6=False))
    routes.reserve(51830)
    routes.set_addresses("vshp0", LEASE)
    routes.take_all(block=True)
    assert all(command.startswith("ip -4") for command, _ in runner.take())


@pytest.mark.parametrize(
    ("rp_filter", "route", "expected"),
    [
        (1, {"dev": "eth0", "gateway": "10.0.0.1"}, 1),
        (2, {"dev": "eth0", "gateway": "10.0.0.1"}, 0),
        (1, {"dev": "eth0"}, 0),
    ],
)
def test_the_gateway_gets_a_rule_only_beyond_a_router_under_strict_filtering(
    runner: RecordingRunner,
    journal: Journal,
    tmp_path: Path,
    rp_filter: int,
    route: dict[str, str],
    expected: int,
) -> None:
    routes = Routes(runner, journal, proc(tmp_path / "proc", rp_filter=rp_filter))
    routes.reserve(51830)
    runner.answers["ip -4 -j route get 203.0.113.9 mark 51830"] = [route]
    routes.keep_outside("203.0.113.9")
    routes.keep_outside("203.0.113.9")
    rule = [("ip -4 -batch -", "rule add pref 32763 to 203.0.113.9 table main\n")]
    assert runner.take() == rule * expected


def test_what_is_gone_already_is_undone(
    runner: RecordingRunner, journal: Journal, tmp_path: Path
) -> None:
    routes = Routes(runner, journal, proc(tmp_path / "proc"))
    routes.reserve(51830)
    routes.take_all(block=True)
    runner.errors = {
        "-force": "RTNETLINK answers: No such file or directory\nCommand failed -:1\n"
        "Error: ipv6: FIB table does not exist.\nFlush terminated\nCommand failed -:3"
    }
    assert journal.undo_all() == []
    assert not journal.path.exists()


def test_what_cannot_be_undone_stays_recorded(
    runner: RecordingRunner, journal: Journal, tmp_path: Path
) -> None:
    routes = Routes(runner, journal, proc(tmp_path / "proc"))
    routes.reserve(51830)
    routes.take_all(block=True)
    runner.errors = {"-6 -force": "RTNETLINK answers: Operation not permitted"}
    assert len(journal.undo_all()) == 1
    assert [entry["family"] for entry in journal.entries()] == [6]
    runner.errors = {}
    assert journal.undo_all() == []


@pytest.mark.parametrize(
    "line", ["netns exec x sh", "rule add table 5", "rule del pref 1\nnetns exec x sh", 7]
)
def test_the_journal_runs_nothing_but_inverses(
    runner: RecordingRunner, journal: Journal, tmp_path: Path, line: object
) -> None:
    Routes(runner, journal, proc(tmp_path / "proc"))
    journal.record("ip", family=4, lines=[line])
    assert [error.name for error in journal.undo_all()] == ["journal_unreadable"]
    assert runner.take() == []


def test_kill_switch_loads_and_goes(runner: RecordingRunner, journal: Journal) -> None:
    switch = KillSwitch(runner, journal)
    switch.load("vshp0", 51830)
    command, ruleset = runner.take()[0]
    assert command == "nft -f -"
    assert ruleset.startswith("table inet vpnshare_51830\ndelete table inet vpnshare_51830\n")
    assert 'oifname { "lo", "vshp0" } accept' in ruleset
    assert "meta mark 51830 accept" in ruleset
    assert journal.undo_all() == []
    assert runner.take() == [("nft delete table inet vpnshare_51830", "")]
