"""Python as it is on a phone: `sys.platform` is `android`, and nothing optional is installed.

    python -I -S tests/netns/phone_main.py SITE PROJECT vpnshare ARGUMENTS...
    python -I -S tests/netns/phone_main.py SITE PROJECT SCRIPT ARGUMENTS...

Without `site` (-S) no installed package is in sight but those in the folder SITE.
"""

from __future__ import annotations

import runpy
import sys


def main() -> None:
    sys.platform = "android"
    site, project, program = sys.argv[1:4]
    sys.path += [project, site]
    sys.argv = sys.argv[3:]
    if program == "vpnshare":
        from cli.main import main as command

        sys.exit(command())
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
