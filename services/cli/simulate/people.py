"""People: chats with friends, groups, first contacts, a day of forty new people, a new number told to everybody."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from services.cli.simulate import words
from services.cli.simulate.accounts import CIRCLE, Pair, mix
from services.cli.simulate.rhythm import busy_days, clock_ms, stamp_second
from services.cli.simulate.texts import LANGUAGES, Row, pick
from services.cli.simulate.world import Draft, Event, World
from services.spans import DAY_MS, MINUTE_MS, SECOND_MS

PERSON = "person"
MANY_NEW_PEOPLE = "many_new_people"
NEW_NUMBER = "new_number"
NEW_PEOPLE_A_DAY = 40

_ANSWERED = 0.5  # share of first contacts that get an answer
_QUOTES_ID = 0.6  # share of answers that carry `in_reply_to`, as platforms' reply buttons are used


@dataclass(slots=True, frozen=True)
class Side:
    """One of the two in a chat: its habit, what it says when it answers, how long it takes to answer."""

    habit: str = PERSON
    role: str = "reply"
    patience_ms: float = 2 * MINUTE_MS


_ANYBODY = Side()
_VISITOR = Side(habit=MANY_NEW_PEOPLE)


class Chat:
    """Two who write to each other by turns, now and then twice in a row. Ends early when one has had enough today."""

    __slots__ = ("_last", "_left", "_opening", "_pair", "_quotes", "_second", "_sides", "_twice", "_world")

    def __init__(
        self,
        world: World,
        pair: Pair,
        messages: int,
        opening: Row | None = None,
        sides: tuple[Side, Side] = (_ANYBODY, _ANYBODY),
        twice: float = 0.25,
        quotes: float = _QUOTES_ID,
    ) -> None:
        self._world, self._pair, self._left = world, pair, messages
        self._opening, self._sides, self._twice, self._quotes = opening, sides, twice, quotes
        self._second = False
        self._last: str | None = None

    def answer(self, event_id: object, now_ms: int) -> None:
        """Begin with the second's answer to a message that was sent already."""
        self._last, self._second = str(event_id), True
        self._book(now_ms, self._sides[1].patience_ms)

    def __call__(self, now_ms: int) -> Event | None:
        world, pair, side = self._world, self._pair, self._sides[self._second]
        sender, recipient = (pair.two, pair.one) if self._second else (pair.one, pair.two)
        if side.habit == PERSON and not world.may_write(sender, recipient, now_ms):
            return None
        quoted = self._last if self._last and world.rng.random() < self._quotes else None
        event = world.send(now_ms, pair, sender, self._draft(side, sender), quoted)
        self._left -= 1
        if self._left > 0:
            self._go_on(event, now_ms)
        return event

    def _draft(self, side: Side, sender: int) -> Draft:
        world, opening = self._world, self._opening
        if opening is not None:
            self._opening = None
            return Draft(*opening, side.habit)
        if side.role == "reply":
            return small_talk(world, language_of(sender), side.habit)
        return Draft(*world.texts.deck(side.role, language_of(self._pair.one)).any(), side.habit)

    def _go_on(self, event: Event, now_ms: int) -> None:
        if self._world.rng.random() < self._twice:
            self._last = None
            self._book(now_ms, 10 * SECOND_MS)
        else:
            self._last, self._second = str(event["event_id"]), not self._second
            self._book(now_ms, self._sides[self._second].patience_ms)

    def _book(self, now_ms: int, patience_ms: float) -> None:
        self._world.at(now_ms + answer_ms(self._world.rng, patience_ms), self)


def answer_ms(rng: Random, patience_ms: float) -> int:
    """How long until an answer: most come within a few times the patience, one in ten after a break of hours."""
    wait = 2000 + rng.expovariate(1.0 / patience_ms)
    return int(wait * 40 if rng.random() < 0.1 else wait)


