"""Classify: what memory and window say of a message, in event time and in the order of the log."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import codec
from services.classify.memory import MEMORY_MS, YOUNG_MS, Memory, Seen, key_of
from services.classify.stage import Batch, State, TextScore, classify, observe, read, remember
from services.records import (
    VERSION,
    Bond,
    Contact,
    Contacts,
    Correction,
    Corrections,
    Degraded,
    Person,
    Relation,
    Score,
    Sightings,
)
from services.topics import DEAD_LETTER, SCORES, SIGHTINGS
from tests.builders import NOON_MS, Record, message, message_record

DAY_S = 24 * 3600
PITCH = "hello there friend, have a look at my brand new training course"


@dataclass(frozen=True)
class Scored:
    score: float
    first: float
    labels: dict[str, float] = field(default_factory=dict)
    spans: tuple[tuple[int, int, float], ...] = ()


class ByLength:
    """A scorer whose answer tells which text it was given."""

    version, sha256 = "length", "0"

    def score(self, texts: Sequence[str]) -> Sequence[TextScore]:
        return [Scored(len(text) / 1000, 0.0) for text in texts]


def known() -> State:
    """A lane whose memory holds the whole history."""
    return State(memory=Memory(whole=True))


def run(records: Sequence[Record], state: State | None = None, **parts: Any) -> Batch:
    return classify(records, state or known(), ByLength(), lambda *_: parts.get("campaign"), lambda *_: 3, NOON_MS)


def from_one_to_many(count: int, gap_s: float = 60, **parts: Any) -> list[Record]:
    return [
        message_record(event_id=f"e-{n}", recipient_id=f"u-{1000 + n}", at_s=n * gap_s, **parts) for n in range(count)
    ]


def last_signals(batch: Batch) -> dict[str, float]:
    return batch.scores[-1].signals


def test_each_message_gets_the_score_of_its_own_text() -> None:
    batch = run([message_record(event_id=f"e-{n}", text="x" * n) for n in (30, 10, 20)])
    assert [score.text_score for score in batch.scores] == [0.03, 0.01, 0.02]


def test_a_first_message_is_cold_and_an_answer_is_not() -> None:
    asked = message_record(event_id="e-1", sender_id="u-1", recipient_id="u-2", conversation_id="c")
    answered = message_record(event_id="e-2", sender_id="u-2", recipient_id="u-1", conversation_id="c", at_s=60)
    again = message_record(event_id="e-3", sender_id="u-1", recipient_id="u-2", conversation_id="c", at_s=120)
    assert [score.bond for score in run([asked, answered, again]).scores] == [Bond.COLD, Bond.WARM, Bond.WARM]


@pytest.mark.parametrize(
    ("parts", "bond"),
    [
        ({"relation": Relation(prior_messages_from_recipient=3)}, Bond.WARM),
        ({"relation": Relation(prior_messages_from_recipient=0)}, Bond.COLD),
        ({"in_reply_to": "e-0"}, Bond.WARM),
        ({"sender": Person(created_ms=NOON_MS + 1)}, Bond.COLD),
        ({"relation": Relation(recipient_follows_sender=True)}, Bond.UNKNOWN),
        ({}, Bond.UNKNOWN),
    ],
    ids=[
        "they wrote before",
        "they never wrote",
        "a reply",
        "younger than memory",
        "a follow tells nothing",
        "nothing",
    ],
)
def test_what_the_event_says_of_the_pair_makes_up_for_a_young_memory(parts: dict[str, Any], bond: Bond) -> None:
    state = State()
    state.memory.note(1, 1, NOON_MS)
    assert observe(message(**parts), state).bond is bond


def test_an_unknown_pair_is_told_and_counts_for_half() -> None:
    batch = run(from_one_to_many(10), State())
    assert batch.scores[-1].degraded == (Degraded.MEMORY_YOUNG,)
    assert last_signals(batch)["cold_recipients_1h"] == 5


def test_memory_comes_of_age() -> None:
    state = State()
    state.memory.note(1, 1, NOON_MS - YOUNG_MS)
    assert observe(message(), state).bond is Bond.COLD


def test_a_contact_counts_from_its_own_time_whatever_its_arrival() -> None:
    def bond(contact_s: float, at_s: float) -> Bond:
        state = known()
        told = Contact("default/default/c", "default/default/u-42", NOON_MS + int(contact_s * 1000))
        remember(Contacts(v=VERSION, contacts=(told,)), state)
        return observe(message(conversation_id="c", at_s=at_s), state).bond

    assert bond(0, 1) is Bond.WARM
    assert bond(10, 1) is Bond.COLD, "it was written later"
    assert bond(0, MEMORY_MS / 1000 + 1) is Bond.COLD, "it is forgotten after 90 days"


def test_fan_out_counts_distinct_strangers_within_the_hour_and_the_day() -> None:
    batch = run(from_one_to_many(12, gap_s=600))
    assert last_signals(batch)["cold_recipients_1h"] == 6
    assert last_signals(batch)["cold_recipients_24h"] == 12


def test_one_stranger_written_to_often_is_one() -> None:
    batch = run([message_record(event_id=f"e-{n}", at_s=n) for n in range(9)])
    assert last_signals(batch)["cold_recipients_1h"] == 1


def test_people_answered_do_not_count_as_strangers() -> None:
    known_people = from_one_to_many(30, relation=Relation(prior_messages_from_recipient=1))
    batch = run([*known_people, message_record(event_id="e-new", recipient_id="u-9", at_s=1800)])
    assert last_signals(batch)["cold_recipients_24h"] == 1
    assert last_signals(batch)["messages_1h"] == 31


def test_the_same_words_with_other_names_numbers_and_links_are_repeats() -> None:
    texts = [
        f"Hi {name}! {PITCH} {n}{emoji} https://x{n}.example"
        for n, (name, emoji) in enumerate((("Ana", "🎉"), ("Bo", ""), ("Çağla", "🙏🙏")))
    ]
    batch = run([message_record(event_id=f"e-{n}", recipient_id=f"u-{n}", text=text) for n, text in enumerate(texts)])
    assert last_signals(batch)["repeats_1h"] == 2


def test_a_sender_seen_an_hour_apart_has_repeats_of_the_day_only() -> None:
    batch = run(from_one_to_many(4, gap_s=3700, text=PITCH))
    assert last_signals(batch)["repeats_24h"] == 3
    assert "repeats_1h" not in last_signals(batch)


def test_a_message_dated_back_sees_what_came_after_it() -> None:
    batch = run([*from_one_to_many(20), message_record(event_id="e-back", recipient_id="u-9", at_s=-23 * 3600)])
    assert last_signals(batch)["cold_recipients_1h"] == 21


def test_after_a_day_of_silence_a_sender_starts_anew() -> None:
    batch = run([*from_one_to_many(20), message_record(event_id="e-late", recipient_id="u-9", at_s=2 * DAY_S)])
    assert last_signals(batch)["cold_recipients_24h"] == 1


def test_other_tenants_do_not_count() -> None:
    batch = run([*from_one_to_many(20, tenant="a"), message_record(tenant="b", at_s=2000)])
    assert last_signals(batch)["cold_recipients_24h"] == 1


def test_seconds_since_follow_are_told_when_the_follow_came_first() -> None:
    def signals(followed_s: float) -> dict[str, float]:
        relation = Relation(followed_ms=NOON_MS + int(followed_s * 1000), prior_messages_from_recipient=0)
        return last_signals(run([message_record(relation=relation)]))

    assert signals(-5)["seconds_since_follow"] == 5
    assert signals(0)["seconds_since_follow"] == 0
    assert "seconds_since_follow" not in signals(5)


def test_a_repeat_within_the_hour_emits_nothing_and_later_it_does() -> None:
    batch = run([message_record(), message_record(), message_record(revision=1)])
    assert (len(batch.scores), batch.duplicates) == (2, 1)
    seen = Seen()
    moments = [0, 3_600_000, 3_601_000]
    assert [seen.repeat(message(), NOON_MS + moment) for moment in moments] == [False, True, False]


def test_history_feeds_the_memory_and_is_not_scored() -> None:
    state = State()
    old = message_record(sender_id="u-42", recipient_id="u-17", conversation_id="c", at_s=-DAY_S * 30, backfill=True)
    assert run([old], state).outputs == []
    assert observe(message(conversation_id="c"), state).bond is Bond.WARM


def test_an_unreadable_event_passes_through_and_feeds_nothing() -> None:
    state = known()
    (score,) = run([message_record(unreadable=True, text="")], state).scores
    assert (score.text_score, score.degraded) == (None, (Degraded.UNREADABLE,))
    assert len(state.windows) == 0


def test_without_a_model_signals_go_on() -> None:
    batch = classify(from_one_to_many(5), known(), None, lambda *_: None, lambda *_: 3, NOON_MS)
    assert batch.scores[-1].degraded == (Degraded.MODEL_MISSING,)
    assert last_signals(batch)["cold_recipients_1h"] == 5


def test_a_cold_telling_text_is_sighted_without_its_words() -> None:
    batch = run(
        [message_record(text=PITCH), message_record(event_id="e-2", text="ok 👍"), message_record(event_id="e-3")]
    )
    (sighting,) = [output for output in batch.outputs if output.topic == SIGHTINGS]
    assert b"course" not in (sighting.value or b"")
    (seen,) = codec.decode(sighting.value, Sightings).sightings
    assert (seen.sender, seen.event_ms, sighting.partition) == ("default/default/u-17", NOON_MS, 3)


def test_a_live_campaign_is_named() -> None:
    assert run([message_record(text=PITCH)], campaign="k-1").scores[0].campaign_id == "k-1"


def test_a_correction_takes_a_message_out_of_its_window() -> None:
    state = known()
    run(from_one_to_many(10), state)
    wrong = Correction(sender="default/default/u-17", event_id="e-3", revision=0, event_ms=NOON_MS)
    remember(Corrections(v=VERSION, corrections=(wrong,)), state)
    batch = run([message_record(event_id="e-new", recipient_id="u-2000", at_s=700)], state)
    assert last_signals(batch)["cold_recipients_1h"] == 10


@pytest.mark.parametrize("value", [None, b"", b"{}", b'{"v": 7}', b"\xff"])
def test_what_is_no_message_is_a_dead_letter(value: bytes | None) -> None:
    batch = run([Record(value), message_record()])
    assert [output.topic for output in batch.outputs] == [DEAD_LETTER, SCORES]


traffic = st.lists(
    st.builds(
        message_record,
        event_id=st.integers(0, 30).map("e-{}".format),
        sender_id=st.sampled_from(["u-1", "u-2", "u-3"]),
        recipient_id=st.sampled_from(["u-1", "u-2", "u-3", "u-4"]),
        conversation_id=st.sampled_from(["c-1", "c-2"]),
        text=st.sampled_from(["hi", PITCH, "", "https://a.example/x"]),
        at_s=st.integers(-5000, 5000),
    ),
    max_size=40,
)


@given(traffic, st.integers(1, 40), st.integers(0, 40))
def test_batching_and_restarts_change_nothing(records: list[Record], size: int, restart: int) -> None:
    whole = run(records, known()).scores
    state, parts = known(), list[Score]()
    for record in records[:restart]:
        parts += run([record], state).scores
    rebuilt = known()
    for record in records[:restart]:
        remember(read(record), rebuilt)
    for start in range(restart, len(records), size):
        parts += run(records[start : start + size], rebuilt).scores
    assert parts == whole


def test_memory_is_bounded_and_forgets_the_longest_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.classify.memory.MAX_CONVERSATIONS", 10)
    monkeypatch.setattr("services.classify.behaviour.MAX_SENDERS", 10)
    state = known()
    for n in range(100):
        observe(message(event_id=f"e-{n}", sender_id=f"u-{n}"), state)
    assert len(state.windows) == 10
    assert state.memory.bond(message(sender_id="u-42", conversation_id="c-u-0-u-42"), key_of("x"), 1) is not Bond.WARM
