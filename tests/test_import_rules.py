"""The rooms' rules: dependencies point down, and thin commands stay thin."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.trust import rooms

ROOT = Path(__file__).resolve().parent.parent


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after `statement`."""
    script = f"import sys\n{statement}\nprint('\\n', *sys.modules, file=sys.__stderr__)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


HEAVY = ("asyncio", "textual", "rich", "cryptography", "noise", "qrcode", "sqlite3", "gateway",
         "client", "reach", "vshp", "sealing", "netstack", "splice", "rules", "tui",
         "ssl")  # fmt: skip


@pytest.mark.parametrize(
    "command",
    ["status", "requests --json", "approve ab", "flows", "connect --wait 0", "logs", "--help",
     "version", "gateways", "down"],
)  # fmt: skip
def test_thin_commands_import_nothing_heavy(command: str, tmp_path: Path) -> None:
    loaded = modules_after(
        f"import os; os.environ['VPNSHARE_HOME'] = {str(tmp_path)!r}\n"
        "from cli.main import main\n"
        f"main({command.split()!r})"
    )
    assert loaded.isdisjoint(HEAVY)


def test_the_console_reaches_the_services_by_the_control_api_only() -> None:
    loaded = modules_after("import tui.app")
    below = {"gateway", "client", "reach", "vshp", "wireguard", "sealing", "netstack", "splice"}
    assert loaded.isdisjoint(below | {"services", "cli", "rules"})


def test_what_carries_a_stream_over_usb_is_known_by_name_in_one_room_alone() -> None:
    """Elsewhere a phone hangs on a cable; how it is spoken to there is `reach`'s."""
    name = re.compile(r"(?<![a-z])adb", re.IGNORECASE)
    knowing = [
        f"{path.relative_to(ROOT)}:{number}"
        for room in rooms(ROOT)
        if room != "reach"
        for path in sorted((ROOT / room).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if name.search(line)
    ]
    assert knowing == []


def test_gateway_and_client_do_not_load_each_other() -> None:
    assert "client" not in modules_after("import gateway.model, gateway.peers, gateway.leases")
    assert "gateway" not in modules_after("import client.model")
