"""`python -m services.action`: scores become decisions."""

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import uvloop
from prometheus_client import Counter as Metric

from services import codec, metrics
from services.action.budget import Budget
from services.action.policy_file import PolicyFile
from services.action.stage import SERVICE, Batch, act
from services.action.standings import Standings
from services.errors import BadSetup
from services.kafka import Sender, View
from services.lane import Plan, Service, Work, tolerant
from services.observe import event
from services.process import launch
from services.records import Campaign, Control, Inbound, Mode, Output, Verdict, campaign_review_key
from services.settings import Settings
from services.topics import CAMPAIGNS, CONTROL, DEAD_LETTER, DECISIONS, QUARANTINE, SCORES, STANDING

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Switch:
    """What puts every tenant in shadow: the setting, or what `dm.control` said last."""

    setting: Mode
    said: Mode = Mode.ENFORCE

    def apply(self, record: Inbound) -> None:
        """Obey a word of `dm.control`; raises BadRecord."""
        control = None if record.value is None else codec.decode(record.value, Control)
        self.said = control.mode if control else Mode.ENFORCE
        metrics.SHADOW_MODE.set(self.is_shadow())
        event(log, "mode_said", logging.WARNING, mode=self.said.value, actor=control.actor if control else None)

    def is_shadow(self) -> bool:
        return Mode.SHADOW in (self.setting, self.said)


@dataclass(slots=True)
class Confirmed:
    """The campaigns that reviews found unwelcome, and until when: of `dm.campaigns` the reviews alone, by key."""

    until_ms: dict[str, int] = field(default_factory=dict)

    def apply(self, record: Inbound) -> None:
        """Take over the latest review of a campaign; raises BadRecord."""
        name = (record.key or b"").decode(errors="replace")
        self.until_ms.pop(name, None)
        campaign = None if record.value is None else codec.decode(record.value, Campaign)
        if campaign is not None and campaign.confirmed:
            self.until_ms[name] = campaign.expires_ms

    def holds(self, tenant: str, campaign_id: str, event_ms: int) -> bool:
        return self.until_ms.get(campaign_review_key(tenant, campaign_id), 0) > event_ms


@dataclass(slots=True)
class Action(Work):
    """A lane's work: the stage, and the counting around it."""

    file: PolicyFile
    standings: Standings
    switch: Switch
    budget: Budget
    rival: PolicyFile | None = None

    def replay(self, records: Sequence[Inbound]) -> None:
        """Nothing to remember."""

    def resume(self, metadata: str, lanes: int) -> None:
        self.budget.lanes = lanes
        self.budget.resume(metadata)

    def metadata(self) -> str:
        return self.budget.written()

    def run(self, records: Sequence[Inbound], now_ms: int) -> list[Output]:
        rival = self.rival.policy if self.rival else None
        batch = act(records, self.file.policy, self.standings.find, self.switch.is_shadow(), now_ms, self.budget, rival)
        _count(batch, now_ms)
        for tenant in self.budget.ran_out():
            event(log, "budget_exhausted", logging.WARNING, tenant=tenant, lane=self.budget.lane)
        return batch.outputs


def _count(batch: Batch, now_ms: int) -> None:
    received, sent = metrics.DECISION_LATENCY, metrics.EVENT_AGE
    metrics.observe_all(received, [max(now_ms - message.received_ms, 0) / 1000 for _, message in batch.decisions])
    metrics.observe_all(sent, [max(now_ms - message.sent_ms, 0) / 1000 for _, message in batch.decisions])
    decisions = [decision for decision, _ in batch.decisions]
    caught = [decision for decision in decisions if decision.verdict is Verdict.QUARANTINE]
    _add(metrics.DECISIONS, ((decision.verdict, decision.mode) for decision in decisions))
    _add(metrics.OVERRIDES, ((decision.override,) for decision in decisions if decision.override is not None))
    _add(metrics.DEGRADED, ((cause,) for decision in decisions for cause in decision.degraded))
    _add(metrics.REASONS, ((reason.code,) for decision in caught for reason in decision.reasons))
    _add(metrics.SHADOW_POLICY_FLIPS, ((found.after, found.reason) for found in batch.flips))
    for fault, number in batch.faults.items():
        metrics.DEAD_LETTERS.labels(SERVICE, fault.value).inc(number)


def _add(metric: Metric, labels: Iterable[tuple[str, ...]]) -> None:
    """Count once a batch: a metric asked for its labels costs half a microsecond."""
    for named, number in Counter(labels).items():
        metric.labels(*named).inc(number)


def _policies(settings: Settings) -> list[PolicyFile]:
    """The policy and, if there is one, that asked beside it; raises BadSetup with the faults of both."""
    found, faults = [], []
    for path, info in ((settings.policy, metrics.POLICY), (settings.shadow_policy, metrics.SHADOW_POLICY)):
        try:
            found += [PolicyFile(path, info)] if path else []
        except BadSetup as refused:
            faults.append(str(refused))
    if faults:
        raise BadSetup("\n".join(faults))
    return found


def service(settings: Settings) -> Service:
    """Action, wired."""
    policies, standings, confirmed, switch = _policies(settings), Standings(), Confirmed(), Switch(settings.mode)
    metrics.SHADOW_MODE.set(switch.is_shadow())

    def open_lane(partition: int, sender: Sender) -> Action:
        budget = Budget(lane=partition, is_confirmed=confirmed.holds)
        return Action(policies[0], standings, switch, budget, *policies[1:])

    plan = Plan(
        SERVICE,
        SCORES,
        (DECISIONS, QUARANTINE, DEAD_LETTER),
        open_lane,
        views=(
            View(settings, STANDING, tolerant(SERVICE, "standing", standings.apply)),
            View(settings, CAMPAIGNS, tolerant(SERVICE, "campaign", confirmed.apply)),
            View(settings, CONTROL, tolerant(SERVICE, "control", switch.apply)),
        ),
        background=tuple(file.watch for file in policies),
    )
    return Service(plan, settings)


if __name__ == "__main__":
    sys.exit(launch(SERVICE, service, uvloop.run))
