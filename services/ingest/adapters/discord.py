"""Discord: gateway dispatches (`MESSAGE_CREATE`, `MESSAGE_UPDATE`), webhook events, and messages by themselves.

Only messages outside guilds are direct. An account is as old as its id (a snowflake) says.
Source: Discord developer documentation, Gateway events, Webhook events, Message object, Snowflakes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from services import codec
from services.codec import epoch_ms

_EPOCH_MS = 1_420_070_400_000
# Written by people: a message, and an answer to one. All other types are the system's.
_WRITTEN = (0, 19)
_DISPATCHES = ("MESSAGE_CREATE", "MESSAGE_UPDATE", "GAME_DIRECT_MESSAGE_CREATE", "GAME_DIRECT_MESSAGE_UPDATE")


class Author(msgspec.Struct, frozen=True):
    id: str
    username: str | None = None
    global_name: str | None = None


class Reference(msgspec.Struct, frozen=True):
    message_id: str | None = None


class Referenced(msgspec.Struct, frozen=True):
    author: Author


class Forwarded(msgspec.Struct, frozen=True):
    content: str = ""
    attachments: list[dict[str, Any]] = []


class Snapshot(msgspec.Struct, frozen=True):
    message: Forwarded = Forwarded()


class MessageObject(msgspec.Struct, frozen=True):
    id: str
    channel_id: str
    author: Author | None = None
    content: str | None = None
    timestamp: str | None = None
    edited_timestamp: str | None = None
    type: int = 0
    guild_id: str | None = None
    recipient_id: str | None = None
    attachments: list[dict[str, Any]] = []
    sticker_items: list[dict[str, Any]] = []
    message_snapshots: list[Snapshot] = []
    message_reference: Reference | None = None
    referenced_message: Referenced | None = None


def claims(document: Mapping[str, Any]) -> bool:
    """Whether a document is a payload of Discord."""
    return (
        ("op" in document and "d" in document)
        or ("channel_id" in document and ("author" in document or "content" in document))
        or ("application_id" in document and "type" in document)
    )


def events(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The direct message of a payload, if it tells of one; raises BadRecord."""
    found = _message(document)
    if found is None:
        return
    message = codec.convert(found, MessageObject)
    if message.guild_id is None and message.type in _WRITTEN and message.author and message.content is not None:
        yield _event(message, message.author, message.content)


def _message(document: Mapping[str, Any]) -> object:
    if "op" in document:
        return document.get("d") if document.get("t") in _DISPATCHES else None
    if "channel_id" in document:
        return document
    event = document.get("event")
    return event.get("data") if isinstance(event, dict) and event.get("type") in _DISPATCHES else None


def _event(message: MessageObject, author: Author, content: str) -> dict[str, Any]:
    forwarded = [snapshot.message for snapshot in message.message_snapshots]
    return {
        "event_id": message.id,
        "revision": epoch_ms(message.edited_timestamp, "edited_timestamp") if message.edited_timestamp else 0,
        "platform": "discord",
        "sender_id": author.id,
        "recipient_id": message.recipient_id,
        "conversation_id": message.channel_id,
        "sent_at": message.timestamp or _born_ms(message.id),
        "text": "\n".join(filter(None, (content, *(shown.content for shown in forwarded)))),
        "in_reply_to": _answered(message, author),
        "attachments": sum(len(files) for files in (message.attachments, message.sticker_items))
        + sum(len(shown.attachments) for shown in forwarded),
        "sender": {"handle": author.username, "display_name": author.global_name, "created_at": _born_ms(author.id)},
    }


def _answered(message: MessageObject, author: Author) -> str | None:
    """The message that is answered, where the payload shows that somebody else wrote it."""
    other = message.referenced_message
    if message.message_reference is None or other is None or other.author.id == author.id:
        return None
    return message.message_reference.message_id


def _born_ms(snowflake: str) -> int | None:
    return (int(snowflake) >> 22) + _EPOCH_MS if snowflake.isdecimal() and len(snowflake) <= 20 else None
