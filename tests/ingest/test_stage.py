"""Ingest: every record gives messages or a dead letter, and the other side of a conversation is told."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import codec
from services.deadletter import MAX_ROW, WINDOW_RECORDS, Limit
from services.errors import Fault
from services.ingest.adapters import Form
from services.ingest.stage import Batch, ingest
from services.kafka import partition_of
from services.records import Contacts, Inbound, Message, Output
from services.topics import DEAD_LETTER, MAX_EVENT_BYTES, MESSAGES
from tests.builders import NOON_MS, Record, event, event_record

CE_BINARY = (("ce_specversion", b"1.0"), ("ce_id", b"ce-9"), ("ce_time", b"2026-11-25T12:00:00Z"))


def run(*records: Inbound, partitions: int = 4) -> Batch:
    return ingest(records, lambda key: partition_of(key, partitions), partitions, NOON_MS)


def messages(batch: Batch) -> list[Message]:
    return [codec.decode(output.value, Message) for output in batch.outputs if output.topic == MESSAGES and output.key]


def dead(batch: Batch) -> list[Output]:
    return [output for output in batch.outputs if output.topic == DEAD_LETTER]


def envelope(**parts: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "ce-9", "type": "dm", "source": "x", "data": event()} | parts


@pytest.mark.parametrize(
    ("record", "form", "event_id"),
    [
        (event_record(), Form.NATIVE, "e-1"),
        (event_record(*CE_BINARY, event_id=None, sent_at=None), Form.CLOUDEVENTS_BINARY, "ce-9"),
        (Record(codec.dumps(envelope())), Form.CLOUDEVENTS, "e-1"),
        (Record(codec.dumps(envelope(data=event(event_id=None)))), Form.CLOUDEVENTS, "ce-9"),
        (
            Record(codec.dumps(envelope(data=None, data_base64=base64.b64encode(codec.dumps(event())).decode()))),
            Form.CLOUDEVENTS,
            "e-1",
        ),
        (
            Record(codec.dumps([envelope()]), headers=[("content-type", b"application/cloudevents-batch+json")]),
            Form.CLOUDEVENTS,
            "e-1",
        ),
    ],
    ids=["native", "binary", "structured", "envelope id", "base64", "batch"],
)
def test_a_message_comes_out_of_every_form(record: Record, form: Form, event_id: str) -> None:
    batch = run(record)
    assert [taken.event_id for taken in messages(batch)] == [event_id]
    assert batch.forms == {form: 1}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, Fault.TOMBSTONE),
        (b"", Fault.NOT_JSON),
        (b"\xff\x00", Fault.NOT_JSON),
        (b'{"text": NaN}', Fault.NOT_JSON),
        (b'{"text": "\\ud800"}', Fault.NOT_JSON),
        (b"[" * 100_000, Fault.NOT_JSON),
        (b"[]", Fault.NOT_OBJECT),
        (codec.dumps(event(x=1)).replace(b'"x":1', b'"x":' + b"[" * 900 + b"]" * 900), Fault.NOT_JSON),
        (b'"event"', Fault.NOT_OBJECT),
        (b"{}", Fault.MISSING_FIELD),
        (codec.dumps(event(text="x" * MAX_EVENT_BYTES)), Fault.TOO_LARGE),
        (codec.dumps(envelope(specversion="0.3")), Fault.BAD_ENVELOPE),
        (codec.dumps(envelope(data="text")), Fault.BAD_ENVELOPE),
        (codec.dumps(envelope(data=None, data_base64="?")), Fault.BAD_ENVELOPE),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_used_is_kept_as_it_came(value: bytes | None, fault: Fault) -> None:
    record = Record(value, key=b"k", headers=[("trace", b"1")], partition=3, offset=99)
    (letter,) = dead(run(record))
    told = dict(letter.headers)
    assert told["doorman-reason"] == fault.value.encode()
    assert (told["doorman-topic"], told["doorman-partition"], told["doorman-offset"]) == (b"dm.events", b"3", b"99")
    assert letter.key == b"k"
    if fault is not Fault.TOO_LARGE:
        assert letter.value == value
        assert told["trace"] == b"1", "its own headers stay"


def test_the_record_after_a_bad_one_is_served() -> None:
    batch = run(Record(b"{"), event_record(), Record(None))
    assert len(messages(batch)) == 1
    assert batch.verdicts == [Fault.NOT_JSON, None, Fault.TOMBSTONE]


def test_a_record_too_large_keeps_its_beginning_length_and_digest() -> None:
    value = codec.dumps(event(text="x" * 10_000_000))
    (letter,) = dead(run(Record(value)))
    assert letter.value == value[: 64 * 1024]
    assert dict(letter.headers)["doorman-length"] == str(len(value)).encode()


def test_no_header_of_a_dead_letter_holds_text() -> None:
    batch = run(event_record(text="a secret", sent_at="a secret too"))
    for letter in dead(batch):
        assert not any(b"secret" in value for _, value in letter.headers)


def test_an_unusable_event_with_readable_ids_is_still_answered() -> None:
    batch = run(event_record(text=7))
    (kept,) = messages(batch)
    assert (kept.event_id, kept.unreadable, kept.text) == ("e-1", True, "")
    assert len(dead(batch)) == 1


def test_a_bad_event_of_a_batch_spoils_none_of_its_neighbours() -> None:
    value = codec.dumps(
        [envelope(), envelope(data=event(event_id="e-2", text=None)), envelope(id="e-3", data=event(event_id="e-3"))]
    )
    batch = run(Record(value, headers=[("content-type", b"application/cloudevents-batch+json")]))
    assert [(taken.event_id, taken.unreadable) for taken in messages(batch)] == [
        ("e-1", False),
        ("e-2", True),
        ("e-3", False),
    ]
    assert batch.verdicts == [Fault.MISSING_FIELD], "and is dead-lettered once, with them"


def test_a_broken_event_of_a_room_shields_none_of_its_neighbours() -> None:
    def said(event_id: str, body: object) -> dict[str, object]:
        content = {"msgtype": "m.text", "body": body}
        about = {"type": "m.room.message", "room_id": "!r:x", "sender": "@ana:x", "origin_server_ts": NOON_MS}
        return {**about, "event_id": event_id, "content": content}

    batch = run(Record(codec.dumps({"events": [said("$1", "one"), said("$2", 5), said("$3", "three")]})))
    assert [(taken.event_id, taken.text) for taken in messages(batch)] == [("$1", "one"), ("$3", "three")]
    assert batch.verdicts == [Fault.WRONG_TYPE]


def test_the_recipient_s_lane_hears_who_wrote() -> None:
    batch = run(event_record(sender_id="u-1", recipient_id="u-2"), partitions=64)
    (told,) = [output for output in batch.outputs if dict(output.headers).get("doorman-type") == b"contacts"]
    assert told.key is None
    assert told.partition == partition_of(b"default/default/u-2", 64)
    (contact,) = codec.decode(told.value, Contacts).contacts
    assert (contact.writer, contact.event_ms) == ("default/default/u-1", NOON_MS)


def test_where_no_recipient_is_named_every_lane_hears_who_wrote() -> None:
    batch = run(event_record(sender_id="u-1", recipient_id=None, conversation_id="c-1"), partitions=8)
    told = {output.partition for output in batch.outputs if output.key is None}
    assert told == set(range(8)) - {partition_of(b"default/default/u-1", 8)}


def test_contacts_are_packed_by_partition() -> None:
    batch = run(*(event_record(event_id=f"e-{n}", recipient_id=f"u-{n}") for n in range(100)), partitions=4)
    packed = [output for output in batch.outputs if output.key is None]
    assert len(packed) == 3, "one for each partition that is not the sender's own"


def test_a_message_is_keyed_by_its_scoped_sender() -> None:
    (output, *_) = run(event_record(tenant="a/b", platform="x", sender_id="u")).outputs
    assert output.key == b"a%2Fb/x/u"


def test_trace_context_travels_with_the_message() -> None:
    (output, *_) = run(event_record(("traceparent", b"00-1-2-01"), ("other", b"x"))).outputs
    assert output.headers == (("traceparent", b"00-1-2-01"),)


@given(st.binary(max_size=400))
def test_any_bytes_give_a_message_or_a_dead_letter(value: bytes) -> None:
    batch = run(Record(value))
    assert len(messages(batch)) + len(dead(batch)) >= 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(event() | {"relation": 0, "sender": 0, "recipients": 0})), json_values))
def test_any_fields_give_a_message_or_a_dead_letter(fields: dict[str, Any]) -> None:
    try:
        value = codec.dumps(event(**fields))
    except TypeError:
        return  # an integer beyond 64 bits is not JSON to our encoder
    batch = run(Record(value))
    assert len(messages(batch)) + len(dead(batch)) >= 1
    assert Fault.INTERNAL not in batch.verdicts


def test_the_limit_speaks_up_after_a_row_and_at_a_share() -> None:
    row = Limit()
    assert [row.passed(True) for _ in range(MAX_ROW)][-2:] == [False, True]
    assert not row.passed(False)
    share = Limit()
    verdicts = [share.passed(number % 2 == 0) for number in range(WINDOW_RECORDS + 1)]
    assert verdicts[WINDOW_RECORDS]
    assert not any(verdicts[: WINDOW_RECORDS - 1])
