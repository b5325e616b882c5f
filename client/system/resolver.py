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

What the old text says about the network (search domains, options) goes into ours. An older
run's text, or another instance's, is no original: ours says where what it replaced is kept, and
that is followed; where it is lost, a sentence is put back. A systemd-resolved that is
named but does not answer is passed by: then way 3 is taken.

While connected somebody else may write it, a DHCP client above all. `held`
says whether ours is still there; if not, `set` is simply called again: what was
written meanwhile is then what comes back in the end.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.model import ClientError
from client.system.journal import Journal
from client.system.resolv_conf import (
    LOST,
    Original,
    compose,
    is_ours,
    manners,
    nameservers,
    original_of,
)
from client.system.run import CommandError, Runner

log = logging.getLogger(__name__)

RESOLVER_KINDS = frozenset({"resolvectl", "resolvconf", "resolv.conf"})
"""The journal's kinds that are ours."""
MAX_RESOLV_CONF = 1 << 20
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_IN_PLACE = (errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM)
"""What renaming says at a mount point, or in a folder where only this file may be written."""
_RESOLVED_STUBS = ("127.0.0.53", "127.0.0.54")
_GONE_LINK = ("Failed to resolve interface", "No such device", "is not a valid interface",
              "not known", "No such file or directory", "Failed to connect to bus",
              "Could not activate remote peer", "not provided by any .service files",
              "dbus-org.freedesktop.resolve1.service not found")  # fmt: skip
"""What they say when the interface is gone, or the service itself, and its settings with it."""
MAX_CHAIN = 8
"""Texts of ours that replaced one another: instances beside each other."""


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
        if self._is_resolved() and self._answers():
            self._journal.record("resolvectl", interface=interface)
            self._runner.run(["resolvectl", "dns", interface, *servers])
            self._runner.run(["resolvectl", "domain", interface, "~."])
            self._runner.run(["resolvectl", "default-route", interface, "yes"])
            return "systemd-resolved"
        if self._is_openresolv():
            self._journal.record("resolvconf", interface=interface)
            lines = "".join(
                f"{line}\n"
                for line in (*(f"nameserver {s}" for s in servers), *manners(self._read()))
            )
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

    def _answers(self) -> bool:
        """Whether systemd-resolved is there to be told; its files outlive it."""
        try:
            self._runner.run(["resolvectl", "dns"])
        except CommandError as error:
            log.warning("systemd-resolved is named in %s and does not answer (%s); "
                        "the file is replaced", self._path, error)  # fmt: skip
            return False
        return True

    def _is_openresolv(self) -> bool:
        found = self._runner.which("resolvconf")
        if found is None or self._classic.exists():
            return False
        return Path(os.path.realpath(found)).name != "resolvectl"

    def _replace_file(self, servers: Sequence[str]) -> None:
        token = secrets.token_hex(8)
        backup = self._journal.path.with_name(f"resolv.conf.{token}")
        mode = 0o644
        link: str | None
        if self._path.is_symlink():
            link, before = os.readlink(self._path), None
        else:
            found = self._read_bytes()
            link, before = self._original(found)
            mode = mode if found is None else self._path.stat().st_mode & 0o777
        kept = self._read() if link is not None else (before or b"").decode(errors="replace")
        original = Original(link, None if before is None else str(backup))
        text = compose(token, list(servers), kept, original)
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

    def _original(self, found: bytes | None) -> tuple[str | None, bytes | None]:
        """What was there before anything of ours: a link, or a text, or neither."""
        for _ in range(MAX_CHAIN):
            text = (found or b"").decode(errors="replace")
            if not is_ours(text):
                return None, found
            original = original_of(text) or Original(backup=self._kept_here(text))
            if original.link is not None:
                return original.link, None
            if original.backup is None:
                return None, None
            try:
                found = _read_own(Path(original.backup))
            except OSError:
                break
        log.warning("%s was an earlier run's, and what was there before is lost", self._path)
        return None, LOST.encode()

    def _kept_here(self, text: str) -> str:
        """Where this state folder would keep what a text of ours replaced."""
        token = text.splitlines()[0].rpartition(" ")[2]
        return str(self._journal.path.with_name(f"resolv.conf.{token}"))

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


def _read_own(path: Path) -> bytes:
    """A backup, if only we can have written it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(file.fileno())
        others = stat.S_IMODE(status.st_mode) & 0o022
        if status.st_uid != os.geteuid() or others or not stat.S_ISREG(status.st_mode):
            raise PermissionError(errno.EPERM, "could have been written by someone else")
        return file.read(MAX_RESOLV_CONF)


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
