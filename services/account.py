"""The gateway of the whole machine: its own user, its own folders, and who may command it.

Theory of operation. The unit for the whole machine runs the gateway as the system user
`vpnshare` (sysusers.d(5)), so what it opens is that user's: not root's, who runs the client
beside it, and nobody's who shares a VPN of their own. Its folders are `WHOLE`. Who is in the
group `vpnshare` may use its control socket; root may, as everywhere.

Root's commands look into these folders at times: to write a setting while the service is
stopped, to examine it, to see what schema its state has. Whoever got hold of the gateway could
have put anything there, so root does that with the rights of the gateway's user (`acting`),
and `storage/own.py` judges as it would for the service itself.

What root's own gateway has kept before there was a unit, or before it had a user, is taken
over once (`take_over`): copied into a folder that is root's until all is in it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

from control import paths
from control.paths import WHOLE, WHOLE_USER, Paths
from storage import own

FIRST_PERSON = 1000
"""The least number of a user that is somebody (login.defs(5), UID_MIN)."""
UNIT = Path("/etc/systemd/system/vpnshare-gateway.service")
SYSUSERS = Path("/etc/sysusers.d/vpnshare.conf")
SYSUSERS_TEXT = f"""\
# The gateway of the whole machine runs as this user; who is in its group may command it.
u {WHOLE_USER} - "VPN Share, the gateway" /
"""
_MAX_KEPT = 1 << 30
"""Bytes of a file that is taken over."""


def places(role: str) -> list[Paths]:
    """Where a service of `role` may be that the person here means: their own first."""
    mine = paths.find()
    if role != "gateway" or mine == WHOLE or not paths.is_shared():
        return [mine]
    return [mine, WHOLE]


def installed() -> bool:
    """Whether root, who asks, has the whole machine's gateway as a unit with a user of its own."""
    return os.geteuid() == 0 and paths.is_shared() and UNIT.exists() and WHOLE.state_dir.is_dir()


@contextlib.contextmanager
def instance(role: str, socket: str | None = None) -> Iterator[Paths]:
    """The folders of the service of `role`, to be looked into within the context: as the user
    whose they are. `socket`: where the service that is meant answers, if it runs.

    Raises `own.NotOurs`.
    """
    whole = installed() if socket is None else socket == str(WHOLE.socket(role))
    if role != "gateway" or not whole:
        yield paths.find()
    elif os.geteuid() != 0:
        yield WHOLE
    else:
        with acting():
            yield WHOLE


@contextlib.contextmanager
def acting() -> Iterator[None]:
    """Root has the rights of the gateway's user within the context, and no more.

    Raises `own.NotOurs` where there is no such user.
    """
    try:
        user = pwd.getpwnam(WHOLE_USER)
    except KeyError:
        raise own.NotOurs(
            WHOLE.state_dir, f"the user {WHOLE_USER} is not there any more",
            "Install the service again: sudo vpnshare service install",
        ) from None  # fmt: skip
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([user.pw_gid])
    try:
        os.setegid(user.pw_gid)
        os.seteuid(user.pw_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def exists() -> bool:
    """Whether the gateway's user is there."""
    try:
        pwd.getpwnam(WHOLE_USER)
    except KeyError:
        return False
    return True


def person() -> str | None:
    """Why the user cannot be the gateway's: a person has the name."""
    with contextlib.suppress(KeyError):
        found = pwd.getpwnam(WHOLE_USER)
        if found.pw_uid >= FIRST_PERSON:
            return f"{WHOLE_USER} is somebody's account here (number {found.pw_uid})."
    return None


def kept_by_root(source: Paths, target: Paths = WHOLE) -> dict[Path, Path]:
    """What root's gateway has in `source`, each with its place; empty once there is a target."""
    if target.state_dir.exists():
        return {}
    found = {
        path: there / path.name
        for here, there in (
            (source.run_dir, target.run_dir),
            (source.state_dir, target.state_dir),
        )
        if here.is_dir()
        for path in sorted(here.glob("gateway.*"))
        if path.is_file() and path.suffix != ".lock"
    }
    if source.config.exists():
        found[source.config] = target.config
    return found


def take_over(files: dict[Path, Path], user: int, group: int, target: Paths = WHOLE) -> None:
    """Copy the files into the target, which is the user's then; all but the configuration,
    which may be the client's as well, is removed where it was.

    The service must not run. Raises `OSError`, also as `own.NotOurs`.
    """
    folders = [target.run_dir, target.state_dir]
    fresh = {folder: folder.with_name(f".{folder.name}.new") for folder in folders}
    try:
        for folder in fresh.values():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=own.FOLDER_MODE)
        for old, place in files.items():
            copy = fresh[place.parent] / place.name
            own.replace(copy, own.read(own.target(old), _MAX_KEPT), own.FILE_MODE)
            os.chown(copy, user, group)
        # What lies there without a state is of nobody any more.
        shutil.rmtree(target.run_dir, ignore_errors=True)
        for folder in folders:
            os.chown(fresh[folder], user, group)
            os.rename(fresh[folder], folder)
    finally:
        for folder in fresh.values():
            shutil.rmtree(folder, ignore_errors=True)
    for old, place in files.items():
        if place != target.config:
            old.unlink()
