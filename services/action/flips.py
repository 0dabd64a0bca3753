"""Where two decisions on the same event part: what a change of policy or model would do. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from services.records import Decision, Mode, Verdict

NONE = "none"


class Effect(StrEnum):
    """What a decision does to its message. `shadowed`: it would have been quarantined, and passes."""

    ALLOW = "allow"
    SHADOWED = "shadowed"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Flip:
    """How two decisions differ. `reason`: what tells most where they do; `kind`: the text's strongest label."""

    tenant: str
    before: Effect
    after: Effect
    reason: str
    kind: str


def effect(decision: Decision) -> Effect:
    if decision.verdict is Verdict.ALLOW:
        return Effect.ALLOW
    return Effect.QUARANTINE if decision.mode is Mode.ENFORCE else Effect.SHADOWED


def flip(before: Decision, after: Decision) -> Flip | None:
    """How the effect on one event changes; None where it does not."""
    then, now = effect(before), effect(after)
    if then is now:
        return None
    caught, passed = (before, after) if before.verdict is Verdict.QUARANTINE else (after, before)
    kind = max(caught.labels, key=caught.labels.__getitem__, default=NONE)
    return Flip(after.tenant, then, now, _reason(caught, passed), kind)


def _reason(caught: Decision, passed: Decision) -> str:
    """The override of either side, a lack of only one of them, or the heaviest reason against the message."""
    for decision in (caught, passed):
        if decision.override is not None:
            return decision.override.value
    lacks = set(caught.degraded) ^ set(passed.degraded)
    if lacks:
        return min(lack.value for lack in lacks)
    heaviest = max(caught.reasons, key=lambda reason: reason.weight, default=None)
    return heaviest.code.value if heaviest else NONE
