"""Scores in; decisions and evidence out. Pure: policy, standing and the moment are handed in.

score = sigmoid(sum of the reasons' weights); the first override (block > exempt pair > trust > allow list) beats it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from services import codec
from services.action.budget import Budget
from services.action.flips import Flip, flip
from services.action.policy import SIGNALS, STRIKES, Lacking, Policy, Tenant
from services.action.standings import decayed
from services.deadletter import dead_letter
from services.errors import BadRecord, Fault
from services.records import (
    VERSION,
    Bond,
    Decision,
    Degraded,
    Envelope,
    Evidence,
    Finding,
    Inbound,
    Mode,
    Output,
    Override,
    PolicyRef,
    Reason,
    ReasonCode,
    Score,
    Standing,
    Verdict,
    decision_id,
    scoped,
    trace,
)
from services.spans import DAY_MS
from services.topics import DECISIONS, QUARANTINE

SERVICE = "action"
FIRST = "first"
SOURCE = b"doorman/action"
# A text score of 0 or 1 would be beyond argument; 0.001 to 0.999 is +-6.9 in log-odds.
SURE = 0.999

# Words sent to twenty strangers are also twenty strangers written to: one fact, and one reason.
_REACH = frozenset({ReasonCode.FAN_OUT, ReasonCode.REPEATS, ReasonCode.LINK_REPEATS})

FindStanding = Callable[[str], Standing | None]


@dataclass(slots=True)
class Batch:
    """What a batch of scores gave."""

    outputs: list[Output] = field(default_factory=list)
    decisions: list[tuple[Decision, Envelope]] = field(default_factory=list)
    flips: list[Flip] = field(default_factory=list)
    faults: Counter[Fault] = field(default_factory=Counter)


def act(
    records: Sequence[Inbound],
    policy: Policy,
    find_standing: FindStanding,
    shadow: bool,
    now_ms: int,
    budget: Budget | None = None,
    rival: Policy | None = None,
) -> Batch:
    """Decide a batch. `shadow` puts every tenant in shadow; `now_ms` is when the decisions are made.

    `rival` is asked too: where it would have decided otherwise is told in `flips`.
    """
    batch = Batch()
    for record in records:
        try:
            score = codec.decode(record.value, Finding)
            decision = decide(score, policy, find_standing, shadow, now_ms, budget)
            batch.outputs.extend(_outputs(record, decision, score.message.received_ms))
        except BadRecord as bad:
            batch.faults[bad.fault] += 1
            batch.outputs.append(dead_letter(record, bad.fault, SERVICE, now_ms))
            continue
        batch.decisions.append((decision, score.message))
        if rival is not None:
            batch.flips.extend(_flips(decision, score, rival, find_standing, now_ms))
    return batch


def _flips(
    decision: Decision, score: Finding, rival: Policy, find_standing: FindStanding, now_ms: int
) -> Iterator[Flip]:
    """Whether another policy would decide otherwise. It has no budget: what is in shadow, it shadows too."""
    other = decide(score, rival, find_standing, decision.mode is Mode.SHADOW, now_ms)
    found = flip(decision, other)
    if found is not None:
        yield found


def decide(
    score: Finding,
    policy: Policy,
    find_standing: FindStanding,
    shadow: bool,
    now_ms: int,
    budget: Budget | None = None,
) -> Decision:
    """One score's decision; what it costs is taken from the budget, if there is one."""
    message = score.message
    tenant = policy.of(message.tenant)
    readable = not message.unreadable
    standing = find_standing(scoped(message.tenant, message.platform, message.sender_id)) if readable else None
    signals = score.signals if standing is None else _with_strikes(score.signals, standing, message.event_ms)
    reasons = tuple(weigh(score, signals, tenant)) if readable else ()
    total = sigmoid(sum(reason.weight for reason in reasons))
    override = find_override(message, tenant, standing) if readable else None
    verdict = _verdict(total >= tenant.threshold and readable, override)
    mode = Mode.SHADOW if shadow else tenant.mode
    if tenant.degraded and score.degraded and override is None:
        verdict, mode = _lacking(tenant.lacking(score.degraded), verdict, mode)
    degraded = score.degraded
    if verdict is Verdict.QUARANTINE and mode is Mode.ENFORCE and _is_over(score, tenant, override, budget):
        mode, degraded = Mode.SHADOW, (*degraded, Degraded.BUDGET_EXHAUSTED)
    return Decision(
        v=VERSION,
        decision_id=decision_id(message.tenant, message.platform, message.event_id, message.revision, FIRST),
        event_id=message.event_id,
        revision=message.revision,
        cause=FIRST,
        tenant=message.tenant,
        platform=message.platform,
        sender_id=message.sender_id,
        recipient_id=message.recipient_id,
        conversation_id=message.conversation_id,
        verdict=verdict,
        mode=mode,
        score=round(total, 4) if readable else None,
        threshold=tenant.threshold,
        text_score=score.text_score,
        override=override,
        labels=score.labels,
        reasons=reasons,
        signals=signals,
        campaign_id=score.campaign_id,
        supersedes=None,
        expires_at=_expiry(message, tenant) if verdict is Verdict.QUARANTINE else None,
        model=score.model,
        policy=PolicyRef(version=policy.version),
        degraded=degraded,
        sent_at=codec.rfc3339(message.sent_ms) if readable else None,
        ingested_at=codec.rfc3339(message.received_ms),
        decided_at=codec.rfc3339(now_ms),
    )


