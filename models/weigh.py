"""`python -m models.weigh`: weights of the behaviour signals, fitted to simulated traffic, as they stand in the policy.

A logistic regression over steps: each step of a signal adds to the one before. It is fitted by behaviour alone, every
text at 0.05, so that no corpus stands in for what people really write; every habit weighs the same, however much it
sends, and legitimate ones three times that. Bounds keep it from what a simulation cannot know. The same seed gives the
same weights.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.optimize import minimize

from services import settings
from services.action import policy
from services.action.stage import logit
from services.cli.bench.habits import PUPPET, judged
from services.cli.replay import Fixed
from services.records import Decision, ReasonCode

TEXT_SCORE = 0.05
LEGIT_WEIGHT, RIDGE = 3.0, 0.001
# A bot is told by what it did before: its first messages are no lesson, unless many share them.
FIRST = 5


@dataclass(frozen=True, slots=True)
class Fact:
    """Signals that tell of one thing, by levels: a level is reached where one of them reaches its bound.

    `most`: how much each level may add. `under`: low values tell.
    """

    name: str
    signals: tuple[str, ...]
    bounds: tuple[tuple[float, ...], ...]
    most: tuple[float, ...]
    under: bool = False


FACTS = (
    # Up to two dozen strangers stay under the weight of a text that is surely personal: a party has as many guests.
    Fact(
        "reach",
        ("one_sided_1h", "one_sided_24h", "repeats_1h", "repeats_24h", "link_repeats_24h"),
        ((6, 9, 3, 3, 4), (8, 12, 5, 5, 9), (10, 15, 8, 8, 15), (30, 40, 30, 30, 40), (50, 80, 50, 60, 80)),
        (1.2, 1.2, 0.9, 1.5, 1.4),
    ),
    Fact("broadcast", ("broadcast_24h",), ((6,), (12,), (25,)), (3.5, 5.0, 1.0)),
    Fact("even_gaps", ("even_gaps",), ((0.85,), (0.97,)), (0.5, 0.5)),
    Fact("just_followed", ("seconds_since_follow",), ((300,), (60,), (15,)), (0.5, 0.7, 0.6), under=True),
    # Everybody is new once, and how old the simulated accounts are is our invention.
    Fact("new_account", ("account_days",), ((90,), (30,), (7,)), (0.3, 0.3, 0.2), under=True),
)
STEPS = tuple((fact, level) for fact in FACTS for level in range(len(fact.bounds)))

Floats = NDArray[np.float64]


def run(seed: int, events: int, console: Console) -> None:
    """Simulate, fit, print."""
    rules = policy.read(settings.load().policy)
    told = track(judged(seed, events, Fixed(TEXT_SCORE), rules), "reading", events, console=console)
    rows = [(truth["habit"], truth["label"] == "auto", decision) for truth, decision in told if _teaches(truth)]
    weights = fit(
        np.array([steps(decision) for _, _, decision in rows], dtype=np.float64),
        np.array([given(decision) for _, _, decision in rows]),
        np.array([auto for _, auto, _ in rows], dtype=np.float64),
        np.array([habit for habit, _, _ in rows]),
    )
    for line in written(weights):
        print(line)


def _teaches(truth: dict[str, object]) -> bool:
    late = truth["campaign"] is not None or int(str(truth["nth"])) > FIRST
    return truth["habit"] != PUPPET and (truth["label"] == "legit" or late)


def steps(decision: Decision) -> list[bool]:
    """Which levels a message reaches."""
    return [_reached(fact, level, decision) for fact, level in STEPS]


def _reached(fact: Fact, level: int, decision: Decision) -> bool:
    signals = decision.signals
    told = (
        (signals[name], bound) for name, bound in zip(fact.signals, fact.bounds[level], strict=True) if name in signals
    )
    return any(value <= bound if fact.under else value >= bound for value, bound in told)


def given(decision: Decision) -> float:
    """The weight of what is not fitted: text, conversation, campaign."""
    fixed = {ReasonCode.CONVERSATION, ReasonCode.CAMPAIGN}
    return logit(TEXT_SCORE) + sum(reason.weight for reason in decision.reasons if reason.code in fixed)


def fit(reached: Floats, offsets: Floats, auto: Floats, habits: NDArray[np.str_]) -> Floats:
    """What each step adds, rounded to 0.1."""
    share = np.zeros(len(auto))
    for habit in np.unique(habits):
        own = habits == habit
        share[own] = (1.0 if auto[own][0] else LEGIT_WEIGHT) / own.sum()

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = offsets + reached @ weights
        losses = share * np.logaddexp(0.0, np.where(auto == 1, -margins, margins))
        slopes = reached.T @ (share * (1 / (1 + np.exp(-margins)) - auto))
        return float(losses.sum() + RIDGE * (weights**2).sum()), slopes + 2 * RIDGE * weights

    most = [(0.0, fact.most[level]) for fact, level in STEPS]
    found = minimize(loss, np.zeros(len(STEPS)), jac=True, method="L-BFGS-B", bounds=most)
    rounded: Floats = np.round(found.x, 1)
    return rounded


def written(weights: Sequence[float] | Floats) -> Iterator[str]:
    """The steps of each signal, as in the policy file."""
    for fact in FACTS:
        sums = (
            np.cumsum([weight for (of, _), weight in zip(STEPS, weights, strict=True) if of is fact]).round(1).tolist()
        )
        for place, name in enumerate(fact.signals):
            pairs = sorted([bounds[place], weight] for bounds, weight in zip(fact.bounds, sums, strict=True))
            yield f"[default.signals.{name}]\n{'at_most' if fact.under else 'at_least'} = {pairs}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fit the weights of the behaviour signals to simulated traffic.")
    parser.add_argument("--seed", type=int, default=101, metavar="S", help="seed of the simulation (101)")
    parser.add_argument("--events", type=int, default=100_000, metavar="N", help="events to simulate (100000)")
    args = parser.parse_args()
    run(args.seed, args.events, Console(stderr=True))
