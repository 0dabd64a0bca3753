"""X: Account Activity payloads (`direct_message_events`), bare or as X Activity delivers them, and `dm_events`.

The first are those of API v1.1, whose own answers hold the same events; the second are those of v2.

Links are written as the sender meant them: X puts t.co in their place, and would make all links one host.
Source: X developer documentation, Account Activity data objects; Direct Messages lookup (v2); X Activity API.
"""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from services import codec
from services.errors import BadRecord
from services.ingest.adapters.profile import profile

# What only an Account Activity payload has, and with it what a bare v2 event has.
_ACTIVITIES = ("direct_message_events", "for_user_id", "user_event")
_OURS = (*_ACTIVITIES, "dm_conversation_id")


class Link(msgspec.Struct, frozen=True):
    url: str = ""
    expanded_url: str | None = None


class Entities(msgspec.Struct, frozen=True):
    urls: list[Link] = []


class Data(msgspec.Struct, frozen=True):
    text: str = ""
    entities: Entities = Entities()
    attachment: dict[str, Any] | None = None


class Target(msgspec.Struct, frozen=True):
    recipient_id: str


class Create(msgspec.Struct, frozen=True):
    target: Target
    sender_id: str
    message_data: Data


class Activity(msgspec.Struct, frozen=True):
    id: str
    type: str
    created_timestamp: int | None = None
    message_create: Create | None = None


class ActivityUser(msgspec.Struct, frozen=True):
    name: Any = None
    screen_name: Any = None
    created_timestamp: Any = None
    followers_count: Any = None
    friends_count: Any = None
    verified: Any = None


class Activities(msgspec.Struct, frozen=True):
    direct_message_events: list[Any] = []
    users: dict[str, ActivityUser] = {}


class Metrics(msgspec.Struct, frozen=True):
    followers_count: Any = None
    following_count: Any = None


class User(msgspec.Struct, frozen=True):
    id: str
    name: Any = None
    username: Any = None
    created_at: Any = None
    verified: Any = None
    public_metrics: Metrics = Metrics()


class Attachments(msgspec.Struct, frozen=True):
    media_keys: list[str] = []


class DmEvent(msgspec.Struct, frozen=True):
    id: str
    event_type: str | None = None
    text: str = ""
    sender_id: str | None = None
    dm_conversation_id: str | None = None
    created_at: str | None = None
    participant_ids: list[str] = []
    attachments: Attachments = Attachments()
    urls: list[Link] = []
    entities: Entities = Entities()


class Includes(msgspec.Struct, frozen=True):
    users: list[User] = []


class DmEvents(msgspec.Struct, frozen=True):
    data: Any = []
    includes: Includes = Includes()


def claims(document: Mapping[str, Any]) -> bool:
    """Whether a document is a payload of X."""
    if any(name in document for name in _OURS) or _is_answer(document) or _listed(document):
        return True
    data = document.get("data")
    first = data[0] if isinstance(data, list) and data else data
    return isinstance(first, dict) and "event_type" in first and ("id" in first or "payload" in first)


def _is_answer(document: Mapping[str, Any]) -> bool:
    """Whether it is an answer of the v2 API that holds nothing, which leaves `data` out."""
    meta = document.get("meta")
    return not document.get("data") and isinstance(meta, dict) and "result_count" in meta


def _listed(document: Mapping[str, Any]) -> list[Any]:
    """The events of an answer of v1.1: `events`, or one alone as `event`."""
    found = document.get("events", [document.get("event")])
    ours = isinstance(found, list) and any(isinstance(one, dict) and "message_create" in one for one in found)
    return found if ours else []


