"""Automated senders. A habit is a rhythm, a script and a relation to those it writes to; a bot is one account of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from services.cli.simulate import texts, words
from services.cli.simulate.accounts import Pair
from services.cli.simulate.people import Chat, Side, ago_or_never
from services.cli.simulate.rhythm import busy_days, clock_ms, stamp_second
from services.cli.simulate.texts import Row, Style, Template, pick
from services.cli.simulate.world import Draft, Event, World
from services.spans import HOUR_MS, MINUTE_MS, SECOND_MS

PUPPET = "puppet"

Gaps = Callable[[Random, int], int]
"""(random, time of the last message) -> milliseconds to the next."""
Script = Callable[[str], Row]
"""First name of the recipient -> text and kind."""


@dataclass(slots=True, frozen=True)
class Habit:
    """How one kind of bot goes about it.

    `messages`: how many a bot sends in its life. `per_hour`: its mean rate. `pace` makes the gaps of one bot;
    `script` its texts, on the kinds `roles`. `greeted`: the share of recipients that follow the bot; `answered`: the
    share that answers.
    """

    name: str
    messages: int
    per_hour: float
    pace: Callable[[World, float], Gaps]
    script: Callable[[World, str], Script]
    roles: tuple[str, ...]
    greeted: float = 0.15
    answered: float = 0.02
    senders: int = 1
    old: bool = False
    instant: bool = False
    puppets: int = 0


# Rhythms


def jitter(share: float, spread: float = 0.0) -> Callable[[World, float], Gaps]:
    """Gaps within ± `share` of the mean; each bot's own mean within ± `spread` of the habit's."""

    def pace(world: World, per_hour: float) -> Gaps:
        mean = HOUR_MS / (per_hour * (1 - spread + 2 * spread * world.rng.random()))
        return lambda rng, now_ms: int(mean * (1 - share + 2 * share * rng.random()))

    return pace


def metronome(world: World, per_hour: float) -> Gaps:
    """A strict beat, each stroke up to 5 s early or late; the error does not add up."""
    beat, late_ms = HOUR_MS / per_hour, 0.0

    def gap(rng: Random, now_ms: int) -> int:
        nonlocal late_ms
        before_ms, late_ms = late_ms, 10 * SECOND_MS * (rng.random() - 0.5)
        return int(beat + late_ms - before_ms)

    return gap


def on_follow(world: World, per_hour: float) -> Gaps:
    """Whenever somebody follows: at people's hours, at no even pace."""
    per_day = per_hour * 24

    def gap(rng: Random, now_ms: int) -> int:
        return clock_ms(busy_days(now_ms) + rng.expovariate(per_day)) - now_ms

    return gap


def loose(world: World, per_hour: float) -> Gaps:
    """At random, at least 20 s apart."""
    rate = 1 / (HOUR_MS / per_hour - 20_000)
    return lambda rng, now_ms: 20_000 + int(rng.expovariate(rate))


# Scripts


def one_text(world: World, role: str) -> Script:
    return several_texts(1)(world, role)


def several_texts(count: int) -> Callable[[World, str], Script]:
    """So many templates, each filled in for the recipient."""

    def make(world: World, role: str) -> Script:
        rng, deck = world.rng, world.texts.deck(role, _language(world.rng))
        rows = {row[0]: row for row in (deck.any() for _ in range(20 * count))}
        style = Style.drawn(rng)
        templates = [Template(row, style, rng) for row in list(rows.values())[:count]]

        def script(name: str) -> Row:
            template = pick(templates, rng)
            return template.fill(name, rng), template.kind

        return script

    return make


def paraphrased(world: World, role: str) -> Script:
    """No two texts alike: pieces of different rows of one kind, reworded, some with the recipient's name."""
    rng, deck = world.rng, world.texts.deck(role)
    said: set[str] = set()

    def script(name: str) -> Row:
        while True:
            text, kind = deck.compose()
            text = texts.reword(text, rng, 3)
            if rng.random() < 0.4:
                text = f"{pick(('Hi', 'Hey', 'Hello'), rng)} {name}, {text}"
            if text not in said:
                said.add(text)
                return text, kind

    return script


def one_word(world: World, role: str) -> Script:
    """One to three of the shortest openers, no link, no name."""
    openers = world.rng.sample(words.OPENERS, world.rng.randrange(1, 4))
    return lambda name: (pick(openers, world.rng), role)


