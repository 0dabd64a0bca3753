"""The native event: what is required, what is completed, and the code of every fault."""

from typing import Any

import pytest

from services.errors import BadRecord, Fault
from services.ingest.event import message, unreadable
from tests.builders import NOON_MS, event

DAY_MS = 24 * 3_600_000


def test_the_design_s_example_is_taken_in_whole() -> None:
    taken = message(
        event(
            conversation_id="c-17-42",
            sender={"handle": "growthguru", "created_at": "2026-10-01T00:00:00Z", "followers": 90, "verified": False},
            relation={"followed_at": "2026-11-25T11:59:55Z", "prior_messages_from_recipient": 0},
            truth={"label": "auto"},
        ),
        NOON_MS,
    )
    assert taken.event_ms == taken.sent_ms == NOON_MS
    assert taken.recipients == ("u-42",)
    assert taken.relation is not None
    assert taken.relation.followed_ms == NOON_MS - 5000
    assert taken.sender is not None
    assert taken.sender.followers == 90
    assert taken.extra == {"truth": {"label": "auto"}}, "unknown fields are kept"


@pytest.mark.parametrize(
    ("parts", "fault", "field"),
    [
        ({"event_id": None}, Fault.MISSING_FIELD, "event_id"),
        ({"sender_id": None}, Fault.MISSING_FIELD, "sender_id"),
        ({"sent_at": None}, Fault.MISSING_FIELD, "sent_at"),
        ({"text": None}, Fault.MISSING_FIELD, "text"),
        ({"recipient_id": None}, Fault.NO_RECIPIENT, ""),
        ({"recipient_id": None, "recipients": []}, Fault.NO_RECIPIENT, ""),
        ({"text": 7}, Fault.WRONG_TYPE, "text"),
        ({"sender_id": {}}, Fault.WRONG_TYPE, "sender_id"),
        ({"sender_id": True}, Fault.WRONG_TYPE, "sender_id"),
        ({"sender_id": 1.5}, Fault.WRONG_TYPE, "sender_id"),
        ({"sender_id": ""}, Fault.BAD_ID, "sender_id"),
        ({"sender_id": "ü" * 129}, Fault.BAD_ID, "sender_id"),
        ({"recipients": "u-42"}, Fault.WRONG_TYPE, "recipients"),
        ({"recipients": ["u-42", None]}, Fault.WRONG_TYPE, "recipients[1]"),
        ({"sent_at": "yesterday"}, Fault.BAD_TIME, "sent_at"),
        ({"sent_at": "2026-11-25T12:00:00"}, Fault.BAD_TIME, "sent_at"),
        ({"sent_at": "2026-13-25T12:00:00Z"}, Fault.BAD_TIME, "sent_at"),
        ({"sent_at": "2026-W48-3T12:00:00Z"}, Fault.BAD_TIME, "sent_at"),
        ({"sent_at": "2026-11-25T12:00Z"}, Fault.BAD_TIME, "sent_at"),
        ({"sent_at": 1.5}, Fault.WRONG_TYPE, "sent_at"),
        ({"sent_at": "9999-12-31T23:59:59-12:00"}, Fault.BAD_TIME, "sent_at"),
        ({"sent_at": 10**18}, Fault.BAD_TIME, "sent_at"),
        ({"sent_at": -(10**18)}, Fault.BAD_TIME, "sent_at"),
        ({"revision": -1}, Fault.WRONG_TYPE, "revision"),
        ({"attachments": "two"}, Fault.WRONG_TYPE, "attachments"),
        ({"sender": "guru"}, Fault.WRONG_TYPE, "sender"),
        ({"sender": {"followers": "many"}}, Fault.WRONG_TYPE, "sender.followers"),
        ({"relation": {"followed_at": "soon"}}, Fault.BAD_TIME, "followed_at"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_fault_has_its_code_and_names_its_field(parts: dict[str, Any], fault: Fault, field: str) -> None:
    with pytest.raises(BadRecord) as refused:
        message(event(**parts), NOON_MS)
    assert (refused.value.fault, refused.value.field) == (fault, field)


@pytest.mark.parametrize(
    ("sent_at", "event_ms"),
    [
        (0, NOON_MS - DAY_MS),
        ("1970-01-01T00:00:00Z", NOON_MS - DAY_MS),
        ("2090-01-01T00:00:00Z", NOON_MS + 60_000),
        (253_402_300_799_999, NOON_MS + 60_000),
        ("2026-11-25T13:00:00.5+01:00", NOON_MS + 500),
        ("2026-11-25T11:59:60Z", NOON_MS),
    ],
)
def test_event_time_is_clamped_to_a_day_back_and_a_minute_ahead(sent_at: object, event_ms: int) -> None:
    assert message(event(sent_at=sent_at), NOON_MS).event_ms == event_ms


def test_history_keeps_its_age_but_cannot_lie_ahead() -> None:
    assert message(event(sent_at=NOON_MS - 40 * DAY_MS), NOON_MS, backfill=True).event_ms == NOON_MS - 40 * DAY_MS
    assert message(event(sent_at=NOON_MS + DAY_MS), NOON_MS, backfill=True).event_ms == NOON_MS + 60_000


def test_a_derived_conversation_is_the_same_from_both_sides() -> None:
    asked = message(event(sender_id="u-1", recipient_id="u-2"), NOON_MS)
    answered = message(event(sender_id="u-2", recipient_id="u-1"), NOON_MS)
    assert asked.conversation_id == answered.conversation_id


def test_integer_ids_become_strings() -> None:
    assert message(event(sender_id=17, recipients=[42, "43"], recipient_id=None), NOON_MS).recipients == ("42", "43")


def test_nobody_is_their_own_recipient() -> None:
    assert message(event(recipients=["u-17", "u-42", "u-42"]), NOON_MS).recipients == ("u-42",)


@pytest.mark.parametrize("text", ["", "\0", "x" * 250_000, "\U0001f600"])
def test_any_text_is_kept_whole(text: str) -> None:
    assert message(event(text=text), NOON_MS).text == text


def test_readable_ids_are_enough_for_an_answer() -> None:
    kept = unreadable(event(text=None, sent_at="soon"), NOON_MS)
    assert kept is not None
    assert (kept.event_id, kept.text, kept.unreadable) == ("e-1", "", True)
    assert unreadable(event(event_id=None), NOON_MS) is None
