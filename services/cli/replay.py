"""`doorman replay`: events from files through the very stages of the services, in event-time order, in this process."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from services import codec, settings
from services.action import policy
from services.action.budget import Budget
from services.action.stage import decide
from services.classify.campaign_window import Campaigns, LiveCampaigns
from services.classify.memory import Memory
from services.classify.scorer import ModelFolder
from services.classify.stage import Scorer, State, TextScore, is_new, observe, one, score_texts
from services.errors import BadRecord
from services.ingest.adapters import unwrap
from services.ingest.event import message, unreadable
from services.kafka import partition_of
from services.records import Decision, Message, Mode, Verdict, scoped

HELP = "run events from files through the stages, and print their decisions"
BATCH = 256


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE.jsonl", help="events, one a line; - for standard input")
    parser.add_argument("--policy", type=Path, metavar="F", help="policy file (default: DOORMAN_POLICY)")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: DOORMAN_MODEL)")
    parser.add_argument(
        "--text-score", type=_probability, metavar="P", help="give every text this score: behaviour alone decides"
    )
    parser.add_argument(
        "--partitions", type=_count, metavar="N", help="lanes that share a budget (default: DOORMAN_PARTITIONS)"
    )
    parser.add_argument("--diff", type=Path, metavar="OTHER.jsonl", help="compare with decisions of another replay")
    parser.add_argument("--max-flips", type=int, default=0, metavar="N", help="with --diff: exit 1 past N flips (0)")


def _count(value: str) -> int:
    number = int(value)
    if not 1 <= number <= 1024:
        raise argparse.ArgumentTypeError("must be from 1 to 1024")
    return number


def _probability(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1")
    return number


def run(args: argparse.Namespace) -> int:
    configured = settings.load()
    rules = policy.read(args.policy or configured.policy)
    scorer: Scorer = (
        Fixed(args.text_score) if args.text_score is not None else ModelFolder(args.model or configured.model).load()
    )
    lines = Lines(Console(stderr=True))
    messages = sorted(_messages(args.files, lines), key=lambda taken: taken.event_ms)
    flips = Flips.read(args.diff) if args.diff else None
    lanes = args.partitions or configured.partitions
    shadow = configured.mode is Mode.SHADOW
    for decision in replay(_shown(messages, lines.console), scorer, rules, shadow=shadow, lanes=lanes):
        sys.stdout.buffer.write(codec.encode(decision) + b"\n")
        if flips is not None:
            flips.compare(decision)
    sys.stdout.buffer.flush()
    failed = lines.bad > 0
    if flips is not None:
        flips.report(lines.console)
        failed |= flips.total > args.max_flips
    return 1 if failed else 0


def replay(
    messages: Iterable[Message],
    scorer: Scorer | None,
    rules: policy.Policy,
    *,
    shadow: bool = False,
    whole: bool = True,
    lanes: int = 1,
) -> Iterator[Decision]:
    """The decisions on messages in their order. `whole`: they are the whole history; `lanes` share the budgets."""
    budgets = [Budget(lane, lanes) for lane in range(lanes)]
    state = State(memory=Memory(whole=whole))
    campaigns, live = Campaigns(), LiveCampaigns()
    for batch in _batches(messages):
        for taken, text_score in zip(batch, score_texts(batch, scorer), strict=True):
            if not is_new(taken, state):
                continue
            if taken.backfill:
                observe(taken, state)
                continue
            score, sighting = one(taken, text_score, state, scorer, live.find)
            budget = budgets[_lane(taken, lanes)]
            yield decide(score, rules, lambda _: None, shadow, taken.received_ms, budget)
            campaign = campaigns.sight(sighting) if sighting else None
            if campaign is not None:
                live.apply(campaign.campaign_id, campaign)


def _lane(taken: Message, lanes: int) -> int:
    return partition_of(scoped(taken.tenant, taken.platform, taken.sender_id).encode(), lanes) if lanes > 1 else 0


def _batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    batch: list[Message] = []
    for taken in messages:
        batch.append(taken)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Fixed:
    """A scorer that gives every text the same score."""

    given: float
    version: str = "fixed"
    sha256: str = ""

    def score(self, texts: Sequence[str]) -> Sequence[TextScore]:
        return [FixedScore(self.given, self.given)] * len(texts)


@dataclass(frozen=True, slots=True)
class FixedScore:
    score: float
    first: float
    labels: dict[str, float] = field(default_factory=dict)
    spans: tuple[tuple[int, int, float], ...] = ()


@dataclass(slots=True)
class Lines:
    """Where bad lines are told of."""

    console: Console
    bad: int = 0

    def refuse(self, name: str, number: int, bad: BadRecord) -> None:
        self.bad += 1
        self.console.print(f"{name}:{number}: {bad}", style="red", highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A line of a file as a record of `dm.events`."""

    value: bytes
    timestamp: int = 0
    topic: str = "file"
    partition: int = 0
    offset: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def _messages(names: Sequence[str], lines: Lines) -> Iterator[Message]:
    for name in names:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield from _line(name, number, line, lines)


def _line(name: str, number: int, line: bytes, lines: Lines) -> Iterator[Message]:
    try:
        events = [event for _, event in unwrap(FileRecord(line), line)]
    except BadRecord as bad:
        lines.refuse(name, number, bad)
        return
    for event in events:
        try:
            yield _message(event)
        except BadRecord as bad:
            lines.refuse(name, number, bad)
            kept = unreadable(event, 0)
            if kept is not None:
                yield kept


def _message(event: dict[str, Any]) -> Message:
    """Received at `ingested_at`, else when it was sent; a line with `"backfill": true` is history."""
    received = event.pop("ingested_at", None)
    field, received = ("sent_at", event.get("sent_at")) if received is None else ("ingested_at", received)
    backfill = event.pop("backfill", False) is True
    return message(event, 0 if received is None else codec.epoch_ms(received, field), backfill)


def _shown(messages: list[Message], console: Console) -> Iterable[Message]:
    if not console.is_terminal:
        return messages
    return track(messages, description="replaying", console=console, transient=True)


@dataclass(slots=True)
class Flips:
    """Verdicts that differ from another replay's, by tenant, direction and heaviest reason."""

    other: dict[str, Decision]
    total: int = 0
    kinds: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    samples: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Flips":
        with path.open("rb") as file:
            decisions = [codec.decode(line, Decision) for line in file if line.strip()]
        return cls({decision.decision_id: decision for decision in decisions})

    def compare(self, decision: Decision) -> None:
        other = self.other.get(decision.decision_id)
        if other is None or other.verdict is decision.verdict:
            return
        caught = decision if decision.verdict is Verdict.QUARANTINE else other
        heaviest = max(caught.reasons, key=lambda reason: reason.weight, default=None)
        kind = (decision.tenant, f"{other.verdict} -> {decision.verdict}", heaviest.code if heaviest else "override")
        self.total += 1
        self.kinds[kind] += 1
        self.samples.setdefault(kind, [])[3:] = []
        self.samples[kind].append(decision.event_id)

    def report(self, console: Console) -> None:
        console.print(f"{self.total} flips", highlight=False)
        for kind, number in self.kinds.most_common():
            tenant, change, reason = kind
            shown = ", ".join(self.samples[kind][:3])
            console.print(f"{number:8} {tenant}  {change}  {reason}  e.g. {shown}", highlight=False, markup=False)
