"""`doorman replay`: events from files through the very stages of the services, in event-time order, in this process."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from services import codec, settings
from services.action import policy
from services.action.budget import Budget
from services.action.stage import FindStanding, decide
from services.classify.campaign_window import Campaigns, LiveCampaigns
from services.classify.memory import Memory
from services.classify.scorer import ModelFolder
from services.classify.stage import Scorer, State, TextScore, is_new, observe, one, score_texts
from services.cli.arguments import at_least_none, share
from services.cli.flips import Flips, beside, in_file
from services.errors import BadRecord, BadSetup, Fault
from services.ingest.adapters import unwrap
from services.ingest.event import message, unreadable
from services.kafka import partition_of
from services.records import Decision, Message, Mode, Standing, scoped
from services.settings import Settings
from services.topics import MAX_EVENT_BYTES

HELP = "run events from files through the stages, and print their decisions"
BATCH = 256


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE.jsonl", help="events, one a line; - for standard input")
    parser.add_argument("--policy", type=Path, metavar="F", help="policy file (default: DOORMAN_POLICY)")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: DOORMAN_MODEL)")
    parser.add_argument(
        "--text-score", type=share, metavar="P", help="give every text this score: behaviour alone decides"
    )
    parser.add_argument(
        "--partitions", type=_count, metavar="N", help="lanes that share a budget (default: DOORMAN_PARTITIONS)"
    )
    parser.add_argument("--standing", type=Path, metavar="FILE.jsonl", help="what is held of senders, one a line")
    parser.add_argument("--diff", type=Path, metavar="OTHER.jsonl", help="compare with the decisions of another replay")
    parser.add_argument("--diff-policy", type=Path, metavar="F", help="compare with what this policy decides")
    parser.add_argument("--diff-model", type=Path, metavar="DIR", help="compare with what this model decides")
    parser.add_argument(
        "--max-flips", type=at_least_none, default=0, metavar="N", help="when comparing: exit 1 past N flips (0)"
    )


def _count(value: str) -> int:
    number = int(value)
    if not 1 <= number <= 1024:
        raise argparse.ArgumentTypeError("must be from 1 to 1024")
    return number


def run(args: argparse.Namespace) -> int:
    lines = Lines(Console(stderr=True))
    side = Side.of(args, settings.load())
    messages = sorted(_messages(args.files, lines), key=lambda taken: taken.event_ms)
    flips = _flips(args, side, messages)
    for decision in side.decisions(_shown(messages, lines.console)):
        sys.stdout.buffer.write(codec.encode(decision) + b"\n")
        if flips is not None:
            flips.compare(decision)
    sys.stdout.buffer.flush()
    if flips is not None:
        flips.report(lines.console)
    return 1 if lines.bad or (flips is not None and flips.failed(args.max_flips)) else 0


@dataclass(frozen=True, slots=True)
class Side:
    """What a replay decides by: one side of a comparison."""

    scorer: Scorer
    rules: policy.Policy
    shadow: bool
    lanes: int
    standings: dict[str, Standing]

    @classmethod
    def of(cls, args: argparse.Namespace, configured: Settings) -> "Side":
        fixed = args.text_score is not None
        return cls(
            Fixed(args.text_score) if fixed else ModelFolder(args.model or configured.model).load(),
            policy.read(args.policy or configured.policy),
            configured.mode is Mode.SHADOW,
            args.partitions or configured.partitions,
            _standings(args.standing) if args.standing else {},
        )

    def decisions(self, messages: Iterable[Message]) -> Iterator[Decision]:
        return replay(
            messages, self.scorer, self.rules, shadow=self.shadow, lanes=self.lanes, find_standing=self.standings.get
        )


def _flips(args: argparse.Namespace, side: Side, messages: Sequence[Message]) -> Flips | None:
    """What to compare with, if anything; raises BadSetup for two things at once."""
    if args.diff and (args.diff_policy or args.diff_model):
        raise BadSetup(
            "--diff compares with a file, --diff-policy and --diff-model with a second run: give one of them"
        )
    if args.diff:
        return Flips(in_file(args.diff))
    if args.diff_policy or args.diff_model:
        scorer = ModelFolder(args.diff_model).load() if args.diff_model else side.scorer
        rules = policy.read(args.diff_policy) if args.diff_policy else side.rules
        return Flips(beside(replace(side, scorer=scorer, rules=rules).decisions(messages)))
    return None


def _standings(path: Path) -> dict[str, Standing]:
    """Standing by scoped sender, from values of `dm.standing`; raises BadSetup for a line that is none."""
    held: dict[str, Standing] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    standing = codec.decode(line, Standing)
                except BadRecord as bad:
                    raise BadSetup(f"{path}:{number}: {bad}; give values of dm.standing") from None
                held[standing.sender] = standing
    return held


def replay(
    messages: Iterable[Message],
    scorer: Scorer | None,
    rules: policy.Policy,
    *,
    shadow: bool = False,
    whole: bool = True,
    lanes: int = 1,
    find_standing: FindStanding = lambda _: None,
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
            yield decide(score, rules, find_standing, shadow, taken.received_ms, budget)
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

    def unsure(self, first: float) -> bool:
        return False

    def again(self, text: str, first: float) -> TextScore:
        return FixedScore(first, first)


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
        if len(line) > MAX_EVENT_BYTES:
            raise BadRecord(Fault.TOO_LARGE)
        for _, event in unwrap(FileRecord(line), line):
            if isinstance(event, BadRecord):
                lines.refuse(name, number, event)
            else:
                yield from _event(name, number, event, lines)
    except BadRecord as bad:
        lines.refuse(name, number, bad)


def _event(name: str, number: int, event: dict[str, Any], lines: Lines) -> Iterator[Message]:
    received_ms = 0
    try:
        received_ms = _received_ms(event)
        yield message(event, received_ms, event.pop("backfill", False) is True)
    except BadRecord as bad:
        lines.refuse(name, number, bad)
        kept = unreadable(event, received_ms)
        if kept is not None:
            yield kept


def _received_ms(event: dict[str, Any]) -> int:
    """An event is received at `ingested_at`, which is taken out of it, else when it was sent; raises BadRecord."""
    received = event.pop("ingested_at", None)
    field, received = ("sent_at", event.get("sent_at")) if received is None else ("ingested_at", received)
    return 0 if received is None else codec.epoch_ms(received, field)


def _shown(messages: list[Message], console: Console) -> Iterable[Message]:
    if not console.is_terminal:
        return messages
    return track(messages, description="replaying", console=console, transient=True)
