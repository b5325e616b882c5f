"""The host's end as a dialogue: what the phone says, and what is said to it."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reach.adb_host import (
    CHUNK,
    GREETING_PAUSE,
    MAX_OUTSTANDING,
    MAX_REFUSALS,
    MAX_STREAMS,
    MAX_TOKENS,
    PAYLOAD_SECONDS,
    SIGNED_SECONDS,
    WINDOW,
    AdbHost,
    AskedAtPhone,
    Ended,
    Event,
    Online,
    Opened,
    Received,
    State,
    Writable,
    features,
)
from reach.adb_wire import HEADER, MAX_PAYLOAD, VERSION, Command, Violation

TOKEN = b"t" * 20
BANNER = b"device::ro.product.model=Double;features=shell_v2,cmd"
DELAYED = BANNER + b",delayed_ack"
MIB = 1 << 20


class Signer:
    def sign(self, token: bytes) -> bytes:
        return b"signed " + token

    def public_key(self) -> bytes:
        return b"KEY laptop"


class Phone:
    """The far end, played by hand."""

    def __init__(self) -> None:
        self.host = AdbHost(Signer(), 512)
        self.host.start(0.0)

    def says(
        self, command: int, arg0: int = 0, arg1: int = 0, payload: bytes = b"", now: float = 0.0
    ) -> list[Event]:
        head = HEADER.pack(command, arg0, arg1, len(payload), 0, command ^ 0xFFFFFFFF)
        events = self.host.receive(memoryview(head), now)
        return self.host.receive(memoryview(payload), now) if payload else events

    def hears(self) -> list[tuple[str, int, int, bytes]]:
        heard = []
        while (transfers := self.host.outgoing()) is not None:
            command, arg0, arg1, size, _, _ = HEADER.unpack(transfers[0])
            payload = bytes(transfers[1]) if size else b""
            heard.append((Command(command).name, arg0, arg1, payload))
        return heard

    def greets(self, banner: bytes = DELAYED, most: int = MIB, version: int = VERSION) -> Phone:
        self.says(Command.CNXN, version, most, banner)
        self.hears()
        return self

    def opens(self, remote: int = 7, grant: int = 32 * MIB) -> int:
        number = self.host.open("tcp:47800")
        self.hears()
        ack = struct.pack("<i", grant) if self.host.delayed else b""
        assert self.says(Command.OKAY, remote, number, ack) == [Opened(number)]
        return number


def ack(size: int) -> bytes:
    return struct.pack("<i", size)


# --- getting in --------------------------------------------------------------------------------


def test_a_phone_that_asks_nothing_is_online_at_its_greeting() -> None:
    phone = Phone()
    banner = b"host::features=shell_v2,cmd,delayed_ack"
    assert phone.hears() == [("CNXN", VERSION, MAX_PAYLOAD, banner)]
    assert phone.says(Command.CNXN, VERSION, MIB, DELAYED + b"\0") == [Online(DELAYED.decode())]
    assert phone.host.state is State.ONLINE and phone.host.delayed
    assert phone.host.max_payload == MAX_PAYLOAD and phone.host.get_timer() is None


def test_a_known_key_signs_and_an_unknown_one_is_offered_to_the_person() -> None:
    phone = Phone()
    phone.hears()
    assert phone.says(Command.AUTH, 1, 0, TOKEN) == []
    assert phone.hears() == [("AUTH", 2, 0, b"signed " + TOKEN)]
    assert phone.says(Command.AUTH, 1, 0, TOKEN) == [AskedAtPhone()]
    assert phone.hears() == [("AUTH", 3, 0, b"KEY laptop\0")]
    assert phone.host.state is State.OFFERED and phone.host.get_timer() is None
    assert phone.says(Command.CNXN, VERSION, MIB, BANNER) == [Online(BANNER.decode())]


def test_a_phone_that_says_nothing_is_greeted_twice_and_then_silent() -> None:
    phone = Phone()
    phone.hears()
    assert phone.host.get_timer() == GREETING_PAUSE
    phone.host.handle_timer(GREETING_PAUSE - 0.1)
    assert phone.hears() == []
    phone.host.handle_timer(GREETING_PAUSE)
    assert [said[0] for said in phone.hears()] == ["CNXN"]
    phone.host.handle_timer(2 * GREETING_PAUSE)
    assert phone.host.state is State.SILENT and phone.hears() == []


def test_a_phone_that_does_not_look_a_signature_up_is_silent() -> None:
    phone = Phone()
    phone.says(Command.AUTH, 1, 0, TOKEN, now=1.0)
    assert phone.host.get_timer() == 1.0 + SIGNED_SECONDS
    phone.host.handle_timer(1.0 + SIGNED_SECONDS)
    assert phone.host.state is State.SILENT


def test_an_earlier_sessions_greeting_is_followed_by_the_question_that_is_for_us() -> None:
    phone = Phone().greets()
    number = phone.host.open("tcp:1")
    phone.hears()
    assert phone.says(Command.AUTH, 1, 0, TOKEN) == []
    assert phone.hears() == [("AUTH", 2, 0, b"signed " + TOKEN)]
    phone.says(Command.CNXN, VERSION, MIB, DELAYED)
    assert phone.hears() == [("OPEN", number, WINDOW, b"tcp:1\0")]


def test_an_earlier_sessions_messages_are_skipped() -> None:
    phone = Phone()
    for command in (Command.WRTE, Command.OKAY, Command.CLSE, Command.OPEN, 0x12345678):
        assert phone.says(command, 1, 1, b"left over") == []
    assert phone.host.counters["stale__skipped"] == 5
    assert phone.says(Command.CNXN, VERSION, MIB, BANNER) == [Online(BANNER.decode())]


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ((Command.CNXN, 0x00FFFFFF, MIB, BANNER), "version"),
        ((Command.CNXN, VERSION, 4095, BANNER), "payload_limit"),
        ((Command.CNXN, VERSION, 0, BANNER), "payload_limit"),
        ((Command.CNXN, VERSION, MIB, bytes(4097)), "banner_size"),
        ((Command.AUTH, 1, 0, b"short"), "token_size"),
        ((Command.AUTH, 1, 0, bytes(4096)), "token_size"),
        ((Command.STLS, 0, 0, b""), "tls_on_usb"),
    ],
)
def test_a_greeting_that_cannot_be_is_named(said: tuple[Any, ...], name: str) -> None:
    phone = Phone()
    with pytest.raises(Violation) as caught:
        phone.says(*said)
    assert caught.value.name == name
    assert phone.host.counters[f"violation__{name}"] == 1


def test_tokens_without_end_end_it() -> None:
    phone = Phone()
    with pytest.raises(Violation) as caught:
        for _ in range(MAX_TOKENS + 3):
            phone.says(Command.AUTH, 1, 0, TOKEN)
    assert caught.value.name == "tokens_without_end"


# --- streams -----------------------------------------------------------------------------------


def test_a_stream_is_asked_for_opened_and_closed() -> None:
    phone = Phone().greets()
    number = phone.host.open("tcp:47800")
    assert phone.hears() == [("OPEN", number, WINDOW, b"tcp:47800\0")]
    assert phone.host.room(number) == 0
    assert phone.says(Command.OKAY, 9, number, ack(32 * MIB)) == [Opened(number)]
    assert phone.host.room(number) == CHUNK
    phone.host.close(number)
    assert phone.hears() == [("CLSE", number, 9, b"")]
    assert phone.host.streams == 0


def test_a_stream_that_nobody_listens_for_is_refused() -> None:
    phone = Phone().greets()
    number = phone.host.open("tcp:1")
    assert phone.says(Command.CLSE, 0, number) == [Ended(number, refused=True)]
    assert phone.host.streams == 0


def test_a_stream_that_is_given_up_before_the_answer_is_closed_at_it() -> None:
    phone = Phone().greets()
    number = phone.host.open("tcp:1")
    phone.hears()
    phone.host.close(number)
    assert phone.hears() == [] and phone.host.streams == 1
    assert phone.says(Command.OKAY, 5, number, ack(1000)) == []
    assert phone.hears() == [("CLSE", number, 5, b"")] and phone.host.streams == 0
    other = phone.host.open("tcp:2")
    phone.host.close(other)
    assert phone.says(Command.CLSE, 0, other) == [] and phone.host.streams == 0


def test_streams_are_bounded_and_so_are_their_names() -> None:
    phone = Phone().greets()
    for _ in range(MAX_STREAMS):
        phone.host.open("tcp:1")
    with pytest.raises(ValueError, match="too many"):
        phone.host.open("tcp:1")
    with pytest.raises(ValueError, match="no service"):
        Phone().greets().host.open("tcp:1\0")


def test_a_phone_that_wants_a_stream_to_us_is_refused_and_not_without_end() -> None:
    phone = Phone().greets()
    phone.says(Command.OPEN, 3, 0, b"shell:\0")
    assert phone.hears() == [("CLSE", 0, 3, b"")]
    with pytest.raises(Violation) as caught:
        for _ in range(MAX_REFUSALS + 1):
            phone.says(Command.OPEN, 3, 0, b"shell:\0")
    assert caught.value.name == "opens_without_end"


# --- flow control ------------------------------------------------------------------------------


def test_by_bytes_no_more_is_outstanding_than_our_own_bound() -> None:
    phone = Phone().greets()
    number = phone.opens()
    sent = 0
    while room := phone.host.room(number):
        phone.host.write(number, bytes(room))
        sent += room
    assert sent == MAX_OUTSTANDING
    assert phone.says(Command.OKAY, 7, number, ack(1000)) == [Writable(number)]
    assert phone.host.room(number) == 1000


def test_by_bytes_the_phones_grant_counts_and_may_be_debt() -> None:
    phone = Phone().greets()
    number = phone.opens(grant=100)
    phone.host.write(number, bytes(100))
    assert phone.says(Command.OKAY, 7, number, ack(-50)) == []
    assert phone.host.room(number) == 0
    assert phone.says(Command.OKAY, 7, number, ack(60)) == [Writable(number)]
    assert phone.host.room(number) == 10


def test_a_phone_that_grants_without_end_is_not_believed_beyond_the_bound() -> None:
    phone = Phone().greets()
    number = phone.opens(grant=2**31 - 1)
    for _ in range(5):
        phone.says(Command.OKAY, 7, number, ack(2**31 - 1))
    assert phone.host.room(number) == CHUNK
    phone.host.write(number, bytes(CHUNK))
    assert phone.host.room(number) == MAX_OUTSTANDING - CHUNK


def test_one_at_a_time_waits_for_each_okay() -> None:
    phone = Phone().greets(BANNER)
    number = phone.host.open("tcp:1")
    assert phone.hears() == [("OPEN", number, 0, b"tcp:1\0")]
    assert phone.says(Command.OKAY, 7, number) == [Opened(number)]
    phone.host.write(number, b"one")
    assert phone.host.room(number) == 0
    assert phone.says(Command.OKAY, 7, number) == [Writable(number)]
    assert phone.host.room(number) == CHUNK


def test_what_comes_is_given_back_as_it_is_consumed() -> None:
    phone = Phone().greets()
    number = phone.opens()
    assert phone.says(Command.WRTE, 7, number, b"x" * 1000) == [Received(number, b"x" * 1000)]
    assert phone.hears() == [] and not phone.host.due
    phone.host.consumed(number, 300)
    phone.host.consumed(number, 200)
    assert phone.host.due
    assert phone.hears() == [("OKAY", number, 7, ack(500))]


def test_one_at_a_time_the_next_is_asked_for_when_all_is_consumed() -> None:
    phone = Phone().greets(BANNER)
    number = phone.opens()
    phone.says(Command.WRTE, 7, number, b"x" * 1000)
    phone.host.consumed(number, 999)
    assert phone.hears() == [] and not phone.host.due
    phone.host.consumed(number, 1)
    assert phone.host.due
    assert phone.hears() == [("OKAY", number, 7, b"")]


def test_more_than_was_granted_is_a_violation() -> None:
    phone = Phone().greets()
    number = phone.opens()
    for _ in range(WINDOW // MAX_PAYLOAD):
        phone.says(Command.WRTE, 7, number, bytes(MAX_PAYLOAD))
    with pytest.raises(Violation) as caught:
        phone.says(Command.WRTE, 7, number, b"x")
    assert caught.value.name == "window"


@pytest.mark.parametrize(
    ("banner", "said", "name"),
    [
        (BANNER, ((Command.WRTE, 7, 1, b"a"), (Command.WRTE, 7, 1, b"b")), "write_before_okay"),
        (BANNER, ((Command.OKAY, 7, 1, b"1234"),), "ack_size"),
        (DELAYED, ((Command.OKAY, 7, 1, b""),), "ack_size"),
        (DELAYED, ((Command.OKAY, 7, 1, b"12345678"),), "ack_size"),
        (DELAYED, ((Command.OKAY, 0, 1, b"1234"),), "stream_number"),
        (DELAYED, ((Command.CNXN, VERSION, MIB, DELAYED),), "greeted_again"),
        (DELAYED, ((Command.AUTH, 1, 0, TOKEN),), "let_out"),
        (DELAYED, ((0x11111111, 0, 0, b""),), "unknown_command"),
        (DELAYED, ((Command.STLS, 0, 0, b""),), "unknown_command"),
    ],
)
def test_what_an_online_phone_may_not_say_is_named(
    banner: bytes, said: tuple[tuple[Any, ...], ...], name: str
) -> None:
    phone = Phone().greets(banner)
    assert phone.opens() == 1
    with pytest.raises(Violation) as caught:
        for each in said:
            phone.says(*each)
    assert caught.value.name == name


def test_data_before_the_answer_is_a_violation() -> None:
    phone = Phone().greets()
    number = phone.host.open("tcp:1")
    with pytest.raises(Violation) as caught:
        phone.says(Command.WRTE, 7, number, b"x")
    assert caught.value.name == "data_too_early"


def test_what_is_about_a_stream_that_is_over_is_counted() -> None:
    """Messages cross; and another stream's number at the phone is none of ours."""
    phone = Phone().greets()
    number = phone.opens()
    assert phone.says(Command.WRTE, 8, number, b"x") == []
    phone.host.close(number)
    for command, payload in ((Command.OKAY, ack(1)), (Command.WRTE, b"x"), (Command.CLSE, b"")):
        assert phone.says(command, 7, number, payload) == []
    assert phone.host.counters["stream__unknown"] == 4


