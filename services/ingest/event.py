"""A native event (design: section "The event") to a message: checked field by field, completed, in canonical form."""

from collections.abc import Mapping
from typing import Any

from services.codec import epoch_ms
from services.errors import BadRecord, Fault
from services.records import VERSION, Message, Person, Relation, derived_conversation

MAX_ID_BYTES = 256
PAST_MS = 24 * 3_600_000
FUTURE_MS = 60_000
# Beyond what any platform counts; keeps every number inside 64 bits.
MAX_COUNT = 2**53

_KNOWN = frozenset(
    {"event_id", "revision", "tenant", "platform", "sender_id", "recipient_id", "recipients", "conversation_id"}
    | {"sent_at", "text", "in_reply_to", "attachments", "sender", "recipient", "relation"}
)


def message(event: Mapping[str, Any], received_ms: int, backfill: bool = False) -> Message:
    """The message of an event; raises BadRecord. `received_ms`: when the broker took the event in."""
    sender_id = required_id(event, "sender_id")
    recipient_id = optional_id(event, "recipient_id")
    recipients = _recipients(event, sender_id, recipient_id)
    sent_ms = epoch_ms(_required(event, "sent_at"), "sent_at")
    return Message(
        v=VERSION,
        event_id=required_id(event, "event_id"),
        revision=_count(event, "revision") or 0,
        tenant=optional_id(event, "tenant") or "default",
        platform=optional_id(event, "platform") or "default",
        sender_id=sender_id,
        recipient_id=recipient_id,
        recipients=recipients,
        conversation_id=_conversation(event, sender_id, recipients),
        sent_ms=sent_ms,
        event_ms=clamped(sent_ms, received_ms, None if backfill else PAST_MS),
        received_ms=received_ms,
        text=_text(event),
        in_reply_to=optional_id(event, "in_reply_to"),
        attachments=_count(event, "attachments") or 0,
        sender=_person(event, "sender"),
        recipient=_person(event, "recipient"),
        relation=_relation(event),
        backfill=backfill,
        extra={name: value for name, value in event.items() if name not in _KNOWN},
    )


def unreadable(event: Mapping[str, Any], received_ms: int) -> Message | None:
    """A message without text for an event of which only the ids can be read, so that nobody waits for its decision."""
    try:
        sender_id = required_id(event, "sender_id")
        recipient_id = _forgiven(event, "recipient_id")
        conversation_id = _forgiven(event, "conversation_id")
        return Message(
            v=VERSION,
            event_id=required_id(event, "event_id"),
            revision=_count(event, "revision") or 0,
            tenant=optional_id(event, "tenant") or "default",
            platform=optional_id(event, "platform") or "default",
            sender_id=sender_id,
            recipient_id=recipient_id,
            conversation_id=conversation_id or derived_conversation(sender_id, [recipient_id] if recipient_id else []),
            sent_ms=received_ms,
            event_ms=received_ms,
            received_ms=received_ms,
            text="",
            unreadable=True,
        )
    except BadRecord:
        return None


def clamped(sent_ms: int, received_ms: int, past_ms: int | None = PAST_MS) -> int:
    """Event time: `sent_ms` within [received - 24 h, received + 60 s]. History (`past_ms` None) may be of any age."""
    latest = min(sent_ms, received_ms + FUTURE_MS)
    return max(latest, 0) if past_ms is None else max(latest, received_ms - past_ms)


def required_id(event: Mapping[str, Any], field: str) -> str:
    name = optional_id(event, field)
    if name is None:
        raise BadRecord(Fault.MISSING_FIELD, field)
    return name


def optional_id(event: Mapping[str, Any], field: str) -> str | None:
    value = event.get(field)
    return None if value is None else _id(value, field)


def _forgiven(event: Mapping[str, Any], field: str) -> str | None:
    try:
        return optional_id(event, field)
    except BadRecord:
        return None


def _id(value: object, field: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadRecord(Fault.WRONG_TYPE, field)
    # At most four bytes a character: only long ones are measured.
    if not value or (len(value) > MAX_ID_BYTES // 4 and len(value.encode()) > MAX_ID_BYTES):
        raise BadRecord(Fault.BAD_ID, field)
    return value


def _required(event: Mapping[str, Any], field: str) -> object:
    value = event.get(field)
    if value is None:
        raise BadRecord(Fault.MISSING_FIELD, field)
    return value


def _text(event: Mapping[str, Any]) -> str:
    text = _required(event, "text")
    if not isinstance(text, str):
        raise BadRecord(Fault.WRONG_TYPE, "text")
    return text


def _recipients(event: Mapping[str, Any], sender_id: str, recipient_id: str | None) -> tuple[str, ...]:
    """The other members that the event names, each once."""
    given = event.get("recipients")
    if given is None:
        return (recipient_id,) if recipient_id is not None and recipient_id != sender_id else ()
    if not isinstance(given, list):
        raise BadRecord(Fault.WRONG_TYPE, "recipients")
    named = dict.fromkeys(_id(name, "recipients") for name in given)
    if recipient_id is not None:
        named = {recipient_id: None} | named
    named.pop(sender_id, None)
    return tuple(named)


def _conversation(event: Mapping[str, Any], sender_id: str, recipients: tuple[str, ...]) -> str:
    given = optional_id(event, "conversation_id")
    if given is not None:
        return given
    if not recipients and event.get("recipient_id") is None and not event.get("recipients"):
        raise BadRecord(Fault.NO_RECIPIENT)
    return derived_conversation(sender_id, recipients)


def _object(event: Mapping[str, Any], field: str) -> Mapping[str, Any] | None:
    value = event.get(field)
    if value is not None and not isinstance(value, dict):
        raise BadRecord(Fault.WRONG_TYPE, field)
    return value


def _typed(part: Mapping[str, Any], field: str, kind: type[str] | type[bool]) -> Any:
    value = part.get(field)
    if value is not None and not isinstance(value, kind):
        raise BadRecord(Fault.WRONG_TYPE, field)
    return value


def _count(part: Mapping[str, Any], field: str) -> int | None:
    value = part.get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise BadRecord(Fault.WRONG_TYPE, field)
    return value


def _moment(part: Mapping[str, Any], field: str) -> int | None:
    value = part.get(field)
    return None if value is None else epoch_ms(value, field)


def _person(event: Mapping[str, Any], field: str) -> Person | None:
    part = _object(event, field)
    if part is None:
        return None
    return Person(
        handle=_typed(part, "handle", str),
        display_name=_typed(part, "display_name", str),
        created_ms=_moment(part, "created_at"),
        followers=_count(part, "followers"),
        following=_count(part, "following"),
        verified=_typed(part, "verified", bool),
    )


def _relation(event: Mapping[str, Any]) -> Relation | None:
    part = _object(event, "relation")
    if part is None:
        return None
    return Relation(
        followed_ms=_moment(part, "followed_at"),
        recipient_follows_sender=_typed(part, "recipient_follows_sender", bool),
        sender_follows_recipient=_typed(part, "sender_follows_recipient", bool),
        prior_messages_from_recipient=_count(part, "prior_messages_from_recipient"),
    )