def language_of(person: int) -> str:
    """A village speaks one language; eleven in twelve speak English."""
    h = mix(person // 64, 7)
    return "en" if h % 12 else LANGUAGES[1 + (h >> 8) % (len(LANGUAGES) - 1)]


def small_talk(world: World, language: str, habit: str = PERSON) -> Draft:
    """An answer in a chat; one in fifty is a picture without words."""
    if world.rng.random() < 0.02:
        return Draft("", "picture", habit, attachments=1)
    return Draft(*world.texts.reply(language), habit)


def someone(world: World) -> int:
    """A person, the active ones more often."""
    return int(world.accounts.people * world.rng.random() ** 1.25)


def ago_or_never(world: World, now_ms: int, often: float) -> str | None:
    """Since when one follows the other: not at all, or for minutes (one in three), or for days."""
    rng = world.rng
    if rng.random() >= often:
        return None
    if rng.random() < 0.33:
        return stamp_second(now_ms - rng.randrange(20 * SECOND_MS, 90 * MINUTE_MS))
    return world.accounts.ago(1 + rng.randrange(900), rng.getrandbits(40))


def new_contact(world: World, now_ms: int, one: int, two: int) -> Pair:
    """Strangers. Most who write first follow the other; one in three is followed back, some only just."""
    follows = (ago_or_never(world, now_ms, 0.35), ago_or_never(world, now_ms, 0.7))
    return world.accounts.pair(one, two, follows=follows)


def friends_chat(world: World) -> Callable[[int], Event | None]:
    """Chats of 2 to 9 messages with one of the circle, now and then with another of the village."""

    def begin(now_ms: int) -> Event | None:
        rng, accounts = world.rng, world.accounts
        person = someone(world)
        known = accounts.circle(person) if rng.random() < 0.9 else accounts.village(person)
        if not known:
            return None
        messages = 1 + int(rng.random() * rng.random() * 9)
        row = (
            (words.BIRTHDAY, "birthday") if rng.random() < 0.01 else world.texts.deck("chat", language_of(person)).any()
        )
        return Chat(world, accounts.friends(person, pick(known, rng)), messages, row)(now_ms)

    return begin


def first_contact(world: World) -> Callable[[int], Event | None]:
    """One person writes to another for the first time; half get an answer, and a short chat follows."""

    def begin(now_ms: int) -> Event | None:
        person = someone(world)
        other = world.accounts.stranger(person, world.rng)
        return meet(world, person, other, now_ms, (_ANYBODY, _ANYBODY))

    return begin


def meet(world: World, one: int, two: int, now_ms: int, sides: tuple[Side, Side]) -> Event | None:
    rng = world.rng
    answered = rng.random() < _ANSWERED
    messages = 2 + int(rng.random() * 3) if answered else 1
    row = world.texts.deck("first", language_of(one)).deal()
    if rng.random() < 0.01:
        row = (pick(words.OPENERS, rng), "opener")
    return Chat(world, new_contact(world, now_ms, one, two), messages, row, sides, twice=0.1)(now_ms)


def groups(world: World) -> Callable[[int], Event | None]:
    """Groups of friends: three to six of a circle, a few messages each time."""

    def begin(now_ms: int) -> Event | None:
        person = someone(world)
        first = person // CIRCLE * CIRCLE
        h = mix(first, 11)
        members = list(range(first, min(first + 3 + h % 4, world.accounts.people)))
        if len(members) < 2:
            return None
        return Group(world, members, h, 2 + int(world.rng.random() * 6))(now_ms)

    return begin


class Group:
    """A few messages of a group's members, in any order."""

    __slots__ = ("_conversation", "_left", "_members", "_prior", "_world")

    def __init__(self, world: World, members: list[int], h: int, messages: int) -> None:
        self._world, self._members, self._left = world, members, messages
        self._prior = 5 + (h >> 8) % 300
        self._conversation = f"c-g{world.accounts.name(members[0])[2:]}" if h >> 20 & 1 else None

    def __call__(self, now_ms: int) -> Event | None:
        world, rng = self._world, self._world.rng
        sender = pick(self._members, rng)
        if not world.may_write(sender, -1 - self._members[0], now_ms):
            return None
        others = [member for member in self._members if member != sender]
        text, kind = world.texts.reply(language_of(sender)) if rng.random() < 0.5 else self._news(sender)
        event = world.send_group(now_ms, sender, others, Draft(text, kind, PERSON), self._conversation, self._prior)
        self._left -= 1
        self._prior += 1
        if self._left > 0:
            world.at(now_ms + answer_ms(rng, MINUTE_MS), self)
        return event

    def _news(self, sender: int) -> Row:
        return self._world.texts.deck("group", language_of(sender)).any()


def busy_days_of_people(world: World) -> Callable[[int], Event | None]:
    """Somebody new in town, or back from a conference: forty first contacts in a day, each in its own words."""

    def begin(now_ms: int) -> Event | None:
        return ManyNewPeople(world, int(world.rng.random() * world.accounts.people), now_ms)(now_ms)

    return begin


class ManyNewPeople:
    """Forty strangers, spread over the 14 hours of activity that follow."""

    __slots__ = ("_person", "_times", "_world")

    def __init__(self, world: World, person: int, now_ms: int) -> None:
        self._world, self._person = world, person
        origin = busy_days(now_ms)
        places = (origin + 0.6 * world.rng.random() for _ in range(NEW_PEOPLE_A_DAY - 1))
        self._times = sorted((min(clock_ms(place), now_ms + DAY_MS - MINUTE_MS) for place in places), reverse=True)

    def __call__(self, now_ms: int) -> Event | None:
        world = self._world
        if self._times:
            world.at(self._times.pop(), self)
        other = world.accounts.stranger(self._person, world.rng)
        return meet(world, self._person, other, now_ms, (_VISITOR, _ANYBODY))


def new_numbers(world: World) -> Callable[[int], Event | None]:
    """Somebody tells everybody a new number: the same words, to people who have all written before."""

    def begin(now_ms: int) -> Event | None:
        person = int(world.rng.random() * world.accounts.people)
        friends = world.accounts.village(person)
        world.rng.shuffle(friends)
        return NewNumber(world, person, friends[: world.rng.randrange(15, 60)])(now_ms)

    return begin


class NewNumber:
    """One message to each friend, 5 to 60 s apart; four in ten say thanks."""

    __slots__ = ("_friends", "_number", "_person", "_text", "_world")

    def __init__(self, world: World, person: int, friends: list[int]) -> None:
        self._world, self._person, self._friends = world, person, friends
        self._number = f"555-01{world.rng.randrange(100):02d}"
        self._text = pick(words.NEW_NUMBER, world.rng)

    def __call__(self, now_ms: int) -> Event | None:
        if not self._friends:
            return None
        world, rng, accounts = self._world, self._world.rng, self._world.accounts
        friend = self._friends.pop()
        name, me = accounts.first_name(friend), accounts.first_name(self._person)
        draft = Draft(self._text.format(name=name, me=me, number=self._number), "arranging", NEW_NUMBER)
        pair = accounts.friends(self._person, friend)
        event = world.send(now_ms, pair, self._person, draft)
        if rng.random() < 0.4:
            Chat(world, pair, 1).answer(event["event_id"], now_ms)
        world.at(now_ms + rng.randrange(5 * SECOND_MS, 60 * SECOND_MS), self)
        return event
