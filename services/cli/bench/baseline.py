"""`doorman bench baseline`: the pipeline beside its three stages written the textbook way, in one run."""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from services import codec, settings
from services.cli import brokers
from services.cli.arguments import at_least_one
from services.cli.bench import pipeline
from services.cli.bench.pipeline import fill, report
from services.cli.fleet import environment
from services.cli.keeper import die_with_parent
from services.cli.wire import Decided, Wire, wire
from services.settings import environment_with

HELP = "the pipeline against a textbook Faust pipeline with the same model, through Apache Kafka"
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.25


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--events", type=at_least_one, default=20_000, metavar="N", help="events for the textbook (20000)"
    )
    parser.add_argument(
        "--pipeline-events", type=at_least_one, default=200_000, metavar="N", help="events for the pipeline (200000)"
    )
    pipeline.shared(parser)


def run(args: argparse.Namespace) -> int:
    console = Console(stderr=True)
    ours = pipeline.drained(
        argparse.Namespace(**vars(args) | {"events": args.pipeline_events, "delivery": "exactly_once"}), console
    )
    report(ours, as_json=args.json)
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="doorman-bench-")))
        broker = stack.enter_context(brokers.kafka())
        variables = environment(broker.bootstrap, state, transactions=False, partitions=args.partitions)
        theirs = asyncio.run(_measure(args, variables, console))
    theirs["pipeline_messages_per_s"] = ours["messages_per_s"]
    theirs["times"] = round(ours["messages_per_s"] / max(theirs["messages_per_s"], 1), 1)
    report(theirs, as_json=args.json)
    return 0 if theirs["undecided"] == ours["undecided"] == 0 else 1


async def _measure(args: argparse.Namespace, variables: dict[str, str], console: Console) -> dict[str, Any]:
    async with wire(settings.load(variables)) as ends:
        console.print(f"producing {args.events} events for the textbook")
        await fill(args, ends)
        with _processes(variables, args.classify):
            per_second, decided = await _watch(ends, args.events)
    return {
        "bench": "baseline",
        "delivery": "at_least_once",
        "partitions": args.partitions,
        "messages": args.events,
        "messages_per_s": round(per_second),
        "undecided": args.events - decided,
    }


@contextmanager
def _processes(variables: dict[str, str], classify: int) -> Iterator[None]:
    """The textbook's processes, `classify` of its second stage; the last stage first: all wait for the first."""
    started = [
        subprocess.Popen(  # noqa: S603 our own module
            [sys.executable, "-m", "services.cli.bench.textbook", stage],
            env=environment_with(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        for stage in ("action", *["classify"] * classify, "ingest")
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


async def _watch(ends: Wire, events: int) -> tuple[float, int]:
    """Decisions a second from the first seen to the last, and how many events were decided."""
    decided: set[str] = set()
    first_at = last_at = time.monotonic()
    at_first = 0
    while len(decided) < events and time.monotonic() - last_at < PATIENCE_SECONDS:
        records = await ends.receive(int(LOOK_SECONDS * 1000))
        if not records:
            continue
        last_at = time.monotonic()
        if not decided:
            first_at, at_first = last_at, len(records)
        decided |= {codec.decode(record.value, Decided).event_id for record in records}
    return (len(decided) - at_first) / max(last_at - first_at, 1e-3), len(decided)