def events(document: Mapping[str, Any]) -> Iterator[dict[str, Any] | BadRecord]:
    """The direct messages of a payload, one that cannot be read told in its place; raises BadRecord."""
    data = document.get("data")
    delivered = data.get("payload") if isinstance(data, dict) else None
    if delivered is not None:
        yield from _activities(codec.convert(delivered, Activities))
    elif listed := _listed(document):
        yield from _activities(Activities(listed))
    elif any(name in document for name in _ACTIVITIES):
        yield from _activities(codec.convert(document, Activities))
    elif "dm_conversation_id" in document:
        yield from _dm_events(DmEvents(document))
    else:
        yield from _dm_events(codec.convert(document, DmEvents))


def _activities(payload: Activities) -> Iterator[dict[str, Any] | BadRecord]:
    for found in payload.direct_message_events:
        try:
            activity = codec.convert(found, Activity, strict=False)
        except BadRecord as bad:
            yield bad
        else:
            if activity.type == "message_create" and activity.message_create is not None:
                yield _activity(activity, activity.message_create, payload.users)


def _activity(activity: Activity, create: Create, users: Mapping[str, ActivityUser]) -> dict[str, Any]:
    data, sender_id, recipient_id = create.message_data, create.sender_id, create.target.recipient_id
    return {
        "event_id": activity.id,
        "platform": "x",
        "sender_id": sender_id,
        "recipient_id": recipient_id,
        "sent_at": activity.created_timestamp,
        "text": _shown(data.text, data.entities.urls),
        "attachments": int(data.attachment is not None),
        "sender": _activity_person(users.get(sender_id)),
        "recipient": _activity_person(users.get(recipient_id)),
    }


def _activity_person(user: ActivityUser | None) -> dict[str, Any] | None:
    if user is None:
        return None
    return profile(
        handle=user.screen_name,
        display_name=user.name,
        created_at=_ms(user.created_timestamp),
        followers=user.followers_count,
        following=user.friends_count,
        verified=user.verified,
    )


def _ms(timestamp: object) -> object:
    """Milliseconds of the epoch, which X gives as text."""
    written = isinstance(timestamp, str) and timestamp.isdecimal() and len(timestamp) < 16
    return int(str(timestamp)) if written else timestamp


def _dm_events(payload: DmEvents) -> Iterator[dict[str, Any] | BadRecord]:
    users = {user.id: user for user in payload.includes.users}
    for found in payload.data if isinstance(payload.data, list) else [payload.data]:
        try:
            event = codec.convert(found, DmEvent)
        except BadRecord as bad:
            yield bad
        else:
            if event.event_type in (None, "MessageCreate"):
                yield _dm_event(event, users)


def _dm_event(event: DmEvent, users: Mapping[str, User]) -> dict[str, Any]:
    others = _others(event)
    return {
        "event_id": event.id,
        "platform": "x",
        "sender_id": event.sender_id,
        "recipient_id": others[0] if len(others) == 1 else None,
        "recipients": others or None,
        "conversation_id": event.dm_conversation_id,
        "sent_at": event.created_at,
        "text": _shown(event.text, [*event.urls, *event.entities.urls]),
        "attachments": len(event.attachments.media_keys),
        "sender": _person(users.get(event.sender_id or "")),
        "recipient": _person(users.get(others[0])) if len(others) == 1 else None,
    }


def _others(event: DmEvent) -> Sequence[str]:
    """The other members, as far as the event tells: a conversation of two is named by both (`1-2`)."""
    members = event.participant_ids or (event.dm_conversation_id or "").split("-")
    return [member for member in members if member != event.sender_id] if len(members) > 1 else []


def _person(user: User | None) -> dict[str, Any] | None:
    if user is None:
        return None
    return profile(
        handle=user.username,
        display_name=user.name,
        created_at=user.created_at,
        followers=user.public_metrics.followers_count,
        following=user.public_metrics.following_count,
        verified=user.verified,
    )


def _shown(text: str, links: Iterable[Link]) -> str:
    """The text, which X gives escaped as HTML, with its links whole. A t.co link has nothing to escape."""
    text = html.unescape(text)
    for link in links:
        if link.url and link.expanded_url:
            text = text.replace(link.url, link.expanded_url)
    return text