def campaign_text(world: World, role: str) -> Script:
    """One template, with name, emoji, number, link tail and a word or two changed."""
    rng = world.rng
    style = Style(rng.random() < 0.6, rng.random() < 0.6, rng.random() < 0.4, rng.random() < 0.5, words=2)
    deck = world.texts.deck(role)
    long = [row for row in (deck.any() for _ in range(20)) if len(row[0]) >= 50]
    template = Template(long[0] if long else deck.any(), style, rng)
    return lambda name: (template.fill(name, rng), template.kind)


def _language(rng: Random) -> str:
    return "en" if rng.random() < 0.9 else pick(texts.LANGUAGES, rng)


_SELLING = ("pitch", "finance", "giveaway", "cross_platform", "recruiting", "shop", "music", "newsletter")

HABITS = (
    Habit("instant_thanks", 60, 2.5, on_follow, one_text, ("follow_thanks",), greeted=1.0, instant=True),
    Habit("jittered", 90, 29, jitter(0.6, 0.2), one_text, (*_SELLING, "engagement_bait"), greeted=0.4),
    Habit("slow_drip", 96, 4, jitter(0.3), one_text, ("pitch", "recruiting", "finance", "adult"), greeted=0.3),
    Habit("metronome", 96, 4, metronome, one_text, _SELLING, greeted=0.3),
    Habit("rotator", 100, 25, loose, several_texts(6), _SELLING),
    Habit("paraphraser", 96, 12, jitter(0.5), paraphrased, ("pitch", "recruiting", "finance"), answered=0.05),
    Habit("campaign", 3, 0.75, loose, campaign_text, ("finance", "giveaway", "adult", "cross_platform"), senders=30),
    Habit("faker", 100, 25, jitter(0.5), one_text, ("pitch", "finance", "shop"), puppets=3),
    Habit("opener", 120, 60, jitter(0.4), one_word, ("opener",), greeted=0.05, answered=0.08),
    Habit("hijacked", 200, 210, jitter(0.7), one_text, ("finance", "giveaway"), greeted=1.0, answered=0.04, old=True),
)
CAMPAIGN_MS = 6 * HOUR_MS
_FEWEST_SENDERS = 12


class Bot:
    """One account of a habit, from its first message to its last."""

    def __init__(
        self, world: World, habit: Habit, messages: int, script: Script, gaps: Gaps, campaign: str | None = None
    ) -> None:
        accounts = world.accounts
        self._world, self._habit, self._left = world, habit, messages
        self._script, self._gaps, self._campaign = script, gaps, campaign
        self.account = accounts.add(accounts.old_account if habit.old else accounts.bot)
        self._puppets = [accounts.add(accounts.bot) for _ in range(habit.puppets)]
        self._recipient = int(world.rng.random() * accounts.people)
        self._step = accounts.stride(world.rng)

    def __call__(self, now_ms: int) -> Event | None:
        world = self._world
        own = bool(self._puppets) and world.rng.random() < 0.1
        pair = self._own_account() if own else self._meet(now_ms)
        text, kind = self._script(world.accounts.first_name(pair.two))
        draft = Draft(text, kind, self._habit.name, "auto", self._campaign)
        event = world.send(now_ms, pair, self.account, draft)
        if own:
            self._puppet_answers(pair, now_ms)
        elif world.rng.random() < self._habit.answered:
            self._person_answers(event, pair, now_ms)
        self._left -= 1
        if self._left > 0:
            world.at(now_ms + max(self._gaps(world.rng, now_ms), 200), self)
        return event

    def _own_account(self) -> Pair:
        return self._world.accounts.known(self.account, pick(self._puppets, self._world.rng), 0.0, (1.0, 1.0))

    def _meet(self, now_ms: int) -> Pair:
        """The next recipient: never one twice."""
        world, rng, habit = self._world, self._world.rng, self._habit
        accounts = world.accounts
        self._recipient = (self._recipient + self._step) % accounts.people
        if habit.old:
            return accounts.known(self.account, self._recipient, 0.25, (1.0, 0.8))
        back = ago_or_never(world, now_ms, 0.5)
        if habit.instant:
            since = (now_ms - 2000 - rng.randrange(7000)) // 1000 * 1000
            return accounts.pair(self.account, self._recipient, follows=(stamp_second(since), back))
        fan = ago_or_never(world, now_ms, habit.greeted)
        return accounts.pair(self.account, self._recipient, follows=(fan, back))

    def _person_answers(self, event: Event, pair: Pair, now_ms: int) -> None:
        rng = self._world.rng
        row = (pick(words.REFUSALS, rng), "refusal") if rng.random() < 0.8 else self._world.texts.deck("refusal").any()
        Chat(self._world, pair, 1, row, (Side(), Side(patience_ms=10 * MINUTE_MS))).answer(event["event_id"], now_ms)

    def _puppet_answers(self, pair: Pair, now_ms: int) -> None:
        world = self._world

        def turn(at_ms: int) -> Event | None:
            text, kind = world.texts.reply("en")
            return world.send(at_ms, pair, pair.two, Draft(text, kind, PUPPET, "auto"))

        world.at(now_ms + world.rng.randrange(5 * SECOND_MS, 60 * SECOND_MS), turn)


