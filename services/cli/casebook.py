"""`doorman casebook`: what is done to casebook rather than by it: its database, its tokens, its document."""

import argparse
import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from typing import TypeVar

import msgspec
from rich.console import Console
from rich.progress import Progress

from services import codec, settings
from services.action.api import document
from services.action.cases import Cases
from services.action.tokens import Scope, digest
from services.errors import BadRecord
from services.kafka import Sender, View, whole
from services.records import Evidence, Inbound, Review, Standing
from services.settings import Settings
from services.topics import MESSAGES, QUARANTINE, REVIEWS, STANDING

HELP = "rebuild or migrate casebook's database, make a token for its API, print its OpenAPI document"
PACK = 500

R = TypeVar("R", bound=msgspec.Struct)


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("rebuild", help="fill the database from the topics, as far as they go back")
    actions.add_parser("migrate", help="bring the database to this version; casebook does so too when it starts")
    token = actions.add_parser("token", help="make a token: its table for DOORMAN_API_TOKENS, itself on stderr")
    token.add_argument("--actor", required=True, metavar="NAME", help="who: stands in the audit")
    token.add_argument("--tenant", action="append", metavar="T", help="may be repeated; * is all (default)")
    token.add_argument("--scope", action="append", choices=list(Scope), help="may be repeated (read)")
    actions.add_parser("openapi", help="print the OpenAPI document of its API")


def run(args: argparse.Namespace) -> int:
    if args.action == "token":
        return _token(args)
    if args.action == "openapi":
        sys.stdout.write(msgspec.json.format(codec.dumps(document()), indent=2).decode() + "\n")
        return 0
    configured = settings.load()
    if args.action == "migrate":
        Cases(configured.database_url, lambda *_: 0).close()
        return 0
    return asyncio.run(_rebuild(configured))


def _token(args: argparse.Namespace) -> int:
    token = secrets.token_urlsafe(32)
    table = {"actor": args.actor, "tenants": args.tenant or ["default"], "scopes": args.scope or [Scope.READ]}
    lines = (f"{name} = {codec.dumps(value).decode()}" for name, value in table.items())
    print(f"the token, shown this once: {token}", file=sys.stderr)
    print(f'["{digest(token)}"]', *lines, sep="\n")
    return 0


async def _rebuild(configured: Settings) -> int:
    sender = Sender(configured)
    await sender.start()
    try:
        await sender.learn((QUARANTINE, REVIEWS, MESSAGES))
        with closing(Cases(configured.database_url, sender.locate)) as cases:
            await _fill(cases, configured, sender)
            counts = {state.value: number for state, number in cases.counts().items()}
            sys.stdout.buffer.write(codec.dumps({"cases": counts, "outbox": cases.waiting()}) + b"\n")
    finally:
        await sender.stop()
    return 0


async def _fill(cases: Cases, configured: Settings, sender: Sender) -> None:
    """Cases, then the reviews in their order, then what only `dm.standing` still knows."""
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("cases", total=None)
        async for records in _all(configured, QUARANTINE, sender.count(QUARANTINE)):
            cases.open(_readable(records, Evidence))
            progress.advance(task, len(records))
        reviews = [one async for some in _all(configured, REVIEWS, sender.count(REVIEWS)) for one in some]
        reviews.sort(key=lambda record: record.timestamp)
        for start in progress.track(range(0, len(reviews), PACK), description="reviews"):
            pack = reviews[start : start + PACK]
            cases.review(_readable(pack, Review), pack[-1].timestamp)
    cases.keep_standings(await _standings(configured))


async def _all(configured: Settings, topic: str, partitions: int) -> AsyncIterator[list[Inbound]]:
    """All that a topic holds, partition by partition."""
    for number in range(partitions):
        async for records in whole(configured, topic, number):
            yield records


async def _standings(configured: Settings) -> list[Standing]:
    held: dict[bytes, Inbound] = {}
    view = View(configured, STANDING, lambda record: held.update({record.key or b"": record}))
    try:
        await view.start()
    finally:
        await view.stop()
    return _readable([record for record in held.values() if record.value is not None], Standing)


def _readable(records: list[Inbound], kind: type[R]) -> list[R]:
    """What can be read; casebook dead-lettered the rest."""
    found: list[R] = []
    for record in records:
        try:
            found.append(codec.decode(record.value, kind))
        except BadRecord:
            continue
    return found
