"""What the system's service manager needs to run VPN Share: files, and commands for it.

Three managers: systemd for the whole machine (gateway and client), systemd of
a user (gateway), and runit in Termux (gateway). A `Plan` is computed first and
carried out after, so that it can be shown instead. The services start idle
unless `share` says otherwise: sharing is a user's action.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from control.paths import WHOLE, WHOLE_USER, Paths
from services import account
from services.daemon import AlreadyRunning, single_instance


class Manager(StrEnum):
    SYSTEM = "systemd"
    USER = "systemd --user"
    RUNIT = "runit"


class UnitError(Exception):
    """It cannot be installed here; a sentence, and a hint."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class File:
    """A file to write: text, or (`link`) a symbolic link to `text`."""

    path: Path
    text: str
    mode: int = 0o644
    link: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What installing, or removing, does. Paths are below the root that was asked for."""

    files: tuple[File, ...] = ()
    remove: tuple[Path, ...] = ()
    before: tuple[tuple[str, ...], ...] = ()
    """Commands before the files are touched; likewise after."""
    users: tuple[str, ...] = ()
    """The command that makes the users which the files name."""
    take_over: bool = False
    """Whether what root's gateway has kept is to be the user's, before the commands after."""
    after: tuple[tuple[str, ...], ...] = ()
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """One service under one manager."""

    role: str
    manager: Manager
    command: tuple[str, ...] = ()
    """The program and its first arguments, absolute."""
    share: bool = False
    env: dict[str, str] = field(default_factory=dict)
    """The environment of whoever installs: PREFIX, HOME, XDG_CONFIG_HOME, VPNSHARE_HOME."""
    kernel: tuple[int, int] = (5, 7)
    """The kernel that it is for."""

    @property
    def name(self) -> str:
        return f"vpnshare-{self.role}"

    @property
    def place(self) -> Path:
        """The unit file, or runit's folder."""
        if self.manager is Manager.RUNIT:
            return Path(self.env["PREFIX"]) / "var" / "service" / self.name
        if self.manager is Manager.USER:
            config = self.env.get("XDG_CONFIG_HOME") or f"{self.env['HOME']}/.config"
            return Path(config) / "systemd" / "user" / f"{self.name}.service"
        return Path("/etc/systemd/system") / f"{self.name}.service"

    @property
    def own_user(self) -> bool:
        """Whether it runs as a user of its own. In a folder of somebody's choice it is who owns
        that: root."""
        return (
            self.role == "gateway"
            and self.manager is Manager.SYSTEM
            and not self.env.get("VPNSHARE_HOME")
        )

    def install(self) -> Plan:
        """Raises `UnitError` for what cannot be."""
        if self.role == "client" and self.manager is not Manager.SYSTEM:
            raise UnitError(
                "The client opens a network interface, which only root may do.",
                "sudo vpnshare service install --role client",
            )
        if self.manager is Manager.RUNIT:
            return self._runit()
        control = self._systemctl()
        hints = [f"See it with: {' '.join((*control, 'status', self.name))}"]
        files = [File(self.place, self.text())]
        users: tuple[str, ...] = ()
        if self.manager is Manager.USER:
            hints.append("To have it run without a log-in: loginctl enable-linger")
        if self.own_user:
            hints.append(
                f"Who is in the group {WHOLE_USER} may command it without sudo, after the next "
                f"log-in: sudo usermod -aG {WHOLE_USER} NAME"
            )
            files.insert(0, File(account.SYSUSERS, account.SYSUSERS_TEXT))
            users = ("systemd-sysusers", str(account.SYSUSERS))
        return Plan(
            files=tuple(files),
            users=users,
            take_over=self.own_user,
            after=((*control, "daemon-reload"), (*control, "enable", "--now", self.name)),
            hints=tuple(hints),
        )

    def uninstall(self) -> Plan:
        if self.manager is Manager.RUNIT:
            return Plan(
                remove=(self.place,),
                before=(("sv-disable", self.name), ("sv", "down", self.name)),
            )
        control = self._systemctl()
        made = (account.SYSUSERS,) if self.own_user else ()
        return Plan(
            remove=(self.place, *made),
            before=((*control, "disable", "--now", self.name),),
            after=((*control, "daemon-reload"),),
        )

    def state(self) -> tuple[str, ...]:
        """The command that succeeds when the service runs."""
        if self.manager is Manager.RUNIT:
            return "sv", "check", self.name
        return (*self._systemctl(), "is-active", "--quiet", self.name)

    def _systemctl(self) -> tuple[str, ...]:
        return ("systemctl", "--user") if self.manager is Manager.USER else ("systemctl",)

    def _arguments(self) -> list[str]:
        return [*self.command, self.role, *(["--share"] if self.share else [])]

    # systemd

    def text(self) -> str:
        """The unit file (systemd.service(5), systemd.exec(5))."""
        lines = [
            "[Unit]",
            f"Description=VPN Share: the {self.role} service",
            *(_BEFORE_THE_NETWORK if self.role == "client" else ("After=network.target",)),
            "",
            "[Service]",
            "Type=notify",
            f"ExecStart={' '.join(_quoted(word, '$$') for word in self._arguments())}",
            "Restart=on-failure",
            "RestartSec=2",
            "TimeoutStopSec=30",
            "LimitNOFILE=65536",
            # A core holds the keys.
            "LimitCORE=0",
        ]
        home = self.env.get("VPNSHARE_HOME")
        if home:
            lines.append(f"Environment={_quoted(f'VPNSHARE_HOME={home}')}")
        lines += _FILTERS
        if self.role == "gateway":
            # The client's resolver set-up writes a file that everybody reads.
            lines += ["UMask=0077", "SystemCallFilter=~@privileged @resources"]
        if self.manager is Manager.SYSTEM:
            lines += self._hardening(home)
        target = "default.target" if self.manager is Manager.USER else "multi-user.target"
        return "\n".join([*lines, "", "[Install]", f"WantedBy={target}", ""])

    def _hardening(self, home: str | None) -> list[str]:
        client = self.role == "client"
        # The client's resolver set-up replaces /etc/resolv.conf, so /etc must be writable.
        writable = ["/etc" if client else "-/etc/vpnshare"]
        if client:
            writable.append("-/run/resolvconf")
        if home:
            writable.append(_quoted(home))
        at_home = any(word.startswith(_HOMES) for word in (*self.command, home or ""))
        if self.own_user:
            lines = [
                f"User={WHOLE_USER}",
                f"Group={WHOLE_USER}",
                f"RuntimeDirectory={WHOLE.run_dir.name}",
                # Its group reaches the socket.
                "RuntimeDirectoryMode=0750",
                f"StateDirectory={WHOLE.state_dir.name}",
            ]
        else:
            lines = [
                "RuntimeDirectory=vpnshare",
                "RuntimeDirectoryMode=0700",
                "StateDirectory=vpnshare",
                "ConfigurationDirectory=vpnshare",
                f"ReadWritePaths={' '.join(writable)}",
            ]
        lines += [
            # Gateway and client may share the folder: neither takes it along. And a slate in it
            # outlives the service.
            "RuntimeDirectoryPreserve=yes",
            "StateDirectoryMode=0700",
            "ProtectSystem=strict",
            f"ProtectHome={'read-only' if at_home else 'yes'}",
            "PrivateTmp=yes",
            "PrivateMounts=yes",
            "ProtectClock=yes",
            "ProtectControlGroups=yes",
            "ProtectHostname=yes",
            "ProtectKernelLogs=yes",
            "ProtectKernelModules=yes",
            "RemoveIPC=yes",
            "KeyringMode=private",
        ]
        if client:
            # Not the tunables: IPv6 of its own interface is turned on there. Not the processes
            # of others: flows are told by program.
            return [
                *lines,
                "CapabilityBoundingSet=CAP_NET_ADMIN",
                "DevicePolicy=closed",
                "DeviceAllow=/dev/net/tun rw",
            ]
        lines += ["ProtectKernelTunables=yes", "PrivateDevices=yes", "ProtectProc=invisible"]
        lines += ["ProcSubset=pid", f"InaccessiblePaths={' '.join(f'-{path}' for path in SECRETS)}"]
        if self.kernel < _BINDS_FREELY:
            lines.append("CapabilityBoundingSet=CAP_NET_RAW")
            return [*lines, "AmbientCapabilities=CAP_NET_RAW"] if self.own_user else lines
        # Without one capability, and in a user namespace where nobody else is.
        return [*lines, "CapabilityBoundingSet=", "PrivateUsers=yes"]

    # runit in Termux

    def _runit(self) -> Plan:
        prefix = self.env["PREFIX"]
        lines = [f"#!{prefix}/bin/sh", "exec 2>&1"]
        home = self.env.get("VPNSHARE_HOME")
        if home:
            lines.append(f"export VPNSHARE_HOME={shlex.quote(home)}")
        lines.append(f"exec {shlex.join(self._arguments())}")
        boot = f"{self.env.get('HOME', '~')}/.termux/boot/start-services"
        return Plan(
            files=(
                File(self.place / "run", "\n".join([*lines, ""]), 0o755),
                File(
                    self.place / "log" / "run",
                    f"{prefix}/share/termux-services/svlogger",
                    link=True,
                ),
                # Not before `sv-enable`, which takes it away.
                File(self.place / "down", ""),
            ),
            # runit starts what is not down by itself, within seconds.
            after=(("sv-enable", self.name),),
            hints=(
                f"Its log: {prefix}/var/log/sv/{self.name}/current",
                "To start it with the phone, install the Termux:Boot app, open it once, and make "
                f"{boot} (chmod +x) of these lines: #!{prefix}/bin/sh; termux-wake-lock; "
                f". {prefix}/etc/profile.d/start-services.sh",
            ),
        )


