"""Campaigns: the same words from many senders, counted in event time; and the service that tells of them."""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services import codec
from services.classify import campaign_window, campaigns
from services.classify.campaign_window import MAX_NAMES_OF_TEXT, Campaigns, LiveCampaigns, campaign_id
from services.cli import brokers
from services.cli.brokers import Broker
from services.records import VERSION, Campaign, Output, Sighting, Sightings, campaign_review_key
from services.settings import load
from services.spans import DAY_MS
from services.topics import CAMPAIGNS, DEAD_LETTER, SIGHTINGS
from tests.builders import NOON_MS
from tests.plane import PARTITIONS, Plane, plane

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
ID = campaign_id("default", "text")


def sighting(sender: int, at_ms: int = 0, key: str = "text", tenant: str = "default") -> Sighting:
    """A message of a sender to somebody of its own, so long after noon."""
    scope = f"{tenant}/default"
    return Sighting(tenant, (key,), f"{scope}/u-{sender}", f"{scope}/c-{sender}", NOON_MS + at_ms)


def told(core: Campaigns, sightings: list[Sighting]) -> list[Campaign]:
    return [campaign for one in sightings if (campaign := core.sight(one)) is not None]


def test_ten_senders_of_a_text_are_a_campaign_and_nine_are_not() -> None:
    core = Campaigns()
    assert told(core, [sighting(n, n * MINUTE_MS) for n in range(9)]) == []
    assert core.sight(sighting(9, 9 * MINUTE_MS)) == Campaign(
        v=VERSION,
        campaign_id=ID,
        tenant="default",
        key="text",
        senders=10,
        conversations=10,
        first_ms=NOON_MS,
        last_ms=NOON_MS + 9 * MINUTE_MS,
        expires_ms=NOON_MS + 9 * MINUTE_MS + DAY_MS,
    )


def test_one_sender_is_no_campaign_however_busy() -> None:
    scope = "default/default"
    busy = [Sighting("default", ("text",), f"{scope}/u-1", f"{scope}/c-{n}", NOON_MS + n) for n in range(500)]
    assert told(Campaigns(), busy) == []


def test_the_same_words_from_many_to_one_are_no_campaign() -> None:
    """Who joins a club by a phrase, or asks a shop for its prices, writes what others write."""
    to_club = [replace(sighting(n), recipient="default/default/club") for n in range(50)]
    assert told(Campaigns(), to_club) == []
    to_five = [replace(one, recipient=f"default/default/u-{n % 5}") for n, one in enumerate(to_club)]
    assert told(Campaigns(), to_five) != []


def test_another_tenant_does_not_count() -> None:
    ours = [sighting(n) for n in range(9)]
    theirs = [sighting(n, tenant="acme") for n in range(9, 18)]
    assert told(Campaigns(), ours + theirs) == []


def test_another_text_does_not_count() -> None:
    assert told(Campaigns(), [sighting(n, key=f"text-{n % 2}") for n in range(18)]) == []


def test_a_sighting_of_more_than_a_day_ago_does_not_count() -> None:
    core = Campaigns()
    assert told(core, [sighting(n) for n in range(5)]) == []
    assert told(core, [sighting(n, DAY_MS) for n in range(5, 14)]) == []
    assert told(core, [sighting(14, DAY_MS + 1)]) != []


def test_a_late_sighting_counts_in_its_own_time() -> None:
    core = Campaigns()
    told(core, [sighting(n, DAY_MS) for n in range(8)])
    assert core.sight(sighting(90, 0)) is None, "a day late: too old to count"
    assert core.sight(sighting(8, 1)) is None
    (campaign,) = told(core, [sighting(9, 2)])
    assert (campaign.senders, campaign.last_ms) == (10, NOON_MS + DAY_MS)


def test_thirty_senders_of_three_messages_each_in_six_hours_are_found_early() -> None:
    order = [sender for sender in range(30) for _ in range(3)]
    random.Random(3).shuffle(order)
    sent = [sighting(sender, n * 4 * MINUTE_MS) for n, sender in enumerate(order)]
    first = next(n for n, one in enumerate(sent) if told(Campaigns(), sent[: n + 1]))
    assert first < 20


def test_growth_is_told_of_by_the_fifth_not_by_the_sighting() -> None:
    grown = told(Campaigns(), [sighting(n, n) for n in range(1000)])
    counts = [campaign.senders for campaign in grown]
    assert counts[0] == 10
    assert all(later >= earlier * 1.2 for earlier, later in pairwise(counts))
    assert len(counts) < 30


