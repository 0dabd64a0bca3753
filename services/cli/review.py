"""`doorman review`: an operator's command, put on `dm.reviews` for casebook to apply."""

import argparse
import asyncio
import getpass
import sys
import time
import uuid

from services import codec, settings
from services.action.reviews import review_output
from services.errors import BadRecord, BadSetup
from services.ingest.event import MAX_ID_BYTES
from services.kafka import Sender
from services.records import VERSION, Review, ReviewCommand
from services.topics import REVIEWS

HELP = "release or confirm what is held, report what was not, trust or block a sender, erase a person"

_COMMANDS = {
    ReviewCommand.RELEASE: "let held messages go; that sender may write to that recipient again",
    ReviewCommand.CONFIRM: "the quarantine was right; counts against the sender",
    ReviewCommand.REPORT: "a message was allowed that should not have been; counts against the sender, if named",
    ReviewCommand.TRUST: "let a sender's messages through whatever their score; ends a block",
    ReviewCommand.BLOCK: "quarantine a sender's messages whatever their score; ends trust",
    ReviewCommand.ERASE: "forget a person, as sender and as recipient: cases, standing, and what reviews name of both",
}
_LASTING = {ReviewCommand.RELEASE, ReviewCommand.TRUST, ReviewCommand.BLOCK}


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    for command, what in _COMMANDS.items():
        action = commands.add_parser(command.value, help=what, description=what)
        erases = command is ReviewCommand.ERASE
        who = "the person's id" if erases else "the sender's id"
        action.add_argument("--sender", type=_id, metavar="S", help=who, required=erases)
        if not erases:
            action.add_argument("--event", type=_id, metavar="E", help="the event's id")
        if command not in (ReviewCommand.REPORT, ReviewCommand.ERASE):
            action.add_argument("--campaign", type=_id, metavar="C", help="the campaign's id")
        action.add_argument("--tenant", type=_id, default="default", metavar="T")
        action.add_argument("--platform", type=_id, default="default", metavar="P")
        action.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the audit")
        action.add_argument("--actor", type=_id, metavar="NAME", help="who; the login name if left out")
        if command in _LASTING:
            action.add_argument("--until", type=moment, metavar="TIME", help="RFC 3339; ten years if left out")


def _id(value: str) -> str:
    if not 1 <= len(value.encode(errors="replace")) <= MAX_ID_BYTES:
        raise argparse.ArgumentTypeError(f"must have 1 to {MAX_ID_BYTES} bytes")
    return value


def moment(value: str) -> int:
    """An option's time, in epoch milliseconds."""
    try:
        return codec.epoch_ms(value, "")
    except BadRecord:
        raise argparse.ArgumentTypeError(f"{value!r} is not a time like 2026-11-22T10:00:00Z") from None


def run(args: argparse.Namespace) -> int:
    review = written(args, f"r-{uuid.uuid4().hex}", time.time_ns() // 1_000_000)
    asyncio.run(_send(review))
    sys.stdout.write(codec.encode(review).decode() + "\n")
    return 0


def written(args: argparse.Namespace, review_id: str, now_ms: int) -> Review:
    """The review that the arguments ask for; raises BadSetup when they name nothing, or no one."""
    event, campaign = getattr(args, "event", None), getattr(args, "campaign", None)
    if not (event or args.sender or campaign):
        raise BadSetup("nothing is named: give --event, --sender or --campaign")
    return Review(
        v=VERSION,
        review_id=review_id,
        command=ReviewCommand(args.action),
        actor=actor_of(args),
        reason=args.reason,
        reviewed_ms=now_ms,
        tenant=args.tenant,
        platform=args.platform,
        event_id=event,
        sender_id=args.sender,
        campaign_id=campaign,
        until_ms=getattr(args, "until", None),
    )


def actor_of(args: argparse.Namespace) -> str:
    """Who gives a command; raises BadSetup for nobody."""
    try:
        return args.actor or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        raise BadSetup("this user has no login name: give --actor") from None


async def _send(review: Review) -> None:
    sender = Sender(settings.load())
    await sender.start()
    try:
        await sender.learn([REVIEWS])
        await sender.send(sender.pack([review_output(review)]))
    finally:
        await sender.stop()
