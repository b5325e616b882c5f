"""`vpnshare api` and `vpnshare watch`: the control API from a shell."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cli import calls, services
from cli.main import main
from control import schema
from control.codec import MAX_REQUEST, to_json
from control.errors import STOPPING, Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.methods import CLIENT, GATEWAY
from control.registry import SESSION_METHODS
from tests.fakes.services import PretendClient, PretendGateway
from tests.services.conftest import serve

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
SECONDS = 60.0
"""After which a command that does not do what it should is given up."""


def told(capsys: Capture, *args: str, expect: int = Exit.OK) -> object:
    """The JSON that the command prints."""
    assert main(list(args)) == expect
    return json.loads(capsys.readouterr().out)


def test_a_call_prints_the_result(gateway: PretendGateway, capsys: Capture) -> None:
    assert told(capsys, "api", "peers") == to_json(gateway.peers)
    page = told(capsys, "api", "flows", '{"limit": 2, "sort": "age"}')
    assert isinstance(page, dict) and len(page["flows"]) == 2
    assert told(capsys, "api", "unshare") == to_json(gateway.status_now())
    assert gateway.status.sharing == "off", "it may write"


def test_parameters_come_from_a_pipe(
    gateway: PretendGateway, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = schema.Request(
        "3f", "tablet", "android", "483920", "lan", "10.1.0.9", "0f0f", 1.0, 60.0
    )
    gateway.waiting.append(request)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"id": request.id})))
    done = told(capsys, "api", "approve", "-")
    assert isinstance(done, dict) and done["label"] == request.label
    assert request not in gateway.waiting


@pytest.mark.parametrize(
    ("args", "code", "name", "says"),
    [
        (["api", "peers", "{"], Exit.USAGE, "usage", "no JSON"),
        (["api", "peers", "[" * 30_000], Exit.USAGE, "usage", "no JSON"),
        (["api", "peers", "[]"], Exit.USAGE, "usage", "a JSON object"),
        (["api", "peers", " " * MAX_REQUEST + "{}"], Exit.USAGE, "usage", "at most 65536"),
        (["api", "flows", '{"limit": "5"}'], Exit.USAGE, "usage", "limit must be a whole number"),
        (["api", "flows", '{"limits": 5}'], Exit.USAGE, "usage", "'limits' is not known here"),
        (["api", "pers"], Exit.FAILED, "failed", "no method 'pers'"),
        (["api", "subscribe"], Exit.USAGE, "usage", "is about a connection"),
        (["api", "approve", '{"id": "zz"}'], Exit.NOT_FOUND, "not_found", "No request zz"),
        (["watch", "pair"], Exit.REFUSED, "refused", "pair changes something"),
        (["watch", "doctor"], Exit.USAGE, "usage", "'doctor' is no topic"),
        (["watch", "flows", '{"sort": "x"}'], Exit.USAGE, "usage", "sort must be one of"),
        (["api", "peers", "--role", "client"], Exit.NOT_RUNNING, "service_unavailable", "not run"),
    ],
)  # fmt: skip
def test_an_error_is_told_in_json(
    gateway: PretendGateway, capsys: Capture, args: list[str], code: int, name: str, says: str
) -> None:
    assert main(args) == code
    shown = capsys.readouterr()
    error = json.loads(shown.out)["error"]
    assert (error["exit"], error["name"]) == (code, name)
    assert says in error["message"] and "Traceback" not in shown.err


def test_the_methods_are_shown(
    gateway: PretendGateway, client: PretendClient, capsys: Capture
) -> None:
    assert main(["api"]) == Exit.OK
    first, _, second = capsys.readouterr().out.partition("Methods of the client")
    for text, table in ((first, GATEWAY), (second, CLIENT)):
        rows = [line.split()[0] for line in text.splitlines() if line and line[0].islower()]
        assert rows == sorted(table.keys() - SESSION_METHODS)
        assert all(table[name].help in text for name in rows)


def test_who_is_meant_where_both_run(
    gateway: PretendGateway, client: PretendClient, capsys: Capture
) -> None:
    assert told(capsys, "api", "peers") == to_json(gateway.peers)
    assert told(capsys, "api", "endpoints") == to_json(client.endpoints)
    both = told(capsys, "api", "status", expect=Exit.CONFLICT)
    assert isinstance(both, dict) and "--role gateway" in both["error"]["hint"]
    assert told(capsys, "api", "status", "--role", "client") == to_json(client.status)
    none = told(capsys, "api", "per", expect=Exit.FAILED)
    assert isinstance(none, dict) and none["error"]["hint"] == "Did you mean peers?"


@contextmanager
def watching(home: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "watch", *args], cwd=ROOT, text=True,
        env=os.environ | {"VPNSHARE_HOME": str(home)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> object:
    """The next line, in JSON; pytest's timeout ends a wait for one that does not come."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_a_topic_is_followed_over_a_restart(home: Path) -> None:
    service = PretendGateway()
    peers = to_json(service.peers)
    with watching(home, "peers") as early:
        assert early.wait(SECONDS) == Exit.NOT_RUNNING, "what does not run is said at once"
    with serve(service, home / "gateway.sock"):
        process = watching(home, "peers", "--interval", "0.1")
        follower = process.__enter__()
        assert line(follower) == peers
        service.peers = service.peers[:1]
        service.changed("peers")
        assert line(follower) == peers[:1]
    assert follower.stderr is not None
    try:
        assert "The gateway service ended the connection" in follower.stderr.readline()
        assert "Waiting until it runs again" in follower.stderr.readline()
        with serve(service, home / "gateway.sock"):
            assert line(follower) == peers[:1]
            assert "runs again" in follower.stderr.readline()
            follower.send_signal(signal.SIGINT)
            assert follower.wait(SECONDS) == Exit.INTERRUPTED
            assert follower.stderr.read() == ""
    finally:
        process.__exit__(None, None, None)