def _verdict(caught: bool, override: Override | None) -> Verdict:
    if override is not None:
        caught = override is Override.BLOCK
    return Verdict.QUARANTINE if caught else Verdict.ALLOW


def _is_over(score: Finding, tenant: Tenant, override: Override | None, budget: Budget | None) -> bool:
    """Whether the tenant's budget is spent. What a block holds costs nothing."""
    if budget is None or tenant.budget is None or override is Override.BLOCK:
        return False
    message = score.message
    return budget.is_over(message.tenant, tenant.budget, score.campaign_id, message.event_ms)


def _lacking(answer: Lacking, verdict: Verdict, mode: Mode) -> tuple[Verdict, Mode]:
    """Verdict and mode of a message that was judged with less than everything."""
    if answer is Lacking.SHADOW:
        return verdict, Mode.SHADOW
    if answer is Lacking.DECIDE:
        return verdict, mode
    return (Verdict.ALLOW if answer is Lacking.ALLOW else Verdict.QUARANTINE), mode


def _expiry(message: Envelope, tenant: Tenant) -> str:
    return codec.rfc3339(message.received_ms + tenant.quarantine_days * DAY_MS)


def _with_strikes(signals: dict[str, float], standing: Standing, event_ms: int) -> dict[str, float]:
    strikes = round(decayed(standing.strikes, event_ms - standing.strikes_ms), 2)
    return signals | {STRIKES: strikes} if strikes else signals


def weigh(score: Finding, signals: dict[str, float], tenant: Tenant) -> Iterator[Reason]:
    """The reasons of a score under a policy, heaviest evidence of each kind once."""
    if score.text_score is not None:
        weight = max(logit(score.text_score), -tenant.text_cap) + _offset(score.labels, tenant)
        weight = min(weight, tenant.text_cap)
        if "short_text" in score.signals:
            weight = max(weight, tenant.short_text)
        yield Reason(code=ReasonCode.TEXT, weight=round(weight, 2), detail=f"{score.text_score:.2f}")
    if score.bond is Bond.WARM:
        yield Reason(code=ReasonCode.CONVERSATION, weight=tenant.conversation, detail="the recipient wrote before")
    yield from _signal_reasons(score.bond, signals, tenant)
    if score.campaign_id is not None:
        yield Reason(code=ReasonCode.CAMPAIGN, weight=tenant.campaign, detail=score.campaign_id)


