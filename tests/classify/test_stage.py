"""Classify: what memory and window say of a message, in event time and in the order of the log."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import codec
from services.classify.behaviour import Windows
from services.classify.memory import MEMORY_MS, YOUNG_MS, Memory, Seen, key_of
from services.classify.shelf import BUCKETS, Shelf
from services.classify.stage import (
    LOOKS_SAVED,
    MESSAGES_A_LOOK,
    Batch,
    State,
    TextScore,
    classify,
    observe,
    read,
    remember,
)
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

    def unsure(self, first: float) -> bool:
        return False

    def again(self, text: str, first: float) -> TextScore:
        raise AssertionError("it is never unsure")


class Unsure(ByLength):
    """A scorer that always wants a second look, which finds 0.9."""

    def unsure(self, first: float) -> bool:
        return True

    def again(self, text: str, first: float) -> TextScore:
        return Scored(0.9, first)


def known() -> State:
    """A lane whose memory holds the whole history."""
    return State(memory=Memory(whole=True))


def run(records: Sequence[Record], state: State | None = None, **parts: Any) -> Batch:
    scorer = parts.get("scorer") or ByLength()
    return classify(records, state or known(), scorer, lambda *_: parts.get("campaign"), lambda *_: 3, NOON_MS)


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
    state.memory.meet(1, 1, NOON_MS)
    assert observe(message(**parts), state).bond is bond


def test_an_unknown_pair_is_told_and_counts_for_half() -> None:
    batch = run(from_one_to_many(10), State())
    assert batch.scores[-1].degraded == (Degraded.MEMORY_YOUNG,)
    assert last_signals(batch)["cold_recipients_1h"] == 5


def test_memory_comes_of_age() -> None:
    state = State()
    state.memory.meet(1, 1, NOON_MS - YOUNG_MS)
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


@pytest.mark.parametrize(
    ("text", "sighted"),
    [
        ("Hi, is this still available? I'm interested", False),
        ("Merry Christmas to you and your family!", False),
        ("hey, what are you up to this weekend?", False),
        ("My page is nearly full, follow my spare: @nat.2", True),
        ("Have you heard of the new token? Everyone in our group doubled in a week", True),
    ],
)
def test_what_anybody_may_say_is_sighted_only_where_it_leads_somewhere(text: str, *, sighted: bool) -> None:
    batch = run([message_record(text=text)])
    assert any(output.topic == SIGHTINGS for output in batch.outputs) == sighted


def test_a_live_campaign_is_named() -> None:
    assert run([message_record(text=PITCH)], campaign="k-1").scores[0].campaign_id == "k-1"


def test_a_correction_takes_a_message_out_of_its_window() -> None:
    state = known()
    run(from_one_to_many(10), state)
    wrong = Correction(sender="default/default/u-17", event_id="e-3", revision=0, event_ms=NOON_MS)
    remember(Corrections(v=VERSION, corrections=(wrong,)), state)
    batch = run([message_record(event_id="e-new", recipient_id="u-2000", at_s=700)], state)
    assert last_signals(batch)["cold_recipients_1h"] == 10


_BEYOND_TIME = codec.encode(message(event_ms=10**18))


@pytest.mark.parametrize("value", [None, b"", b"{}", b'{"v": 7}', b"\xff", _BEYOND_TIME])
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


def test_who_answers_is_no_stranger_any_more() -> None:
    asked = from_one_to_many(12)
    answers = [
        message_record(event_id=f"a-{n}", sender_id=f"u-{1000 + n}", conversation_id=f"c-u-17-u-{1000 + n}", at_s=800)
        for n in range(5)
    ]
    batch = run([*asked, *answers, message_record(event_id="e-new", recipient_id="u-9", at_s=900)])
    told = last_signals(batch)
    assert (told["cold_recipients_1h"], told["partners_24h"], told["one_sided_1h"]) == (8, 5, 3)


def test_a_contact_from_another_lane_tells_of_an_answer_too() -> None:
    state = known()
    run(from_one_to_many(12), state)
    told = (Contact(f"default/default/c-u-17-u-{n}", f"default/default/u-{n}", NOON_MS + 900_000) for n in (1000, 1001))
    remember(Contacts(v=VERSION, contacts=tuple(told)), state)
    batch = run([message_record(event_id="e-new", recipient_id="u-9", at_s=1000)], state)
    assert last_signals(batch)["partners_24h"] == 2


@pytest.mark.parametrize(
    "texts",
    [
        (
            "I run a small studio that helps painters reach collectors across the whole country, interested?",
            "I run a small studio that helps painters find collectors across the whole country, interested?",
            "I run a tiny studio that helps painters reach collectors across the entire country, interested?",
        ),
        (
            "Hi Ana! did u see what she said of you?? pics.example",
            "Hello Bo! did u see what she said of you?? vids.example",
            "Hey Cem! did u see what he said of you?? snap.example",
        ),
    ],
    ids=["long", "short, greetings and links too"],
)
def test_words_exchanged_here_and_there_are_still_repeats(texts: Sequence[str]) -> None:
    batch = run([message_record(event_id=f"e-{n}", recipient_id=f"u-{n}", text=text) for n, text in enumerate(texts)])
    assert [score.signals.get("repeats_1h", 0) for score in batch.scores] == [0, 1, 2]


def test_a_conversation_excuses_no_broadcast() -> None:
    friend = message_record(event_id="f", recipient_id="u-9", at_s=700, text=PITCH, in_reply_to="e-0")
    assert last_signals(run([*from_one_to_many(11, text=PITCH), friend]))["broadcast_24h"] == 10
    assert "broadcast_24h" not in last_signals(run([*from_one_to_many(11, text="hello there"), friend]))


def test_a_link_that_friends_get_is_counted_by_its_host() -> None:
    friends = [
        message_record(
            event_id=f"e-{n}", recipient_id=f"u-{n}", at_s=n, in_reply_to="x", text=f"look {n} https://x.example/{n}"
        )
        for n in range(5)
    ]
    assert last_signals(run(friends))["link_spread_1h"] == 4


def test_words_that_many_get_unasked_are_counted_in_conversations() -> None:
    text = "come and look at what I am building, write to me there"
    friends = [
        message_record(event_id=f"e-{n}", recipient_id=f"u-{n}", at_s=n, in_reply_to="x", text=text) for n in range(12)
    ]
    assert last_signals(run(friends))["word_spread_24h"] == 7, "from the fifth of them on"


def test_what_was_asked_for_is_no_spread() -> None:
    answered = []
    for n in range(12):
        friend, here, at_s = f"u-{n}", f"c-{n}", 60 * n
        answered += [
            message_record(
                event_id=f"q-{n}",
                sender_id=friend,
                recipient_id="u-17",
                conversation_id=here,
                at_s=at_s,
                text="where is it?",
            ),
            message_record(
                event_id=f"e-{n}",
                recipient_id=friend,
                conversation_id=here,
                at_s=at_s + 30,
                text="the way is here: https://x.example",
            ),
        ]
    assert last_signals(run(answered)) == {}


def test_a_large_group_is_no_crowd_of_strangers() -> None:
    batch = run([message_record(recipient_id=None, recipients=[f"u-{n}" for n in range(40)], text="hi all")])
    assert last_signals(batch)["cold_recipients_1h"] == 8
    assert "short_text" not in last_signals(batch)


def test_a_beat_is_even_and_pasting_fast_is_not_told_as_one() -> None:
    assert last_signals(run(from_one_to_many(12, gap_s=900)))["even_gaps"] == 1
    assert "even_gaps" not in last_signals(run(from_one_to_many(12, gap_s=20)))
    uneven = [message_record(event_id=f"e-{n}", recipient_id=f"u-{n}", at_s=n * n * 100) for n in range(12)]
    assert last_signals(run(uneven))["even_gaps"] < 0.6


def test_past_what_is_held_exactly_recipients_are_estimated() -> None:
    told = last_signals(run(from_one_to_many(600, gap_s=60)))
    assert told["messages_24h"] == 600
    assert told["cold_recipients_24h"] == pytest.approx(600, rel=0.15)


def test_trust_takes_many_conversations_and_many_days() -> None:
    def trust(days: int, people: int, text: str) -> float:
        state = known()
        for day in range(days):
            for n in range(people):
                pair = {"conversation_id": f"c-{day}-{n}", "at_s": day * DAY_S + n}
                observe(
                    message(
                        event_id=f"e-{day}-{n}",
                        recipient_id=f"u-{day}-{n}",
                        text=text.format(chr(97 + day), chr(97 + n)),
                        **pair,
                    ),
                    state,
                )
                observe(message(event_id=f"a-{day}-{n}", sender_id=f"u-{day}-{n}", recipient_id="u-17", **pair), state)
        batch = run([message_record(event_id="e-new", recipient_id="u-9", at_s=days * DAY_S)], state)
        return last_signals(batch).get("trust", 0)

    assert trust(10, 2, "what became of plan {} for house {}") > 5
    assert trust(1, 20, "what became of plan {} for house {}") <= 1, "breadth without time"
    assert trust(10, 2, "ok") == 0, "a word is no conversation"
    assert trust(10, 2, "what became of the plan") <= 1, "nor are the same words to everybody"


def test_words_too_few_to_say_anything_are_told() -> None:
    assert last_signals(run([message_record(text="hello dear")]))["short_text"] == 1


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        ("Your order 55310 is ready, we close at six", True),
        ("482913 is your code, it is good for ten minutes", True),
        ("Earn $5000 a week at home, ask me how it works", False),
        ("Loans from 500 to 5000 before the end of the week, ask me", False),
        ("Your table is booked for four on 20 November 2026", True),
        ("Parcel 55310 waits for a small fee: parcel-desk.example", False),
    ],
)
def test_a_notice_names_a_code_or_an_order_and_leads_nowhere(text: str, *, notice: bool) -> None:
    assert ("notice" in last_signals(run([message_record(text=text)]))) == notice


def test_memory_is_bounded_and_forgets_the_longest_silent() -> None:
    state = State(memory=Memory(whole=True, shelf=Shelf(0)), windows=Windows(Shelf(0)))
    for n in range(20_000):
        observe(message(event_id=f"e-{n}", sender_id=f"u-{n}", at_s=n), state)
    assert len(state.windows) < 4 * BUCKETS
    assert observe(message(sender_id="u-42", conversation_id="c-u-0-u-42", at_s=20_000), state).bond is Bond.COLD
    assert state.windows.get(key_of("default/default/u-19999")) is not None


def test_a_strangers_message_that_leaves_the_first_look_unsure_is_read_again() -> None:
    (score,) = run([message_record()], scorer=Unsure()).scores
    assert (score.text_score, score.first_score, score.degraded) == (0.9, 0.0, ())


def test_what_is_written_in_a_conversation_is_not_read_again() -> None:
    reply = message_record(event_id="e-2", sender_id="u-42", recipient_id="u-17", conversation_id="c-17-42", at_s=60)
    _, answered = run([message_record(conversation_id="c-17-42"), reply], scorer=Unsure()).scores
    assert answered.text_score != 0.9
    assert answered.degraded == ()


def test_second_looks_are_earned_by_messages_and_skipped_beyond() -> None:
    records = from_one_to_many(LOOKS_SAVED + MESSAGES_A_LOOK + 8, gap_s=0)
    scores = run(records, scorer=Unsure()).scores
    read_again = [score.text_score == 0.9 for score in scores]
    assert all(read_again[:LOOKS_SAVED])
    assert sum(read_again) == LOOKS_SAVED + 1
    assert all(
        (Degraded.SECOND_LOOK_SKIPPED in score.degraded) is not again
        for score, again in zip(scores, read_again, strict=True)
    )


def test_a_second_look_is_earned_with_every_second_of_the_record() -> None:
    scores = run(from_one_to_many(2 * LOOKS_SAVED, gap_s=1), scorer=Unsure()).scores
    assert all(score.text_score == 0.9 for score in scores)


def test_second_looks_do_not_depend_on_how_messages_are_batched() -> None:
    records = from_one_to_many(LOOKS_SAVED + 20, gap_s=0)
    together = run(records, scorer=Unsure()).scores
    state = known()
    one_by_one = [score for record in records for score in run([record], state, scorer=Unsure()).scores]
    assert [score.text_score for score in together] == [score.text_score for score in one_by_one]
