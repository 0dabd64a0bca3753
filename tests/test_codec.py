"""Bytes and records: what is read, what is refused, and by which code."""

import pytest

from services import codec
from services.errors import BadRecord, Fault
from services.records import VERSION, Message, derived_conversation, scoped
from tests.builders import NOON_MS, message


def test_a_message_survives_its_journey() -> None:
    whole = message(text='"\0\u2028😀', extra={"truth": {"n": 1}}, in_reply_to="e-0")
    assert codec.decode(codec.encode(whole), Message) == whole


@pytest.mark.parametrize(
    ("value", "fault", "field"),
    [
        (None, Fault.TOMBSTONE, ""),
        (b"{", Fault.NOT_JSON, ""),
        (b"[]", Fault.WRONG_TYPE, ""),
        (b'{"v": 1, "event_id": 3}', Fault.WRONG_TYPE, "event_id"),
        (codec.encode(message()).replace(b'"v":1', b'"v":2'), Fault.BAD_VERSION, "v"),
    ],
)
def test_what_is_no_record_has_a_code(value: bytes | None, fault: Fault, field: str) -> None:
    with pytest.raises(BadRecord) as refused:
        codec.decode(value, Message)
    assert (refused.value.fault, refused.value.field) == (fault, field)


def test_the_version_before_is_read() -> None:
    assert codec.decode(codec.encode(message()).replace(b'"v":1', b'"v":0'), Message).v == VERSION - 1


@pytest.mark.parametrize("moment", ["2026-11-25T12:00:00.000Z", "2026-11-25t14:00:00+02:00", NOON_MS])
def test_moments_are_read_in_either_form(moment: object) -> None:
    assert codec.rfc3339(codec.epoch_ms(moment, "sent_at")) == "2026-11-25T12:00:00.000Z"


def test_every_moment_that_is_read_can_be_written() -> None:
    assert codec.rfc3339(codec.epoch_ms(-62_135_596_800_000, "t")) == "0001-01-01T00:00:00.000Z"
    assert codec.rfc3339(codec.epoch_ms(253_402_300_799_999, "t")) == "9999-12-31T23:59:59.999Z"


def test_keys_of_different_scopes_never_meet() -> None:
    scopes = [("a", "b/c", "d"), ("a/b", "c", "d"), ("a", "b", "c/d"), ("a%2Fb", "c", "d")]
    assert len({scoped(*scope) for scope in scopes}) == len(scopes)


def test_a_derived_conversation_knows_its_members_apart() -> None:
    assert derived_conversation("a", ["bc"]) != derived_conversation("ab", ["c"])
    assert derived_conversation("a", ["b", "c"]) == derived_conversation("c", ["b", "a"])