def _signal_reasons(bond: Bond, signals: dict[str, float], tenant: Tenant) -> Iterator[Reason]:
    """Two signals of one fact: the heavier one counts. How many were written to, got the same words or link is one."""
    heaviest: dict[ReasonCode, Reason] = {}
    capped = bond is Bond.UNKNOWN or "notice" in signals
    for name, value in signals.items():
        rule = tenant.signals.get(name)
        if rule is None or not rule.applies(bond):
            continue
        weight, fact = rule.weigh(value), rule.reason
        if rule.reason in _REACH:
            fact = ReasonCode.FAN_OUT
            weight = min(weight, tenant.reach_cap) if capped else weight
        if weight and abs(weight) > abs(heaviest[fact].weight if fact in heaviest else 0.0):
            heaviest[fact] = Reason(code=rule.reason, weight=weight, detail=SIGNALS[name].format(value))
    yield from heaviest.values()


def _offset(labels: dict[str, float], tenant: Tenant) -> float:
    if not (labels and tenant.label_offsets):
        return 0.0
    return tenant.label_offsets.get(max(labels, key=labels.__getitem__), 0.0)


def find_override(message: Envelope, tenant: Tenant, standing: Standing | None) -> Override | None:
    """What beats the score, if anything does."""
    if standing is None and not tenant.has_lists:
        return None
    now_ms = message.event_ms
    blocked = message.sender_id in tenant.senders.block or tenant.links.blocks(message.text)
    if blocked or (standing is not None and standing.block_until_ms > now_ms):
        return Override.BLOCK
    if standing is not None and _is_exempt(message, standing, now_ms):
        return Override.EXEMPT_PAIR
    if standing is not None and standing.trust_until_ms > now_ms:
        return Override.TRUST
    allowed = message.sender_id in tenant.senders.allow or tenant.links.allows(message.text)
    return Override.ALLOW_LIST if allowed else None


def _is_exempt(message: Envelope, standing: Standing, now_ms: int) -> bool:
    names = [message.conversation_id, *([message.recipient_id] if message.recipient_id else [])]
    keys = (scoped(message.tenant, message.platform, name) for name in names)
    return any(standing.exempt.get(key, 0) > now_ms for key in keys)


def logit(probability: float) -> float:
    sure = min(max(probability, 1 - SURE), SURE)
    return math.log(sure / (1 - sure))


def sigmoid(weight: float) -> float:
    return 1 / (1 + math.exp(-weight)) if weight > -700 else 0.0


def _outputs(record: Inbound, decision: Decision, received_ms: int) -> list[Output]:
    """A decision as it goes out, and its evidence where the message is held: only that needs the whole score."""
    outputs = [decision_output(decision, received_ms, trace(record))]
    if decision.verdict is Verdict.QUARANTINE and decision.mode is Mode.ENFORCE:
        score = codec.decode(record.value, Score)
        evidence = codec.encode(Evidence(v=VERSION, decision=decision, message=score.message, spans=score.spans))
        outputs.append(Output(topic=QUARANTINE, key=record.key, value=evidence, timestamp_ms=received_ms))
    return outputs


def decision_output(decision: Decision, timestamp_ms: int, traced: tuple[tuple[str, bytes], ...] = ()) -> Output:
    """A decision as a record: keyed by its conversation, with CloudEvents binary-mode headers."""
    key = scoped(decision.tenant, decision.platform, decision.conversation_id or decision.sender_id or "")
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", decision.decision_id.encode()),
        ("ce_type", b"dm.decision"),
        ("ce_source", SOURCE),
        ("ce_time", decision.decided_at.encode()),
        ("content-type", b"application/json"),
    )
    return Output(
        topic=DECISIONS,
        key=key.encode(),
        value=codec.encode(decision),
        timestamp_ms=timestamp_ms,
        headers=headers + traced,
    )
