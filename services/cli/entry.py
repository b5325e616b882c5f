"""The installed `vpnshare`: starts itself anew, isolated, before anything else is imported.

The script that an installer writes begins with a plain Python, which takes modules
from PYTHONPATH and the user's own site-packages: with `sudo -E`, say, whoever sets
them would choose what runs as root. `-I` takes neither, nor the current folder.
"""

from __future__ import annotations

import os
import sys

from services.start import own_command


def main() -> int:
    """Run the command; the exit code."""
    if not sys.flags.isolated:
        command = [*own_command(), *sys.argv[1:]]
        os.execv(command[0], command)
    from services.cli.main import main

    return main()
