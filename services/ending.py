"""Why a service ends: somebody has stopped it, or the machine goes down, or its unit starts anew.

systemd sends the same signal for each. Its list of jobs tells them apart
(`list-jobs` in systemctl(1)): a machine that goes down has a job that starts
`shutdown.target` (systemd.special(7)), and a unit that starts anew has one of
type `restart`. Where there is no systemd, somebody has stopped it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_ASK = ("systemctl", "list-jobs", "--plain", "--no-legend", "--no-pager")
_ASK_SECONDS = 3.0
"""A manager that is slower is not waited for: its patience with a service that ends has a limit."""
_CGROUP = Path("/proc/self/cgroup")


def runs_again(cgroup: Path = _CGROUP) -> bool:
    """Whether this service is going to run again without anybody having stopped it. Blocks."""
    try:
        said = subprocess.run(
            _ASK, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        )
        within = cgroup.read_text()
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return find(said.stdout, units(within))


def units(cgroup: str) -> frozenset[str]:
    """The unit that a process runs in, from /proc/PID/cgroup (cgroups(7)): a line a hierarchy."""
    names = (line.rpartition("/")[2] for line in cgroup.splitlines())
    return frozenset(name for name in names if name.endswith(".service"))


def find(jobs: str, own: frozenset[str]) -> bool:
    """Whether these jobs (`JOB UNIT TYPE STATE`, one a line) end our units only for a while."""
    for line in jobs.splitlines():
        match line.split():
            case [_, "shutdown.target", "start", _]:
                return True
            case [_, unit, "restart", _] if unit in own:
                return True
    return False
