"""The simulator keeps its promises: order, truth, proportions, and the numbers of each habit."""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable
from difflib import SequenceMatcher
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from services import codec
from services.cli import simulate as command
from services.cli.simulate import BOTS, BULK_LEGIT, START_MS, simulate, span_ms
from services.cli.simulate.texts import Texts
from services.errors import BadSetup
from services.ingest.event import message

Traffic = list[dict[str, Any]]
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


@pytest.fixture(scope="module")
def usual() -> Traffic:
    return list(simulate(40_000, 11))


@pytest.fixture(scope="module")
def many_bots() -> Traffic:
    """Enough bots for a whole life of each habit."""
    return list(simulate(30_000, 5, bot_share=0.12))


def sent_ms(event: dict[str, Any]) -> int:
    return codec.epoch_ms(event["sent_at"], "sent_at")


def by_sender(traffic: Traffic, habit: str) -> dict[str, Traffic]:
    found: dict[str, Traffic] = defaultdict(list)
    for event in traffic:
        if event["truth"]["habit"] == habit:
            found[event["sender_id"]].append(event)
    return found


def gaps_ms(sent: Traffic) -> list[int]:
    return [sent_ms(later) - sent_ms(earlier) for earlier, later in pairwise(sent)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    first, again, other = ([codec.dumps(event) for event in simulate(2000, seed)] for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_as_many_events_come_as_were_asked_for_in_event_time_order(usual: Traffic) -> None:
    times = [sent_ms(event) for event in usual]
    assert len(usual) == 40_000
    assert times == sorted(times)
    assert times[0] >= START_MS


def test_an_event_comes_before_the_last_one_is_made() -> None:
    assert len(list(islice(simulate(10**9, 1), 100))) == 100


@pytest.mark.parametrize(("events", "hours"), [(5000, None), (40_000, None), (20_000, 20.0), (250_000, None)])
def test_a_simulation_lasts_about_as_long_as_it_says(events: int, hours: float | None) -> None:
    assert span_ms(events, hours=hours) == pytest.approx((hours or 24 * max(1, events / 200_000)) * HOUR)
    if events <= 40_000:
        *_, last = simulate(events, 2, hours=hours)
        assert sent_ms(last) - START_MS == pytest.approx(span_ms(events, hours=hours), rel=0.15)


def test_ingest_takes_every_event(usual: Traffic) -> None:
    for event in usual:
        assert message(event, sent_ms(event)).conversation_id


def test_every_event_has_its_own_id(usual: Traffic) -> None:
    assert len({event["event_id"] for event in usual}) == len(usual)


def test_no_two_accounts_share_an_id(usual: Traffic) -> None:
    made: dict[str, object] = {}
    for event in usual:
        if sender := event.get("sender"):
            assert made.setdefault(event["sender_id"], sender) == sender


def test_nth_counts_the_messages_of_each_sender(usual: Traffic) -> None:
    seen: Counter[str] = Counter()
    for event in usual:
        seen[event["sender_id"]] += 1
        assert event["truth"]["nth"] == seen[event["sender_id"]]


def test_half_of_the_pairs_have_a_conversation_id_the_same_in_both_directions(usual: Traffic) -> None:
    named: dict[frozenset[str], object] = {}
    for event in usual:
        if "recipient_id" in event:
            pair = frozenset((event["sender_id"], event["recipient_id"]))
            conversation = event.get("conversation_id")
            assert named.setdefault(pair, conversation) == conversation
    assert 0.45 < sum(value is not None for value in named.values()) / len(named) < 0.55


def test_an_answer_names_a_message_that_went_the_other_way(usual: Traffic) -> None:
    earlier: dict[str, tuple[str, str]] = {}
    answers = 0
    for event in usual:
        if "recipient_id" not in event:
            continue
        earlier[event["event_id"]] = (event["sender_id"], event["recipient_id"])
        if event["in_reply_to"]:
            answers += 1
            assert earlier[event["in_reply_to"]] == (event["recipient_id"], event["sender_id"])
    assert answers > len(usual) / 10


def test_the_relation_counts_what_the_recipient_wrote_before(usual: Traffic) -> None:
    written: Counter[tuple[str, str]] = Counter()
    before: dict[tuple[str, str], int] = {}
    for event in usual:
        if "recipient_id" not in event:
            continue
        back = (event["recipient_id"], event["sender_id"])
        if "relation" in event:
            history = event["relation"]["prior_messages_from_recipient"] - written[back]
            assert before.setdefault(back, history) == history
        written[event["sender_id"], event["recipient_id"]] += 1


@pytest.mark.parametrize(("events", "seed"), [(5000, 1), (20_000, 2), (60_000, 3)])
def test_bots_send_three_and_strangers_thirty_messages_in_a_hundred(events: int, seed: int) -> None:
    labels: Counter[str] = Counter()
    cold = 0
    for event in simulate(events, seed):
        truth: Any = event["truth"]
        labels[truth["label"]] += 1
        cold += truth["cold"]
    assert 0.025 <= labels["auto"] / events <= 0.035
    assert 0.25 <= cold / events <= 0.35


def test_a_short_run_has_every_habit() -> None:
    seen = Counter(str(event["truth"]["habit"]) for event in simulate(5000, 8))  # type: ignore[index]
    wanted = set(BOTS) | set(BULK_LEGIT) - {"club", "new_number"}
    assert {habit for habit in wanted if seen[habit] < 10} == set()


def test_two_in_five_events_bring_a_new_sender(usual: Traffic) -> None:
    assert 0.35 < len({event["sender_id"] for event in usual}) / len(usual) < 0.55


def test_no_field_is_missing_more_often_from_bots_than_from_people(many_bots: Traffic) -> None:
    for field, missing in (("sender", 0.04), ("relation", 0.1), ("recipient", 0.2)):
        for label in ("auto", "legit"):
            direct = [event for event in many_bots if event["truth"]["label"] == label and "recipient_id" in event]
            share = sum(event.get(field) is None for event in direct) / len(direct)
            assert share == pytest.approx(missing, abs=0.02)


def test_without_relation_no_event_has_one() -> None:
    assert not any("relation" in event for event in simulate(2000, 1, relation=False))


# The numbers of the habits


def test_people_write_at_most_twenty_messages_a_day_to_at_most_eight_others(usual: Traffic) -> None:
    sent: Counter[tuple[str, int]] = Counter()
    others: dict[tuple[str, int], set[str]] = defaultdict(set)
    for event in usual:
        if event["truth"]["habit"] == "person":
            day = event["sender_id"], sent_ms(event) // DAY
            sent[day] += 1
            others[day].add(event.get("recipient_id") or str(sorted(event["recipients"])))
    assert max(sent.values()) <= 20
    assert max(map(len, others.values())) <= 8


def test_one_sender_in_two_hundred_has_a_day_of_forty_new_people(usual: Traffic) -> None:
    days = by_sender(usual, "many_new_people")
    met = Counter(len({event["recipient_id"] for event in sent}) for sent in days.values())
    assert met.most_common(1)[0][0] == 40
    assert 0.003 < len(days) / (len(usual) / 2) < 0.007


def test_people_write_by_day_more_than_by_night(usual: Traffic) -> None:
    hours = Counter(sent_ms(event) // HOUR % 24 for event in usual if event["truth"]["habit"] == "person")
    assert hours[20] > 3 * hours[4]


def test_a_new_number_goes_to_friends_who_have_all_written_before(usual: Traffic) -> None:
    told = by_sender(usual, "new_number")
    assert told
    for sent in told.values():
        assert 15 <= len({event["recipient_id"] for event in sent}) <= 63
        assert not any(event["truth"]["cold"] for event in sent)


def test_desks_send_fifty_to_five_hundred_a_day_and_nearly_all_are_answers(usual: Traffic) -> None:
    desks = by_sender(usual, "service_desk")
    answers = sum(event["in_reply_to"] is not None for sent in desks.values() for event in sent)
    assert all(40 <= len(sent) <= 550 for sent in desks.values())
    assert answers / sum(map(len, desks.values())) > 0.8


@pytest.mark.parametrize("habit", ["organiser", "club"])
def test_societies_write_to_a_hundred_to_three_hundred_members_within_the_hour(usual: Traffic, habit: str) -> None:
    for sent in by_sender(usual, habit).values():
        mailing = [event for event in sent if not event["in_reply_to"]]
        first = sent_ms(mailing[0])
        within = [event for event in mailing if sent_ms(event) - first < 1.1 * HOUR]
        assert 95 <= len({event["recipient_id"] for event in within}) <= 300
        two_way = [event["relation"]["recipient_follows_sender"] for event in sent if "relation" in event]
        assert sum(two_way) / len(two_way) > 0.9


def test_thanks_come_two_to_ten_seconds_after_the_follow(many_bots: Traffic) -> None:
    delays = [
        (sent_ms(event) - codec.epoch_ms(followed, "followed_at")) / 1000
        for sent in by_sender(many_bots, "instant_thanks").values()
        for event in sent
        if (followed := event.get("relation", {}).get("followed_at"))
    ]
    assert len(delays) > 50
    assert 2 <= min(delays) <= max(delays) <= 10


Number = Callable[[Traffic], float]


def per_hour(sent: Traffic) -> float:
    gaps = gaps_ms(sent)
    return HOUR * len(gaps) / sum(gaps)


def spread(sent: Traffic) -> float:
    """The widest deviation of a gap from the mean gap, as a share of it."""
    gaps = gaps_ms(sent)
    mean = sum(gaps) / len(gaps)
    return max(abs(gap - mean) for gap in gaps) / mean


def beat_error_s(sent: Traffic) -> float:
    """How far a stroke is from a 15-minute beat, seconds."""
    phases = [(sent_ms(event) - sent_ms(sent[0]) + 450_000) % 900_000 - 450_000 for event in sent]
    return (max(phases) - min(phases)) / 1000


def hours_long(sent: Traffic) -> float:
    return (sent_ms(sent[-1]) - sent_ms(sent[0])) / HOUR


def words_at_most(sent: Traffic) -> float:
    return max(len(event["text"].split()) for event in sent)


@pytest.mark.parametrize(
    ("habit", "number", "least", "most"),
    [
        ("jittered", per_hour, 20, 40),
        ("jittered", spread, 0.4, 0.75),
        ("slow_drip", per_hour, 3.7, 4.3),
        ("slow_drip", hours_long, 21, 25),
        ("metronome", per_hour, 3.95, 4.05),
        ("metronome", beat_error_s, 5, 10),
        ("paraphraser", per_hour, 10, 14),
        ("opener", per_hour, 55, 66),
        ("opener", words_at_most, 1, 2),
        ("hijacked", per_hour, 190, 240),
        ("hijacked", len, 200, 200),
        ("hijacked", hours_long, 0.8, 1.05),
    ],
)
def test_each_whole_life_of_a_habit_holds_to_its_number(
    many_bots: Traffic, habit: str, number: Number, least: float, most: float
) -> None:
    lives = by_sender(many_bots, habit)
    longest = max(map(len, lives.values()))
    whole = [sent for sent in lives.values() if len(sent) == longest]
    assert longest > 80
    assert all(least <= number(sent) <= most for sent in whole), [number(sent) for sent in whole]


def test_a_rotator_has_six_templates(many_bots: Traffic) -> None:
    for sent in by_sender(many_bots, "rotator").values():
        found: list[str] = []
        for event in sent:
            if not any(alike(event["text"], other) for other in found):
                found.append(event["text"])
        assert len(found) == 6


def test_a_paraphraser_never_says_the_same_thing_twice(many_bots: Traffic) -> None:
    for sent in by_sender(many_bots, "paraphraser").values():
        assert len({event["text"] for event in sent}) == len(sent)


def test_a_bot_writes_to_nobody_twice_but_to_its_own_accounts(many_bots: Traffic) -> None:
    for habit in BOTS:
        for sent in by_sender(many_bots, habit).values():
            most = Counter(event["recipient_id"] for event in sent).most_common(1)[0][1]
            assert most == 1 or habit == "faker"


def test_a_tenth_of_a_fakers_messages_goes_to_its_own_accounts_which_answer(many_bots: Traffic) -> None:
    puppets = set(by_sender(many_bots, "puppet"))
    own = [event["recipient_id"] in puppets for sent in by_sender(many_bots, "faker").values() for event in sent]
    assert 0.05 < sum(own) / len(own) < 0.15
    answers = sum(event["truth"]["habit"] == "puppet" for event in many_bots)
    assert answers == pytest.approx(sum(own), abs=2)


def test_a_hijacked_account_is_years_old_and_writes_to_its_followers(many_bots: Traffic) -> None:
    for sent in by_sender(many_bots, "hijacked").values():
        assert all(event["sender"]["created_at"] < "2023" for event in sent if "sender" in event)
        assert all(event["relation"]["recipient_follows_sender"] for event in sent if "relation" in event)


def test_a_campaign_is_thirty_senders_with_three_near_identical_texts_within_six_hours(many_bots: Traffic) -> None:
    campaigns: dict[str, Traffic] = defaultdict(list)
    for event in many_bots:
        if name := event["truth"]["campaign"]:
            campaigns[name].append(event)
    assert len(campaigns) >= 2
    for sent in campaigns.values():
        assert Counter(Counter(event["sender_id"] for event in sent).values()) == {3: 30}
        assert hours_long(sent) <= 6
        assert all(alike(event["text"], sent[0]["text"]) for event in sent)
        assert len({event["text"] for event in sent}) > 1


def alike(one: str, two: str) -> bool:
    return SequenceMatcher(None, one.lower(), two.lower(), autojunk=False).ratio() > 0.6


def test_strangers_do_not_become_a_campaign_by_chance() -> None:
    senders: dict[str, set[object]] = defaultdict(set)
    for event in simulate(60_000, 4):
        truth: Any = event["truth"]
        if truth["cold"] and truth["label"] == "legit" and len(str(event["text"]).split()) >= 5:
            senders[str(event["text"])].add(event["sender_id"])
    assert max(map(len, senders.values())) < 10


# The command


def run(capsysbinary: pytest.CaptureFixture[bytes], *arguments: str) -> list[bytes]:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert command.run(parser.parse_args(arguments)) == 0
    return capsysbinary.readouterr().out.splitlines()


def test_the_command_prints_what_the_library_yields(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = run(capsysbinary, "--events", "700", "--seed", "9", "--start", "2026-12-01T00:00:00Z", "--tenant", "t")
    start_ms = codec.epoch_ms("2026-12-01T00:00:00Z", "start")
    assert lines == [codec.dumps(event) for event in simulate(700, 9, start_ms=start_ms, tenant="t")]


@pytest.mark.parametrize("wrong", [["--events", "0"], ["--events", "5", "--hours", "0"], ["--events", "x"]])
def test_wrong_numbers_are_wrong_usage(wrong: list[str]) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args([*wrong, "--seed", "1"])
    assert stopped.value.code == 2


def test_a_start_that_is_no_time_is_named(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(BadSetup, match="tomorrow"):
        run(capsysbinary, "--events", "1", "--seed", "1", "--start", "tomorrow")


def test_without_the_corpus_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadSetup, match="models/corpus"):
        Texts(Random(1), tmp_path)