def test_a_campaign_that_goes_on_lives_on() -> None:
    core = Campaigns()
    told(core, [sighting(n) for n in range(10)])
    assert core.sight(sighting(3, HOUR_MS - 1)) is None
    later = core.sight(sighting(3, HOUR_MS))
    assert later is not None
    assert (later.senders, later.expires_ms) == (10, NOON_MS + HOUR_MS + DAY_MS)


def test_a_campaign_that_comes_back_after_days_begins_anew() -> None:
    core = Campaigns()
    told(core, [sighting(n) for n in range(50)])
    (again,) = told(core, [sighting(n, 10 * DAY_MS + n) for n in range(10)])
    assert (again.campaign_id, again.senders, again.first_ms) == (ID, 10, NOON_MS + 10 * DAY_MS)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3 * DAY_MS), st.sampled_from(["a", "b"])), max_size=80))
def test_what_was_seen_before_changes_nothing(seen: list[tuple[int, int, str]]) -> None:
    once, twice = Campaigns(), Campaigns()
    for sender, at_ms, key in seen:
        one = sighting(sender, at_ms, key)
        found = once.sight(one)
        assert twice.sight(one) == found
        assert twice.sight(one) is None
    assert once == twice


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2 * DAY_MS)), max_size=120))
def test_a_campaign_is_ten_senders_of_a_day_counted_plainly(seen: list[tuple[int, int]]) -> None:
    core, high_ms, told_once = Campaigns(), 0, False
    last: dict[int, int] = {}
    for sender, at_ms in seen:
        campaign = core.sight(sighting(sender, at_ms))
        if at_ms <= high_ms - DAY_MS:
            assert campaign is None
            continue
        high_ms = max(high_ms, at_ms)
        last[sender] = max(at_ms, last.get(sender, 0))
        last = {name: ms for name, ms in last.items() if ms > high_ms - DAY_MS}
        assert campaign is None or campaign.senders == len(last) >= 10
        told_once |= campaign is not None
        assert told_once or len(last) < 10


def test_memory_stays_bounded_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Campaigns()
    told(core, [sighting(n, n) for n in range(5 * MAX_NAMES_OF_TEXT)])
    assert core._names == 3 * MAX_NAMES_OF_TEXT
    monkeypatch.setattr(campaign_window, "MAX_TEXTS", 100)
    told(core, [sighting(n, 10_000 + n, key=f"text-{n}") for n in range(1000)])
    assert (len(core._texts), core._names) == (100, 300)
    monkeypatch.setattr(campaign_window, "MAX_NAMES", 50)
    core.sight(sighting(1, 20_000))
    assert (len(core._texts), core._names) == (16, 48)


def test_the_text_seen_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_window, "MAX_TEXTS", 3)
    core = Campaigns()
    for n in range(10):
        core.sight(sighting(n, n, key="kept"))
        core.sight(sighting(n, n, key=f"other-{n}"))
    assert [place[1] for place in core._texts] == ["other-8", "kept", "other-9"]


def test_texts_of_days_ago_are_forgotten() -> None:
    core = Campaigns()
    told(core, [sighting(n, n, key=f"text-{n}") for n in range(100)])
    core.sight(sighting(0, 2 * DAY_MS + 99, key="new"))
    assert [place[1] for place in core._texts] == ["new"]


def campaign(key: str = "text", tenant: str = "default") -> Campaign:
    return Campaign(
        v=VERSION,
        campaign_id=campaign_id(tenant, key),
        tenant=tenant,
        key=key,
        senders=10,
        conversations=12,
        first_ms=NOON_MS,
        last_ms=NOON_MS,
        expires_ms=NOON_MS + DAY_MS,
    )


def exemption(until_ms: int) -> Campaign:
    """What casebook writes of a campaign that a review exempts."""
    nothing = {"key": "", "senders": 0, "conversations": 0, "first_ms": 0, "last_ms": 0}
    return replace(campaign(), **nothing, expires_ms=until_ms, exempt=True)


def live(*found: Campaign) -> LiveCampaigns:
    view = LiveCampaigns()
    for one in found:
        view.apply(one.campaign_id, one)
    return view


