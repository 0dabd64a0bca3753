"""`doorman bench memory`: what senders cost in classify's memory, and that it stays where it is told to."""

import argparse
import gc
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from services import codec, settings
from services.classify.stage import State, is_new, observe
from services.cli.arguments import at_least_one
from services.records import VERSION, Message, Relation
from services.spans import DAY_MS

HELP = "measure: memory of senders who write to strangers and friends, up to the budget and beyond"
START_MS = 1_795_392_000_000
TEXTS = ("see you at noon then", "did the parcel come in the end?", "I have the tickets, row four")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--senders", type=at_least_one, default=1_000_000, metavar="N", help="of a day (1000000)")
    parser.add_argument("--messages", type=at_least_one, default=2, metavar="M", help="messages of each (2)")
    parser.add_argument("--json", action="store_true", help="print the result as a line of JSON")


def run(args: argparse.Namespace) -> int:
    """Print resident memory before and after; exit 1 where the state outgrew its budget."""
    configured = settings.load()
    state, before = State.bounded(configured.memory_mb * 1_000_000), resident_mb()
    gc.disable()
    total = args.senders * args.messages
    console = Console(stderr=True)
    for number in track(range(total), "writing", console=console, disable=not console.is_terminal):
        taken = message(number, total, args.senders)
        if is_new(taken, state):
            observe(taken, state)
    held = state.windows.shelf.held_bytes + state.memory.shelf.held_bytes
    result = {
        "bench": "memory",
        "senders": args.senders,
        "messages": total,
        "held_senders": len(state.windows),
        "resident_mb": round(resident_mb()),
        "state_mb": round(resident_mb() - before),
        "counted_mb": round(held / 1e6),
        "budget_mb": configured.memory_mb,
    }
    if args.json:
        sys.stdout.buffer.write(codec.dumps(result) + b"\n")
        sys.stdout.buffer.flush()
    else:
        table = Table(show_header=False)
        for name, value in result.items():
            table.add_row(name, str(value))
        Console().print(table)
    return 1 if held > configured.memory_mb * 1_050_000 else 0


def message(number: int, total: int, senders: int, name: str | None = None, at_ms: int | None = None) -> Message:
    """Everybody in turn, two in three to somebody that wrote before, spread over a day."""
    at_ms = START_MS + number * DAY_MS // total if at_ms is None else at_ms
    sender = number % senders
    one, other = f"u-{sender}", f"u-{(sender * 7 + number // senders * 13 + 1) % senders}"
    return Message(
        v=VERSION,
        event_id=name or f"e-{number}",
        sender_id=one,
        recipient_id=other,
        recipients=(other,),
        conversation_id=f"c-{min(one, other)}-{max(one, other)}",
        sent_ms=at_ms,
        event_ms=at_ms,
        received_ms=at_ms,
        text=TEXTS[number % 3],
        relation=Relation(prior_messages_from_recipient=number % 3),
    )


def resident_mb() -> float:
    """Resident memory of this process, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
