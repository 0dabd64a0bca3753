"""A wrong verdict's way back, through all services as real processes: by one message, and by a campaign."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession

from services import codec
from services import settings as environment
from services.action.cases import Case, Cases, CaseState, Filter
from services.action.tokens import digest
from services.cli import fleet
from services.cli.brokers import Broker
from services.cli.fleet import Fleet, Process
from services.cli.wire import Wire, wire
from services.kafka import Reader, partition_of
from services.records import Decision, Label, Standing
from services.settings import environment_with
from services.topics import LABELS, STANDING
from tests.postgres import Postgres

PITCH = "Thanks for following! Grab my free guide to 10k followers: https://growth.example/free"
WAVE = "Hi there! I am giving away my crypto trading course for free today only, join us at https://coins.example/join"
PARTITIONS = 2
SECONDS = 60.0
_prefixes = (f"back{number}-" for number in count())

pytestmark = [pytest.mark.kafka, pytest.mark.long]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'casebook.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database("way_back")


@dataclass(slots=True)
class House:
    """All services, casebook in two copies where its database allows, seen by a platform and by an operator."""

    ends: Wire
    started: Fleet
    copies: list[Process]
    session: ClientSession
    variables: dict[str, str]
    decisions: list[Decision] = field(default_factory=list)

    async def write(self, event_id: str, sender: str, recipient: str, text: str) -> None:
        now_ms = int(time.time() * 1000)
        followed = codec.rfc3339(now_ms - 4000)
        event: dict[str, Any] = {
            "event_id": event_id,
            "sender_id": sender,
            "recipient_id": recipient,
            "sent_at": now_ms,
            "text": text,
            "relation": {"followed_at": followed, "prior_messages_from_recipient": 0},
        }
        await self.ends.send([event])

    async def decided(self, holds: Callable[[Decision], bool], wanted: int = 1) -> list[Decision]:
        """Decisions of a kind, once there are so many."""
        async with asyncio.timeout(SECONDS):
            while len(found := [one for one in self.decisions if holds(one)]) < wanted:
                records = await self.ends.receive()
                self.decisions += [codec.decode(record.value, Decision) for record in records]
        return found

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """Ask a copy that runs; a copy that was killed is passed over."""
        async with asyncio.timeout(SECONDS):
            while True:
                for copy in self.copies:
                    with contextlib.suppress(ClientError):
                        url = f"http://{copy.address}{path}"
                        async with self.session.request(method, url, **options) as answer:
                            assert answer.status in (200, 202), await answer.text()
                            return await answer.json()
                await asyncio.sleep(0.1)

    async def command(self, command: str, **named: Any) -> Any:
        return await self.ask("POST", "/v1/reviews", json={"command": command, "reason": "a mistake"} | named)

    async def cases(self, wanted: int, **asked: str) -> list[dict[str, Any]]:
        """The cases of a filter, once there are so many."""
        async with asyncio.timeout(SECONDS):
            while True:
                found = (await self.ask("GET", "/v1/cases", params=asked | {"limit": "200"}))["cases"]
                if len(found) >= wanted:
                    return list(found)
                await asyncio.sleep(0.2)

    async def told(self, topic: str, wanted: int) -> list[bytes]:
        """All values of a topic, once there are so many, and those of a moment after."""
        found: list[bytes] = []
        readers = [Reader(self.ends.settings, topic, number) for number in range(PARTITIONS)]
        for reader in readers:
            await reader.start()
            reader.seek(0)
        began, last = time.monotonic(), False
        while not last:
            last = len(found) >= wanted or time.monotonic() - began > SECONDS
            for reader in readers:
                found += [record.value for record in await reader.fetch(1000, 500) if record.value]
        await asyncio.gather(*(reader.stop() for reader in readers))
        return found


@contextlib.asynccontextmanager
async def house(kafka: Broker, state: Path, database: str) -> AsyncIterator[House]:
    tokens = state / "tokens.toml"
    tokens.write_text(f'["{digest("key")}"]\nactor = "ana"\ntenants = ["*"]\nscopes = ["read", "text", "review"]\n')
    names = fleet.environment(
        kafka.bootstrap, state, transactions=True, partitions=PARTITIONS, prefix=next(_prefixes)
    ) | {"DOORMAN_DATABASE": database, "DOORMAN_API_TOKENS": str(tokens)}
    async with (
        wire(environment.load(names)) as ends,
        ClientSession(headers={"Authorization": "Bearer key"}) as session,
    ):
        started = await asyncio.to_thread(Fleet(names).__enter__)
        copies = [started["casebook"]]
        try:
            if not database.startswith("sqlite"):
                copies.append(Process("casebook", names))
                await asyncio.to_thread(copies[1].wait_ready)
            yield House(ends, started, copies, session, names)
        finally:
            await asyncio.gather(*(asyncio.to_thread(copy.stop) for copy in copies))
            await asyncio.to_thread(started.stop)


def everything(database: str) -> list[Case]:
    book = Cases(database, lambda _, key: partition_of(key, PARTITIONS))
    found = book.page(Filter(tenant="default"), None, 1000)
    book.close()
    return found


async def test_every_wrong_verdict_has_a_way_back_whatever_is_killed(
    kafka: Broker, tmp_path: Path, database: str
) -> None:
    async with house(kafka, tmp_path, database) as doorman:
        await one_message_comes_back(doorman)
        await a_campaign_comes_back(doorman)
    before = everything(database)
    assert {case.state for case in before} == {CaseState.RELEASED}
    emptied = f"sqlite:///{tmp_path / 'emptied.db'}"
    done = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "casebook", "rebuild"),
        env=environment_with(doorman.variables | {"DOORMAN_DATABASE": emptied}),
        stdout=asyncio.subprocess.PIPE,
    )
    await done.communicate()
    assert done.returncode == 0
    assert everything(emptied) == before


async def one_message_comes_back(doorman: House) -> None:
    """Quarantined, released over the API: superseded, labelled, and the pair may write again."""
    await doorman.write("e-1", "guru", "ana", PITCH)
    (held,) = await doorman.decided(lambda one: one.event_id == "e-1")
    assert (held.verdict, held.mode) == ("quarantine", "enforce")
    (case,) = await doorman.cases(1, sender="guru", state="held")
    assert (await doorman.ask("GET", f"/v1/cases/{case['decision_id']}"))["text"] == PITCH
    answer = await doorman.command("release", event_id="e-1", sender_id="guru")
    assert answer["cases"] == 1
    (released,) = await doorman.decided(lambda one: one.supersedes == held.decision_id)
    assert (released.verdict, released.cause) == ("allow", answer["review_id"])
    (label,) = [codec.decode(value, Label) for value in await doorman.told(LABELS, 1)]
    assert (label.event_id, label.label, label.text) == ("e-1", "legit", PITCH)
    assert (await doorman.ask("GET", f"/v1/reviews/{answer['review_id']}"))["outcome"] == "applied"
    (standing,) = [codec.decode(value, Standing) for value in await doorman.told(STANDING, 1)]
    assert standing.sender == "default/default/guru"
    await doorman.write("e-2", "guru", "ana", PITCH)
    await doorman.write("e-3", "guru", "bo", PITCH)
    (again,) = await doorman.decided(lambda one: one.event_id == "e-2")
    assert (again.verdict, again.override) == ("allow", "exempt_pair")
    (other,) = await doorman.decided(lambda one: one.event_id == "e-3")
    assert other.verdict == "quarantine", "one release frees one pair"
    await doorman.cases(1, sender="guru", state="held")
    await doorman.command("release", event_id="e-3")
    await doorman.decided(lambda one: one.supersedes == other.decision_id)


async def a_campaign_comes_back(doorman: House) -> None:
    """The same words of many: one release frees all of its cases, though casebook is killed while it works."""
    for n in range(12):
        await doorman.write(f"w-{n}", f"sender-{n}", f"reader-{n}", WAVE)
    await doorman.decided(lambda one: one.event_id.startswith("w-"), 12)
    for n in range(12, 100):
        await doorman.write(f"w-{n}", f"sender-{n}", f"reader-{n}", WAVE)
        if n % 20 == 0:
            await asyncio.sleep(0.5)
    first = await doorman.decided(lambda one: one.event_id.startswith("w-") and one.cause == "first", 100)
    (campaign,) = {one.campaign_id for one in first if one.campaign_id}
    caught = {one.decision_id for one in first if one.campaign_id == campaign and one.verdict == "quarantine"}
    assert len(caught) > 40
    assert len(await doorman.cases(len(caught), campaign=campaign, state="held")) == len(caught)
    assert (await doorman.command("release", campaign_id=campaign, dry_run=True))["cases"] == len(caught)
    answer = await doorman.command("release", campaign_id=campaign)
    await asyncio.to_thread(doorman.copies[0].kill)
    doorman.copies[0] = Process("casebook", doorman.variables)
    freed = await doorman.decided(lambda one: one.cause == answer["review_id"], len(caught))
    assert {one.supersedes for one in freed} == caught
    assert len({one.decision_id for one in freed}) == len(caught), "what is said again has the same id"
    await asyncio.to_thread(doorman.copies[0].wait_ready)
    assert len(await doorman.cases(len(caught), campaign=campaign, state="released")) == len(caught)
    labels = [codec.decode(value, Label) for value in await doorman.told(LABELS, len(caught) + 2)]
    assert {label.event_id for label in labels} == {one.event_id for one in freed} | {"e-1", "e-3"}
    for event in [one.event_id for one in first if one.verdict == "quarantine" and one.decision_id not in caught]:
        await doorman.command("release", event_id=event)
    await doorman.write("w-200", "sender-200", "reader-200", WAVE)
    (after,) = await doorman.decided(lambda one: one.event_id == "w-200")
    assert after.campaign_id is None, "the campaign is exempt"
    if after.verdict == "quarantine":
        await doorman.cases(1, sender="sender-200")
        await doorman.command("release", event_id="w-200")
    while await doorman.cases(0, state="held"):
        await asyncio.sleep(0.2)