@pytest.mark.parametrize(
    ("view", "tenant", "keys", "at_ms", "name"),
    [
        (live(campaign()), "default", ["other", "text"], 0, ID),
        (live(campaign()), "default", ["other"], 0, None),
        (live(campaign()), "acme", ["text"], 0, None),
        (live(campaign()), "default", ["text"], DAY_MS - 1, ID),
        (live(campaign()), "default", ["text"], DAY_MS, None),
        (live(), "default", ["text"], 0, None),
    ],
    ids=["found", "another text", "another tenant", "just alive", "expired", "empty"],
)
def test_a_live_campaign_is_found_by_its_text(
    view: LiveCampaigns, tenant: str, keys: list[str], at_ms: int, name: str | None
) -> None:
    assert view.find(tenant, keys, NOON_MS + at_ms) == name


def test_the_latest_word_on_a_campaign_counts() -> None:
    view = live(campaign(), campaign("other"))
    view.apply(ID, None)
    view.apply("k-never-heard-of", None)
    assert (len(view), view.get(ID)) == (1, None)


def test_an_exemption_holds_until_its_end_whatever_is_told_of_the_campaign() -> None:
    view, review = live(campaign(), campaign("other")), campaign_review_key("default", ID)
    view.apply(review, exemption(NOON_MS + 9))
    view.apply(ID, campaign())
    assert [view.find("default", ["text"], NOON_MS + after_ms) for after_ms in (0, 9)] == [None, ID]
    assert view.find("default", ["other"], NOON_MS) is not None
    view.apply(review, None)
    assert view.find("default", ["text"], NOON_MS) == ID


@dataclass
class Kept:
    """What would have been published."""

    outputs: list[Output] = field(default_factory=list)

    async def publish(self, outputs: list[Output]) -> None:
        self.outputs += outputs


async def test_campaigns_that_are_over_are_taken_out_of_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "EXPIRY_SECONDS", 0.01)
    service, kept = campaigns.CampaignsService(load({})), Kept()
    monkeypatch.setattr(service.plane, "publish", kept.publish)
    service._told.apply(ID, campaign())
    service._sight(Sightings(v=VERSION, sightings=(sighting(1, DAY_MS - 1, key="other"),)))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(service._expire(), 0.1)
    assert kept.outputs == [], "it may live to the last moment"
    service._sight(Sightings(v=VERSION, sightings=(sighting(1, DAY_MS, key="other"),)))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(service._expire(), 0.1)
    assert [(output.topic, output.key, output.value) for output in kept.outputs] == [(CAMPAIGNS, ID.encode(), None)]


def packed(started: Plane, *sightings: Sighting) -> list[Output]:
    """As classify packs them: by the place of their text."""
    return [
        Output(
            topic=SIGHTINGS,
            key=None,
            value=codec.encode(Sightings(v=VERSION, sightings=(one,))),
            timestamp_ms=int(time.time() * 1000),  # the topic keeps two days
            partition=started.sender.locate(SIGHTINGS, one.keys[0].encode()),
        )
        for one in sightings
    ]


async def heard(started: Plane, wanted: int) -> dict[str, list[int]]:
    """The numbers of senders that were told, in their order, by text."""
    found: dict[str, list[int]] = {}
    for one in await started.told(CAMPAIGNS, Campaign, wanted):
        found.setdefault(one.key, []).append(one.senders)
    return found


async def test_the_service_tells_of_ten_senders_and_ends_well(broker: Broker, tmp_path: Path) -> None:
    async with plane("campaigns", broker, tmp_path) as started:
        texts = [("ten", 10), ("nine", 9), ("twelve", 12)]
        await started.put(*packed(started, *(sighting(n, n, key) for key, senders in texts for n in range(senders))))
        (record, *_) = found = await started.read(CAMPAIGNS, 2)
        assert record.key == codec.decode(record.value, Campaign).campaign_id.encode()
        assert {codec.decode(one.value, Campaign).key for one in found} == {"ten", "twelve"}
        assert await started.stop() == 0


@pytest.mark.kafka
async def test_a_killed_service_counts_on_and_misses_nothing(kafka: Broker, tmp_path: Path) -> None:
    async with plane("campaigns", kafka, tmp_path, DOORMAN_INSTANCE="one") as started:
        await started.put(*packed(started, *(sighting(n, n) for n in range(6)), sighting(1, 1, "seen")))
        await started.put(*packed(started, *(sighting(n, n, "seen") for n in range(10))))
        assert await heard(started, 1) == {"seen": [10]}
        await started.kill()
        await started.put(*packed(started, *(sighting(n, n, "away") for n in range(10))))
        await started.start()
        assert await heard(started, 2) == {"seen": [10], "away": [10]}, "what was told is not told again"
        await started.put(*packed(started, *(sighting(n, n) for n in range(6, 10))))
        assert await heard(started, 3) == {"seen": [10], "away": [10], "text": [10]}


