"""Checkpoints: a lane that takes its state back decides as the one that never stopped."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services import codec
from services.classify.__main__ import CampaignsView, Classify, Model
from services.classify.checkpoint import PIECES, PIECES_A_SECOND, Reading, Writer
from services.classify.memory import Memory
from services.classify.scorer import ModelFolder
from services.classify.stage import State, classify, read, remember
from services.records import Checkpoint, Output, Score
from services.settings import ROOT
from tests.builders import NOON_MS, Record, message_record

PITCH = "hello there friend, have a look at my brand new training course"
ROUNDS = -(-len(PIECES) // PIECES_A_SECOND)


def scored(records: Sequence[Record], state: State) -> list[Score]:
    return classify(records, state, None, lambda *_: None, lambda *_: 0, NOON_MS).scores


def written(writer: Writer, records: Sequence[Record], state: State) -> list[Output]:
    """Take in records, one a second of the writer's clock."""
    outputs: list[Output] = []
    for record in records:
        outputs += writer.due(state, record.offset, 1_000 * (record.offset + 1))
        scored([record], state)
    return outputs


def taken_back(writer: Writer, topic: Sequence[Output], log: Sequence[Record]) -> State:
    """What a new lane makes of the topic and of the log up to the committed offset."""
    reading, state = Reading(writer.whole), State()
    for output in topic:
        reading.take(codec.decode(output.value, Checkpoint), state)
    assert reading.is_whole
    for record in log:
        if record.offset >= reading.begin:
            state.at(record.offset)
            remember(read(record), state)
    state.go_on()
    return state


def traffic(count: int, seed: int) -> list[Record]:
    """Few senders and conversations, so that they meet again and again; repeats and late messages among them."""
    rows: list[Record] = []
    for n in range(count):
        h = (n * 2654435761 + seed * 40503) & 0xFFFFFFFF
        one, two = h % 7, (h >> 8) % 7
        parts: dict[str, Any] = {
            "event_id": f"e-{n if h >> 16 & 7 else n // 2}",
            "sender_id": f"u-{one}",
            "recipient_id": f"u-{10 + two}" if h >> 20 & 1 else f"u-{two}",
            "conversation_id": f"c-{min(one, two)}-{max(one, two)}-{h >> 20 & 1}",
            "text": PITCH if h >> 21 & 1 else "what became of the boat?",
            "at_s": n * 20 - (3000 if h >> 24 & 15 == 0 else 0),
        }
        rows.append(message_record(n, **parts))
    return rows


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(0, ROUNDS))
def test_a_decision_after_a_restart_equals_the_one_without_it(seed: int, further: int) -> None:
    log = traffic(2 * ROUNDS + 80, seed)
    stop = ROUNDS + further
    state, writer = State(), Writer(0)
    topic = written(writer, log[:stop], state)
    assert scored(log[stop:], taken_back(writer, topic, log[:stop])) == scored(log[stop:], state)


def test_the_last_whole_generation_outlives_the_one_under_way_in_a_compacted_topic() -> None:
    log = traffic(2 * ROUNDS + ROUNDS // 2, 3)
    state, writer = State(), Writer(0)
    topic = written(writer, log, state)
    compacted = {output.key: output for output in topic}
    assert len(compacted) < len(topic)
    again = taken_back(writer, list(compacted.values()), log)
    more = [message_record(9999, event_id="new", sender_id=f"u-{n}", at_s=len(log) * 20) for n in range(7)]
    assert scored(more, again) == scored(more, state)


def test_an_unfinished_generation_is_not_taken_back() -> None:
    state, writer = State(), Writer(0)
    topic = written(writer, traffic(ROUNDS - 1, 1), state)
    assert writer.whole == 0
    reading = Reading(codec.decode(topic[0].value, Checkpoint).generation)
    for output in topic:
        reading.take(codec.decode(output.value, Checkpoint), State())
    assert not reading.is_whole


def test_pieces_go_out_once_a_second_each_under_its_own_key() -> None:
    writer, state = Writer(3), State(memory=Memory())
    first = list(writer.due(state, 7, 5_000))
    assert (len(first), list(writer.due(state, 8, 5_999)), first[0].partition) == (PIECES_A_SECOND, [], 3)
    assert len({output.key for output in first}) == PIECES_A_SECOND
    assert {codec.decode(output.value, Checkpoint).offset for output in first} == {7}


@pytest.mark.parametrize("minutes", [0, 59, 61])
def test_what_was_seen_within_the_hour_is_known_after_a_restart(minutes: int) -> None:
    state, writer = State(), Writer(0)
    log = [message_record(n, event_id=f"e-{n}", at_s=n) for n in range(ROUNDS + 1)]
    topic = written(writer, log, state)
    again = taken_back(writer, topic, log)
    repeat = message_record(9999, event_id="e-5", at_s=5)
    later = message_record(9998, event_id="later", at_s=5 + minutes * 60)
    assert len(scored([later, repeat], again)) == (1 if minutes <= 60 else 2)


def test_a_restart_goes_on_with_the_second_looks_that_were_left() -> None:
    model = Model(ModelFolder(ROOT / "models" / "shipped"))
    before, after = (Classify(0, model, CampaignsView(), lambda *_: 0, 1_000_000) for _ in range(2))
    before.resume("", lanes=1)
    before.run([message_record()], NOON_MS)
    assert before.state.looks.spend()
    after.resume(before.metadata(), lanes=1)
    assert after.state.looks == before.state.looks
