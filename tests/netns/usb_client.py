"""The client's service with a phone on its USB that is a double's: `vpnshare client` as it is,
with pyusb's backend and the root of sysfs from here.

    python tests/netns/usb_client.py SOCKET ROOT vpnshare client ARGUMENTS...
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> int:
    from cli.main import main as command
    from reach import usb
    from reach.usb_bus import UsbBus
    from tests.fakes.remote_usb import RemoteWire
    from tests.fakes.usb_backend import FakeBackend

    backend, root = FakeBackend(RemoteWire(Path(sys.argv[1]))), Path(sys.argv[2])
    sys.argv = sys.argv[3:]
    with patch.object(usb, "UsbBus", lambda: UsbBus(backend, root)):
        return command()


if __name__ == "__main__":
    sys.exit(main())
