"""VPN Share as a package: the one name that it has in site-packages.

The program's rooms (`services`, `gateway`, ...) have names that others have, too. So they lie
in `vpnshare/rooms`, which is on no path but that of the program's own Python: that one is
started isolated (`-I`), and puts them before all that is installed (`rooms/services/start.py`).
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Become the command, in an isolated Python; does not return."""
    here = os.path.dirname(os.path.abspath(__file__))
    start = os.path.join(here, "rooms", "services", "start.py")
    if os.path.basename(sys.argv[0]) == "vpnshare":
        os.environ["VPNSHARE_CALLED"] = sys.argv[0]
    words = [sys.executable, "-I", start, "cli.main", *sys.argv[1:]]
    os.execv(words[0], words)
