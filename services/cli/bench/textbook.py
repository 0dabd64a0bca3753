"""What Doorman is measured against: its three stages as Faust's documentation teaches to write them.

Three apps, JSON records, one event at a time, a table of what each sender did, the same model and the same policy. The
contrast to the lane is all that it is for: see `doorman bench baseline`.

    python -m services.cli.bench.textbook ingest | classify | action
"""

import sys
from collections.abc import Callable
from typing import Any

import faust

from services import settings
from services.action import policy
from services.action.stage import logit, sigmoid
from services.classify.scorer import Scorer
from services.records import Verdict, decision_id
from services.settings import Settings
from services.topics import DECISIONS, EVENTS, MESSAGES, SCORES


class Event(faust.Record, serializer="json"):
    event_id: str
    sender_id: str
    sent_at: str
    text: str
    tenant: str = "default"
    platform: str = "default"
    recipient_id: str | None = None
    conversation_id: str | None = None
    relation: dict[str, Any] | None = None


class Score(faust.Record, serializer="json"):
    message: Event
    text_score: float
    labels: dict[str, float]
    signals: dict[str, float]


class Sent(faust.Record, serializer="json"):
    """What a sender did: the strangers written to, and how often each text went out."""

    recipients: list[str] = []  # noqa: RUF012 faust's way to give a default
    texts: dict[str, int] = {}  # noqa: RUF012


class Decision(faust.Record, serializer="json"):
    decision_id: str
    event_id: str
    sender_id: str
    conversation_id: str | None
    verdict: str
    score: float
    reasons: list[dict[str, Any]]


def ingest(app: faust.App, configured: Settings) -> None:
    events, messages = _topic(app, configured, EVENTS, Event), _topic(app, configured, MESSAGES, Event)

    @app.agent(events)
    async def check(stream: faust.StreamT[Event]) -> None:
        async for event in stream:
            if event.event_id and event.sender_id:
                await messages.send(key=event.sender_id, value=event)


def classify(app: faust.App, configured: Settings) -> None:
    messages, scores = _topic(app, configured, MESSAGES, Event), _topic(app, configured, SCORES, Score)
    scorer = Scorer.load(configured.model)
    senders = app.Table("senders", default=Sent, partitions=configured.partitions)

    @app.agent(messages)
    async def weigh(stream: faust.StreamT[Event]) -> None:
        async for message in stream:
            (text,) = scorer.score([message.text])
            sent = senders[message.sender_id]
            known = message.conversation_id or message.recipient_id or ""
            recipients = sent.recipients if known in sent.recipients else [*sent.recipients[-99:], known]
            repeats = sent.texts.get(message.text, 0)
            texts = dict([*sent.texts.items()][-99:]) | {message.text: repeats + 1}
            senders[message.sender_id] = Sent(recipients=recipients, texts=texts)
            signals = {"cold_recipients_24h": float(len(recipients)), "repeats_24h": float(repeats)}
            scored = Score(message=message, text_score=text.score, labels=text.labels, signals=signals)
            await scores.send(key=message.sender_id, value=scored)


def action(app: faust.App, configured: Settings) -> None:
    scores, decisions = _topic(app, configured, SCORES, Score), _topic(app, configured, DECISIONS, Decision)
    tenant = policy.read(configured.policy).default

    @app.agent(scores)
    async def decide(stream: faust.StreamT[Score]) -> None:
        async for score in stream:
            message = score.message
            reasons = [{"code": "text", "weight": round(logit(score.text_score), 2)}]
            for name, value in score.signals.items():
                if name in tenant.signals:
                    reasons.append({"code": name, "weight": tenant.signals[name].weigh(value)})
            total = sigmoid(sum(float(str(reason["weight"])) for reason in reasons))
            decision = Decision(
                decision_id=decision_id(message.tenant, message.platform, message.event_id, 0, "first"),
                event_id=message.event_id,
                sender_id=message.sender_id,
                conversation_id=message.conversation_id,
                verdict=(Verdict.QUARANTINE if total >= tenant.threshold else Verdict.ALLOW).value,
                score=total,
                reasons=reasons,
            )
            await decisions.send(key=message.conversation_id or message.sender_id, value=decision)


def _topic(app: faust.App, configured: Settings, name: str, kind: type[faust.Record]) -> Any:
    return app.topic(configured.topic_prefix + name, value_type=kind, internal=True, partitions=configured.partitions)


def main(stage: str) -> None:
    """Run one stage until SIGTERM."""
    configured = settings.load()
    app = faust.App(
        f"{configured.topic_prefix}textbook-{stage}",
        broker=f"aiokafka://{configured.kafka}",
        web_enabled=False,
        topic_partitions=configured.partitions,
        topic_disable_leader=True,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        datadir=configured.state / f"textbook-{stage}",
    )
    stages: dict[str, Callable[[faust.App, Settings], None]] = {
        "ingest": ingest,
        "classify": classify,
        "action": action,
    }
    stages[stage](app, configured)
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1])
