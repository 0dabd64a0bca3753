"""Builders: the smallest valid thing, with what a test is about said in its arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services import codec
from services.records import VERSION, Bond, Message, Score

NOON_MS = 1_795_608_000_000  # 2026-11-25T12:00:00Z


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a lane gets it."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = NOON_MS
    topic: str = "dm.events"
    partition: int = 0
    offset: int = 0


def event(**parts: Any) -> dict[str, Any]:
    """A native event; None removes a part."""
    whole = {
        "event_id": "e-1",
        "sender_id": "u-17",
        "recipient_id": "u-42",
        "sent_at": codec.rfc3339(NOON_MS),
        "text": "see you at noon?",
    } | parts
    return {name: part for name, part in whole.items() if part is not None}


def event_record(*headers: tuple[str, bytes], timestamp: int = NOON_MS, **parts: Any) -> Record:
    return Record(codec.dumps(event(**parts)), headers=headers, timestamp=timestamp)


def message(**parts: Any) -> Message:
    """A message from u-17 to u-42, sent at noon; `at_s` moves it by seconds."""
    at_ms = NOON_MS + int(parts.pop("at_s", 0) * 1000)
    recipient = parts.setdefault("recipient_id", "u-42")
    parts.setdefault("recipients", (recipient,) if recipient else ())
    parts.setdefault("conversation_id", f"c-{parts.get('sender_id', 'u-17')}-{recipient}")
    whole: dict[str, Any] = {
        "v": VERSION,
        "event_id": "e-1",
        "sender_id": "u-17",
        "sent_ms": at_ms,
        "event_ms": at_ms,
        "received_ms": at_ms,
        "text": "see you at noon?",
    }
    return Message(**(whole | parts))


def message_record(offset: int = 0, **parts: Any) -> Record:
    taken = message(**parts)
    key = f"{taken.tenant}/{taken.platform}/{taken.sender_id}".encode()
    return Record(codec.encode(taken), key=key, timestamp=taken.received_ms, topic="dm.messages", offset=offset)


def score(**parts: Any) -> Score:
    """A score of a cold message; parts of the message go in by `message`."""
    whole: dict[str, Any] = {"v": VERSION, "text_score": 0.5, "bond": Bond.COLD, "message": message()}
    return Score(**(whole | parts))


def score_record(**parts: Any) -> Record:
    return Record(codec.encode(score(**parts)), key=b"default/default/u-17", topic="dm.scores")
