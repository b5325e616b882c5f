"""The codec: records, messages, lines."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import codec, schema
from control.codec import (
    BadRequest,
    CodecError,
    LineBuffer,
    LineTooLong,
    from_json,
    parse_answer,
    parse_request,
    to_json,
)
from control.errors import Code, ControlError
from control.methods import CLIENT, GATEWAY, FlowsParams, SubscribeParams
from tests.fakes import services as fakes


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Outer:
    id: int
    on: bool
    inner: Inner | None = None
    many: list[Inner] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


inners = st.builds(Inner, st.text(), st.floats(allow_nan=False, allow_infinity=False))
outers = st.builds(
    Outer,
    st.integers(),
    st.booleans(),
    st.none() | inners,
    st.lists(inners, max_size=3),
    st.dictionaries(st.text(), st.integers(), max_size=3),
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(outers)
def test_records_survive_the_line(record: Outer) -> None:
    line = codec.encode_result(1, to_json(record))
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    assert from_json(Outer, json.loads(line)["result"]) == record


@pytest.mark.parametrize(
    "record",
    [
        fakes.PretendGateway().status_now(),
        fakes.PretendClient().status,
        schema.Flows(40, fakes.PretendGateway().flows),
        fakes.request(),
    ],
)
def test_the_schema_survives(record: Any) -> None:
    assert from_json(type(record), json.loads(json.dumps(to_json(record)))) == record


@pytest.mark.parametrize("method", [*GATEWAY.values(), *CLIENT.values()], ids=lambda m: m.name)
def test_the_codec_knows_every_annotation_of_the_tables(method: Any) -> None:
    """Building a decoder walks all annotations; one without a rule raises TypeError."""
    for kind in (method.params, method.result):
        with pytest.raises(CodecError):
            from_json(kind, "no such value")


@settings(deadline=None, max_examples=200)
@given(junk)
def test_junk_is_refused_by_name_or_taken(value: Any) -> None:
    for kind in (Outer, FlowsParams, SubscribeParams, schema.GatewayStatus):
        try:
            record = from_json(kind, value)
        except CodecError as error:
            assert str(error)
        else:
            assert isinstance(record, kind)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"id": True, "on": True}, "id must be a whole number, not true or false"),
        ({"id": 1.0, "on": True}, "id must be a whole number, not a number"),
        ({"id": 1, "on": 1}, "on must be true or false, not a number"),
        ({"id": 1}, "'on' is missing"),
        ({"id": 1, "on": True, "of": 2}, "'of' is not known here"),
        ({"id": 1, "on": True, "inner": {"name": 3}}, "inner.name must be a string, not a number"),
        ({"id": 1, "on": True, "many": [{}]}, "'many[0].name' is missing"),
        ({"id": 1, "on": True, "counts": {"a": None}}, "counts.a must be a whole number, not null"),
        ({"id": 1, "on": True, "inner": {"name": "\ud800"}}, "inner.name holds half a surrogate"),
        ({"id": 1, "on": True, "inner": {"name": "", "weight": math.inf}}, "must be a finite"),
        ({"id": 1, "on": True, "inner": {"name": "", "weight": 10**400}}, "must be a finite"),
        ([], "the value must be an object, not a list"),
    ],
)
def test_errors_name_the_place(value: Any, text: str) -> None:
    with pytest.raises(CodecError) as caught:
        from_json(Outer, value)
    assert text in str(caught.value)


def test_answers_may_have_fields_that_we_do_not_know() -> None:
    value = {"id": 1, "on": False, "inner": {"name": "a", "later": 1}, "added": []}
    assert from_json(Outer, value, strict=False) == Outer(1, False, Inner("a"))


def test_whole_numbers_do_for_numbers() -> None:
    record = from_json(Inner, {"name": "a", "weight": 2})
    assert isinstance(record.weight, float)


@pytest.mark.parametrize(
    ("line", "code", "id"),
    [
        (b"{", Code.PARSE_ERROR, None),
        (b"\xff", Code.PARSE_ERROR, None),
        (b"[" * 50_000, Code.PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"status","params":{"a":NaN}}', Code.PARSE_ERROR, None),
        (b"1" * 5_000, Code.PARSE_ERROR, None),
        (b"[]", Code.INVALID_REQUEST, None),
        (b'"status"', Code.INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"status"}', Code.INVALID_REQUEST, None),
        (b'{"jsonrpc":"1.0","id":7,"method":"status"}', Code.INVALID_REQUEST, 7),
        (b'{"jsonrpc":"2.0","id":"x","method":1}', Code.INVALID_REQUEST, "x"),
        (b'{"jsonrpc":"2.0","id":7,"method":"status","params":[1]}', Code.INVALID_PARAMS, 7),
    ],
)
def test_bad_requests_are_answered(line: bytes, code: Code, id: int | str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_request(line)
    assert (caught.value.error.code, caught.value.id) == (code, id)


def test_a_request_without_id_is_a_notification() -> None:
    assert parse_request(b'{"jsonrpc":"2.0","method":"status"}').notification
    assert not parse_request(b'{"jsonrpc":"2.0","method":"status","id":null}').notification


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=80) | junk.map(lambda value: json.dumps(value).encode()))
def test_junk_lines_raise_their_error_only(line: bytes) -> None:
    try:
        parse_request(line)
    except BadRequest as error:
        assert error.error.message
    try:
        parse_answer(line)
    except ControlError as refused:
        assert refused.message


def test_errors_keep_hint_and_name() -> None:
    error = ControlError(Code.REFUSED, "No.", "Ask first.", "denied")
    answer = parse_answer(codec.encode_error(3, error))
    assert answer.id == 3 and answer.error is not None
    assert answer.error.to_json() == error.to_json()
    assert ControlError.from_json({"code": "x"}).code == Code.INTERNAL_ERROR


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b)), st.integers(1, 7))
def test_lines_are_cut_wherever_the_stream_is(lines: list[bytes], step: int) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    buffer = LineBuffer(20)
    found: list[bytes] = []
    for start in range(0, len(stream), step):
        buffer.feed(stream[start : start + step])
        found.extend(buffer.lines())
    assert found == lines and len(buffer) == 0


@pytest.mark.parametrize("data", [b"x" * 21, b"x" * 21 + b"\n"])
def test_a_line_has_a_bound(data: bytes) -> None:
    buffer = LineBuffer(20)
    buffer.feed(data)
    with pytest.raises(LineTooLong):
        buffer.next_line()
