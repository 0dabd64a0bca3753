"""`doorman simulate`: labelled traffic of people, service desks, organisers, clubs, and bots of ten habits.

Native events in event-time order, the same for the same arguments, made one by one: memory grows with the accounts, not
with the events. What is true of each stands in its `truth` field, which every stage ignores:

    label     auto | legit
    habit     what its sender is doing: `person`, one of `BULK_LEGIT`, one of `BOTS`, or `puppet` (a bot's own
              account that answers it: automated, but nobody else ever reads it)
    kind      the corpus category of its text
    campaign  the id of its campaign, or null
    nth       1 for the sender's first message, 2 for its second, …
    cold      whether the recipient had never written to the sender
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random

from rich.console import Console
from rich.progress import track

from services import codec
from services.cli.arguments import above_none, at_least_one, share
from services.cli.simulate.accounts import Accounts
from services.cli.simulate.bots import HABITS
from services.cli.simulate.business import CLUB, DESK, ORGANISER
from services.cli.simulate.people import MANY_NEW_PEOPLE, NEW_NUMBER
from services.cli.simulate.plan import plan, populate
from services.cli.simulate.texts import Texts
from services.cli.simulate.world import Event, Setting, World
from services.errors import BadRecord, BadSetup

HELP = "labelled traffic of people, businesses and bots, as JSON lines"
START_MS = 1_795_392_000_000  # 2026-11-23T00:00:00Z, a Monday
BOTS = tuple(habit.name for habit in HABITS)
BULK_LEGIT = (DESK, ORGANISER, CLUB, NEW_NUMBER, MANY_NEW_PEOPLE)
RECENT_HOURS = 20
_LINES = 500  # written at once


def simulate(
    events: int,
    seed: int,
    *,
    start_ms: int = START_MS,
    senders: int | None = None,
    hours: float | None = None,
    tenant: str = "default",
    platform: str = "example",
    relation: bool = True,
    bot_share: float = 0.03,
) -> Iterator[Event]:
    """So many events in event-time order, from `start_ms` on.

    `senders`: about so many accounts write; else half the events, at most 100,000. `hours`: the time they take; else
    what people need who write two messages a day, 24 for up to 200,000 events. Raises BadSetup without the corpus.
    """
    made = plan(events, senders, hours, bot_share)
    rng = Random(seed)
    accounts = Accounts(made.people, rng, start_ms)
    world = World(Setting(seed, tenant, platform, relation), accounts, Texts(rng), rng, start_ms)
    populate(world, made)
    return world.run(events)


def until_now(events: int, seed: int) -> Iterator[Event]:
    """As `simulate`, of the last hours: services that look at the clock find nothing of it old, or yet to come."""
    start_ms = int(time.time() * 1000) - span_ms(events, hours=RECENT_HOURS)
    return simulate(events, seed, start_ms=start_ms, hours=RECENT_HOURS)


def span_ms(events: int, senders: int | None = None, hours: float | None = None) -> int:
    """About how long a simulation lasts in event time: start it so long ago for it to end now."""
    return plan(events, senders, hours, 0.0).span_ms


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=at_least_one, required=True, metavar="N", help="how many")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="the same seed, the same bytes")
    parser.add_argument("--start", metavar="RFC3339", help="event time of the start (2026-11-23T00:00:00Z)")
    parser.add_argument("--senders", type=at_least_one, metavar="N", help="accounts that write (N/2, at most 100,000)")
    parser.add_argument("--hours", type=above_none, metavar="H", help="event time (24, more past 200,000 events)")
    parser.add_argument("--bots", type=share, default=0.03, metavar="SHARE", help="of the messages (0.03)")
    parser.add_argument("--tenant", default="default", help="of every event (default)")
    parser.add_argument("--platform", default="example", help="of every event (example)")
    parser.add_argument("--no-relation", dest="relation", action="store_false", help="tell nothing of who follows whom")


def run(args: argparse.Namespace) -> int:
    """Write the events to stdout as JSON lines."""
    start_ms = START_MS if args.start is None else _moment(args.start)
    made = simulate(
        args.events,
        args.seed,
        start_ms=start_ms,
        senders=args.senders,
        hours=args.hours,
        tenant=args.tenant,
        platform=args.platform,
        relation=args.relation,
        bot_share=args.bots,
    )
    console = Console(stderr=True)
    chunks = track(
        _chunks(made), "simulate", total=-(-args.events // _LINES), console=console, disable=not console.is_terminal
    )
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
    return 0


def _chunks(events: Iterable[Event]) -> Iterator[bytes]:
    source = iter(events)
    while some := list(islice(source, _LINES)):
        yield b"\n".join([*map(codec.dumps, some), b""])


def _moment(value: str) -> int:
    try:
        return codec.epoch_ms(value, "start")
    except BadRecord:
        raise BadSetup(f"--start {value!r} is not RFC 3339, such as 2026-11-23T00:00:00Z") from None
