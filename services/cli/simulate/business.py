"""Legitimate bulk: service desks that answer all day, organisers and clubs that write to their members at once."""

from dataclasses import dataclass
from itertools import accumulate
from random import Random

from services.cli.simulate.accounts import Pair
from services.cli.simulate.people import Chat, Side, language_of, someone
from services.cli.simulate.texts import Style, Template, pick
from services.cli.simulate.world import Draft, Event, World
from services.spans import HOUR_MS, MINUTE_MS

DESK = "service_desk"
ORGANISER = "organiser"
CLUB = "club"

_CUSTOMER = Side(role="ask", patience_ms=10 * MINUTE_MS)
_STAFF = Side(habit=DESK, role="answer", patience_ms=8 * MINUTE_MS)
_KNOWN_CUSTOMERS = 0.3
_ROUNDS = (2, 2, 2, 3, 4, 4)  # messages of an enquiry, the customer's first
_ANSWERS = sum(messages // 2 for messages in _ROUNDS) / len(_ROUNDS)
_NOTICES = 0.1  # of what a desk sends; the rest are answers


@dataclass(slots=True)
class Desk:
    """A service desk: its account, the messages it sends a day, and the notices that it fills in."""

    account: int
    per_day: float
    notices: list[Template]


class Desks:
    """All desks: customers ask, desks answer, and now and then a notice about an order goes out."""

    def __init__(self, world: World, sizes: list[int]) -> None:
        self._world = world
        self._desks = [self._open(size) for size in sizes]
        self._weights = list(accumulate(desk.per_day for desk in self._desks))
        self.enquiries_per_day = self._weights[-1] * (1 - _NOTICES) / _ANSWERS
        self.notices_per_day = self._weights[-1] * _NOTICES

    def _open(self, size: int) -> Desk:
        world = self._world
        style = Style(numbers=True)
        notices = [Template(world.texts.deck("notice").deal(), style, world.rng) for _ in range(3)]
        return Desk(world.accounts.add(world.accounts.desk), size, notices)

    def _choose(self) -> Desk:
        return self._world.rng.choices(self._desks, cum_weights=self._weights)[0]

    def enquiry(self, now_ms: int) -> Event | None:
        """A customer asks, the desk answers; one or two rounds."""
        world, rng = self._world, self._world.rng
        customer, desk = someone(world), self._choose()
        pair = world.accounts.known(customer, desk.account, _KNOWN_CUSTOMERS, (0.05, 0.3))
        row = world.texts.deck("ask", language_of(customer)).deal()
        messages = pick(_ROUNDS, rng)
        return Chat(world, pair, messages, row, (_CUSTOMER, _STAFF), twice=0.0, quotes=0.95)(now_ms)

    def notice(self, now_ms: int) -> Event | None:
        """A notice to a customer; six in ten have written to the desk before."""
        world, rng, desk = self._world, self._world.rng, self._choose()
        pair = world.accounts.known(desk.account, someone(world), _KNOWN_CUSTOMERS, (0.3, 0.05))
        if rng.random() < 0.5:
            pair = self._known_customer(desk, pair)
        template = pick(desk.notices, rng)
        name = world.accounts.first_name(pair.two)
        return world.send(now_ms, pair, desk.account, Draft(template.fill(name, rng), template.kind, DESK))

    def _known_customer(self, desk: Desk, pair: Pair) -> Pair:
        for _ in range(8):
            if pair.history[1]:
                break
            pair = self._world.accounts.known(desk.account, someone(self._world), _KNOWN_CUSTOMERS, (0.3, 0.05))
        return pair


class Societies:
    """Organisers of events and clubs with a newsletter, each with members of its own, written to in turn."""

    def __init__(self, world: World, sizes: list[int]) -> None:
        self._world, self._sizes, self._next = world, sizes, 0
        self._accounts = [world.accounts.add(world.accounts.organiser) for _ in sizes]
        self.members = sum(sizes) / len(sizes)

    def mailing(self, now_ms: int) -> Event | None:
        place = self._next % len(self._sizes)
        self._next += 1
        return Mailing(self._world, self._accounts[place], self._sizes[place], club=place % 2 == 1)(now_ms)


class Mailing:
    """One text to a society's members within the hour. Members follow the organiser and six in ten have written.

    An organiser's is answered by a quarter of the members, half of whom hear back; a club's by one in twenty.
    """

    __slots__ = ("_account", "_club", "_gap_ms", "_left", "_member", "_step", "_template", "_world")

    def __init__(self, world: World, account: int, size: int, club: bool) -> None:
        self._world, self._account, self._club = world, account, club
        people = world.accounts.people
        self._left = min(size, people)
        self._gap_ms = HOUR_MS / size
        self._step = world.accounts.stride(Random(account))
        self._member = account * 7919 % people  # the same members each time
        style = Style(name=world.rng.random() < 0.5)
        self._template = Template(world.texts.deck("club").any(), style, world.rng)

    def __call__(self, now_ms: int) -> Event | None:
        world, rng, accounts = self._world, self._world.rng, self._world.accounts
        self._member = (self._member + self._step) % accounts.people
        pair = accounts.known(self._account, self._member, 0.6, (0.97, 0.75))
        text = self._template.fill(accounts.first_name(self._member), rng)
        habit = CLUB if self._club else ORGANISER
        event = world.send(now_ms, pair, self._account, Draft(text, self._template.kind, habit))
        self._left -= 1
        if rng.random() < (0.05 if self._club else 0.25):
            self._answer(event, pair, habit, now_ms)
        if self._left > 0:
            world.at(now_ms + int(self._gap_ms * (0.3 + 1.3 * rng.random())), self)
        return event

    def _answer(self, event: Event, pair: Pair, habit: str, now_ms: int) -> None:
        messages = 1 if self._world.rng.random() < 0.5 else 2
        sides = (Side(habit=habit), Side(patience_ms=20 * MINUTE_MS))
        Chat(self._world, pair, messages, sides=sides, twice=0.0).answer(event["event_id"], now_ms)
