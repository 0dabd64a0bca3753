"""`doorman control`: the switch for all tenants at once, put on `dm.control` for every action process to read."""

import argparse
import asyncio
import sys
import time
import uuid

from services import codec, settings
from services.cli.review import actor_of
from services.kafka import Sender, View
from services.records import VERSION, AuditEntry, Control, Inbound, Mode, Output
from services.topics import AUDIT, CONTROL

HELP = "put every tenant in shadow at once, or back under its policy"
SUBJECT = "mode"

_COMMANDS = {
    Mode.SHADOW: "decide, and let everything through, whatever policies say; within a second",
    Mode.ENFORCE: "let each tenant's policy say its mode again",
}


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    for mode, what in _COMMANDS.items():
        command = commands.add_parser(mode.value, help=what, description=what)
        command.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the audit")
        command.add_argument("--actor", metavar="NAME", help="who; the login name if left out")
    commands.add_parser("show", help="print what was said last")


def run(args: argparse.Namespace) -> int:
    if args.action == "show":
        return asyncio.run(_show())
    now_ms = time.time_ns() // 1_000_000
    control = Control(v=VERSION, mode=Mode(args.action), actor=actor_of(args), reason=args.reason, at_ms=now_ms)
    asyncio.run(_send(outputs(control, f"a-{uuid.uuid4().hex}")))
    sys.stdout.write(codec.encode(control).decode() + "\n")
    return 0


def outputs(control: Control, audit_id: str) -> list[Output]:
    """The word itself, and that it was said."""
    entry = AuditEntry(
        v=VERSION,
        audit_id=audit_id,
        actor=control.actor,
        action=control.mode.value,
        subject=SUBJECT,
        reason=control.reason,
        at_ms=control.at_ms,
    )
    told = ((CONTROL, SUBJECT, control), (AUDIT, control.actor, entry))
    return [
        Output(topic=topic, key=key.encode(), value=codec.encode(record), timestamp_ms=control.at_ms)
        for topic, key, record in told
    ]


async def _send(said: list[Output]) -> None:
    sender = Sender(settings.load())
    await sender.start()
    try:
        await sender.learn([CONTROL, AUDIT])
        await sender.send(sender.pack(said))
    finally:
        await sender.stop()


async def _show() -> int:
    said: list[Inbound] = []
    view = View(settings.load(), CONTROL, said.append)
    try:
        await view.start()
    finally:
        await view.stop()
    if said:
        sys.stdout.write((said[-1].value or b"").decode() + "\n")
    else:
        print("nothing was ever said: policies say each tenant's mode", file=sys.stderr)
    return 0
