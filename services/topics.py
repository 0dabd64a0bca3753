"""Every topic: name, key, cleanup, retention, size. The one table that creation, services, contracts and docs read.

Sizes: an event may hold 256 KiB. A message keeps the event's fields, whose JSON can grow when it is written anew
(`9e15` becomes `9000000000000000.0`) and is met by a margin of eight; scores, evidence and labels wrap a message.
`dm.events` itself lets far more in, so that a record too large for us is answered instead of refused at the door.
"""

from dataclasses import dataclass

from services.spans import DAY_MS

KIB = 1024
MIB = 1024 * KIB

MAX_EVENT_BYTES = 256 * KIB
DEAD_LETTER_EXCERPT_BYTES = 64 * KIB

EVENTS = "dm.events"
MESSAGES = "dm.messages"
SCORES = "dm.scores"
DECISIONS = "dm.decisions"
QUARANTINE = "dm.quarantine"
REVIEWS = "dm.reviews"
LABELS = "dm.labels"
SIGHTINGS = "dm.sightings"
CAMPAIGNS = "dm.campaigns"
STANDING = "dm.standing"
MEMORY = "dm.memory"
CONTROL = "dm.control"
AUDIT = "dm.audit"
DEAD_LETTER = "dm.deadletter"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `retention_ms` None: kept by compaction. `append_time`: the broker's clock stamps its records."""

    name: str
    key: str
    what: str
    retention_ms: int | None
    max_bytes: int = 4 * MIB
    append_time: bool = False

    def config(self, compaction_ms: int, replication: int) -> dict[str, str]:
        """The topic's settings at the broker. `compaction_ms`: how often one that is compacted is, tombstones too.

        Of three replicas or more all but one must have what is acknowledged; of two, one may be away.
        """
        often = ("segment.ms", "max.compaction.lag.ms", "delete.retention.ms")
        cleanup = (
            {"cleanup.policy": "compact"} | dict.fromkeys(often, str(compaction_ms))
            if self.retention_ms is None
            else {
                "cleanup.policy": "delete",
                "retention.ms": str(self.retention_ms),
            }
        )
        stamp = "LogAppendTime" if self.append_time else "CreateTime"
        safe = {"min.insync.replicas": str(replication - 1)} if replication > 2 else {}
        return cleanup | safe | {"max.message.bytes": str(self.max_bytes), "message.timestamp.type": stamp}


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(EVENTS, "any", "what the platform produces", 7 * DAY_MS, max_bytes=16 * MIB, append_time=True),
        Topic(MESSAGES, "sender", "canonical messages, packed contacts and corrections", 2 * DAY_MS),
        Topic(SCORES, "sender", "label probabilities, signals, spans and the message", 2 * DAY_MS),
        Topic(DECISIONS, "conversation", "verdicts with reasons, without text", 30 * DAY_MS),
        Topic(QUARANTINE, "sender", "evidence of quarantined messages, with text", 37 * DAY_MS),
        Topic(REVIEWS, "sender or campaign", "operators' commands", 30 * DAY_MS),
        Topic(LABELS, "event", "labelled samples born of reviews", 90 * DAY_MS),
        Topic(SIGHTINGS, "none, placed by fingerprint", "cold messages by fingerprint, packed", 2 * DAY_MS),
        Topic(CAMPAIGNS, "campaign", "live campaigns", None),
        Topic(STANDING, "sender", "strikes, blocks, trust, exempt pairs", None),
        Topic(MEMORY, "partition/slot/piece", "checkpoints of classify's lanes", None),
        Topic(CONTROL, "mode", "the switch that puts every tenant in shadow", None),
        Topic(AUDIT, "actor", "who changed what, and why", 365 * DAY_MS),
        Topic(DEAD_LETTER, "as received", "what could not be used, as it came", 14 * DAY_MS),
    )
}
