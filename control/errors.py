"""What can go wrong between a control client and a service, as values.

A service answers with a `ControlError`: a code for scripts, a sentence for
people and, where there is one, a hint that names the fix. The codes below
-32000 are JSON-RPC 2.0's own (section 5.1); the positive ones are ours and are
stable, as the command maps them to exit codes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from control.calling import pasted


class Code(IntEnum):
    """The codes of error answers."""

    PARSE_ERROR = -32700
    """The line is no JSON."""
    INVALID_REQUEST = -32600
    """It is no request of JSON-RPC 2.0, or too long."""
    METHOD_NOT_FOUND = -32601
    """This service has no such method."""
    INVALID_PARAMS = -32602
    """The parameters do not fit the method."""
    INTERNAL_ERROR = -32603
    """A fault of the service; its log says more."""

    FAILED = 1
    """The operation was tried and did not succeed."""
    UNAVAILABLE = 3
    """No service answers on the socket."""
    NOT_FOUND = 4
    """No such device, request, gateway, flow, setting..."""
    REFUSED = 5
    """Not permitted: another user's service, a read-only connection, a peer's denial."""
    TIMED_OUT = 6
    """It took too long."""
    CONFLICT = 7
    """An id that fits several things, or a state that forbids the call."""
    BUSY = 8
    """A bound of the control socket was reached."""
    UNSUPPORTED_API = 9
    """Service and client have no version of this API in common."""


STOPPING = "stopping"
"""The name of the error of a service that is about to end, and takes no call any more."""


class ControlError(Exception):
    """An error answer: `code` (a `Code` where it is one we know), `message`, `hint`."""

    def __init__(
        self, code: int, message: str, hint: str | None = None, name: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.name = name
        """The stable name of the reason, where it has one: `secret_expired`, `denied`..."""

    def to_json(self) -> dict[str, Any]:
        """The JSON-RPC error object."""
        data = {k: v for k, v in (("hint", self.hint), ("name", self.name)) if v is not None}
        answer: dict[str, Any] = {"code": int(self.code), "message": self.message}
        if data:
            answer["data"] = data
        return answer

    def pasted(self) -> ControlError:
        """The same, its commands as the person here types them."""
        self.message = pasted(self.message)
        self.hint = None if self.hint is None else pasted(self.hint)
        return self

    @classmethod
    def from_json(cls, value: object) -> ControlError:
        """Read an error object, forgiving what is missing."""
        if not isinstance(value, dict):
            return cls(Code.INTERNAL_ERROR, "The service sent an error that is no object.")
        code, message, data = value.get("code"), value.get("message"), value.get("data")
        hint = data.get("hint") if isinstance(data, dict) else None
        name = data.get("name") if isinstance(data, dict) else None
        return cls(
            code if isinstance(code, int) else Code.INTERNAL_ERROR,
            message if isinstance(message, str) else "The service gave no reason.",
            hint if isinstance(hint, str) else None,
            name if isinstance(name, str) else None,
        )


class ServiceUnavailable(ControlError):
    """Nobody answers on the control socket, or the connection ended."""

    def __init__(self, message: str, hint: str | None = None, absent: str | None = None) -> None:
        super().__init__(Code.UNAVAILABLE, message, hint, "service_unavailable")
        self.absent = absent
        """The role whose service runs nowhere on this machine, where it is that."""
