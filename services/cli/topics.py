"""`doorman topics`: create the topics of the one table, or compare the broker's with it."""

import argparse
import asyncio
import sys

from services import settings
from services.kafka import Admin
from services.topics import TOPICS

HELP = "create the topics, or check them against the table"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("create", help="create those that are missing; others are left as they are")
    actions.add_parser("check", help="print what differs from the table; exit 1 if anything does")


def run(args: argparse.Namespace) -> int:
    return asyncio.run(create() if args.action == "create" else check())


async def create() -> int:
    async with Admin(settings.load()) as admin:
        created = await admin.create(TOPICS.values())
    for name in created:
        print(name)
    print(f"{len(created)} created, {len(TOPICS) - len(created)} were there", file=sys.stderr)
    return 0


async def check() -> int:
    async with Admin(settings.load()) as admin:
        differences = await admin.differences(TOPICS.values())
    for difference in differences:
        print(difference)
    print(f"{len(TOPICS)} topics, {len(differences)} differences", file=sys.stderr)
    return 1 if differences else 0
