"""Where an instance keeps its things.

`VPNSHARE_HOME` puts everything of an instance into one folder, so that
several run on one machine. Otherwise the platform decides: Termux's
`$PREFIX/etc` and `$PREFIX/var`; for root `/etc`, `/var/lib` and `/run`; for a
user the XDG base directories. systemd's `RUNTIME_DIRECTORY` and
`STATE_DIRECTORY` go before these, so that a unit may say where. The gateway of
the whole machine has folders of its own (`WHOLE`), since it is not root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from storage import own

NAME = "vpnshare"
ROLES = ("gateway", "client")


@dataclass(frozen=True, slots=True)
class Paths:
    """The three folders of an instance, and the names in them."""

    config_dir: Path
    state_dir: Path
    run_dir: Path

    @staticmethod
    def of_root() -> Paths:
        return Paths(Path("/etc") / NAME, Path("/var/lib") / NAME, Path("/run") / NAME)

    @property
    def config(self) -> Path:
        return self.config_dir / "config.toml"

    def socket(self, role: str) -> Path:
        return self.run_dir / f"{role}.sock"

    def lock(self, role: str) -> Path:
        return self.run_dir / f"{role}.lock"

    def store(self, role: str) -> Path:
        return self.state_dir / f"{role}.db"

    def slates(self, role: str) -> tuple[Path, ...]:
        """Where what must not be forgotten is recorded when the store cannot be written."""
        return tuple(folder / f"{role}.slate" for folder in (self.state_dir, self.run_dir))

    def log(self, role: str) -> Path:
        """Where a service that `vpnshare up` started writes its log."""
        return self.state_dir / f"{role}.log"

    @property
    def door(self) -> Path:
        """The socket by which commands get into the client's network of its own."""
        return self.run_dir / "client.door"

    @property
    def resolver(self) -> Path:
        """What is /etc/resolv.conf in there."""
        return self.run_dir / "client.resolv.conf"

    def events(self, role: str) -> Path:
        """What has happened, for the log and the console after a restart."""
        return self.state_dir / f"{role}.events.jsonl"

    def crash(self, role: str) -> Path:
        """Where details of unexpected failures go, so that people see a sentence only."""
        return self.state_dir / f"{role}.crash.log"

    def make(self) -> None:
        """Create the folders, for the owner only. Raises `OSError`, also as `own.NotOurs`."""
        for folder in (self.state_dir, self.run_dir):
            with own.folder(folder, make=True):
                pass


WHOLE = Paths(
    Path("/var/lib/vpnshare-gateway"), Path("/var/lib/vpnshare-gateway"),
    Path("/run/vpnshare-gateway"),
)  # fmt: skip
"""Of the unit that runs the gateway of the whole machine as a user of its own. What is in /etc
is root's to write, and `vpnshare set` is answered by the service: so its configuration is here."""
WHOLE_USER = "vpnshare"
"""That user, and its group."""


def is_shared(env: dict[str, str] | None = None) -> bool:
    """Whether who says `vpnshare` may mean the whole machine's gateway: no instance is named."""
    env = dict(os.environ) if env is None else env
    return not env.get("VPNSHARE_HOME") and not is_termux(env)


def find(env: dict[str, str] | None = None) -> Paths:
    """The instance that the environment names."""
    env = dict(os.environ) if env is None else env
    home = env.get("VPNSHARE_HOME")
    if home:
        folder = Path(home).expanduser().absolute()
        return Paths(folder, folder, folder)
    prefix = env.get("PREFIX", "")
    if is_termux(env):
        root = Path(prefix)
        return Paths(root / "etc" / NAME, root / "var" / "lib" / NAME, root / "var" / "run" / NAME)
    if _systemd(env, "STATE_DIRECTORY") == WHOLE.state_dir:
        return WHOLE
    if os.geteuid() == 0:
        found = Paths.of_root()
    else:
        user = Path(env.get("HOME") or Path.home())
        config = _absolute(env, "XDG_CONFIG_HOME") or user / ".config"
        state = _absolute(env, "XDG_STATE_HOME") or user / ".local" / "state"
        runtime = _absolute(env, "XDG_RUNTIME_DIR")
        found = Paths(
            config / NAME, state / NAME, runtime / NAME if runtime else state / NAME / "run"
        )
    return Paths(
        found.config_dir,
        _systemd(env, "STATE_DIRECTORY") or found.state_dir,
        _systemd(env, "RUNTIME_DIRECTORY") or found.run_dir,
    )


def is_termux(env: dict[str, str] | None = None) -> bool:
    """Whether this is Termux: its `PREFIX` lies inside the app's own files."""
    prefix = (os.environ if env is None else env).get("PREFIX", "")
    return prefix.startswith("/data/") and prefix.endswith("/usr")


def _absolute(env: dict[str, str], name: str) -> Path | None:
    """The XDG specification: a relative path is invalid and is to be ignored."""
    value = env.get(name, "")
    return Path(value) if value.startswith("/") else None


def _systemd(env: dict[str, str], name: str) -> Path | None:
    """systemd.exec(5): several folders may be named, with colons between.

    For a dynamic user it is a link to a folder that nobody else reaches.
    """
    first = env.get(name, "").split(":")[0]
    return Path(os.path.realpath(first)) if first.startswith("/") else None
