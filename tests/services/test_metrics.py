"""`vpnshare metrics`: what Prometheus reads, and who may."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli import metrics as command
from cli.main import main
from control import schema
from control.exits import Exit
from services import metrics
from services.counted import REGISTRY, meaning
from tests.fakes import services as fakes
from tests.fakes.services import PretendClient, PretendGateway
from tests.services.conftest import serve

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
TOKEN = "0123456789abcdef0123456789abcdef"


def parsed(text: str) -> Series:
    """The samples, by the parser of Prometheus' own client; each series once."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type in ("counter", "gauge")
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Series, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_what_the_services_say_is_read_by_prometheus(
    gateway: PretendGateway, client: PretendClient, capsys: Capture
) -> None:
    counters = {"tcp__connect__refused": 7, "udp__datagram__forwarded": 2**40, "odd": 1}
    gateway.status = replace(gateway.status, counters=counters, from_tunnel_bytes=123)
    client.status = replace(client.status, counters={"link__reset": 3}, from_tunnel_bytes=9)
    assert main(["metrics"]) == Exit.OK
    printed = capsys.readouterr().out
    found = parsed(printed)
    names = {name for name, _ in found}
    own = {f"vpnshare_{name}_total" for name in ("tcp_connect", "udp_datagram_forwarded", "link")}
    ours = {each.metric for each in REGISTRY}
    assert names == {metric.name for metric in metrics.METRICS} - ours | own
    assert value(found, "vpnshare_up", role="gateway") == 1
    assert value(found, "vpnshare_bytes_total", role="gateway", direction="up") == 123
    assert value(found, "vpnshare_bytes_total", role="client", direction="down") == 9
    told = "vpnshare_tcp_connect_total"
    assert value(found, told, role="gateway", what="refused") == 7
    assert value(found, "vpnshare_udp_datagram_forwarded_total", role="gateway") == 2**40
    assert value(found, "vpnshare_other_total", role="gateway", what="odd") == 1
    assert value(found, "vpnshare_link_total", role="client", what="reset") == 3
    assert f"# HELP {told} {meaning('tcp__connect__refused')}" in printed
    first = gateway.peers[0]
    used = value(found, "vpnshare_device_bytes_total", id=first.id, device=first.label,
                 direction="up")  # fmt: skip
    assert used == first.from_tunnel_bytes


def test_what_does_not_run_is_down(home: Path, capsys: Capture) -> None:
    assert main(["metrics"]) == Exit.NOT_RUNNING
    found = parsed(capsys.readouterr().out)
    assert found == {("vpnshare_up", (("role", role),)): 0 for role in ("gateway", "client")}


def test_labels_are_cleaned_and_bounded() -> None:
    """Whatever devices call themselves, the text stays one sample a line, and parses."""
    first = fakes.PEERS[0]
    labels = ['a"} 1\nvpnshare_up 7', "\x1b[31mred\\", "long" * 100, "a‮b", "töpfe", ""]
    peers = [replace(first, id=f"id{n}", label=label) for n, label in enumerate(labels)]
    found = parsed(metrics.exposition(metrics.State(peers=peers)).decode())
    shown = {dict(key)["id"]: dict(key)["device"] for name, key in found
             if name == "vpnshare_device_connected"}  # fmt: skip
    assert shown == {
        "id0": 'a"} 1\ufffdvpnshare_up 7', "id1": "\ufffd[31mred\\", "id2": ("long" * 100)[:64],
        "id3": "a\ufffdb", "id4": "töpfe", "id5": "",
    }  # fmt: skip


def test_devices_are_bounded() -> None:
    first = replace(fakes.PEERS[0], revoked=False)
    peers = [replace(first, id=f"id{n}", last_seen_at=float(n)) for n in range(500)]
    peers.append(replace(first, id="revoked", last_seen_at=1e9, revoked=True))
    leases = [replace(fakes.LEASES[0], peer_id=peer.id) for peer in peers]
    found = parsed(metrics.exposition(metrics.State(peers=peers, leases=leases)).decode())
    for name in ("vpnshare_device_connected", "vpnshare_device_flows"):
        ids = {dict(key)["id"] for each, key in found if each == name}
        assert ids == {f"id{n}" for n in range(500 - metrics.MAX_DEVICES, 500)}