@pytest.mark.parametrize("runs", [True, False])
def test_it_ends_when_nobody_reads(home: Path, runs: bool) -> None:
    """At once, although nothing changes: also while it waits for a service."""
    service = PretendGateway()
    with serve(service, home / "gateway.sock") as served, watching(home, "peers") as follower:
        assert line(follower) == to_json(service.peers)
        assert follower.stdout is not None and follower.stderr is not None
        if not runs:
            served.stop()
            assert "ended" in follower.stderr.readline()
        follower.stdout.close()
        assert follower.wait(SECONDS) == Exit.FAILED
        assert "Traceback" not in follower.stderr.read()


def test_the_log_is_followed_as_long_as_it_is_read(home: Path) -> None:
    with serve(PretendGateway(), home / "gateway.sock"):
        follower = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "logs", "-f", "-n", "1"], cwd=ROOT,
            env=os.environ | {"VPNSHARE_HOME": str(home)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert follower.stdout is not None
        assert follower.stdout.readline()
        follower.stdout.close()
        assert follower.wait(SECONDS) == Exit.FAILED


def test_what_a_service_that_stops_refuses_is_its_end(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a restart's closed door and its hang-up a call is refused, not cut off."""
    refused = [
        ControlError(Code.FAILED, "The gateway service is stopping.", name=STOPPING),
        ServiceUnavailable("The gateway service is not running."),
    ]
    service = PretendGateway()
    with serve(service, home / "gateway.sock"):

        def once(role: str) -> object:
            if refused:
                raise refused.pop(0)
            return services.dial(role)

        monkeypatch.setattr(calls, "dial", once)
        monkeypatch.setattr(calls, "AGAIN", 0.01)
        with calls._next("gateway", None) as found:
            assert found.hello.role == "gateway" and refused == []
        service.status = replace(service.status, sharing="off")
        refused.append(ControlError(Code.REFUSED, "The gateway service belongs to another user."))
        with pytest.raises(ControlError, match="another user"):
            calls._next("gateway", None)
