"""`doorman bench latency`: from produce to visible under read_committed, at a steady rate, in an open loop."""

import argparse
import asyncio
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from services import settings
from services.cli import brokers
from services.cli.arguments import above_none, at_least_none, at_least_one
from services.cli.bench.pipeline import report
from services.cli.fleet import Fleet, environment
from services.cli.simulate import until_now
from services.cli.wire import Wire, wire

HELP = "time from event to decision at a steady rate, through Apache Kafka"
PATIENCE_SECONDS = 30.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=above_none, default=1000.0, metavar="R", help="events a second (1000)")
    parser.add_argument("--seconds", type=at_least_one, default=60, metavar="S", help="measured seconds (60)")
    parser.add_argument("--warm-up", type=at_least_none, default=10, metavar="S", help="seconds before that (10)")
    parser.add_argument(
        "--partitions",
        type=at_least_one,
        nargs="+",
        default=[1, 2, 4],
        metavar="P",
        help="partitions, one run each (1 2 4)",
    )
    parser.add_argument("--seed", type=int, default=7, metavar="S", help="seed of the simulation (7)")
    parser.add_argument("--delivery", choices=("exactly_once", "at_least_once"), default="exactly_once")
    parser.add_argument("--json", action="store_true", help="print each result as a line of JSON")


def run(args: argparse.Namespace) -> int:
    lost = 0
    for partitions in args.partitions:
        Console(stderr=True).print(f"{partitions} partitions: {args.warm_up} + {args.seconds} s")
        with ExitStack() as stack:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="doorman-bench-")))
            broker = stack.enter_context(brokers.kafka())
            variables = environment(broker.bootstrap, state, transactions=True, partitions=partitions)
            variables["DOORMAN_DELIVERY"] = args.delivery
            result = asyncio.run(_measure(args, variables, partitions))
        report(result, as_json=args.json)
        lost += result["lost"]
    return 1 if lost else 0


async def _measure(args: argparse.Namespace, variables: dict[str, str], partitions: int) -> dict[str, Any]:
    total = int(args.rate * (args.seconds + args.warm_up))
    events = list(until_now(total, args.seed))
    async with wire(settings.load(variables)) as ends:
        fleet = await asyncio.to_thread(Fleet(variables).__enter__)
        try:
            waited = await _listen(events, args.rate, ends)
        finally:
            await asyncio.to_thread(fleet.stop)
    warm = {str(event["event_id"]) for event in events[int(args.rate * args.warm_up) :]}
    measured = sorted(seconds for name, seconds in waited.items() if name in warm)
    return {
        "bench": "latency",
        "delivery": args.delivery,
        "partitions": partitions,
        "rate_per_s": args.rate,
        "messages": len(warm),
        "p50_ms": _percentile_ms(measured, 0.5),
        "p90_ms": _percentile_ms(measured, 0.9),
        "p99_ms": _percentile_ms(measured, 0.99),
        "max_ms": _percentile_ms(measured, 1.0),
        "lost": len(events) - len(waited),
    }


async def _listen(events: list[dict[str, Any]], rate: float, ends: Wire) -> dict[str, float]:
    """Seconds from an event's due time to its first decision, by event id."""
    waited: dict[str, float] = {}
    queues = [asyncio.create_task(_follow(ends, number, waited)) for number in range(len(ends.readers))]
    await ends.send_at_rate(events, rate)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(waited) < len(events) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    for queue in queues:
        queue.cancel()
    await asyncio.gather(*queues, return_exceptions=True)
    return waited


async def _follow(ends: Wire, number: int, waited: dict[str, float]) -> None:
    """Follow one partition, so that a quiet one does not delay the sight of another."""
    async for event_id, seen in ends.follow(number):
        waited.setdefault(event_id, seen - ends.sent[event_id])


def _percentile_ms(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000, 1)