def release(world: World, budget: float, span_ms: int) -> None:
    """Book all bots of a simulation: `budget` messages, the same number for each habit.

    A span or a budget too small for one whole life of a habit cuts that life short, and a campaign to fewer senders
    (never below 12, and at the others' cost): rates stay as they are, lengths do not.
    """
    together = [habit for habit in HABITS if habit.senders > 1]
    for habit in together:
        quota = budget / len(HABITS)
        if quota >= 2:
            quota = max(quota, _FEWEST_SENDERS * habit.messages)
            budget -= _campaigns(world, habit, quota, span_ms)
    alone = [habit for habit in HABITS if habit.senders == 1]
    for habit in alone:
        _loners(world, habit, budget / len(alone), span_ms)


def _campaigns(world: World, habit: Habit, quota: float, span_ms: int) -> int:
    """Campaigns of about `quota` messages in all, at least one; returns how many messages they have."""
    senders = int(quota / habit.messages)
    size = min(senders, habit.senders)
    count = senders // size
    length_ms = min(CAMPAIGN_MS, int(0.95 * span_ms))

    def begin(number: int, now_ms: int) -> None:
        _campaign(world, habit, size, now_ms, length_ms, f"k-{number + 1}")

    one_by_one(world, count, 0.95 * span_ms - length_ms, begin)
    return count * size * habit.messages


def _campaign(world: World, habit: Habit, senders: int, now_ms: int, length_ms: int, name: str) -> None:
    """Accounts that send one text, a few times each, anywhere within the campaign's length."""
    rng = world.rng
    script = habit.script(world, pick(habit.roles, rng))
    for _ in range(senders):
        moments = sorted(now_ms + int(rng.random() * length_ms) for _ in range(habit.messages))
        world.at(moments[0], Bot(world, habit, habit.messages, script, _fixed(moments), name))


def _loners(world: World, habit: Habit, quota: float, span_ms: int) -> None:
    """Bots of one habit that send `quota` messages in all, each starting where the span leaves it the time."""
    longest = max(1, min(habit.messages, int(0.95 * span_ms / HOUR_MS * habit.per_hour)))
    total = round(quota / (1.1 if habit.puppets else 1.0))
    count = -(-total // longest)

    def begin(number: int, now_ms: int) -> None:
        messages = total - longest * (count - 1) if number == count - 1 else longest
        script = habit.script(world, pick(habit.roles, world.rng))
        world.at(now_ms, Bot(world, habit, messages, script, habit.pace(world, habit.per_hour)))

    one_by_one(world, count, 0.97 * span_ms - min(longest, total) * HOUR_MS / habit.per_hour, begin)


def one_by_one(world: World, count: int, room_ms: float, begin: Callable[[int, int], None]) -> None:
    """`begin(number, now_ms)` so often within the first `room_ms`, once in each equal part of it."""
    part_ms = max(room_ms, 0.0) / max(count, 1)

    def book(number: int) -> None:
        if number < count:
            start_ms = world.start_ms + int((number + world.rng.random()) * part_ms)
            world.at(start_ms, lambda now_ms: start(number, now_ms))

    def start(number: int, now_ms: int) -> None:
        book(number + 1)
        begin(number, now_ms)

    book(0)


def _fixed(moments: Sequence[int]) -> Gaps:
    """Gaps that lead from the first of these moments through all the others."""
    later = iter(moments[1:])
    return lambda rng, now_ms: next(later) - now_ms
