"""What `doorman replay --diff` finds: the decisions that another replay, policy or model makes otherwise."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from services import codec
from services.action.flips import Flip, flip
from services.errors import BadRecord, BadSetup
from services.records import Decision

SAMPLES = 3

Other = Callable[[Decision], Decision | None]


def in_file(path: Path) -> Other:
    """The decisions of another replay, by their id; raises BadSetup for a line that is none."""
    held: dict[str, Decision] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    decision = codec.decode(line, Decision)
                except BadRecord as bad:
                    raise BadSetup(f"{path}:{number}: {bad}; give the output of a replay") from None
                held[decision.decision_id] = decision
    return lambda decision: held.get(decision.decision_id)


def beside(decisions: Iterator[Decision]) -> Other:
    """The decisions on the same messages in the same order, made at the same time."""
    return lambda _: next(decisions, None)


@dataclass(slots=True)
class Flips:
    """Outcomes that differ from those of `other`, by tenant, direction, reason and kind of text."""

    other: Other
    compared: int = 0
    alone: int = 0
    kinds: Counter[Flip] = field(default_factory=Counter)
    samples: dict[Flip, list[str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.kinds.total()

    def compare(self, decision: Decision) -> None:
        other = self.other(decision)
        if other is None:
            self.alone += 1
            return
        self.compared += 1
        found = flip(other, decision)
        if found is None:
            return
        self.kinds[found] += 1
        samples = self.samples.setdefault(found, [])
        if len(samples) < SAMPLES:
            samples.append(decision.event_id)

    def failed(self, most: int) -> bool:
        """Whether there are more flips than `most`, or nothing that could have been one."""
        return self.total > most or self.compared == 0

    def report(self, console: Console) -> None:
        alone = f"; {self.alone} have no counterpart" if self.alone else ""
        console.print(f"{self.total} flips in {self.compared} decisions{alone}", highlight=False)
        for kind, number in self.kinds.most_common():
            change = f"{kind.before} -> {kind.after}"
            told = f"{number:8} {kind.tenant}  {change}  {kind.reason}  {kind.kind}"
            shown = ", ".join(self.samples[kind])
            console.print(f"{told}  e.g. {shown}", highlight=False, markup=False, soft_wrap=True)
