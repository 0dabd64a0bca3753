"""How much of everything: from a number of events to people, days, desks, mailings and bots.

Senders write about two messages a day, so N events are a day of N / 2 senders (0.4 N, counted); past 100,000 senders
the days grow instead. The proportions stay at any size. Where a habit's share is less than one bot's, campaign's
or mailing's whole life, that life is cut short: with the usual 3 % of bots every habit is whole from 70,000 events on,
all but the hijacked account from 40,000, and 5,000 events hold 13 messages of each, 36 of a campaign.
"""

from dataclasses import dataclass
from random import Random

from services.cli.simulate import bots, business, people
from services.cli.simulate.rhythm import busy_days
from services.cli.simulate.world import World
from services.spans import DAY_MS

MOST_SENDERS = 100_000
_PER_SENDER_DAY = 2.0
_PEOPLE_PER_SENDER = 3.5  # on any day some people write nothing
# Shares of the legitimate messages of each source.
_DESKS, _MAILINGS, _NEW_PEOPLE, _CONTACTS, _GROUPS, _NUMBERS = 0.12, 0.06, 0.1, 0.1, 0.05, 0.005
# Messages that one beginning brings about, answers included; measured.
_PER_ENQUIRY, _PER_MAILED, _PER_CONTACT, _PER_GROUP, _PER_NUMBER, _PER_CHAT = 2.8, 1.2, 1.9, 4.5, 52.0, 2.9
_MAILING = (100, 300)
_DESK = (50, 500)


@dataclass(slots=True, frozen=True)
class Plan:
    """`days` of events by `senders` accounts; `bot_messages` of them by bots."""

    events: int
    senders: int
    days: float
    bot_messages: float

    @property
    def people(self) -> int:
        return max(80, round(self.senders * _PEOPLE_PER_SENDER))

    @property
    def span_ms(self) -> int:
        return int(self.days * DAY_MS)

    def legit_per_day(self, start_ms: int) -> float:
        """Legitimate messages in a day's worth of activity: a few hours at night hold less of it than by day."""
        activity = busy_days(start_ms + self.span_ms) - busy_days(start_ms)
        lag = 0.06 * activity / (activity + 0.08)  # measured: the answers that a start without past misses
        return (self.events - self.bot_messages) / (activity - lag)


def plan(events: int, senders: int | None, hours: float | None, bot_share: float) -> Plan:
    """Senders from events, or days from both. With senders and hours given, people write more or less than usual."""
    per_day = events / (hours / 24) if hours else float(events)
    senders = senders or min(MOST_SENDERS, max(1, round(per_day / _PER_SENDER_DAY)))
    days = hours / 24 if hours else events / (senders * _PER_SENDER_DAY)
    return Plan(events, senders, days, events * bot_share)


def populate(world: World, made: Plan) -> None:
    """Book every source of messages of the plan."""
    daily = made.legit_per_day(world.start_ms)
    desks = business.Desks(world, _desks(daily * _DESKS, world.rng))
    mailed = daily * _MAILINGS
    societies = business.Societies(world, _societies(mailed, made.days, world.rng))
    bots.release(world, made.bot_messages, made.span_ms)
    visitors, numbers = daily * _NEW_PEOPLE / people.NEW_PEOPLE_A_DAY, daily * _NUMBERS / _PER_NUMBER
    contacts, groups = daily * _CONTACTS, daily * _GROUPS / _PER_GROUP
    taken = desks.enquiries_per_day * _PER_ENQUIRY + desks.notices_per_day + mailed * _PER_MAILED
    taken += (daily * _NEW_PEOPLE + contacts) * _PER_CONTACT + daily * (_GROUPS + _NUMBERS)
    world.arrivals(desks.enquiries_per_day, desks.enquiry)
    world.arrivals(desks.notices_per_day, desks.notice)
    world.arrivals(mailed / societies.members, societies.mailing)
    world.arrivals(visitors, people.busy_days_of_people(world))
    world.arrivals(contacts, people.first_contact(world))
    world.arrivals(groups, people.groups(world))
    world.arrivals(numbers, people.new_numbers(world))
    world.arrivals((daily - taken) / _PER_CHAT, people.friends_chat(world))


def _desks(per_day: float, rng: Random) -> list[int]:
    """Sizes of desks, 50 to 500 a day each, that come to so many messages a day; one smaller desk at least."""
    sizes: list[int] = []
    while sum(sizes) + _DESK[0] <= per_day:
        sizes.append(int(min(rng.uniform(*_DESK), per_day - sum(sizes))))
    return sizes or [max(1, round(per_day))]


def _societies(per_day: float, days: float, rng: Random) -> list[int]:
    """Members of each society: enough societies that none writes twice a day; a run too small gets a small one."""
    sizes = [rng.randint(*_MAILING) for _ in range(max(1, round(per_day / 200)))]
    return sizes if per_day * days >= _MAILING[0] else [max(5, round(per_day * days))]