SECRETS = (
    "/boot", "/etc/NetworkManager/system-connections", "/etc/gshadow", "/etc/gshadow-",
    "/etc/openvpn", "/etc/shadow", "/etc/shadow-", "/etc/ssh", "/etc/ssl/private",
    "/etc/sudoers", "/etc/sudoers.d", "/etc/wireguard", "/var/backups", "/var/log", "/var/spool",
)  # fmt: skip
"""What the gateway has no business with, and might read as who owns it, or for a wrong mode."""
_BINDS_FREELY = (5, 7)
"""The first kernel that lets anybody tie a socket to a device, without CAP_NET_RAW."""
_BEFORE_THE_NETWORK = (
    # As firewalls do (systemd.special(7)): what is wished for is closed before the first
    # interface is up, and until the last is down. nftables.service flushes what it finds.
    "DefaultDependencies=no",
    "Conflicts=shutdown.target",
    "Before=network-pre.target shutdown.target",
    "Wants=network-pre.target",
    "After=local-fs.target nftables.service",
)
_HOMES = ("/home/", "/root/", "/run/user/")
_FILTERS = (
    # What needs no privilege of the manager's.
    "NoNewPrivileges=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
)


def _quoted(word: str, dollar: str = "$") -> str:
    """A word of a unit file: specifiers and quotes escaped (systemd.syntax(7)).

    Command lines know variables besides: there a dollar sign is doubled.
    """
    word = word.replace("%", "%%").replace("$", dollar)
    if word and all(c.isalnum() or c in "/._-=:@%+$" for c in word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def below(root: Path, path: Path) -> Path:
    """`path` inside a pretended root folder."""
    return root / path.relative_to("/")


def carry_out(plan: Plan, root: Path, commands: bool) -> None:
    """Do what the plan says, below `root`; the manager's commands only if asked for.

    Raises `UnitError` for a command that fails, `OSError` for a file.
    """
    for command in plan.before if commands else ():
        _run(command, must=False)
    for path in plan.remove:
        target = below(root, path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    for file in plan.files:
        target = below(root, file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            target.unlink(missing_ok=True)
            target.symlink_to(file.text)
            continue
        temporary = target.with_name(f".{target.name}.new")
        temporary.write_text(file.text)
        temporary.chmod(file.mode)
        os.replace(temporary, target)
    if commands and plan.users and not account.exists():
        _run(plan.users, must=True)
    if commands and plan.take_over:
        _take_over()
    for command in plan.after if commands else ():
        _run(command, must=True)


def _take_over() -> None:
    """Give the gateway's user what root's gateway has kept. Raises `UnitError`, `OSError`."""
    place = Paths.of_root()
    if not account.kept_by_root(place):
        return
    _run(("systemctl", "stop", account.UNIT.stem), must=False)
    try:
        user = pwd.getpwnam(WHOLE_USER)
        place.make()
        with single_instance(place, "gateway"):
            # What has ended meanwhile has left its last word.
            account.take_over(account.kept_by_root(place), user.pw_uid, user.pw_gid)
    except KeyError:
        raise UnitError(f"The user {WHOLE_USER} was not made.", "See: journalctl -n 20") from None
    except AlreadyRunning as exc:
        raise UnitError(str(exc), "End it, then try again: sudo vpnshare down") from None


def _run(command: Sequence[str], must: bool) -> None:
    if shutil.which(command[0]) is None:
        if must:
            raise UnitError(f"{command[0]} is not there.", _MISSING.get(command[0], ""))
        return
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if must and done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        why = said[-1] if said else f"it ended with {done.returncode}"
        if "connect to bus" in why:
            raise UnitError(
                "The system's service manager cannot be reached: this user has no session of "
                "systemd's (su and sudo give none), or systemd does not run here.",
                "Log in as this user by itself (ssh, or at the screen), and try again.",
            )
        raise UnitError(
            f"{' '.join(command)} failed: {why}",
            "The files are in place; the service manager did not take them.",
        )


_MISSING = {
    "systemctl": "This system has no systemd: start the service by its own means "
    "(in the foreground: vpnshare gateway).",
    "systemd-sysusers": "Make the user by other means, and try again: useradd --system "
    f"--user-group --home-dir / --shell /usr/sbin/nologin {WHOLE_USER}",
    "sv-enable": "pkg install termux-services, then close and open Termux",
    "sv": "pkg install termux-services, then close and open Termux",
}
