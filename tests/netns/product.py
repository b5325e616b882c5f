"""VPN Share's own services and command, as a script outside the project uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from control.errors import ControlError
from control.oneshot import OneShot
from tests.netns.hosts import Host
from tests.netns.processes import Failed, Process, wait_for
from tests.netns.world import GATEWAY_LAN, World

EXECUTABLE = Path(sys.executable).with_name("vpnshare")
PORT = 47800
NOBODY = 65534
SERVICE_START_SECONDS = 20.0


class Service:
    """One daemon with a VPNSHARE_HOME of its own, and the command that talks to it."""

    role = ""
    executable: Path = EXECUTABLE
    """The command; another checkout's, where a benchmark says so."""

    def __init__(
        self,
        world: World,
        host: Host,
        name: str,
        user: int | None = None,
        home: Path | None = None,
    ) -> None:
        self.world = world
        self.host = host
        self.user = user
        self.home = home or world.directory / f"{name}-home"
        self.process: Process | None = None
        if not self.home.exists():
            self.home.mkdir(mode=0o700)
            if user is not None:
                os.chown(self.home, user, user)

    # ---- the daemon

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()

    def configure(self, text: str) -> None:
        """Write config.toml; before the service starts."""
        path = self.home / "config.toml"
        path.write_text(text)
        if self.user is not None:
            os.chown(path, self.user, self.user)

    def start(self, *arguments: str) -> Self:
        """Start the daemon and wait until it answers."""
        self.process = self.host.start(
            self._as_user([*self.daemon(), *arguments]),
            name=f"vpnshare-{self.role}",
            env=self.environment(),
            cwd=self.home,
        )
        wait_for(self._answers, f"{self.process.name} to answer", SERVICE_START_SECONDS, 0.02)
        return self

    def daemon(self) -> list[str]:
        """The command line that starts it."""
        return [str(self.executable), self.role]

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        return self.process.stop()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _answers(self) -> bool:
        assert self.process is not None
        if not self.process.running():
            raise Failed(f"{self.process.name} ended at once:\n{self.process.tail()}")
        if self.executable != EXECUTABLE:
            # Of another checkout: what it speaks is its own.
            return not self.command("status", check=False).returncode
        try:
            self.peek()
        except ControlError:
            return False
        return True

    def environment(self) -> Mapping[str, str]:
        kept = {
            name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ
        }
        return {**kept, "VPNSHARE_HOME": str(self.home), "HOME": str(self.home)}

    def _as_user(self, argv: Sequence[str]) -> list[str]:
        if self.user is None:
            return list(argv)
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups",
                "--no-new-privs", *argv]  # fmt: skip

    # ---- the command

    def command(
        self, *arguments: str, check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run `vpnshare ARGUMENTS` against this service."""
        return self.host.run(
            self._as_user([str(self.executable), *arguments]),
            env=self.environment(),
            check=check,
            timeout=timeout,
        )

    def ask(self, *arguments: str) -> Any:
        """What `vpnshare ARGUMENTS --json` answers."""
        return json.loads(self.command(*arguments, "--json").stdout)

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._records("status")
        return answer

    def peek(self, method: str = "status", **params: object) -> Any:
        """What `vpnshare METHOD --json` answers, for who wants the state and not the command.

        Asked for here, not by a program: that takes a processor for a sixth of a second each
        time, which what is waited for has to do without. Raises `ControlError`.
        """
        with OneShot(str(self.home / f"{self.role}.sock"), self.role) as service:
            return service.call_raw(method, **params)

    def _records(self, method: str) -> Any:
        """By `peek`; of a service of another checkout by its own command."""
        return self.peek(method) if self.executable == EXECUTABLE else self.ask(method)


class Gateway(Service):
    """The sharing side."""

    role = "gateway"

    def __init__(
        self,
        world: World,
        name: str = "gateway",
        user: int | None = None,
        home: Path | None = None,
    ) -> None:
        super().__init__(world, world.gateway, name, user, home)

    def share(self, *arguments: str, listen: str = GATEWAY_LAN) -> Self:
        """Start sharing the world's VPN."""
        return self.start(
            "--listen", f"{listen}:{PORT}", "--vpn-interface", "g1", "--share", *arguments
        )

    def pair(self, seconds: int = 120) -> str:
        """A fresh pairing URI, good for so long."""
        if self.executable == EXECUTABLE:
            uri: str = self.peek("pair", seconds=seconds)["uri"]
        else:
            uri = self.ask("pair", "--seconds", str(seconds))["uri"]
        return uri

    def requests(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._records("requests")
        return answer

    def leases(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._records("leases")
        return answer

    def peers(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._records("peers")
        return answer

    def wait_for_request(self, seconds: float = 15.0) -> dict[str, Any]:
        """The request that waits for approval, as soon as there is one."""
        waiting: list[dict[str, Any]] = []

        def one() -> bool:
            waiting[:] = self.peek("requests")
            return bool(waiting)

        wait_for(one, "a pairing request", seconds)
        return waiting[0]

    def approve_next(self, seconds: float = 15.0) -> dict[str, Any]:
        """Approve the first request that waits."""
        request = self.wait_for_request(seconds)
        if self.executable == EXECUTABLE:
            self.peek("approve", id=request["id"])
        else:
            self.command("approve", str(request["id"]))
        return request


class Client(Service):
    """The receiving side."""

    role = "client"

    def __init__(self, world: World, host: Host | None = None, name: str = "client") -> None:
        super().__init__(world, host or world.client, name)

    def begin_connect(self, uri: str, *arguments: str) -> Process:
        """Start `vpnshare connect URI`, which waits for the owner's approval."""
        return self.host.start(
            [str(self.executable), "connect", uri, "--wait", "30", *arguments],
            name="connect",
            env=self.environment(),
        )

    def join(self, gateway: Gateway, *arguments: str) -> Self:
        """Connect with a fresh URI and the owner's approval."""
        attempt = self.begin_connect(gateway.pair(), *arguments)
        gateway.approve_next()
        status = attempt.popen.wait(30)
        if status:
            raise Failed(f"connect ended with {status}:\n{attempt.tail()}")
        return self
