"""The manual page vpnshare(1) for the package.

python3 -I packages/debian/manual.py TREE >vpnshare.1
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    from cli.manual import page

    print(page(), end="")
