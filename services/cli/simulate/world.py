"""The world that the actors share: one heap of turns in time order, counters, and how an event is put together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from services.cli.simulate.accounts import Accounts, Pair
from services.cli.simulate.rhythm import busy_days, clock_ms, stamp
from services.cli.simulate.texts import Texts
from services.spans import DAY_MS

Event = dict[str, object]
Turn = Callable[[int], Event | None]

MOST_A_DAY = 20
MOST_OTHERS = 8


@dataclass(slots=True, frozen=True)
class Setting:
    """What is the same on every event."""

    seed: int
    tenant: str
    platform: str
    relation: bool


@dataclass(slots=True, frozen=True)
class Draft:
    """A message before it is sent: its text and its truth."""

    text: str
    kind: str
    habit: str
    label: str = "legit"
    campaign: str | None = None
    attachments: int = 0


class Recent:
    """Counts by key, of which the least recently counted are forgotten: two generations of at most `limit` keys."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def get(self, key: int) -> int:
        return self._young.get(key) or self._old.get(key, 0)

    def add(self, key: int) -> None:
        self._young[key] = self.get(key) + 1
        if len(self._young) > self._limit:
            self._old, self._young = self._young, {}


class World:
    """Time, counters and sending. `at` books a turn; `run` takes the turns in order and yields what they send."""

    def __init__(self, setting: Setting, accounts: Accounts, texts: Texts, rng: Random, start_ms: int) -> None:
        self.setting, self.accounts, self.texts, self.rng = setting, accounts, texts, rng
        self.start_ms = start_ms
        self._heap: list[tuple[int, int, Turn]] = []
        self._booked = 0
        self._sent = 0
        self._nth: dict[int, int] = {}
        self._written = Recent(100_000 + 8 * accounts.people)
        self._day = -1
        self._today: dict[int, int] = {}
        self._others: dict[int, list[int]] = {}

    def at(self, at_ms: int, turn: Turn) -> None:
        self._booked += 1
        heappush(self._heap, (at_ms, self._booked, turn))

    def run(self, events: int) -> Iterator[Event]:
        """So many events in time order."""
        heap = self._heap
        while self._sent < events:
            at_ms, _, turn = heappop(heap)
            event = turn(at_ms)
            if event is not None:
                yield event

    def arrivals(self, per_day: float, begin: Turn) -> None:
        """Book `begin` so often a day for ever, in people's rhythm; no two stretches differ much in number."""
        if per_day > 0:
            Arrivals(self, per_day, begin).book()

    def may_write(self, person: int, to: int, now_ms: int) -> bool:
        """Whether a person has this message left today: at most 20, to at most 8 others. Counts it if so."""
        day = now_ms // DAY_MS
        if day != self._day:
            self._day = day
            self._today, self._others = {}, {}
        count = self._today.get(person, 0)
        others = self._others.setdefault(person, [])
        if count >= MOST_A_DAY or (to not in others and len(others) >= MOST_OTHERS):
            return False
        self._today[person] = count + 1
        if to not in others:
            others.append(to)
        return True

    def send(self, now_ms: int, pair: Pair, sender: int, draft: Draft, reply_to: str | None = None) -> Event:
        """The event of `sender` writing to the other of the pair."""
        accounts = self.accounts
        first = sender == pair.one
        recipient = pair.two if first else pair.one
        prior = pair.history[first] + self._written.get(recipient << 32 | sender)
        self._written.add(sender << 32 | recipient)
        event = self._event(now_ms, sender, draft, reply_to, cold=prior == 0)
        event["recipient_id"] = accounts.name(recipient)
        if pair.conversation is not None:
            event["conversation_id"] = pair.conversation
        self._garnish(event, sender, recipient, pair, prior)
        return event

    def send_group(
        self, now_ms: int, sender: int, others: list[int], draft: Draft, conversation: str | None, prior: int
    ) -> Event:
        """The event of `sender` writing to a group; `prior`: messages that the others wrote there before."""
        event = self._event(now_ms, sender, draft, None, cold=prior == 0)
        event["recipients"] = [self.accounts.name(other) for other in others]
        if conversation is not None:
            event["conversation_id"] = conversation
        event["sender"] = self.accounts.profile(sender)
        if self.setting.relation and self.rng.random() >= 0.1:
            event["relation"] = {"prior_messages_from_recipient": prior}
        return event

    def _event(self, now_ms: int, sender: int, draft: Draft, reply_to: str | None, cold: bool) -> Event:
        self._sent += 1
        nth = self._nth[sender] = self._nth.get(sender, 0) + 1
        setting = self.setting
        return {
            "event_id": f"e-{setting.seed}-{self._sent}",
            "tenant": setting.tenant,
            "platform": setting.platform,
            "sender_id": self.accounts.name(sender),
            "sent_at": stamp(now_ms),
            "text": draft.text,
            "in_reply_to": reply_to,
            "attachments": draft.attachments,
            "truth": {
                "label": draft.label,
                "habit": draft.habit,
                "kind": draft.kind,
                "campaign": draft.campaign,
                "nth": nth,
                "cold": cold,
            },
        }

    def _garnish(self, event: Event, sender: int, recipient: int, pair: Pair, prior: int) -> None:
        """The optional parts, each absent or null now and then, for bots as often as for people."""
        chance = self.rng.random()
        if chance >= 0.04:
            event["sender"] = self.accounts.profile(sender)
        event["recipient"] = self.accounts.card(recipient) if chance < 0.8 else None
        if self.setting.relation and not 0.1 <= chance < 0.2:
            fan, back = pair.follows if sender == pair.one else pair.follows[::-1]
            event["relation"] = {
                "followed_at": fan if chance < 0.9 else None,
                "recipient_follows_sender": fan is not None,
                "sender_follows_recipient": back is not None,
                "prior_messages_from_recipient": prior,
            }


class Arrivals:
    """`begin`, again and again: once in each stretch of 1/`per_day` of a day's activity, anywhere in it."""

    def __init__(self, world: World, per_day: float, begin: Turn) -> None:
        self._world, self._begin = world, begin
        self._gap = 1.0 / per_day
        self._origin = busy_days(world.start_ms)
        self._count = 0

    def book(self) -> None:
        place = self._origin + (self._count + self._world.rng.random()) * self._gap
        self._count += 1
        self._world.at(clock_ms(place), self)

    def __call__(self, now_ms: int) -> Event | None:
        self.book()
        return self._begin(now_ms)
