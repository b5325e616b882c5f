"""The service's side of the method table: each method with the function that does it.

A registry is complete when every method of its role has a handler; that is
checked once, at start. Calls are checked in a fixed order: does the method
exist, may this connection call it, do the parameters fit, and only then the
handler runs. A handler raises `ControlError` for what it refuses; anything
else it raises is a fault of ours: logged with its trace, answered without.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from control.codec import CodecError, from_json, to_json
from control.errors import Code, ControlError
from control.methods import CLIENT, GATEWAY, Method, Permission

_log = logging.getLogger(__name__)

Handler = Callable[[Any], Any]
"""Takes the method's parameter record; returns its result record, or an awaitable of it."""

SESSION_METHODS = frozenset({"hello", "subscribe", "unsubscribe"})
"""Methods about the connection itself; the server answers them."""


class Registry:
    """The methods of one service."""

    def __init__(
        self, role: str, version: str, methods: Mapping[str, Method], handlers: dict[str, Handler]
    ) -> None:
        self.role = role
        self.version = version
        self._methods = methods
        self._handlers = handlers
        wanted = methods.keys() - SESSION_METHODS
        if wanted != handlers.keys():
            odd = ", ".join(sorted(wanted ^ handlers.keys()))
            raise ValueError(f"handlers and method table of the {role} differ: {odd}")

    def find(self, name: str, permission: Permission) -> Method:
        """The method `name`, if a connection with `permission` may call it."""
        method = self._methods.get(name)
        if method is None:
            having = "gateway" if name in GATEWAY else "client" if name in CLIENT else None
            raise ControlError(
                Code.METHOD_NOT_FOUND,
                f"The {self.role} service has no method {name[:60]!r}.",
                f"It is one of the {having} service's: ask that."
                if having
                else f"It has: {', '.join(sorted(self._methods))}",
            )
        if method.permission is Permission.WRITE and permission is not Permission.WRITE:
            raise ControlError(
                Code.REFUSED, f"{name} changes something, and this connection may only read."
            )
        return method

    def topic(self, name: str, params: dict[str, Any]) -> tuple[Method, Any]:
        """The method behind a topic and its checked parameters."""
        method = self.find(name, Permission.READ)
        if not method.topic:
            topics = ", ".join(sorted(m.name for m in self._methods.values() if m.topic))
            raise ControlError(
                Code.INVALID_PARAMS, f"{name!r} is no topic.", f"Topics are: {topics}"
            )
        return method, self.params(method, params)

    def params(self, method: Method, params: dict[str, Any]) -> Any:
        """The parameters as the method's record; raises `ControlError`."""
        try:
            return from_json(method.params, params)
        except CodecError as exc:
            raise ControlError(Code.INVALID_PARAMS, f"{method.name}: {exc}.") from None

    async def read(self, method: Method, params: Any) -> Any:
        """The state of a topic, as JSON values; whatever the handler raises."""
        state = self._handlers[method.name](params)
        if inspect.isawaitable(state):
            state = await state
        return to_json(state)

    async def call(self, method: Method, params: Any) -> Any:
        """Do the method; the result as JSON values. Raises `ControlError` only."""
        try:
            return await self.read(method, params)
        except ControlError:
            raise
        except Exception as exc:
            raise self.internal_error(method.name, exc) from exc

    def internal_error(self, name: str, error: Exception) -> ControlError:
        """A fault of ours: into the log with its trace, to the client without."""
        _log.error("%s failed", name, exc_info=error)
        return ControlError(
            Code.INTERNAL_ERROR,
            f"{name} failed inside the {self.role} service.",
            f"Its log says more: vpnshare logs --role {self.role}",
        )
