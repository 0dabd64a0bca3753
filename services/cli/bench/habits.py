"""`doorman bench habits`: simulated traffic through `replay`, judged habit by habit against the simulation's truth."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from services import codec, settings
from services.action import policy
from services.classify.scorer import ModelFolder
from services.classify.stage import Scorer
from services.cli.arguments import at_least_one, share
from services.cli.replay import Fixed, replay
from services.cli.simulate import BOTS, BULK_LEGIT, simulate
from services.ingest.event import message
from services.records import Decision, Message, Verdict

HELP = "judge simulated traffic, habit by habit: what is caught of bots, and what is held up of everybody else"
CAMPAIGN, PERSON, PUPPET = "campaign", "person", "puppet"
# The bars: with texts, overall and after a sender's fifth message; by behaviour alone, after its tenth.
OVERALL, AFTER_FIFTH, AFTER_TENTH = 0.80, 0.90, 0.80
MOST_PEOPLE, MOST_BULK = 0.002, 0.02


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=[1001, 1002], metavar="S", help="seeds (1001 1002)")
    parser.add_argument("--events", type=at_least_one, default=100_000, metavar="N", help="events of a seed (100000)")
    parser.add_argument("--policy", type=Path, metavar="F", help="policy file (default: DOORMAN_POLICY)")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: DOORMAN_MODEL)")
    parser.add_argument("--text-score", type=share, metavar="P", help="give every text this score: behaviour alone")
    parser.add_argument("--no-relation", action="store_true", help="events say nothing of who follows whom")
    parser.add_argument("--young", action="store_true", help="the memory begins with the traffic: a first day")
    parser.add_argument("--json", action="store_true", help="print one habit a line")


def run(args: argparse.Namespace) -> int:
    """Print the table; exit 1 where a bar is missed."""
    configured = settings.load()
    rules = policy.read(args.policy or configured.policy)
    folder = args.model or configured.model
    scorer: Scorer = ModelFolder(folder).load() if args.text_score is None else Fixed(args.text_score)
    report = Report(alone=args.text_score is not None)
    console = Console(stderr=True)
    for seed in args.seeds:
        told = judged(seed, args.events, scorer, rules, relation=not args.no_relation, whole=not args.young)
        for truth, decision in track(
            told, f"seed {seed}", args.events, console=console, disable=not console.is_terminal
        ):
            report.take(seed, truth, decision)
    if args.json:
        sys.stdout.buffer.writelines(codec.dumps(row) + b"\n" for row in report.rows())
        sys.stdout.buffer.flush()
    else:
        Console().print(report.table())
    for fault in report.faults():
        console.print(fault, style="red", highlight=False)
    return 1 if report.faults() else 0


def judged(
    seed: int, events: int, scorer: Scorer | None, rules: policy.Policy, *, relation: bool = True, whole: bool = True
) -> Iterator[tuple[dict[str, Any], Decision]]:
    """(truth, decision) of each event of a simulation, in order."""
    truths: dict[str, dict[str, Any]] = {}

    def messages() -> Iterator[Message]:
        for event in simulate(events, seed, relation=relation):
            native: dict[str, Any] = codec.loads_object(codec.dumps(event))
            truths[native["event_id"]] = native.pop("truth")
            yield message(native, codec.epoch_ms(native["sent_at"], "sent_at"), False)

    for decision in replay(messages(), scorer, rules, whole=whole):
        yield truths.pop(decision.event_id), decision


@dataclass(slots=True)
class Habit:
    """What was sent and what was held, in all and past a sender's fifth and tenth message."""

    label: str
    sent: Counter[int] = field(default_factory=Counter)
    held: Counter[int] = field(default_factory=Counter)

    def take(self, nth: int, caught: bool) -> None:
        for past in (0, 5, 10):
            if nth > past:
                self.sent[past] += 1
                self.held[past] += caught

    def share(self, past: int) -> float | None:
        return self.held[past] / self.sent[past] if self.sent[past] else None


class Report:
    """Habits, judged. `alone`: by behaviour alone, where other bars hold.

    A sender of a campaign writes three messages: past its fifth or tenth there counts the campaign's own.
    """

    def __init__(self, alone: bool) -> None:
        self._alone = alone
        self._habits: dict[str, Habit] = {}
        self._campaigns: Counter[tuple[int, str]] = Counter()

    def take(self, seed: int, truth: dict[str, Any], decision: Decision) -> None:
        nth = truth["nth"]
        if truth["campaign"] is not None:
            place = (seed, truth["campaign"])
            self._campaigns[place] += 1
            nth = self._campaigns[place]
        caught = decision.verdict is Verdict.QUARANTINE
        habit, label = truth["habit"], truth["label"]
        self._habits.setdefault(habit, Habit(label)).take(nth, caught)
        if habit in BOTS:
            self._habits.setdefault("all bots", Habit(label)).take(nth, caught)

    def rows(self) -> Iterator[dict[str, Any]]:
        order = [PERSON, *BULK_LEGIT, *BOTS, PUPPET, "all bots"]
        for name in sorted(self._habits, key=order.index):
            habit = self._habits[name]
            shares = {"held": habit.share(0), "held_past_5": habit.share(5), "held_past_10": habit.share(10)}
            yield {"habit": name, "label": habit.label, "messages": habit.sent[0]} | {
                key: None if share is None else round(share, 4) for key, share in shares.items()
            }

    def table(self) -> Table:
        table = Table(title="Held, by behaviour alone" if self._alone else "Held, with texts", title_justify="left")
        for heading in ("habit", "truth", "messages", "held", "past the 5th", "past the 10th"):
            table.add_column(heading, justify="left" if heading in ("habit", "truth") else "right")
        for row in self.rows():
            shares = ("" if row[key] is None else f"{row[key]:.2%}" for key in ("held", "held_past_5", "held_past_10"))
            table.add_row(row["habit"], row["label"], str(row["messages"]), *shares)
        return table

    def faults(self) -> list[str]:
        """The bars that are missed."""
        found = [fault for name, habit in self._habits.items() for fault in self._faults(name, habit)]
        return sorted(found)

    def _faults(self, name: str, habit: Habit) -> Iterator[str]:
        if habit.label == "legit":
            most = MOST_PEOPLE if name == PERSON else MOST_BULK
            if (habit.share(0) or 0.0) > most:
                yield f"{name}: {habit.share(0):.2%} held, at most {most:.1%}"
            return
        bars = {0: OVERALL, 5: AFTER_FIFTH} if name == "all bots" and not self._alone else {}
        if name in BOTS and self._alone:
            bars = {10: AFTER_TENTH}
        for past, bar in bars.items():
            share = habit.share(past)
            if share is not None and share < bar:
                yield f"{name}: {share:.2%} held{f' past message {past}' if past else ''}, at least {bar:.0%}"
