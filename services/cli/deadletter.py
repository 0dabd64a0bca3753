"""`doorman deadletter`: look at what could not be used, and put it back once the reason is gone."""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services import codec, settings
from services.cli.review import moment
from services.deadletter import PREFIX
from services.errors import Fault
from services.kafka import Sender, whole
from services.records import Inbound, Output
from services.settings import Settings
from services.topics import DEAD_LETTER, TOPICS

HELP = "list dead letters, or send them to their topics again"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="one line of JSON each: reason, origin, size; never its content")
    again = "produce the original records again; cut ones cannot be; says from when (--since) the next run should begin"
    redrive = actions.add_parser("redrive", help=again, description=again)
    for action in (listing, redrive):
        action.add_argument("--reason", choices=[fault.value for fault in Fault], help="only those with this reason")
        action.add_argument("--since", type=moment, metavar="TIME", help="only those dead-lettered since (RFC 3339)")
    redrive.add_argument("--dry-run", action="store_true", help="only say how many")


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_list(args) if args.action == "list" else _redrive(args))


async def _list(args: argparse.Namespace) -> int:
    configured = settings.load()
    async with _connected(configured) as sender:
        async for letters in _matching(configured, sender.count(DEAD_LETTER), args):
            for record, told in letters:
                place = {"bytes": len(record.value or b""), "dead_letter": f"{record.partition}:{record.offset}"}
                sys.stdout.buffer.write(codec.dumps(told | place) + b"\n")
    sys.stdout.buffer.flush()
    return 0


async def _redrive(args: argparse.Namespace) -> int:
    """Send again what was dead-lettered before now: what fails anew meanwhile is for the next run."""
    configured = settings.load()
    began = codec.rfc3339(time.time_ns() // 1_000_000)
    sent = cut = 0
    async with _connected(configured) as sender:
        async for letters in _matching(configured, sender.count(DEAD_LETTER), args):
            due = [(record, told) for record, told in letters if told.get("time", "") < began]
            outputs = [_original(record, told, configured) for record, told in due if "sha256" not in told]
            sent, cut = sent + len(outputs), cut + len(due) - len(outputs)
            if not args.dry_run:
                await sender.learn({output.topic for output in outputs})
                await sender.send(sender.pack(outputs))
    print(f"{sent} {'to send' if args.dry_run else 'sent'} again, {cut} were cut and cannot be", file=sys.stderr)
    if not args.dry_run:
        print(f"these stay in the topic: begin the next run with --since {began}", file=sys.stderr)
    return 0


@asynccontextmanager
async def _connected(configured: Settings) -> AsyncIterator[Sender]:
    sender = Sender(configured)
    await sender.start()
    try:
        await sender.learn([DEAD_LETTER])
        yield sender
    finally:
        await sender.stop()


def _original(record: Inbound, told: dict[str, str], configured: Settings) -> Output:
    topic = told["topic"].removeprefix(configured.topic_prefix)
    if topic not in TOPICS:
        topic = told["topic"]
    return Output(
        topic=topic,
        key=record.key,
        value=record.value,
        timestamp_ms=record.timestamp,
        headers=tuple(header for header in record.headers if not header[0].startswith(PREFIX)),
        partition=int(told["partition"]),
    )


async def _matching(
    configured: Settings, partitions: int, args: argparse.Namespace
) -> AsyncIterator[list[tuple[Inbound, dict[str, str]]]]:
    """The dead letters that are there now and were asked for, with what their headers tell."""
    since = "" if args.since is None else codec.rfc3339(args.since)
    for number in range(partitions):
        async for records in whole(configured, DEAD_LETTER, number):
            letters = [(record, _told(record)) for record in records]
            yield [
                (record, told)
                for record, told in letters
                if args.reason in (None, told.get("reason")) and told.get("time", "") >= since
            ]


def _told(record: Inbound) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX): value.decode(errors="replace")
        for name, value in record.headers
        if name.startswith(PREFIX)
    }
