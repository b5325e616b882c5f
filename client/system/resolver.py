"""The system's resolver: the gateway while connected, and back.

Theory of operation. Three ways, the first that fits is taken:

1. systemd-resolved answers for this system (`/etc/resolv.conf` is its link or
   names its stub): the NIC gets the servers and the catch-all domain `~.`,
   which sends every question there.
2. openresolv's `resolvconf` is installed: an exclusive record (`-x`).
   Debian's classic resolvconf has no exclusive records, so it would keep the
   local network's servers as a fallback, past the VPN: there way 3 is taken.
3. `/etc/resolv.conf` is replaced by a file of our own. A file is renamed over,
   never written through a symlink (the link itself is put aside). Where the
   path is a bind mount, as in `ip netns exec`, a rename gives EBUSY; then the
   file is written in place. What was there is kept in the state folder, and
   comes back at undo, unless somebody else has written the file meanwhile:
   then theirs stays.

While connected somebody else may write it, a DHCP client above all. `held`
says whether ours is still there; if not, `set` is simply called again: what was
written meanwhile is then what comes back in the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.model import ClientError
from client.system.journal import Journal
from client.system.run import CommandError, Runner

MARKER = "# Written by VPN Share while it is connected:"
RESOLVER_KINDS = frozenset({"resolvectl", "resolvconf", "resolv.conf"})
"""The journal's kinds that are ours."""
MAX_RESOLV_CONF = 1 << 20
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_IN_PLACE = (errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM)
"""What renaming says at a mount point, or in a folder where only this file may be written."""
_RESOLVED_STUBS = ("127.0.0.53", "127.0.0.54")
_GONE_LINK = ("Failed to resolve interface", "No such device", "is not a valid interface",
              "not known", "No such file or directory")  # fmt: skip


