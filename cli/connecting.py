"""`vpnshare connect` and `disconnect`: the receiving side's two verbs."""

from __future__ import annotations

import argparse
import sys
import time

from cli.services import dial
from control import words
from control.errors import Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.oneshot import OneShot
from control.output import complain, digits, paint, print_json, printable, tell
from control.schema import ClientStatus

DEFAULT_WAIT = 60.0
"""Seconds to connect when --wait does not say."""
APPROVAL_WAIT = 150.0
"""Seconds while the owner is asked: a request waits for 120 s at the gateway."""
START_WAIT = 5.0
"""Seconds for the client service to appear: `vpnshare client &` and this may be one script."""
_INTERVAL = 0.2

_UNDONE = "all changes to the system are undone"
_ASKED_THERE = "phone_not_allowed"
"""The reason that goes away when the person at the phone does what its sentence says."""
_REFUSALS = ("denied", "revoked", "secret_unknown", "secret_used", "secret_expired", "code_refused")


def connect(args: argparse.Namespace) -> int:
    target = None if args.scan else named(args)
    with _dial(args.wait) as service:
        if args.scan:
            # Whoever has to start the service first would have scanned for nothing.
            target = named(args)
        if target is None and args.code is None:
            target = choose_if_unknown(service, args)
        status = establish(service, target, args)
    if args.json:
        print_json(status)
    return outcome(status, args)


def choose_if_unknown(
    service: OneShot, args: argparse.Namespace, verb: str = "connect"
) -> str | None:
    """What is near, by the choice of whoever sits at the terminal, when there is no gateway to
    go back to. Raises `ControlError` when there is nothing, or nobody to choose."""
    if service.call("gateways"):
        return None
    from cli.choosing import choose
    from vshp.uri import is_uri

    target = choose(service, verb, args.json, args.yes)
    if not is_uri(target):
        # For what is said in the end; a URI is a secret.
        args.target = [target]
    return target


def establish(service: OneShot, target: str | None, args: argparse.Namespace) -> ClientStatus:
    """Have the service connect, and follow it; what has become of it. Raises `ControlError`."""
    params: dict[str, object] = {"transport": args.transport}
    if args.code is not None:
        params["code"] = args.code
    if args.yes:
        params["unseen"] = True
    if args.open_on_failure:
        params["open_on_failure"] = True
    if target is not None:
        from vshp.uri import is_uri

        params["uri" if is_uri(target) else "gateway"] = target
    status: ClientStatus = service.call("connect", **params)
    return status if args.wait == 0 else follow(service, status, args)


def named(args: argparse.Namespace, verb: str = "connect") -> str | None:
    """What to connect to, as far as the command line or the camera says it."""
    if not args.scan:
        return target_of(args.target, verb)
    if args.target:
        raise ControlError(
            Code.INVALID_PARAMS,
            "With --scan the QR code says which gateway it is; another is named, too.",
            f"Leave one of them out: vpnshare {verb} --scan",
        )
    from cli.scanning import scan

    return scan()


def target_of(words: list[str], verb: str = "connect") -> str | None:
    """What to connect to; a URI may have been typed without quotes around its blanks."""
    if not words:
        return None
    if words == ["-"]:
        return _ask()
    from cli.asking import hide_from_others
    from vshp.uri import is_uri

    target = " ".join(words)
    if is_uri(target):
        for word in words:
            hide_from_others(word)
        if sys.stderr.isatty():
            complain(
                "The URI's secret stands in the shell's history now, and others could read it.",
                f"To be asked for the URI instead: vpnshare {verb} -",
            )
    return target


def _ask() -> str:
    from cli.asking import ask_for_uri

    return ask_for_uri()


def _dial(wait: float | None) -> OneShot:
    """The client service; one that was started a moment ago gets the time to come up."""
    deadline = time.monotonic() + min(START_WAIT, START_WAIT if wait is None else wait)
    while True:
        try:
            return dial("client")
        except ServiceUnavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


def follow(service: OneShot, status: ClientStatus, args: argparse.Namespace) -> ClientStatus:
    """Follow the client's state until it is decided, the time is over, or it takes a person."""
    limit: float | None = args.wait
    quiet, asks = args.json, not args.json and sys.stdin.isatty() and sys.stderr.isatty()
    begin = time.monotonic()
    shown: tuple[str, str | None, bool] | None = None
    answered: str | None = None
    deadline = begin + (APPROVAL_WAIT if limit is None else limit)
    for status in service.watch("status", _INTERVAL, deadline):
        now = (status.state, status.code, status.error == _ASKED_THERE)
        if now != shown and not quiet:
            shown = now
            _progress(status)
            if status.code and args.yes:
                _unseen(status)
        if status.state == "asked" and status.code:
            if not asks:
                break
            if status.code != answered:
                answered = status.code
                _compare(status)
        if status.state in ("connected", "failed", "idle"):
            break
        waiting = status.state in ("asked", "waiting")
        if limit is None and not waiting and time.monotonic() > begin + DEFAULT_WAIT:
            break
    return status