@pytest.mark.kafka
async def test_a_bad_record_is_dead_lettered_and_costs_no_campaign(kafka: Broker, tmp_path: Path) -> None:
    async with plane("campaigns", kafka, tmp_path) as started:
        good = packed(started, *(sighting(n, n) for n in range(10)))
        bad = [
            replace(good[0], key=b"k", value=value, headers=(("h", b"1"),))
            for value in (b"\xff{", None, b"[]", b'{"v":9,"sightings":[]}', b'{"v":1,"sightings":[]}')
        ]
        await started.put(*bad[:3], *good, *bad[3:])
        assert await heard(started, 1) == {"text": [10]}
        letters = await started.read(DEAD_LETTER, 4)
        reasons = sorted(dict(letter.headers)["doorman-reason"].decode() for letter in letters)
        assert reasons == ["bad_version", "not_json", "tombstone", "wrong_type"]
        first = next(letter for letter in letters if letter.value == b"\xff{")
        headers = dict(first.headers)
        assert (first.key, headers["h"], headers["doorman-service"]) == (b"k", b"1", b"campaigns")
        assert (headers["doorman-partition"], headers["doorman-offset"]) == (str(good[0].partition).encode(), b"0")
        assert headers["doorman-topic"].endswith(SIGHTINGS.encode())


@pytest.mark.kafka
async def test_an_exemption_that_a_review_gave_stays(kafka: Broker, tmp_path: Path) -> None:
    async with plane("campaigns", kafka, tmp_path) as started:
        exempt = codec.encode(exemption(NOON_MS + DAY_MS))
        review = Output(
            topic=CAMPAIGNS, key=campaign_review_key("default", ID).encode(), value=exempt, timestamp_ms=NOON_MS
        )
        await started.put(review, *packed(started, *(sighting(n, n) for n in range(10))))
        await started.told(CAMPAIGNS, Campaign, 2)
        await started.stop()
        await started.start()
        await started.put(*packed(started, *(sighting(n, n) for n in range(10, 20))))
        view = LiveCampaigns()
        for record in await started.read(CAMPAIGNS, 3):
            view.apply((record.key or b"").decode(), codec.decode(record.value, Campaign))
        assert (len(view), view.find("default", ["text"], NOON_MS)) == (1, None)


@pytest.mark.kafka
async def test_an_aborted_sighting_is_not_seen(kafka: Broker, tmp_path: Path) -> None:
    async with plane("campaigns", kafka, tmp_path) as started:
        await started.put(*packed(started, *(sighting(n, n) for n in range(9))))
        await started.abort(*packed(started, *(sighting(n, n) for n in range(9, 20))))
        await started.put(*packed(started, *(sighting(n, n, key) for key in ("one", "two") for n in range(10))))
        assert await heard(started, 2) == {"one": [10], "two": [10]}


@pytest.mark.kafka
async def test_two_copies_share_the_texts_and_take_over_from_each_other(kafka: Broker, tmp_path: Path) -> None:
    keys = [f"{n:016x}" for n in range(8)]
    async with plane("campaigns", kafka, tmp_path) as started:
        assert {started.sender.locate(SIGHTINGS, key.encode()) for key in keys} == set(range(PARTITIONS))
        other = started.another()
        await asyncio.to_thread(other.wait_ready)
        await started.put(*packed(started, *(sighting(n, n, key) for key in keys for n in range(5))))
        await asyncio.sleep(1)
        assert await asyncio.to_thread(other.stop) == 0
        await started.put(*packed(started, *(sighting(n, n, key) for key in keys for n in range(5, 10))))
        assert await heard(started, 8) == {key: [10] for key in keys}


@pytest.mark.kafka
async def test_a_broker_that_dies_is_missed_and_costs_nothing(tmp_path: Path) -> None:
    with brokers.kafka() as broker:
        async with plane("campaigns", broker, tmp_path) as started:
            await started.put(*packed(started, *(sighting(n, n) for n in range(5))))
            await asyncio.to_thread(broker.kill)
            await started.waits(["broker"])
            await asyncio.to_thread(broker.start)
            await started.put(*packed(started, *(sighting(n, n) for n in range(5, 10))))
            assert await heard(started, 1) == {"text": [10]}
            await started.waits([])
            assert await started.stop() == 0
