"""Which gateway, when none is named and none is known: look around, and let the user choose.

The service looks (`nearby`), the person at the terminal chooses. Where nobody can be asked the
only gateway that is near is taken, since a first contact takes nothing from it before somebody
has compared the digits; of several none is.
"""

from __future__ import annotations

import sys
import termios

from cli.asking import ask_for_uri
from control.errors import Code, ControlError
from control.oneshot import OneShot
from control.output import complain, paint, printable, tell
from control.schema import Nearby, NearbyGateway

WAYS = {
    "cable": "on the cable",
    "router": "this network's router",
    "announced": "announced on this network",
}
"""How a gateway was found, in words."""
KINDS = {"hotspot": "the hotspot that this device is on", "usb": "the phone's USB tethering"}
"""What a router is, where more is known of it."""
_MAX_SHOWN = 20
_MAX_ANSWER = 300
_URI = "VSHP:"


def choose(service: OneShot, verb: str, json: bool, unseen: bool) -> str:
    """What to connect to: a target or a pairing URI. Raises `ControlError`.

    `unseen`: whoever answers would be believed (`--yes`).
    """
    if json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return _alone(_look(service), verb, json, unseen)
    while True:
        tell(
            "No gateway is known here yet. Looking for one: phones on the cable, this network's "
            "router, announcements...", stream=sys.stderr,
        )  # fmt: skip
        around = _look(service)
        usable = _show(around)
        answer = _ask(usable)
        if answer is not None:
            return answer


def describe(gateway: NearbyGateway) -> tuple[str, str]:
    """A gateway's name, and how it was found; for people."""
    how = WAYS.get(gateway.way, gateway.way)
    if gateway.way == "router":
        how = KINDS.get(gateway.kind, how)
    name = printable(gateway.name)
    if not name:
        name = "a phone" if gateway.way == "cable" else "a gateway"
    return name, how


def _look(service: OneShot) -> Nearby:
    try:
        found: Nearby = service.call("nearby")
    except ControlError as error:
        if error.code != Code.METHOD_NOT_FOUND:
            raise
        # An older service: it can be told where to go, and does not look by itself.
        return Nearby([], "")
    return found


def _alone(around: Nearby, verb: str, quiet: bool, unseen: bool) -> str:
    """Nobody can be asked."""
    usable = [each for each in around.gateways if not each.advice]
    if len(usable) == 1 and not unseen:
        (only,) = usable
        name, how = describe(only)
        if not quiet:
            tell(f"Found {name}, {how}: {printable(only.target)}.", stream=sys.stderr)
        return only.target
    otherwise = f"By its address: vpnshare {verb} HOST; or by a pairing URI: vpnshare {verb} -"
    if usable:
        raise ControlError(
            Code.CONFLICT,
            "No gateway is known here yet; near this device there "
            + (f"are {len(usable)}." if len(usable) > 1 else "is one that nobody has compared."),
            "Name one: "
            + "; ".join(f"vpnshare {verb} {printable(each.target)}" for each in usable[:4]),
        )
    lacking = " ".join(each.advice for each in around.gateways[:2])
    raise ControlError(
        Code.NOT_FOUND,
        f"No gateway is known here yet, and none was found. {lacking or around.advice}".rstrip(),
        otherwise,
    )


def _show(around: Nearby) -> list[NearbyGateway]:
    """List what there is; those that can be chosen, in their order."""
    usable = [each for each in around.gateways if not each.advice][:_MAX_SHOWN]
    for number, each in enumerate(usable, start=1):
        name, how = describe(each)
        mark = paint(f"{number:3}", "bold", stream=sys.stderr)
        key = f", key {printable(each.fingerprint)}" if each.fingerprint else ""
        tell(f"{mark}  {name}: {how}, {printable(each.target)}{key}", stream=sys.stderr)
    for each in around.gateways:
        if each.advice:
            name, how = describe(each)
            complain(f"{name[0].upper()}{name[1:]} {how} cannot be used yet.", each.advice)
    if not usable:
        complain(
            "Nothing was found.",
            "On the phone: vpnshare up. Then join its hotspot or its Wi-Fi, or plug in the cable.",
        )
    if around.advice:
        tell(printable(around.advice), stream=sys.stderr)
    return usable


def _ask(usable: list[NearbyGateway]) -> str | None:
    """What the user says; None to look again."""
    first = "1, " if len(usable) == 1 else f"1 to {len(usable)}, " if usable else ""
    default = "[1]" if usable else "[r]"
    prompt = f"Which one? {first}r to look again, u for a pairing URI, or HOST:PORT {default}: "
    while True:
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = sys.stdin.readline(_MAX_ANSWER)
        if not line:
            sys.stderr.write("\n")
            raise ControlError(
                Code.INVALID_PARAMS, "No gateway was chosen.", "Say it again when there is one."
            )
        answer = line.strip() or default.strip("[]")
        if answer.lower() == "r":
            return None
        if answer.lower() == "u":
            return ask_for_uri()
        if answer.upper().startswith(_URI):
            # More lines of it may wait; and it was shown, which the other question does not do.
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
            tell("A pairing URI is a secret: paste it here, where it is not shown.",
                 stream=sys.stderr)  # fmt: skip
            return ask_for_uri()
        if not answer.isdecimal():
            return answer
        if len(answer) < 4 and 1 <= int(answer) <= len(usable):
            return usable[int(answer) - 1].target
        complain(f"{printable(answer)} is none of these.")
