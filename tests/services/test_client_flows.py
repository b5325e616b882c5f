"""Pages of the tunnel's flows."""

from __future__ import annotations

from client.outlet.flows import FlowSample, TunnelFlow
from control.methods import FLOW_SORTS, FlowsParams
from services.client_flows import page


def flow(id: int, program: str, down: int = 0, protocol: str = "tcp") -> TunnelFlow:
    return TunnelFlow(
        id, protocol, "established", f"10.77.0.2:{id}", "192.0.2.1:443", program, 7, 90.0 + id,
        0.5, down, 10, down / 10, 1.0, 0.02, 2, protocol == "tcp",
    )  # fmt: skip


FLOWS = [flow(1, "firefox", 500), flow(2, "ssh", 9_000), flow(3, "", 0, "udp"), flow(4, "firefox")]
SAMPLE = FlowSample(100.0, FLOWS, 6)


def ids(params: FlowsParams) -> list[int]:
    return [row.id for row in page(SAMPLE, params, "vshp0", 101.0).flows]


def test_a_record_has_all_that_is_known() -> None:
    found = page(SAMPLE, FlowsParams(sort="bytes", descending=True, limit=1), "vshp0", 101.0)
    assert found.total == 6, "with those that the sample could not hold"
    (row,) = found.flows
    assert (row.id, row.label, row.peer_id, row.pid) == (2, "ssh", "ssh", 7)
    assert (row.rtt_ms, row.retransmits, row.counted, row.device) == (20.0, 2, True, "vshp0")
    assert (row.age, row.idle) == (9.0, 0.5)
    assert (row.from_tunnel_bytes, row.to_tunnel_bytes, row.from_tunnel_rate) == (9_000, 10, 900.0)


def test_orders_filters_and_programs() -> None:
    assert ids(FlowsParams(sort="rate", descending=True)) == [2, 1, 3, 4]
    assert ids(FlowsParams(sort="age")) == [4, 3, 2, 1], "the youngest first, as at the gateway"
    assert ids(FlowsParams(peer="firefox", sort="source")) == [1, 4]
    assert ids(FlowsParams(peer="fire")) == [], "a program by its whole name"
    assert ids(FlowsParams(peer="?")) == [3]
    assert ids(FlowsParams(filter="FIREFOX 10.77.0.2:4")) == [4]
    assert ids(FlowsParams(limit=0)) == []
    assert page(SAMPLE, FlowsParams(filter="ssh"), None, 101.0).total == 1
    for sort in FLOW_SORTS:
        assert sorted(ids(FlowsParams(sort=sort))) == [1, 2, 3, 4]
