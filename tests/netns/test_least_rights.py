"""The services do their work with the rights that their units leave them, and no others.

The kernel's means are set by hand here, as systemd sets them: capabilities, a user namespace,
no new privileges, no memory that is written and executed.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from services import demo, start
from services.units import Manager, Unit

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(demo.why_not() is not None, reason="needs root and namespaces"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)"),
]

NO_EXEC_AFTER_WRITE = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); "  # PR_SET_MDWE, Linux 6.3
    "os.execv(sys.argv[1], sys.argv[1:])"
)
MASKED = """set -e
mount -t proc -o subset=pid proc /proc
mount -t tmpfs none /mnt
mkdir /mnt/folder
: >/mnt/file
for path in $0; do
    if [ -d $path ]; then
        mount --bind /mnt/folder $path
    elif [ -e $path ]; then
        mount --bind /mnt/file $path
    fi
done
exec "$@"
"""


def restricted(module: str, *words: str) -> list[str]:
    """A service as its unit has it; anything else as it is."""
    command = start.isolated(module, *words)
    role = words[0] if words else ""
    if role not in ("gateway", "client"):
        return command
    unit = Unit(role, Manager.SYSTEM, ("/bin/true",)).text().splitlines()
    (bounds,) = [line for line in unit if line.startswith("CapabilityBoundingSet=")]
    kept = bounds.partition("=")[2].removeprefix("CAP_").lower()
    drop = ["setpriv", f"--bounding-set=-all{f',+{kept}' if kept else ''}", "--no-new-privs", "--"]
    if "PrivateUsers=yes" in unit:
        drop = ["unshare", "--user", "--map-root-user", *drop]
    for line in unit:
        if line.startswith("InaccessiblePaths="):
            hidden = [word.removeprefix("-") for word in line.partition("=")[2].split()]
            assert "ProcSubset=pid" in unit
            drop = ["unshare", "--mount", "sh", "-c", MASKED, " ".join(hidden), *drop]
    return [*drop, sys.executable, "-I", "-c", NO_EXEC_AFTER_WRITE, *command]


def test_gateway_and_client_work_with_the_rights_of_their_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo, "isolated", restricted)
    with demo.Demo() as shown:
        assert shown.begin(lambda text: None).state == "connected"
        for process in shown._processes[1:3]:
            status = Path(f"/proc/{process.pid}/status").read_text()
            (kept,) = [line.split()[1] for line in status.splitlines() if line[:6] == "CapEff"]
            assert int(kept, 16) in (0, 1 << 12), "nothing, or CAP_NET_ADMIN"
            sees = Path(f"/proc/{process.pid}/root")
            if not int(kept, 16):
                assert not (sees / "proc" / "meminfo").exists()
                assert not (sees / "etc" / "shadow").read_bytes()
        until = time.monotonic() + 20
        while (found := demo.totals(shown))["to_device_bytes"] < 100_000:
            assert time.monotonic() < until, found
            time.sleep(0.2)
        assert found["alarms"] == []
        with shown.dial("client") as client:
            assert client.call("status").kill_switch.state == "armed"
