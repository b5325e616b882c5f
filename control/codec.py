"""JSON values to records and back, and JSON-RPC 2.0 messages to lines and back.

`to_json` and `from_json` know no record by name: they follow the annotations
of frozen dataclasses. Decoding is strict: a bool is no number, a number no
string, nothing is converted but int to float. Unknown fields are refused in what a
client asks (a typing error must not pass silently) and ignored in what a
service answers (an added field does not raise the API's version). An error
names the place of its value, which is found out when there is an error: a page
of flows has a thousand places.

A message is one line of UTF-8 JSON that ends in LF. Lines are bounded, both
ways. Batches (JSON-RPC 2.0 section 6) are not used: a client may simply send
several lines.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, cast

from control.errors import Code, ControlError

MAX_REQUEST = 64 * 1024
"""Bytes of a line from a client. The longest honest one holds a pairing URI of about 500."""
MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of a line from a service: a page of 2,000 flows is about 700 KiB."""

T = TypeVar("T")
_Decoder = Callable[[object, str], Any]


class CodecError(ValueError):
    """A JSON value that does not fit its record. The text names the place."""


def to_json(value: object) -> Any:
    """A record, or a list or dict of them, as plain JSON values."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(getattr(value, name)) for name in _field_names(type(value))}
    raise TypeError(f"{type(value).__name__} is no JSON value")


def from_json(kind: type[T], value: object, *, strict: bool = True) -> T:
    """Build a `kind` (a record, or `list[...]`, `dict[str, ...]` of such) from JSON values.

    `strict` refuses unknown fields; otherwise they are ignored. Raises `CodecError`.
    """
    return cast(T, _decoder(kind, strict)(value, ""))


def _field_names(kind: type) -> tuple[str, ...]:
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(f.name for f in fields(kind))
    return names


def _decoder(kind: Any, strict: bool) -> _Decoder:
    decoder = _DECODERS.get((kind, strict))
    if decoder is None:
        decoder = _DECODERS[(kind, strict)] = _make_decoder(kind, strict)
    return decoder


# One entry for each annotation of the schema; peers cannot make them grow.
_NAMES: dict[type, tuple[str, ...]] = {}
_DECODERS: dict[tuple[Any, bool], _Decoder] = {}


def _make_decoder(kind: Any, strict: bool) -> _Decoder:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(kind), strict)
    if origin is list:
        return _list(typing.get_args(kind)[0], strict)
    if origin is dict:
        return _dict(typing.get_args(kind)[1], strict)
    if kind is Any:
        return lambda value, where: value
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind, strict)
    raise TypeError(f"the codec has no rule for {kind!r}")


def _fail(where: str, wanted: str, value: object) -> CodecError:
    got = _JSON_NAMES.get(type(value), type(value).__name__)
    return CodecError(f"{where or 'the value'} must be {wanted}, not {got}")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _fail(where, "a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise CodecError(f"{where or 'the value'} holds half a surrogate pair") from None
    return value


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _fail(where, "a whole number", value)
    return value


def _number(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _fail(where, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise CodecError(f"{where or 'the value'} must be a finite number")
    return number


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _fail(where, "true or false", value)
    return value


def _nothing(value: object, where: str) -> None:
    if value is not None:
        raise _fail(where, "null", value)


_SCALARS: dict[Any, _Decoder] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _boolean,
    type(None): _nothing,
}
_JSON_NAMES: dict[type, str] = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    list: "a list",
    dict: "an object",
}


def _union(kinds: tuple[Any, ...], strict: bool) -> _Decoder:
    optional = type(None) in kinds
    decoders = [_decoder(kind, strict) for kind in kinds if kind is not type(None)]

    def decode(value: object, where: str) -> Any:
        if optional and value is None:
            return None
        error: CodecError | None = None
        for decoder in decoders:
            try:
                return decoder(value, where)
            except CodecError as exc:
                error = error or exc
        raise error or _fail(where, "null", value)

    return decode


def _list(kind: Any, strict: bool) -> _Decoder:
    item = _decoder(kind, strict)

    def decode(value: object, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise _fail(where, "a list", value)
        try:
            return [item(part, "") for part in value]
        except CodecError:  # now the same with places, which the error is to name
            for n, part in enumerate(value):
                item(part, f"{where}[{n}]")
            raise

    return decode


def _dict(kind: Any, strict: bool) -> _Decoder:
    item = _decoder(kind, strict)

    def decode(value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _fail(where, "an object", value)
        try:
            return {_text(k, "a key"): item(v, "") for k, v in value.items()}
        except CodecError:
            for name, part in value.items():
                _text(name, "a key")
                item(part, _join(where, name))
            raise

    return decode


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _record(kind: type, strict: bool) -> _Decoder:
    hints = typing.get_type_hints(kind)
    parts = {f.name: _decoder(hints[f.name], strict) for f in fields(kind)}
    required = [
        f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING
    ]

    def decode(value: object, where: str) -> Any:
        if not isinstance(value, dict):
            raise _fail(where, "an object", value)
        found = {}
        for name, part in value.items():
            decoder = parts.get(name)
            if decoder is not None:
                try:
                    found[name] = decoder(part, "")
                except CodecError:
                    decoder(part, _join(where, name))  # raises, and names the place
                    raise
            elif strict:
                known = ", ".join(parts) or "none"
                raise CodecError(f"{_join(where, name)!r} is not known here (known: {known})")
        for name in required:
            if name not in found:
                raise CodecError(f"{_join(where, name)!r} is missing")
        try:
            return kind(**found)
        except CodecError:
            raise
        except ValueError as exc:  # a record's own check, from its __post_init__
            raise CodecError(str(exc)) from exc

    return decode


@dataclass(frozen=True, slots=True)
class Request:
    """A call. `id` is None for a notification: nothing is answered."""

    id: int | str | None
    method: str
    params: dict[str, Any]
    notification: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service sends: the answer to call `id`, or (`method` set) a notification."""

    id: int | str | None
    result: Any = None
    error: ControlError | None = None
    method: str | None = None
    params: Any = None