@contextmanager
def exporter(home: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, staying; and where it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "metrics", "--listen", "127.0.0.1:0", *args],
        cwd=ROOT, env=os.environ | {"VPNSHARE_HOME": str(home)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("Metrics on http://127.0.0.1:"), line
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def scraped(url: str, token: str | None = None) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_scrapes_are_answered_also_while_nothing_runs(home: Path) -> None:
    with exporter(home) as (process, url):
        status, text = scraped(url)
        assert status == 200 and value(parsed(text), "vpnshare_up", role="gateway") == 0
        assert scraped(url.removesuffix("metrics"))[0] == 404
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == Exit.INTERRUPTED
        assert process.stderr is not None and process.stderr.read() == ""


def test_a_socket_is_its_owners_and_goes_in_the_end(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "metrics", "--listen", f"unix:{path}"],
        cwd=ROOT, env=os.environ | {"VPNSHARE_HOME": str(home)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == f"Metrics on unix:{path}\n"
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as scraper:
            scraper.settimeout(60)
            scraper.connect(str(path))
            scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            head, _, text = scraper.makefile("rb").read().partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0]
        assert value(parsed(text.decode()), "vpnshare_up", role="gateway") == 0
        assert main(["metrics", "--listen", f"unix:{path}"]) == Exit.CONFLICT
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == Exit.INTERRUPTED
        assert not path.exists()
    finally:
        process.kill()
        process.communicate()


def test_a_token_lets_in_who_knows_it(home: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with exporter(home, "--token-file", str(tmp_path / "token")) as (_, url):
        for wrong in (None, "", "x", TOKEN[:-1], TOKEN + "0", "töpfe".encode().decode("latin-1")):
            status, text = scraped(url, wrong)
            assert status == 401 and "vpnshare_up" not in text
        assert scraped(url, TOKEN)[0] == 200


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--listen", "0.0.0.0:0"], Exit.REFUSED, "needs a token"),
        (["--listen", "[::]:0"], Exit.REFUSED, "needs a token"),
        (["--listen", "here"], Exit.USAGE, "no address to listen on"),
        (["--listen", "127.0.0.1:65536"], Exit.USAGE, "no address to listen on"),
        (["--listen", "localhost:9478"], Exit.USAGE, "no address to listen on"),
        (["--listen", "127.0.0.1:0", "--token-file", "nothing"], Exit.FAILED, "nothing"),
        (["--listen", "127.0.0.1:0", "--token-file", "short"], Exit.USAGE, "at least 16"),
    ],
)
def test_what_would_be_open_is_refused(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int,
    says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(home)
    (home / "short").write_text("secret\n")
    assert main(["metrics", *args]) == code
    assert says in capsys.readouterr().err


def test_scrapers_share_what_was_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at the same time cost the service one reading; later ones see what is new."""
    service = PretendGateway()
    with serve(service, home / "gateway.sock"):
        looks = []
        read = command._read

        def counted() -> metrics.State:
            looks.append(1)
            return read()

        monkeypatch.setattr(command, "_read", counted)
        monkeypatch.setattr(command, "FRESH", 3600.0)
        shared = command.Exporter()
        shared._at = float("-inf")
        with ThreadPoolExecutor(10) as pool:
            texts = set(pool.map(lambda _: shared.text(), range(50)))
        assert len(texts) == 1 and len(looks) == 1
        service.status = replace(service.status, alarms=["one"])
        monkeypatch.setattr(command, "FRESH", 0.0)
        assert value(parsed(shared.text().decode()), "vpnshare_alarms") == 1
        assert len(looks) == 2


def test_without_the_package_a_sentence_says_so(
    gateway: PretendGateway, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for args in ([], ["--listen", "127.0.0.1:0"]):
        assert main(["metrics", *args]) == Exit.FAILED
        assert "pip install prometheus_client" in capsys.readouterr().err


def test_the_names_are_of_the_fields_conventions() -> None:
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len(names)
    for metric in metrics.METRICS:
        assert re.fullmatch(r"vpnshare_[a-z]+(_[a-z]+)*", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert metric.help.endswith(".")


def test_the_document_has_the_table_and_the_bounds() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    assert metrics.table() in text, "run: python -m services.metrics"
    assert f"the {metrics.MAX_DEVICES} that were there last" in text
    assert f"cut at {metrics.MAX_LABEL} characters" in text
    assert f"at most {metrics.MAX_KINDS} values" in text
    many = f"at most {command.MAX_SCRAPERS} are served at a time, {command.SECONDS:g} seconds"
    assert many in text
    assert command.FRESH == 1.0 and "within a second" in text


def test_the_dashboard_asks_for_what_there_is() -> None:
    board = json.loads((ROOT / "docs/grafana.json").read_text())
    known = {metric.name: {*metric.labels} for metric in metrics.METRICS}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) > 5
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        taken = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not taken & cells and place["x"] + place["w"] <= 24
        cells |= taken
        for target in panel["targets"]:
            expr, legend = target["expr"], target["legendFormat"]
            (name,) = re.findall(r"vpnshare_\w+", expr)
            used = re.findall(r"(\w+)=~?\"", expr) + re.findall(r"\{\{(\w+)\}\}", legend)
            used += [each for by in re.findall(r"by \(([^)]*)\)", expr) for each in by.split(", ")]
            assert set(used) <= known[name], expr
            assert ("rate(" in expr) == name.endswith("_total"), expr
            assert expr.count("(") == expr.count(")")


def test_a_record_of_each_kind_is_read() -> None:
    """None of the table's readings depends on what only the pretend services have."""
    assert metrics.exposition(metrics.State(dns=schema.Dns([], 1, 2, 3, 4, 5, {}, 0))).decode()
