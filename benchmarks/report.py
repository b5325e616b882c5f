"""The table of a run: a row a figure, a column a path, and what the product has to reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Results = Mapping[str, Mapping[str, float]]
"""Path name > figure name > value."""


@dataclass(frozen=True)
class Row:
    """One figure: its name in results, its title, and how a value is written."""

    name: str
    title: str
    write: Callable[[float], str]
    goal: str = ""
    """At least, and the aim, in the unit of the row or as a ratio to the direct path."""


def gigabits(value: float) -> str:
    return f"{value / 1e9:.2f} Gbit/s"


def count(value: float) -> str:
    return f"{value:,.0f}"


def microseconds(value: float) -> str:
    return f"{value * 1e3:.2f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} us"


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def megabytes(value: float) -> str:
    return f"{value / 1e6:.1f} MB"


def kilobytes(value: float) -> str:
    return f"{value / 1e3:.2f} KB"


def decimal(value: float) -> str:
    return f"{value:.2f}"


ROWS = (
    Row("tcp_up_1", "TCP up, 1 stream", gigabits, "x0.30 / x0.50"),
    Row("tcp_down_1", "TCP down, 1 stream", gigabits, "x0.30 / x0.50"),
    Row("tcp_down_gap", "  longest time without a byte", seconds, "< 1 s"),
    Row("tcp_up_8", "TCP up, 8 streams", gigabits, "x0.25 / x0.45"),
    Row("tcp_down_8", "TCP down, 8 streams", gigabits, "x0.25 / x0.45"),
    Row("cpu_up", "CPU per GB up, both sides", seconds, "3 / 2 s"),
    Row("cpu_up_client", "  client", seconds),
    Row("cpu_up_gateway", "  gateway", seconds),
    Row("cpu_down", "CPU per GB down, both sides", seconds, "3 / 2 s"),
    Row("cpu_down_client", "  client", seconds),
    Row("cpu_down_gateway", "  gateway", seconds),
    Row("udp_up", "UDP 1200 B up, packets/s, loss < 1 %", count, "25,000 / 66,000"),
    Row("udp_down", "UDP 1200 B down, packets/s", count, "25,000 / 66,000"),
    Row("connections", "new connections/s, 50 in parallel", count, "1,500 / 4,000"),
    Row("connections_failed", "  of them failed", count),
    Row("latency_p50", "connect + echo, idle, p50", microseconds, "650 / 400 us"),
    Row("latency_p99", "  p99", microseconds),
    Row("loaded_p50", "connect + echo, bulk download, p50", microseconds, "2 / 1 ms"),
    Row("loaded_p99", "  p99", microseconds, "10 / 5 ms"),
    Row("pinged_p50", "1,000 flows pinged at once, p50", microseconds),
    Row("pinged_p99", "  p99", microseconds, "100 / 50 ms"),
    Row("rss_1_client", "RSS with 1 flow, client", megabytes),
    Row("rss_1_gateway", "  gateway", megabytes),
    Row("rss_1000_client", "RSS with 1,000 flows, client", megabytes),
    Row("rss_1000_gateway", "  gateway", megabytes),
    Row("rss_10000_client", "RSS with 10,000 flows, client", megabytes),
    Row("rss_10000_gateway", "  gateway", megabytes),
    Row("flow_10000", "RSS of a flow (of 10,000), both sides", kilobytes, "8 / 4 KB"),
    Row("wake_ups", "wake-ups/s, idle, both sides", decimal, "< 1"),
    Row("wake_ups_gateway", "  gateway", decimal, "< 1"),
)
RATIOS = {"tcp_up_1", "tcp_down_1", "tcp_up_8", "tcp_down_8", "udp_up", "udp_down", "connections"}
"""Figures that are also written as a ratio to the direct path."""


def table(results: Results) -> str:
    """The table as Markdown, columns padded so that it reads well in a terminal too."""
    names = list(results)
    lines = [["", *names, "at least / aim"]]
    for row in ROWS:
        if not any(row.name in results[name] for name in names):
            continue
        cells = [row.title]
        for name in names:
            value = results[name].get(row.name)
            base = results.get("direct", {}).get(row.name)
            if value is None:
                cells.append("-")
                continue
            text = row.write(value)
            if row.name in RATIOS and base and name != "direct":
                text += f" (x{value / base:.2f})"
            cells.append(text)
        lines.append([*cells, row.goal])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    padded = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)
