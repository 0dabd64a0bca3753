"""`doorman bench restart`: how long a classify lane takes to be ready again with a day of traffic behind it.

The day is made in this process: its state is written to `dm.memory` as a lane writes it, and of its log only what a
lane reads again, the messages since the last whole generation was begun. What lies before them is never read.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from services import codec, settings
from services.classify.checkpoint import PIECES, PIECES_A_SECOND, Mark, Writer
from services.classify.stage import SERVICE, State, is_new, observe
from services.cli import brokers
from services.cli.arguments import at_least_one
from services.cli.bench.memory import message
from services.cli.bench.pipeline import report
from services.cli.fleet import Fleet, environment
from services.cli.wire import wire
from services.kafka import Membership, Reader, Sender
from services.records import Output
from services.settings import Settings
from services.topics import MESSAGES

HELP = "time until a lane of classify is ready again, a day of traffic behind it"
ROUNDS = -(-len(PIECES) // PIECES_A_SECOND)
HOUR_S = 3600
CHUNK = 2000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--senders", type=at_least_one, default=1_000_000, metavar="N", help="of the day (1000000)")
    parser.add_argument("--rate", type=at_least_one, default=1000, metavar="R", help="messages a second (1000)")
    parser.add_argument("--json", action="store_true", help="print the result as a line of JSON")


def run(args: argparse.Namespace) -> int:
    console = Console(stderr=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="doorman-bench-")))
        broker = stack.enter_context(brokers.kafka())
        variables = environment(broker.bootstrap, folder, transactions=True, partitions=1)
        configured = settings.load(variables)
        state = _day(args.senders, args.rate, configured, console)
        # A lane that dies just before a generation is whole has two of them to read again.
        tail = 2 * ROUNDS * args.rate
        asyncio.run(_write(state, tail, configured, console))
        result: dict[str, Any] = {"bench": "restart", "senders": len(state.windows), "replayed": tail}
        console.print("starting classify")
        began = time.monotonic()
        with Fleet(variables, (SERVICE,)) as fleet:
            result["ready_s"] = round(time.monotonic() - began, 1)
            told = [codec.loads_object(line) for line in fleet[SERVICE].tail if line.startswith("{")]
        result["recalled"] = any(line.get("event") == "state_recalled" for line in told)
    report(result, as_json=args.json)
    return 0 if result["recalled"] else 1


def _day(senders: int, rate: int, configured: Settings, console: Console) -> State:
    """The state after a day in which everybody wrote twice, and the last hour's events at the rate."""
    state = State.bounded(configured.memory_mb * 1_000_000)
    total = 2 * senders
    for number in track(range(total), "a day", console=console, disable=not console.is_terminal):
        taken = message(number, total, senders)
        if is_new(taken, state):
            observe(taken, state)
    last = message(total - 1, total, senders)
    for number in range(rate * HOUR_S):
        is_new(message(total, total, senders, name=f"h-{number}", at_ms=last.event_ms + 1000 * number // rate), state)
    return state


async def _write(state: State, tail: int, configured: Settings, console: Console) -> None:
    """A whole generation, the messages since it was begun, and the offset that a lane had committed."""
    async with wire(configured):
        sender = Sender(configured, "bench-restart")
        await sender.start()
        await sender.learn([MESSAGES])
        writer, now_ms = Writer(0), int(time.time() * 1000)
        membership = Membership(configured, SERVICE, MESSAGES, _nothing, _nothing)
        for second in track(range(ROUNDS), "memory", console=console, disable=not console.is_terminal):
            pieces = list(writer.due(state, second * tail // (2 * ROUNDS), now_ms + 1000 * second))
            await sender.transact(sender.pack(pieces), membership, 0, 0, "")
        for chunk in _chunks(tail, state.high_ms):
            await sender.transact(sender.pack(chunk), membership, 0, 0, "")
        await sender.transact({}, membership, 0, await _end(configured), Mark.of(writer.whole, state.looks).metadata)
        await sender.stop()


async def _end(configured: Settings) -> int:
    reader = Reader(configured, MESSAGES, 0)
    await reader.start()
    end = await reader.end()
    await reader.stop()
    return end


def _chunks(tail: int, since_ms: int) -> Iterator[Sequence[Output]]:
    for start in range(0, tail, CHUNK):
        yield [_output(number, since_ms + number) for number in range(start, min(start + CHUNK, tail))]


def _output(number: int, at_ms: int) -> Output:
    taken = message(number, 1, 50_000, name=f"t-{number}", at_ms=at_ms)
    return Output(topic=MESSAGES, key=b"k", value=codec.encode(taken), timestamp_ms=at_ms, partition=0)


async def _nothing(partitions: set[int]) -> None:
    """Membership wants to tell; this one never joins."""
