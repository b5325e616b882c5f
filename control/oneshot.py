"""The command's client: blocking, a few calls, then gone. Imports no event loop."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from control.calling import spoken
from control.codec import (
    MAX_ANSWER,
    Answer,
    CodecError,
    LineBuffer,
    LineTooLong,
    encode_request,
    from_json,
    parse_answer,
)
from control.elsewhere import advice, owner, whose
from control.errors import Code, ControlError, ServiceUnavailable
from control.methods import CLIENT, COMMON, GATEWAY, Hello
from control.schema import API_VERSION
from storage.sockets import reachable

TIMEOUT = 10.0
"""Seconds to wait for an answer: the service never takes one second by design."""

START = {
    "gateway": "Start sharing with: vpnshare up",
    "client": "Use a gateway's VPN with: vpnshare join",
}
"""What a person does who finds that the service of a role does not run."""
_TABLES = {"gateway": GATEWAY, "client": CLIENT}


def unavailable(path: str, role: str, error: OSError) -> ControlError:
    """Why the socket at `path` did not let us in, as a sentence with its fix."""
    if isinstance(error, PermissionError):
        return ControlError(
            Code.REFUSED,
            f"The {role} service belongs to another user.",
            f"Run the command as the user who started it (sudo, if that is root): {path}",
        )
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        if user := owner(role):
            return ServiceUnavailable(
                f"No {role} service of {whose()} runs here.", advice(role, user)
            )
        return ServiceUnavailable(f"The {role} service is not running.", START.get(role), role)
    return ServiceUnavailable(
        f"The {role} service cannot be reached: {os.strerror(error.errno or 0)}.",
        f"Its control socket is {path}",
    )


class OneShot:
    """A connection to the `role` service at `path`; use it as a context manager."""

    def __init__(self, path: str, role: str, timeout: float = TIMEOUT) -> None:
        self.role = role
        self.path = path
        self._methods = _TABLES.get(role, COMMON)
        self._lines = LineBuffer(MAX_ANSWER)
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            with reachable(path) as name:
                self._socket.connect(name)
        except OSError as exc:
            self._socket.close()
            raise unavailable(path, role, exc) from None
        try:
            self.hello: Hello = self.call("hello", api=API_VERSION, client="command")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> OneShot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def call(self, method: str, /, **params: Any) -> Any:
        """Call and wait; the result as the method's record. Raises `ControlError`."""
        result = self.call_raw(method, **params)
        try:
            kind = self._methods[method].result
            return spoken(kind, from_json(kind, result, strict=False))
        except CodecError as exc:
            raise ControlError(
                Code.INTERNAL_ERROR,
                f"The answer to {method} does not fit: {exc}.",
                "The command and the service may be of different versions: vpnshare restart",
            ) from None

    def call_raw(self, method: str, /, **params: Any) -> Any:
        """Call and wait; the result as plain JSON values."""
        self._last_id += 1
        self._send(encode_request(self._last_id, method, params))
        while True:
            try:
                answer = self._receive()
            except TimeoutError:
                raise self._late() from None
            if answer.method is not None:
                continue
            if answer.error is not None:
                raise answer.error
            if answer.id == self._last_id:
                return answer.result

    def watch(
        self,
        topic: str,
        interval: float,
        deadline: float | None,
        reader: int | None = None,
        **params: Any,
    ) -> Iterator[Any]:
        """Snapshots of one topic as records, until `deadline` (`time.monotonic`).

        `reader` as in `watch_raw`.
        """
        kind = self._methods[topic].result
        for data in self.watch_raw(topic, interval, deadline, reader, params):
            yield spoken(kind, from_json(kind, data, strict=False))

    def watch_raw(
        self,
        topic: str,
        interval: float,
        deadline: float | None,
        reader: int | None,
        params: Mapping[str, Any],
    ) -> Iterator[Any]:
        """The same as plain JSON values, with the parameters as given.

        `reader` is the descriptor that they are written to: when nobody reads there any more,
        `BrokenPipeError` is raised at once, not at the next snapshot.
        """
        self.call("subscribe", topics=[topic], interval=interval, params={topic: params})
        while True:
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._socket.settimeout(left)
            else:
                self._socket.settimeout(None)
            try:
                answer = self._receive(reader)
            except TimeoutError:
                return
            if answer.method == "snapshot" and isinstance(answer.params, dict):
                yield answer.params.get("data")

    def wait_closed(self, timeout: float) -> bool:
        """Whether the service hung up within `timeout` seconds (after `shutdown`)."""
        self._socket.settimeout(timeout)
        try:
            while self._socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def _send(self, line: bytes) -> None:
        try:
            self._socket.sendall(line)
        except TimeoutError:
            raise self._late() from None
        except OSError as exc:
            # The service may have said why before it hung up (another user, too many
            # connections): its sentence is better than ours.
            raise self._farewell() or unavailable(self.path, self.role, exc) from None

    def _farewell(self) -> ControlError | None:
        try:
            return self._receive().error
        except (ControlError, OSError):
            return None

    def _receive(self, reader: int | None = None) -> Answer:
        while True:
            try:
                line = self._lines.next_line()
            except LineTooLong:
                raise ControlError(
                    Code.INTERNAL_ERROR, "The service's answer is too long."
                ) from None
            if line is not None:
                return parse_answer(line)
            if reader is not None:
                self._wait(reader)
            try:
                data = self._socket.recv(262144)
            except TimeoutError:
                raise
            except OSError as exc:
                raise unavailable(self.path, self.role, exc) from None
            if not data:
                raise ServiceUnavailable(
                    f"The {self.role} service ended the connection.",
                    f"See whether it runs: vpnshare status. {START[self.role]}",
                )
            self._lines.feed(data)

    def _wait(self, reader: int) -> None:
        """Until something has come. Raises `BrokenPipeError` when `reader` has gone."""
        # POLLERR and POLLHUP are told without being asked for (poll(2)).
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(reader, 0)
        timeout = self._socket.gettimeout()
        ready = poll.poll(None if timeout is None else timeout * 1000)
        if not ready:
            raise TimeoutError
        if all(descriptor == reader for descriptor, _ in ready):
            raise BrokenPipeError

    def _late(self) -> ControlError:
        return ControlError(
            Code.TIMED_OUT,
            f"The {self.role} service does not answer.",
            f"If it goes on, end it: vpnshare down --role {self.role}",
        )