def _progress(status: ClientStatus) -> None:
    gateway = printable(status.gateway or "the gateway")
    if status.state == "connecting" and status.error == _ASKED_THERE:
        text = f"Waiting for the phone's owner. {printable(status.reason or '')}"
    elif status.state == "connecting":
        text = f"Connecting to {gateway}: waiting for it to answer."
    elif status.state == "asked" and status.code:
        text = (
            f"First contact with {gateway}. Here the code is {_code(status)}. On the phone the "
            f"console shows that {printable(status.label)} asks, with a code, too (without it, "
            "there: vpnshare requests)."
        )
    elif status.state == "waiting":
        text = f"Waiting for {gateway}'s owner to approve: a in the console there, or "
        text += f"vpnshare approve {status.code or ''}".rstrip() + "."
        if status.code:
            text += f" Both sides show the code {_code(status)}."
    elif status.state == "reconnecting":
        text = f"Trying again: {printable(status.reason or 'the link broke')}"
    else:
        return
    tell(text, stream=sys.stderr)


def _code(status: ClientStatus) -> str:
    return paint(digits(status.code or ""), "bold", stream=sys.stderr)


def _unseen(status: ClientStatus) -> None:
    gateway = printable(status.gateway or "the gateway")
    complain(
        f"The digits are not compared (--yes): whoever answers at {gateway} is believed, "
        "now and whenever this device comes back.",
        "If that was somebody else: vpnshare forget GATEWAY, then connect again and compare.",
    )


def _compare(status: ClientStatus) -> None:
    """The question to this device's own user. The service hears the answer.

    By a connection of its own, since the one that watches is in the middle of it.
    """
    prompt = (
        "Is this the gateway you mean? Then its screen shows the same: type the digits, or y. "
        "[y/N] "
    )
    print(prompt, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip().lower()
    with dial("client") as service:
        try:
            if answer in ("y", "yes"):
                service.call("confirm", code=status.code)
            elif any(character.isdecimal() for character in answer):
                service.call("confirm", code=answer)
            else:
                service.call("refuse")
        except ControlError as exc:
            # It was over meanwhile; the state says how.
            complain(exc.message, exc.hint)


def outcome(status: ClientStatus, args: argparse.Namespace, verb: str = "connect") -> int:
    """Say what has become of it; the exit code."""
    gateway = printable(status.gateway or "the gateway")
    if status.state == "connected":
        if not args.json:
            lease = status.lease
            addresses = f", {lease.ipv4} and {lease.ipv6}" if lease else ""
            print(f"Connected to {gateway}: {words.outlet(status)}{addresses}.")
            if status.shut_out:
                complain(
                    status.shut_out, "What this device may do is the gateway's owner's to change."
                )
            if status.sharing is not None and status.sharing != "on":
                word, _ = words.SHARING.get(status.sharing, (status.sharing, "warn"))
                complain(
                    f"The gateway shares no Internet now: it is {printable(word)}.",
                    "It begins by itself when the gateway has its VPN and its owner shares.",
                )
        return Exit.OK
    if status.state in ("failed", "idle"):
        complain(
            status.reason or "The connection was given up.",
            status.kill_switch.opened_by
            and "This device's network stays closed. Open it: " + status.kill_switch.opened_by,
        )
        return Exit.REFUSED if status.error in _REFUSALS else Exit.FAILED
    if status.state == "asked":
        code = digits(status.code or "")
        complain(
            f"Not connected: nobody has said here that {gateway} shows the digits {code}, too.",
            "If its screen shows the same (there: vpnshare requests), confirm them: "
            f"vpnshare {verb} {_named(args)}--code DIGITS",
        )
        return Exit.UNCONFIRMED
    if args.wait == 0:
        if not args.json:
            tell(f"Connecting to {gateway}. See: vpnshare status")
        return Exit.OK
    complain(
        f"Not connected yet: {(status.reason or _unmet(status)).rstrip('.')}.",
        "The client keeps trying. Stop it: vpnshare disconnect"
        if status.kill_switch.state == "off"
        else "The client keeps trying, and this device's network stays closed meanwhile; "
        "open it: vpnshare disconnect",
    )
    return Exit.TIMED_OUT


def _unmet(status: ClientStatus) -> str:
    if status.state == "waiting":
        return "the gateway's owner has not approved this device"
    return "the gateway is being reached for"


def _named(args: argparse.Namespace) -> str:
    return "".join(f"{word} " for word in args.target)


def disconnect(args: argparse.Namespace) -> int:
    try:
        service = dial("client")
    except ServiceUnavailable as exc:
        raise ServiceUnavailable(
            exc.message,
            "If this device's network is closed, a client left it so that was killed: start it "
            "(sudo vpnshare client), then say this again.",
        ) from None
    with service:
        status = service.call("disconnect")
    if args.json:
        print_json(status)
    return Exit.OK if say_disconnected(status, args.json) else Exit.FAILED


def say_disconnected(status: ClientStatus, quiet: bool) -> bool:
    """Tell that it is over, and what the system refused to undo; whether all is undone."""
    stands = status.kill_switch.rules
    if stands:
        complain(
            "Disconnected, but this device's network is still closed: the system refused to "
            f"remove {'; '.join(printable(rule) for rule in stands)}.",
            "See why: vpnshare logs. Then say it again: vpnshare disconnect",
        )
    elif not quiet:
        aside = status.outlet in words.ASIDE
        undone = "nothing of this machine had been changed" if aside else _UNDONE
        print(f"Disconnected; {undone}.")
    return not stands