def encode_line(message: dict[str, Any]) -> bytes:
    """A message as its line. ASCII only, so that no character can look like a line's end."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def encode_request(id: int | str, method: str, params: dict[str, Any]) -> bytes:
    return encode_line({"jsonrpc": "2.0", "id": id, "method": method, "params": params})


def encode_result(id: int | str | None, result: Any) -> bytes:
    return encode_line({"jsonrpc": "2.0", "id": id, "result": result})


def encode_error(id: int | str | None, error: ControlError) -> bytes:
    return encode_line({"jsonrpc": "2.0", "id": id, "error": error.to_json()})


def encode_notification(method: str, params: Any) -> bytes:
    return encode_line({"jsonrpc": "2.0", "method": method, "params": params})


def _load(line: bytes) -> Any:
    try:
        return json.loads(line.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ControlError(Code.PARSE_ERROR, "The message is nested too deeply.") from None
    except ValueError as exc:  # bad UTF-8, bad JSON, a number with too many digits
        raise ControlError(Code.PARSE_ERROR, f"The message is no JSON: {exc}") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


class BadRequest(Exception):
    """A line that is no request: `error` is to be answered under `id`."""

    def __init__(self, id: int | str | None, error: ControlError) -> None:
        super().__init__(error.message)
        self.id = id
        self.error = error


def parse_request(line: bytes) -> Request:
    """A client's line as a `Request`; raises `BadRequest` with what to answer."""
    try:
        value = _load(line)
    except ControlError as exc:
        raise BadRequest(None, exc) from None
    if isinstance(value, list):
        error = ControlError(Code.INVALID_REQUEST, "Batches are not used: send a line per call.")
        raise BadRequest(None, error)
    if not isinstance(value, dict):
        raise BadRequest(None, ControlError(Code.INVALID_REQUEST, "A request is an object."))
    id = value.get("id")
    if id is not None and (isinstance(id, bool) or not isinstance(id, int | str)):
        raise BadRequest(None, ControlError(Code.INVALID_REQUEST, "`id` is a number or a string."))
    method, params = value.get("method"), value.get("params", {})
    if value.get("jsonrpc") != "2.0":
        raise BadRequest(id, ControlError(Code.INVALID_REQUEST, '`jsonrpc` must be "2.0".'))
    if not isinstance(method, str):
        raise BadRequest(id, ControlError(Code.INVALID_REQUEST, "`method` must be a string."))
    if not isinstance(params, dict):
        raise BadRequest(id, ControlError(Code.INVALID_PARAMS, "`params` must be an object."))
    return Request(id, method, params, notification="id" not in value)


def parse_answer(line: bytes) -> Answer:
    """A service's line as an `Answer`; raises `ControlError` when it is none."""
    value = _load(line)
    if isinstance(value, dict) and value.get("jsonrpc") == "2.0":
        method = value.get("method")
        if isinstance(method, str):
            return Answer(None, method=method, params=value.get("params"))
        id = value.get("id")
        if "error" in value:
            return Answer(id, error=ControlError.from_json(value["error"]))
        if "result" in value:
            return Answer(id, result=value["result"])
    raise ControlError(Code.INTERNAL_ERROR, "The service sent what is no JSON-RPC answer.")


class LineTooLong(Exception):
    """More bytes than the bound came without a line's end."""


class LineBuffer:
    """Cuts a byte stream into lines of at most `limit` bytes."""

    __slots__ = ("_data", "_limit", "_searched")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        self._data += data

    def __len__(self) -> int:
        return len(self._data)

    def next_line(self) -> bytes | None:
        """The next whole line without its end, or None; raises `LineTooLong`."""
        end = self._data.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._data)
            if self._searched > self._limit:
                raise LineTooLong
            return None
        if end > self._limit:
            raise LineTooLong
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        self._searched = 0
        return line

    def lines(self) -> Iterator[bytes]:
        """All whole lines that are there."""
        while (line := self.next_line()) is not None:
            yield line