def test_a_payload_that_was_announced_and_does_not_come_ends_it() -> None:
    phone = Phone().greets()
    head = HEADER.pack(Command.WRTE, 7, 1, 100, 0, Command.WRTE ^ 0xFFFFFFFF)
    phone.host.receive(memoryview(head), 10.0)
    assert phone.host.get_timer() == 10.0 + PAYLOAD_SECONDS
    phone.host.handle_timer(10.0 + PAYLOAD_SECONDS - 0.1)
    with pytest.raises(Violation) as caught:
        phone.host.handle_timer(10.0 + PAYLOAD_SECONDS)
    assert caught.value.name == "payload_missing"


def test_features_are_found_wherever_they_stand() -> None:
    assert features("device::a=b;features=x,y;c=d") == {"x", "y"}
    assert features("device::a=b") == features("") == frozenset()
    assert features("device::nofeatures=delayed_ack") == frozenset()


COMMANDS = st.sampled_from([*(int(command) for command in Command), 0, 0xFFFFFFFF])
SMALL = st.integers(0, 9)


@settings(max_examples=200)
@given(
    st.booleans(),
    st.lists(st.tuples(COMMANDS, SMALL, SMALL, st.binary(max_size=40)), max_size=40),
)
def test_whatever_a_phone_says_is_answered_or_named_and_nothing_grows(
    delayed: bool, said: list[tuple[int, int, int, bytes]]
) -> None:
    phone = Phone().greets(DELAYED if delayed else BANNER)
    for _ in range(3):
        phone.host.open("tcp:1")
    for message in said:
        try:
            events = phone.says(*message)
        except Violation as violation:
            assert phone.host.counters[f"violation__{violation.name}"] == 1
            return
        for event in events:
            if isinstance(event, Received):
                phone.host.consumed(event.stream, len(event.data))
        assert phone.host.streams <= 3
        assert len(phone.host._queue) <= MAX_REFUSALS + MAX_STREAMS + 2
        for number in range(1, 4):
            assert phone.host.room(number) <= CHUNK
