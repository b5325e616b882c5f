"""The fuzz target itself works, and a short random run finds nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.wire_target import TARGETS, play


@pytest.mark.parametrize("target", range(len(TARGETS)))
@settings(deadline=None, max_examples=40)
@given(data=st.binary(max_size=300))
def test_only_named_errors_come_out(target: int, data: bytes) -> None:
    play(bytes((target,)) + data)
