"""What can be wrong, and whose fault it is."""

from __future__ import annotations


class TcpError(Exception):
    """Base of what this package raises."""


class MalformedSegment(TcpError):
    """The peer sent bytes that are no TCP segment; `reason` names the drop's counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason.replace("_", " "))
        self.reason = reason


class LocalMisuse(TcpError):
    """Our own caller asked for what the connection's state does not allow."""


class IllegalTransition(LocalMisuse):
    """An event that the state's row of the table does not list."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"{event} is not possible in {state}")
