"""`doorman bench pipeline`: how fast the services drain a full topic through Apache Kafka, and what that costs."""

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from rich.console import Console
from rich.table import Table

from services import codec, settings
from services.cli import brokers
from services.cli.arguments import at_least_one
from services.cli.fleet import MODULES, Fleet, cpu_seconds, environment
from services.cli.simulate import until_now
from services.cli.wire import Wire, wire
from services.settings import Compression
from services.topics import DECISIONS, QUARANTINE, SIGHTINGS

HELP = "drain simulated traffic through Apache Kafka with all services on this machine"
CHUNK = 5000
PATIENCE_SECONDS = 60.0
# A page of metrics costs a service some milliseconds: often enough to know, seldom enough not to count.
WATCH_SECONDS = 0.25


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=at_least_one, default=200_000, metavar="N", help="events (200000)")
    parser.add_argument("--delivery", choices=("exactly_once", "at_least_once"), default="exactly_once")
    shared(parser)


def shared(parser: argparse.ArgumentParser) -> None:
    """The options of every bench that drains a topic."""
    parser.add_argument("--seed", type=int, default=7, metavar="S", help="seed of the simulation (7)")
    parser.add_argument("--partitions", type=at_least_one, default=2, metavar="P", help="partitions of each topic (2)")
    parser.add_argument(
        "--classify", type=at_least_one, default=2, metavar="N", help="processes of classify, half of the work (2)"
    )
    parser.add_argument("--compression", choices=[*Compression], default="none", help="of all topics (none)")
    parser.add_argument("--json", action="store_true", help="print a result as a line of JSON")


def run(args: argparse.Namespace) -> int:
    result = drained(args, Console(stderr=True))
    report(result, as_json=args.json)
    return 0 if result["undecided"] == result["repeated"] == 0 else 1


def drained(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Drain a topic of `args.events` events with a broker of our own; returns the result."""
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="doorman-bench-")))
        broker = stack.enter_context(brokers.kafka())
        variables = environment(broker.bootstrap, state, transactions=True, partitions=args.partitions)
        variables["DOORMAN_DELIVERY"] = args.delivery
        variables["DOORMAN_COMPRESSION"] = args.compression
        return asyncio.run(_measure(args, variables, broker.pid, console))


def report(result: dict[str, Any], *, as_json: bool) -> None:
    """A result as one line of JSON, or as a table for people."""
    if as_json:
        sys.stdout.buffer.write(codec.dumps(result) + b"\n")
        sys.stdout.buffer.flush()
        return
    table = Table(show_header=False)
    for name, value in result.items():
        table.add_row(name, codec.dumps(value).decode() if isinstance(value, dict) else str(value))
    Console().print(table)


@dataclass(slots=True)
class Drain:
    """What came out while a topic was drained."""

    decided: set[bytes] = field(default_factory=set)
    repeated: int = 0
    quarantined: int = 0


async def _measure(
    args: argparse.Namespace, variables: dict[str, str], broker_pid: int, console: Console
) -> dict[str, Any]:
    configured = settings.load(variables)
    async with wire(configured) as ends:
        console.print(f"producing {args.events} events")
        await fill(args, ends)
        console.print("starting the services")
        others = [name for name in MODULES if name != "ingest"]
        more = [f"classify-{number}" for number in range(2, args.classify + 1)]
        fleet = await asyncio.to_thread(Fleet(variables, [*others, *more]).__enter__)
        try:
            await asyncio.to_thread(fleet.start("ingest").wait_ready)
            began, before = time.monotonic(), _cpu_seconds(fleet, broker_pid)
            decided, complete = await _watch(fleet, args.events)
            after = _cpu_seconds(fleet, broker_pid)
        finally:
            await asyncio.to_thread(fleet.stop)
        drain = await _collect(ends)
    return {
        "bench": "pipeline",
        "delivery": args.delivery,
        "compression": args.compression,
        "partitions": args.partitions,
        "processes_of_classify": args.classify,
        "messages": args.events,
        "messages_per_s": round(args.events / (decided - began)),
        "seconds": round(decided - began, 2),
        "state_plane_seconds": round(complete - began, 2),
        "undecided": args.events - len(drain.decided),
        "repeated": drain.repeated,
        "quarantined": drain.quarantined,
        "cpu_us_per_message": {
            name: round((after[name] - seconds) / args.events * 1e6, 1) for name, seconds in before.items()
        },
    }


def _cpu_seconds(fleet: Fleet, broker_pid: int) -> dict[str, float]:
    """CPU time so far, by service, the processes of one together."""
    spent = {"kafka": cpu_seconds(broker_pid)}
    for process in fleet:
        spent[process.service] = spent.get(process.service, 0.0) + process.cpu_seconds()
    return spent


async def fill(args: argparse.Namespace, ends: Wire) -> None:
    """Produce `args.events` simulated events of `args.seed`."""
    chunk: list[dict[str, object]] = []
    for event in until_now(args.events, args.seed):
        chunk.append(event)
        if len(chunk) == CHUNK:
            await ends.send(chunk)
            chunk = []
    await ends.send(chunk)


async def _watch(fleet: Fleet, events: int) -> tuple[float, float]:
    """When action had committed a decision for every event, and when campaigns and casebook had all that was theirs.

    Their counters are asked: to read along would cost the CPU that is measured.
    """
    async with ClientSession() as session:
        counted = partial(_counted, fleet, session)
        decided = await _reached(events, partial(counted, "action", "outputs", DECISIONS))
        sightings = await counted("classify", "outputs", SIGHTINGS)
        evidence = await counted("action", "outputs", QUARANTINE)
        sighted = await _reached(sightings, partial(counted, "campaigns", "records"))
        opened = await _reached(evidence, partial(counted, "casebook", "records"))
    return decided, max(decided, sighted, opened)


async def _reached(wanted: float, count: Callable[[], Awaitable[float]]) -> float:
    """When the count came to what is wanted, or last grew before our patience ended."""
    seen, grew = 0.0, time.monotonic()
    while True:
        found = await count()
        if found > seen:
            seen, grew = found, time.monotonic()
        if seen >= wanted or time.monotonic() - grew > PATIENCE_SECONDS:
            return grew
        await asyncio.sleep(WATCH_SECONDS)


async def _counted(fleet: Fleet, session: ClientSession, service: str, name: str, topic: str = "") -> float:
    """A counter of lanes, over the processes of a service."""
    total = 0.0
    for process in fleet:
        if process.service == service:
            async with session.get(f"http://{process.address}/metrics") as answer:
                total += _counter(await answer.text(), name, topic)
    return total


def _counter(page: str, name: str, topic: str) -> float:
    found = re.search(rf'doorman_lane_{name}_total\{{[^}}]*{re.escape(topic)}"\}} (\S+)', page)
    return float(found[1]) if found else 0.0


async def _collect(ends: Wire) -> Drain:
    """Read the decisions: one for every event, none twice."""
    drain = Drain()
    while records := await ends.receive(1000):
        for record in records:
            decision_id = dict(record.headers)["ce_id"]
            drain.repeated += decision_id in drain.decided
            drain.decided.add(decision_id)
            drain.quarantined += b'"verdict":"quarantine"' in (record.value or b"")
    return drain
