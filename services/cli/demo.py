"""`doorman demo`: broker, services, simulated traffic, decisions live, and a summary against the simulation's truth."""

import argparse
import asyncio
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from services import codec, settings
from services.cli import brokers
from services.cli.arguments import above_none, at_least_one
from services.cli.fleet import Fleet, environment
from services.cli.simulate import until_now
from services.cli.wire import Wire, wire
from services.records import Decision, Verdict

HELP = "start everything here, send simulated traffic, show what is decided, stop everything"
PATIENCE_SECONDS = 30.0
SHOWN = 8

Event = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=at_least_one, default=8000, metavar="N", help="events to send (8000)")
    parser.add_argument("--rate", type=above_none, default=800.0, metavar="R", help="events a second (800)")
    parser.add_argument("--seed", type=int, default=7, metavar="S", help="seed of the simulation (7)")
    parser.add_argument("--partitions", type=at_least_one, default=2, metavar="P", help="partitions of each topic (2)")
    parser.add_argument(
        "--broker",
        choices=("tansu", "kafka"),
        default="tansu",
        help="tansu: at once; kafka: exactly once, needs Java 17",
    )


def run(args: argparse.Namespace) -> int:
    console = Console(stderr=True)
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="doorman-demo-")))
        console.print(f"starting {args.broker}")
        broker = stack.enter_context(brokers.kafka() if args.broker == "kafka" else brokers.tansu())
        variables = environment(broker.bootstrap, state, transactions=broker.transactions, partitions=args.partitions)
        told = asyncio.run(_run(args, variables, console))
    _summary(told)
    problems = told.problems()
    for problem in problems:
        console.print(problem, style="red")
    if not problems:
        console.print("every event decided exactly once; everything is stopped", style="green")
    return 1 if problems else 0


@dataclass(slots=True)
class Told:
    """What went in, what came out, and how long it took."""

    events: dict[str, Event]
    decisions: dict[str, Decision] = field(default_factory=dict)
    repeats: int = 0
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    latest: deque[Decision] = field(default_factory=lambda: deque(maxlen=SHOWN))

    def take(self, decision: Decision, waited: float) -> None:
        if decision.event_id in self.decisions:
            self.repeats += 1
            return
        self.decisions[decision.event_id] = decision
        self.latencies.append(waited)
        if decision.verdict is Verdict.QUARANTINE:
            self.latest.append(decision)

    def problems(self) -> list[str]:
        """What must not be."""
        undecided = len(self.events) - len(self.decisions)
        found = [f"{undecided} events without a decision"] if undecided else []
        found += [f"{self.repeats} events decided more than once"] if self.repeats else []
        return found + [f"{name} ended with {status}" for name, status in self.statuses.items() if status]


async def _run(args: argparse.Namespace, variables: dict[str, str], console: Console) -> Told:
    configured = settings.load(variables)
    events = list(until_now(args.events, args.seed))
    told = Told({str(event["event_id"]): event for event in events})
    async with wire(configured) as ends:
        console.print("starting ingest, classify, action, campaigns, casebook")
        fleet = await asyncio.to_thread(Fleet(variables).__enter__)
        try:
            with Live(console=console, refresh_per_second=8, transient=True) as live:
                await _traffic(args.rate, events, ends, told, live)
        finally:
            told.statuses = await asyncio.to_thread(fleet.stop)
    return told


async def _traffic(rate: float, events: list[Event], ends: Wire, told: Told, live: Live) -> None:
    began = time.monotonic()
    sending = asyncio.create_task(ends.send_at_rate(events, rate))
    heard = began
    while len(told.decisions) < len(events) and time.monotonic() - heard < PATIENCE_SECONDS:
        for record in await ends.receive():
            decision = codec.decode(record.value, Decision)
            heard = time.monotonic()
            told.take(decision, heard - ends.sent[decision.event_id])
        told.seconds = time.monotonic() - began
        live.update(_view(told))
    await sending


def _view(told: Told) -> Table:
    table = Table(title=f"{len(told.decisions)} of {len(told.events)} events decided", title_justify="left")
    for heading in ("quarantined", "score", "because of"):
        table.add_column(heading, overflow="ellipsis", no_wrap=True, max_width=60)
    for decision in told.latest:
        text = str(told.events[decision.event_id]["text"]).replace("\n", " ")
        reasons = ", ".join(f"{reason.code} {reason.weight:+.1f}" for reason in decision.reasons)
        table.add_row(text, f"{decision.score:.2f}", reasons)
    return table


def _summary(told: Told) -> None:
    console = Console()
    table = Table(title="Verdicts against the simulation's truth", title_justify="left")
    for heading, justify in (("habit", "left"), ("truth", "left"), ("events", "right"), ("quarantined", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in _rows(told):
        table.add_row(*row)
    console.print(table)
    if told.latencies:
        ordered = sorted(told.latencies)
        middle, tail = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        console.print(
            f"{len(told.decisions)} decisions in {told.seconds:.1f} s, "
            f"{len(told.decisions) / told.seconds:.0f} a second; "
            f"latency p50 {middle * 1000:.0f} ms, p99 {tail * 1000:.0f} ms",
            highlight=False,
        )


def _rows(told: Told) -> Iterator[tuple[str, str, str, str]]:
    sent: Counter[tuple[str, str]] = Counter()
    caught: Counter[tuple[str, str]] = Counter()
    for name, event in told.events.items():
        habit = (event["truth"]["label"], event["truth"]["habit"])
        sent[habit] += 1
        decision = told.decisions.get(name)
        caught[habit] += decision is not None and decision.verdict is Verdict.QUARANTINE
    for habit in sorted(sent, reverse=True):
        share = caught[habit] / sent[habit]
        yield habit[1], habit[0], str(sent[habit]), f"{caught[habit]} ({share:.1%})"
