"""`vpnshare usb`: the phones on this machine's cable, and the key that they know it by.

The client's service is asked where it runs, since it may be speaking to one. Looking needs no
service, and neither does forgetting the key.
"""

from __future__ import annotations

import argparse
import asyncio

from cli.services import dial
from control import schema
from control.calling import command, pasted
from control.elsewhere import owner
from control.errors import Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.output import Column, complain, print_json, print_table, printable, tell
from control.paths import find
from reach.cable import LACKS, OTHER_KEY, STATES, Phone, advice
from reach.usb import system_cable

_WORDS = {state.value: words for state, words in STATES.items()}


def usb(args: argparse.Namespace) -> int:
    return _forget(args) if args.action == "forget" else _list(args)


def _list(args: argparse.Namespace) -> int:
    phones = _phones()
    if args.json:
        print_json(phones)
        return Exit.OK
    print_table(
        (Column("PHONE", shrink=True), Column("STATE"), Column("CONNECT WITH")),
        (
            (
                printable(phone.model) or "phone",
                _WORDS.get(phone.state, phone.state),
                command(f"connect usb:{phone.serial}") if phone.state == "ready" else "",
            )
            for phone in phones
        ),
        pasted(LACKS["phone_absent"]),
    )
    for phone in phones:
        if phone.advice:
            complain(f"{printable(phone.model) or 'phone'}: {pasted(phone.advice)}")
    return Exit.OK


def _phones() -> list[schema.Phone]:
    try:
        with dial("client") as service:
            found: list[schema.Phone] = service.call("phones")
            return found
    except ServiceUnavailable:
        if owner("client"):
            raise
    try:
        return [_shown(phone) for phone in asyncio.run(system_cable(find().state_dir).phones())]
    except OSError as error:
        raise ControlError(Code.FAILED, error.strerror or LACKS["usb_absent"]) from error


def _shown(phone: Phone) -> schema.Phone:
    return schema.Phone(phone.serial, phone.model, phone.state.value, advice(phone))


def _forget(args: argparse.Namespace) -> int:
    try:
        with dial("client") as service:
            service.call("forget_usb_key")
    except ServiceUnavailable:
        if owner("client"):
            raise
        try:
            asyncio.run(system_cable(find().state_dir).forget())
        except OSError as error:
            raise ControlError(
                Code.FAILED, f"The key could not be removed: {error.strerror}.", str(error.filename)
            ) from error
    if args.json:
        print_json({"forgotten": True})
    else:
        tell("This device's key for phones is forgotten: the next phone asks its owner again.")
        tell("What a phone has allowed is taken back there: Developer options > Revoke USB "
             "debugging authorisations.")  # fmt: skip
        tell(OTHER_KEY)
    return Exit.OK
