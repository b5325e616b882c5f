"""Services of other users of this machine, told by the names of their control sockets.

/proc/net/unix (proc(5)) lists what is bound, also in folders that we may not look into. An
instance that VPNSHARE_HOME names is meant as it is, and looks for no other.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from control.paths import WHOLE, WHOLE_USER

_LISTENS = 0x10000
"""__SO_ACCEPTCON among a socket's flags."""
_ANYWHERE = ("api", "console", "doctor", "down", "flows", "logs", "restart", "settings", "status")
_OF = {
    "gateway": ("leases", "pair", "peers", "requests", "share", "unshare", "wireguard"),
    "client": ("disconnect", "endpoints", "gateways", "history", "usb"),
}
"""Commands that are whole without another word."""


def owner(role: str, table: Path = Path("/proc/net/unix")) -> str | None:
    """The name of another user whose service of `role` listens here."""
    if os.environ.get("VPNSHARE_HOME"):
        return None
    try:
        lines = table.read_text("utf-8", "replace").splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        words = line.split(None, 7)
        path = words[7] if len(words) == 8 else ""
        if path.endswith((
            f"/vpnshare/{role}.sock", f"/vpnshare/run/{role}.sock", str(WHOLE.socket(role))
        )):  # fmt: skip
            uid = _uid(path)
            if int(words[3], 16) & _LISTENS and uid is not None and uid != os.geteuid():
                return _name(uid)
    return None


def _uid(path: str) -> int | None:
    """Whose the socket is; where that is hidden, whose the first folder is that is not."""
    for place in (Path(path), *Path(path).parents):
        try:
            return place.stat().st_uid
        except PermissionError:
            continue
        except OSError:
            return None
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def whose() -> str:
    """Who we are, as an owner."""
    return "root's" if os.geteuid() == 0 else "yours"


def advice(role: str, user: str) -> str:
    """How the person here reaches that user's service, by the command that they just gave."""
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    verb = given if given in _ANYWHERE or given in _OF[role] else "status"
    if user == "root":
        return f"It runs as root: sudo vpnshare {verb}"
    if user == WHOLE_USER:
        return (
            f"It runs for the whole machine: sudo vpnshare {verb}. To do without sudo, join its "
            f"group, then log in anew: sudo usermod -aG {WHOLE_USER} $(id -un)"
        )
    if os.geteuid() == 0:
        return f"It runs as {user}, who can say: vpnshare {verb}"
    return f"It runs as {user}: only they, and root, may use it."