class Resolver:
    """Sets the resolver of this system and restores it."""

    def __init__(
        self,
        runner: Runner,
        journal: Journal,
        path: Path = Path("/etc/resolv.conf"),
        resolved: Path = Path("/run/systemd/resolve"),
        classic: Path = Path("/etc/resolvconf/interface-order"),
    ) -> None:
        self._runner = runner
        self._journal = journal
        self._path = path
        self._resolved = resolved
        self._classic = classic
        self._token: str | None = None
        """That our file is known by, while it is in use."""
        journal.register("resolvectl", self._undo_resolvectl)
        journal.register("resolvconf", self._undo_resolvconf)
        journal.register("resolv.conf", self._undo_file)

    def set(self, interface: str, servers: Sequence[str]) -> str:
        """Make `servers` (addresses) the only resolvers; returns the way taken, for the log.

        Raises ClientError: `tool_failed`, `resolver_unwritable`.
        """
        if self._is_resolved():
            self._journal.record("resolvectl", interface=interface)
            self._runner.run(["resolvectl", "dns", interface, *servers])
            self._runner.run(["resolvectl", "domain", interface, "~."])
            self._runner.run(["resolvectl", "default-route", interface, "yes"])
            return "systemd-resolved"
        if self._is_openresolv():
            self._journal.record("resolvconf", interface=interface)
            lines = "".join(f"nameserver {server}\n" for server in servers)
            self._runner.run(["resolvconf", "-a", interface, "-m", "0", "-x"], lines)
            return "resolvconf"
        self._replace_file(servers)
        return str(self._path)

    def held(self) -> bool:
        """Whether what `set` wrote still stands; cheap. Services keep theirs: only files change."""
        return self._token is None or self._token in self._read()

    def _is_resolved(self) -> bool:
        if not self._resolved.is_dir() or self._runner.which("resolvectl") is None:
            return False
        if self._path.is_symlink():
            return self._resolved in Path(os.path.realpath(self._path)).parents
        return any(stub in nameservers(self._read()) for stub in _RESOLVED_STUBS)

    def _is_openresolv(self) -> bool:
        found = self._runner.which("resolvconf")
        if found is None or self._classic.exists():
            return False
        return Path(os.path.realpath(found)).name != "resolvectl"

    def _replace_file(self, servers: Sequence[str]) -> None:
        token = secrets.token_hex(8)
        lines = [f"nameserver {server}" for server in servers]
        text = "\n".join([f"{MARKER} {token}", *lines, f"# {token}", ""])
        link = os.readlink(self._path) if self._path.is_symlink() else None
        before = None if link is not None else self._read_bytes()
        mode = 0o644 if before is None else self._path.stat().st_mode & 0o777
        backup = self._journal.path.with_name(f"resolv.conf.{token}")
        try:
            self._journal.record(
                "resolv.conf",
                token=token,
                link=link,
                existed=before is not None,
                mode=mode,
            )
            if before is not None:
                _write_durably(backup, before, 0o600)
            _put(self._path, text.encode(), mode)
            self._token = token
        except OSError as error:
            raise ClientError(
                "resolver_unwritable",
                f"{self._path} cannot be replaced: {error.strerror}.",
                "Make it writable, or set dns = false under [client] in the configuration "
                "(then names are still asked of the old resolver).",
            ) from error

    def _undo_file(self, entry: Mapping[str, Any]) -> None:
        token, link, mode = entry.get("token"), entry.get("link"), entry.get("mode")
        if not isinstance(token, str) or not token.isalnum() or not isinstance(mode, int):
            raise ClientError(
                "journal_unreadable", "A resolver entry of the undo journal is wrong."
            )
        backup = self._journal.path.with_name(f"resolv.conf.{token}")
        self._token = None
        try:
            ours = not self._path.is_symlink() and token in self._read()
            if ours and isinstance(link, str):
                fresh = self._path.with_name(f".{self._path.name}.{token}")
                fresh.unlink(missing_ok=True)
                fresh.symlink_to(link)
                fresh.rename(self._path)
            elif ours and entry.get("existed") and backup.exists():
                _put(self._path, backup.read_bytes(), mode & 0o777)
            elif ours and not entry.get("existed"):
                self._path.unlink()
            backup.unlink(missing_ok=True)
        except OSError as error:
            raise ClientError(
                "resolver_unwritable",
                f"{self._path} cannot be restored: {error.strerror}.",
                f"Its former text is in {backup}.",
            ) from error

    def _undo_resolvectl(self, entry: Mapping[str, Any]) -> None:
        self._undo_link(["resolvectl", "revert", _interface(entry)])

    def _undo_resolvconf(self, entry: Mapping[str, Any]) -> None:
        self._undo_link(["resolvconf", "-d", _interface(entry), "-f"])

    def _undo_link(self, argv: list[str]) -> None:
        try:
            self._runner.run(argv)
        except CommandError as error:
            if not any(phrase in error.stderr for phrase in _GONE_LINK):
                raise

    def _read(self) -> str:
        return (self._read_bytes() or b"").decode(errors="replace")

    def _read_bytes(self) -> bytes | None:
        try:
            with open(self._path, "rb") as file:
                return file.read(MAX_RESOLV_CONF)
        except FileNotFoundError:
            return None


def nameservers(text: str) -> list[str]:
    words = (line.split() for line in text.splitlines())
    return [w[1] for w in words if len(w) >= 2 and w[0] == "nameserver"]


def _interface(entry: Mapping[str, Any]) -> str:
    name = entry.get("interface")
    if not isinstance(name, str) or not _INTERFACE.fullmatch(name):
        raise ClientError("journal_unreadable", "A resolver entry of the undo journal is wrong.")
    return name


def _put(path: Path, data: bytes, mode: int) -> None:
    """Replace the file at `path` in one step; in place where it is a mount point.

    In place, the text is written before the rest is cut off: our file has its
    token at both ends, so that one of them is there if we die in between.
    """
    fresh = path.with_name(f".{path.name}.vpnshare")
    try:
        fresh.unlink(missing_ok=True)
        _write_durably(fresh, data, mode)
        os.rename(fresh, path)
        return
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        if error.errno not in _IN_PLACE or path.is_symlink():
            raise
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(fd, data)
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_durably(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
