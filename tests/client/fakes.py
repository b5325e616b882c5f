"""Doubles of the client's ports: a runner that remembers, a host without a kernel."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence

from client.block import Force
from client.guard import Guards
from client.judgement import HostFacts
from client.model import ClientError, TransportEndpoint
from client.outlet.nic.nic import MemoryTun, Nic
from client.outlet.outlet import OutletKind
from client.outlet.passage import Passage
from client.system.routes import TunnelAddresses
from client.system.run import CommandError


class RecordingRunner:
    """Answers from a script and remembers every call as (argv, stdin)."""

    def __init__(self, installed: Sequence[str] = ("ip",)) -> None:
        self.calls: list[tuple[str, str]] = []
        self.answers: dict[str, object] = {}
        self.said: dict[str, str] = {}
        """What commands print, where they print text."""
        self.errors: dict[str, str] = {}
        self.installed = {program: f"/usr/sbin/{program}" for program in installed}

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        command = " ".join(argv)
        if "-j" in argv:
            return json.dumps(self.answers.get(command, []))
        self.calls.append((command, stdin))
        for fragment, stderr in self.errors.items():
            if fragment in command or fragment in stdin:
                raise CommandError("tool_failed", f"{command} failed: {stderr}", stderr=stderr)
        return self.said.get(command, "")

    def which(self, program: str) -> str | None:
        return self.installed.get(program)

    def take(self) -> list[tuple[str, str]]:
        calls, self.calls = self.calls, []
        return calls


class MemoryHost:
    """A host whose NIC is a socket pair; `log` is what was done to it, in order."""

    kind = OutletKind.NIC

    def __init__(self, offload: bool = True) -> None:
        self.log: list[str] = []
        self.nic: MemoryTun | None = None
        self.fail_at: str | None = None
        self.on_step: Callable[[str], None] = lambda step: None
        self._offload = offload
        self.guarding = Guards()
        self.facts = HostFacts()
        self.standing = False
        """Whether an earlier run's block stands."""

    def look(self, nic: Nic | None) -> HostFacts:
        return self.facts

    def _step(self, step: str) -> None:
        self.log.append(step)
        self.on_step(step)
        if self.fail_at is not None and step.startswith(self.fail_at):
            raise ClientError("tool_failed", f"{step} failed, as the test asked.")

    def found(self) -> bool:
        self._step("found")
        return self.standing

    def prepare(self) -> int:
        self._step("prepare")
        return 0

    def open_nic(self) -> Nic:
        self._step("open_nic")
        self.nic = MemoryTun(offload=self._offload)
        return self.nic

    def set_up(
        self, nic: Nic, addresses: TunnelAddresses, before: TunnelAddresses | None = None
    ) -> None:
        was = "" if before is None else f" for {before.ipv4}"
        self._step(f"set_up {addresses.ipv4} {addresses.ipv6}{was}")

    def enforce(
        self, force: Force, nic: Nic | None = None, addresses: TunnelAddresses | None = None
    ) -> None:
        self._step(f"enforce {force}")
        self.guarding = Guards(() if force is Force.NOTHING else ("ip rule",))

    def reach(self, endpoints: Sequence[TransportEndpoint]) -> bool:
        return False

    def set_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        self._step(f"set_resolver {addresses.gateway_ipv4}")

    def keep_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        self._step(f"keep_resolver {addresses.gateway_ipv4}")

    def undo(self) -> None:
        self._step("undo")
        self.guarding = Guards()

    def passage(self, nic: Nic, held: Sequence[str]) -> Passage:
        raise OSError(errno.ENETUNREACH, "nobody answers behind this NIC")

    def guards(self) -> Guards:
        return self.guarding
