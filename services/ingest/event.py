"""A native event (design: section "The event") to a message: its types checked, completed, in canonical form."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from services import codec
from services.codec import epoch_ms
from services.errors import BadRecord, Fault
from services.records import VERSION, Message, Person, Relation, derived_conversation
from services.spans import DAY_MS, MINUTE_MS

MAX_ID_BYTES = 256
PAST_MS = DAY_MS
FUTURE_MS = MINUTE_MS

Id = str | int
Moment = str | int
# At most what any platform counts; keeps every number inside 64 bits.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class NativePerson(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A sender or recipient, as the platform writes it."""

    handle: str | None = None
    display_name: str | None = None
    created_at: Moment | None = None
    followers: Count | None = None
    following: Count | None = None
    verified: bool | None = None


class NativeRelation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A pair, as the platform writes it."""

    followed_at: Moment | None = None
    recipient_follows_sender: bool | None = None
    sender_follows_recipient: bool | None = None
    prior_messages_from_recipient: Count | None = None


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """The types of a native event. What is required is found missing by `message`: null and absent are the same."""

    event_id: Id | None = None
    revision: Count | None = None
    tenant: Id | None = None
    platform: Id | None = None
    sender_id: Id | None = None
    recipient_id: Id | None = None
    recipients: list[Id] | None = None
    conversation_id: Id | None = None
    sent_at: Moment | None = None
    text: str | None = None
    in_reply_to: Id | None = None
    attachments: Count | None = None
    sender: NativePerson | None = None
    recipient: NativePerson | None = None
    relation: NativeRelation | None = None


_KNOWN = frozenset(Native.__struct_fields__)


def message(event: Mapping[str, Any], received_ms: int, backfill: bool = False) -> Message:
    """The message of an event; raises BadRecord. `received_ms`: when the broker took the event in."""
    native = codec.convert(event, Native)
    if native.text is None:
        raise BadRecord(Fault.MISSING_FIELD, "text")
    sender_id = _required_id(native.sender_id, "sender_id")
    recipient_id = _id(native.recipient_id, "recipient_id")
    recipients = _recipients(native.recipients, sender_id, recipient_id)
    sent_ms = _sent_ms(native.sent_at)
    return Message(
        v=VERSION,
        event_id=_required_id(native.event_id, "event_id"),
        revision=native.revision or 0,
        tenant=_id(native.tenant, "tenant") or "default",
        platform=_id(native.platform, "platform") or "default",
        sender_id=sender_id,
        recipient_id=recipient_id,
        recipients=recipients,
        conversation_id=_conversation(native, sender_id, recipients),
        sent_ms=sent_ms,
        event_ms=clamped(sent_ms, received_ms, None if backfill else PAST_MS),
        received_ms=received_ms,
        text=native.text,
        in_reply_to=_id(native.in_reply_to, "in_reply_to"),
        attachments=native.attachments or 0,
        sender=_person(native.sender),
        recipient=_person(native.recipient),
        relation=_relation(native.relation),
        backfill=backfill,
        extra={name: event[name] for name in event.keys() - _KNOWN},
    )


def unreadable(event: Mapping[str, Any], received_ms: int) -> Message | None:
    """A message without text for an event of which only the ids can be read, so that nobody waits for its decision."""
    try:
        native = codec.convert({name: event.get(name) for name in _IDENTITY}, Native)
        sender_id = _required_id(native.sender_id, "sender_id")
        recipient_id = _forgiven(event, "recipient_id")
        conversation_id = _forgiven(event, "conversation_id")
        return Message(
            v=VERSION,
            event_id=_required_id(native.event_id, "event_id"),
            revision=native.revision or 0,
            tenant=_id(native.tenant, "tenant") or "default",
            platform=_id(native.platform, "platform") or "default",
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


# What a decision needs to be made once; without recipients it can do.
_IDENTITY = ("event_id", "revision", "tenant", "platform", "sender_id")


def clamped(sent_ms: int, received_ms: int, past_ms: int | None = PAST_MS) -> int:
    """Event time: `sent_ms` within [received - 24 h, received + 60 s]. History (`past_ms` None) may be of any age."""
    latest = min(sent_ms, received_ms + FUTURE_MS)
    return max(latest, 0) if past_ms is None else max(latest, received_ms - past_ms)


def _required_id(value: Id | None, field: str) -> str:
    name = _id(value, field)
    if name is None:
        raise BadRecord(Fault.MISSING_FIELD, field)
    return name


def _id(value: Id | None, field: str) -> str | None:
    if value is None:
        return None
    name = str(value)
    # At most four bytes a character: only long ones are measured.
    if not name or (len(name) > MAX_ID_BYTES // 4 and len(name.encode()) > MAX_ID_BYTES):
        raise BadRecord(Fault.BAD_ID, field)
    return name


def _forgiven(event: Mapping[str, Any], field: str) -> str | None:
    try:
        return _id(getattr(codec.convert({field: event.get(field)}, Native), field), field)
    except BadRecord:
        return None


def _sent_ms(sent_at: Moment | None) -> int:
    if sent_at is None:
        raise BadRecord(Fault.MISSING_FIELD, "sent_at")
    return epoch_ms(sent_at, "sent_at")


def _recipients(given: Sequence[Id] | None, sender_id: str, recipient_id: str | None) -> tuple[str, ...]:
    """The other members that the event names, each once."""
    if given is None:
        return (recipient_id,) if recipient_id is not None and recipient_id != sender_id else ()
    named = dict.fromkeys(_required_id(name, "recipients") for name in given)
    if recipient_id is not None:
        named = {recipient_id: None} | named
    named.pop(sender_id, None)
    return tuple(named)


def _conversation(native: Native, sender_id: str, recipients: tuple[str, ...]) -> str:
    given = _id(native.conversation_id, "conversation_id")
    if given is not None:
        return given
    if native.recipient_id is None and not native.recipients:
        raise BadRecord(Fault.NO_RECIPIENT)
    return derived_conversation(sender_id, recipients)


def _moment(value: Moment | None, field: str) -> int | None:
    return None if value is None else epoch_ms(value, field)


def _person(native: NativePerson | None) -> Person | None:
    if native is None:
        return None
    return Person(
        handle=native.handle,
        display_name=native.display_name,
        created_ms=_moment(native.created_at, "created_at"),
        followers=native.followers,
        following=native.following,
        verified=native.verified,
    )


def _relation(native: NativeRelation | None) -> Relation | None:
    if native is None:
        return None
    return Relation(
        followed_ms=_moment(native.followed_at, "followed_at"),
        recipient_follows_sender=native.recipient_follows_sender,
        sender_follows_recipient=native.sender_follows_recipient,
        prior_messages_from_recipient=native.prior_messages_from_recipient,
    )
