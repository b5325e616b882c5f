"""The exit codes of the command. Stable: scripts rely on them."""

from __future__ import annotations

from enum import IntEnum

from control.errors import Code, ControlError


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_FOUND = 4
    REFUSED = 5
    TIMED_OUT = 6
    CONFLICT = 7
    UNCONFIRMED = 8
    FORBIDDEN = 9
    UNTOLD = 10
    NOT_EXECUTABLE = 126
    NO_COMMAND = 127
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "tried, and failed",
    Exit.USAGE: "the command line is wrong",
    Exit.NOT_RUNNING: "the service is not running",
    Exit.NOT_FOUND: "no such device, request, gateway or flow",
    Exit.REFUSED: "refused: denied by the owner, secret expired, not permitted",
    Exit.TIMED_OUT: "timed out",
    Exit.CONFLICT: "ambiguous, or impossible in this state",
    Exit.UNCONFIRMED: "first contact: nobody has said here that both sides show the same digits",
    Exit.FORBIDDEN: "run: this system lets no user make a network of one's own",
    Exit.UNTOLD: "check: whether traffic leaves by the VPN cannot be told",
    Exit.NOT_EXECUTABLE: "run: the command is there, and cannot be executed",
    Exit.NO_COMMAND: "run: there is no such command",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}

_CODES = {
    Code.UNAVAILABLE: Exit.NOT_RUNNING,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.REFUSED: Exit.REFUSED,
    Code.TIMED_OUT: Exit.TIMED_OUT,
    Code.CONFLICT: Exit.CONFLICT,
    Code.INVALID_PARAMS: Exit.USAGE,
}


_NAMES = {"namespace_refused": Exit.FORBIDDEN}
"""Errors by name that have a code of their own."""


def exit_code(error: ControlError) -> Exit:
    """The exit code for an error answer."""
    if error.name in _NAMES:
        return _NAMES[error.name]
    return _CODES.get(Code(error.code), Exit.FAILED) if error.code in set(Code) else Exit.FAILED
