"""`vpnshare service install | uninstall | status`."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from control import paths
from control.errors import Code, ControlError
from control.exits import Exit
from control.output import complain, paint, print_json, tell
from control.paths import WHOLE_USER
from services import account, copying, trust
from services.start import own_command
from services.units import Manager, Plan, Unit, UnitError, below, carry_out


def service(args: argparse.Namespace) -> int:
    unit = _unit(args)
    root = Path(args.root)
    if args.action == "status":
        return _status(unit, root, args.json)
    try:
        if args.action == "install":
            unit.install()  # what cannot be is said first
            plan = _safe(unit, args, root).install()
        else:
            plan = unit.uninstall()
        if args.dry_run:
            _show(plan, root)
            return Exit.OK
        carry_out(plan, root, commands=root == Path("/"))
    except UnitError as exc:
        raise ControlError(Code.FAILED, str(exc), exc.hint or None) from None
    except PermissionError as exc:
        raise ControlError(
            Code.REFUSED, f"{exc.filename} may not be written.",
            "Use sudo for the whole machine, or --user for yourself.",
        ) from None  # fmt: skip
    if args.json:
        print_json({"name": unit.name, "manager": unit.manager, "place": str(unit.place)})
        return Exit.OK
    done = "installed" if args.action == "install" else "removed"
    print(f"{unit.name} is {done} ({unit.manager}).")
    for hint in plan.hints:
        tell(hint, "dim")
    return Exit.OK


def _unit(args: argparse.Namespace) -> Unit:
    if paths.is_termux():
        manager = Manager.RUNIT
    elif args.user or (os.geteuid() != 0 and args.role == "gateway"):
        manager = Manager.USER
    else:
        manager = Manager.SYSTEM
    known = ("PREFIX", "HOME", "XDG_CONFIG_HOME", "VPNSHARE_HOME")
    env = {name: os.environ[name] for name in known if os.environ.get(name)}
    env.setdefault("HOME", str(Path.home()))
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    kernel = (int(release[1]), int(release[2])) if release else (0, 0)
    return Unit(args.role, manager, tuple(own_command()), args.share, env, kernel)


def _safe(unit: Unit, args: argparse.Namespace, root: Path) -> Unit:
    """The unit, if nobody else can change what it runs; with --copy, of a copy of root's own.

    Raises `UnitError`.
    """
    if unit.manager is Manager.RUNIT or (root != Path("/") and not args.copy):
        return unit  # one user's machine, or another machine
    if args.copy:
        if unit.manager is not Manager.SYSTEM:
            raise UnitError(
                "A copy of root's own is for the whole machine.",
                f"sudo vpnshare service install --role {unit.role} --copy",
            )
        copied = replace(unit, command=copying.own_command_of(copying.TARGET))
        if root != Path("/") or args.dry_run:
            print(f"copy the program to {copying.TARGET}, and set it up there")
            return copied
        try:
            copying.make_copy()
        except copying.CopyError as exc:
            raise UnitError(str(exc), "") from None
        runs = read = [copying.TARGET]
    else:
        copied, runs, read = unit, trust.program(), trust.read_by_it()
    _refuse_changeable(unit, runs)
    if unit.own_user:
        _refuse_hidden(unit, read, runs)
    return copied


def _refuse_hidden(unit: Unit, read: list[Path], runs: list[Path]) -> None:
    """Raises `UnitError` for a unit whose user cannot read what it runs, or is a person."""
    if why := account.person():
        raise UnitError(why, "The gateway needs that name for itself: rename the account.")
    if path := trust.hidden(read, runs):
        raise UnitError(
            f"{path} cannot be read by {WHOLE_USER}, the user that the service runs as.",
            _way_out(unit),
        )


def _refuse_changeable(unit: Unit, runs: list[Path]) -> None:
    """Raises `UnitError` for a unit that runs, or keeps, what somebody else can write."""
    owner = 0 if unit.manager is Manager.SYSTEM else os.geteuid()
    home = unit.env.get("VPNSHARE_HOME")
    for places, hint in (
        (runs, _way_out(unit)),
        ([Path(home)] if home and Path(home).exists() else [],
         "Name a folder by VPNSHARE_HOME that is root's, and whose parents are."),
    ):  # fmt: skip
        if found := trust.changeable(places, owner):
            path, who = found
            became = "you" if owner else "root"
            raise UnitError(f"{path} could be changed by {who}, who would be {became} then.", hint)


def _way_out(unit: Unit) -> str:
    if not (trust.SOURCE / "requirements").is_dir():
        return "Install VPN Share's package as root (pipx install --global), and try again."
    return (
        f"sudo vpnshare service install --role {unit.role} --copy    (that installs a "
        f"copy which only root can change, in {copying.TARGET})"
    )


def _show(plan: Plan, root: Path) -> None:
    """What would be done."""
    for command in plan.before:
        print(f"$ {' '.join(command)}")
    for path in plan.remove:
        print(f"remove {below(root, path)}")
    for file in plan.files:
        where = below(root, file.path)
        print(paint(f"link {where} -> {file.text}" if file.link else f"write {where}", "bold"))
        if not file.link:
            print("".join(f"  {line}\n" for line in file.text.splitlines()), end="")
    if plan.users and not account.exists():
        print(f"$ {' '.join(plan.users)}")
    if plan.take_over and root == Path("/"):
        for old, place in account.kept_by_root(paths.Paths.of_root()).items():
            print(f"{'copy' if place == paths.WHOLE.config else 'move'} {old} -> {place}")
    for command in plan.after:
        print(f"$ {' '.join(command)}")


def _status(unit: Unit, root: Path, as_json: bool) -> int:
    installed = below(root, unit.place).exists()
    command = unit.state()
    running = False
    if installed and root == Path("/") and shutil.which(command[0]):
        running = subprocess.run(command, check=False, capture_output=True).returncode == 0
    if as_json:
        print_json({
            "name": unit.name, "manager": unit.manager, "place": str(unit.place),
            "installed": installed, "running": running,
        })  # fmt: skip
    elif installed:
        print(f"{unit.name} is installed ({unit.manager}) and {'runs' if running else 'is down'}.")
    else:
        complain(f"{unit.name} is not installed.", "vpnshare service install")
    return Exit.OK if installed else Exit.NOT_RUNNING
