"""A VPN, a gateway and a device on one machine, for a demonstration (root, Linux).

                LAN 192.168.43.0/24             "VPN" 10.64.0.0/24
    device .20 -------------------- .1 gateway .2 ---------------- .1 Internet
             lan0              lan0          vpn0              vpn0

Each is a network namespace of its own. The VPN is a virtual cable to a third
namespace with a pretend Internet (`demo_traffic`); gateway and client are the
services as they always are, in a folder of their own. Nothing of the machine's
own network is touched.

Namespaces are named after the process that made them. Leaving the context ends
every process and removes namespaces and files; what a demonstration that was
killed left behind is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from control.errors import Code, ControlError, ServiceUnavailable
from control.oneshot import OneShot
from control.output import last_words
from control.schema import ClientStatus
from services.demo_traffic import RESOLVER, addresses
from services.start import isolated

PREFIX = "vpnshare-demo-"
ETC = Path("/etc/netns")
"""`ip netns exec` mounts the files of ETC/NAME over those of /etc."""
PLACES = ("internet", "gateway", "device")
START_SECONDS = 20.0
END_SECONDS = 5.0
"""Until a process that was asked to end is killed."""
CONFIG = f"""\
# The demonstration's own configuration: thrown away at its end.
[gateway]
name = "Demo phone"
vpn_interface = "vpn0"

[client]
label = "Demo tablet"

[dns]
servers = ["{RESOLVER}"]
recent = 200

[notify]
enabled = false
"""


def why_not() -> str | None:
    """Why there can be no demonstration on this machine; None when there can."""
    if sys.platform != "linux":
        return "The demonstration needs Linux: it is built from network namespaces."
    if os.geteuid():
        return "The demonstration needs root: it makes network namespaces."
    if shutil.which("ip") is None:
        return "The demonstration needs the command ip (Debian's package iproute2)."
    if not Path("/dev/net/tun").exists():
        return "The demonstration needs /dev/net/tun."
    return None


class Demo:
    """The whole; use it as a context manager, then `begin`."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        """VPNSHARE_HOME of both services."""
        self._names = {place: f"{PREFIX}{os.getpid()}-{place}" for place in PLACES}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything and remove it. What is gone already does not matter."""
        for process in reversed(self._processes):
            process.terminate()
        until = time.monotonic() + END_SECONDS
        for process in reversed(self._processes):
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        for name in self._names.values():
            _remove(name)
        shutil.rmtree(self.home, ignore_errors=True)

    def begin(self, tell: Callable[[str], None]) -> ClientStatus:
        """Build it and connect the device; `tell` hears what is done. Raises `ControlError`."""
        remove_stale()
        tell("Making a device, a gateway and a pretend Internet behind a VPN.")
        self._build()
        (self.home / "config.toml").write_text(CONFIG)
        self._python("internet", "services.demo_traffic", "serve")
        self._service("gateway", "gateway", "--share", "--listen", "192.168.43.1:47800")
        self._service("device", "client")
        tell("Pairing the device with the gateway.")
        status = self._pair()
        self._python("device", "services.demo_traffic", "use")
        return status

    def dial(self, role: str) -> OneShot:
        """A connection to one of the two services."""
        return OneShot(str(self.home / f"{role}.sock"), role)

    # ---- parts

    def _build(self) -> None:
        names = self._names
        for place, name in names.items():
            _ip("netns", "add", name)
            folder = ETC / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "resolv.conf").write_text(
                f"nameserver {RESOLVER}\n" if place == "gateway" else ""
            )
            _ip("-n", name, "link", "set", "lo", "up")
        for one, other, device in (
            ("device", "gateway", "lan0"), ("gateway", "internet", "vpn0"),
        ):  # fmt: skip
            _ip("link", "add", device, "netns", names[one], "type", "veth",
                "peer", "name", device, "netns", names[other])  # fmt: skip
        for place, device, *given in (
            ("device", "lan0", "192.168.43.20/24"),
            ("gateway", "lan0", "192.168.43.1/24"),
            ("gateway", "vpn0", "10.64.0.2/24", "fd64::2/64"),
            ("internet", "vpn0", "10.64.0.1/24", "fd64::1/64"),
            ("internet", "lo", *(f"{each}/{128 if ':' in each else 32}" for each in addresses())),
        ):
            for address in given:
                nodad = ["nodad"] if ":" in address else []
                _ip("-n", names[place], "address", "add", address, "dev", device, *nodad)
            _ip("-n", names[place], "link", "set", device, "up")
        _ip("-n", names["gateway"], "-4", "route", "add", "default", "via", "10.64.0.1")
        _ip("-n", names["gateway"], "-6", "route", "add", "default", "via", "fd64::1")

    def _python(self, place: str, module: str, *words: str) -> subprocess.Popen[bytes]:
        """Run a module of ours in a namespace."""
        with (self.home / f"{place}-{words[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._names[place], *isolated(module, *words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"VPNSHARE_HOME": str(self.home)},
            )
        self._processes.append(process)
        return process

    def _service(self, place: str, role: str, *options: str) -> None:
        process = self._python(place, "cli.main", role, *options)

        def answers() -> bool:
            if process.poll() is not None:
                said = (self.home / f"{place}-{role}.log").read_text(errors="replace").split("\n")
                message, hint = last_words(said) or (f"The {role} ended at once.", None)
                raise ControlError(Code.FAILED, message, hint)
            try:
                self.dial(role).close()
            except ServiceUnavailable:
                return False
            return True

        _wait(answers, f"The {role} did not start.")

    def _pair(self) -> ClientStatus:
        with self.dial("gateway") as gateway, self.dial("client") as client:

            def waits() -> bool:
                return bool(gateway.call("requests"))

            def connected() -> bool:
                return bool(client.call("status").state == "connected")

            client.call("connect", uri=gateway.call("pair").uri)
            _wait(waits, "The device did not reach the gateway.")
            gateway.call("approve", id=gateway.call("requests")[0].id)
            _wait(connected, "The device was approved, but is not connected.")
            status: ClientStatus = client.call("status")
            return status


def _wait(condition: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise ControlError(Code.TIMED_OUT, otherwise)
        time.sleep(0.05)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise ControlError(
            Code.FAILED, f"This system refused what it is built from: ip {' '.join(words[:6])}.",
            "It needs a kernel with network namespaces and veth; in a container, --privileged.",
        )  # fmt: skip


def _remove(name: str) -> None:
    """A namespace with its processes and files; without complaint if it is not there."""
    pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    for pid in pids.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    shutil.rmtree(ETC / name, ignore_errors=True)


def remove_stale() -> None:
    """Remove what demonstrations left behind that were killed."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    folders = list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    for name in [line.split(" ")[0] for line in listed.splitlines()]:
        if _is_stale(name):
            _remove(name)
    for folder in folders:
        if _is_stale(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _is_stale(name: str) -> bool:
    """Whether it was made by a demonstration that does not run any more."""
    owner = name.removeprefix(PREFIX).partition("-")[0]
    return name.startswith(PREFIX) and owner.isdigit() and not Path(f"/proc/{owner}").exists()


def totals(demo: Demo) -> dict[str, Any]:
    """What has gone through the tunnel so far, for the last line."""
    with demo.dial("gateway") as gateway:
        status = gateway.call("status")
    return {
        "to_device_bytes": status.to_tunnel_bytes,
        "from_device_bytes": status.from_tunnel_bytes,
        "flows": status.flows,
        "alarms": status.alarms,
    }
