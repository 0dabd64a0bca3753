"""`doorman deadletter`: look at what could not be used, and put it back once the reason is gone."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator

from services import codec, settings
from services.deadletter import PREFIX
from services.errors import Fault
from services.kafka import Reader, Sender
from services.records import Inbound, Output
from services.settings import Settings
from services.topics import DEAD_LETTER, TOPICS

HELP = "list dead letters, or send them to their topics again"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="one line of JSON each: reason, origin, size; never its content")
    redrive = actions.add_parser("redrive", help="produce the original records again; cut ones cannot be")
    for action in (listing, redrive):
        action.add_argument("--reason", choices=[fault.value for fault in Fault], help="only those with this reason")
        action.add_argument("--since", type=_moment, metavar="TIME", help="only those dead-lettered since (RFC 3339)")
    redrive.add_argument("--dry-run", action="store_true", help="only say how many")


def _moment(value: str) -> str:
    return codec.rfc3339(codec.epoch_ms(value, "--since"))


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_list(args) if args.action == "list" else _redrive(args))


async def _list(args: argparse.Namespace) -> int:
    async for record, told in _matching(settings.load(), args):
        line = told | {"bytes": len(record.value or b""), "dead_letter": f"{record.partition}:{record.offset}"}
        sys.stdout.buffer.write(codec.dumps(line) + b"\n")
    sys.stdout.buffer.flush()
    return 0


async def _redrive(args: argparse.Namespace) -> int:
    configured = settings.load()
    found = [entry async for entry in _matching(configured, args)]
    whole = [(record, told) for record, told in found if "sha256" not in told]
    print(f"{len(whole)} to send again, {len(found) - len(whole)} were cut and cannot be", file=sys.stderr)
    if not args.dry_run:
        await _send(configured, [_original(record, told, configured) for record, told in whole])
    return 0


async def _send(configured: Settings, outputs: list[Output]) -> None:
    sender = Sender(configured)
    await sender.start()
    try:
        await sender.learn({output.topic for output in outputs})
        await sender.send(sender.pack(outputs))
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


async def _matching(configured: Settings, args: argparse.Namespace) -> AsyncIterator[tuple[Inbound, dict[str, str]]]:
    """The dead letters that are there now and were asked for, with what their headers tell."""
    async for record in _all(configured):
        told = {
            name.removeprefix(PREFIX): value.decode(errors="replace")
            for name, value in record.headers
            if name.startswith(PREFIX)
        }
        if args.reason in (None, told.get("reason")) and (args.since is None or told.get("time", "") >= args.since):
            yield record, told


async def _all(configured: Settings) -> AsyncIterator[Inbound]:
    sender = Sender(configured)
    await sender.start()
    try:
        await sender.learn([DEAD_LETTER])
        count = sender.count(DEAD_LETTER)
    finally:
        await sender.stop()
    for number in range(count):
        reader = Reader(configured, DEAD_LETTER, number)
        await reader.start()
        try:
            end = await reader.end()
            reader.seek(await reader.begin())
            while await reader.position() < end and (records := await reader.fetch(1000, 1000)):
                for record in records:
                    yield record
        finally:
            await reader.stop()
