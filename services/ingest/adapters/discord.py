"""Discord: gateway dispatches (`MESSAGE_CREATE`, `MESSAGE_UPDATE`), webhook events, and messages by themselves.

Only messages outside guilds are direct. An account is as old as its id (a snowflake) says.
Source: Discord developer documentation, Gateway events, Webhook events, Message object, Component reference, Poll
object, Snowflakes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from services import codec
from services.codec import epoch_ms

_EPOCH_MS = 1_420_070_400_000
# A message, an answer to one, and an app's answers to a command. All other types are the system's.
_WRITTEN = (0, 19, 20, 23)
_DISPATCHES = ("MESSAGE_CREATE", "MESSAGE_UPDATE", "GAME_DIRECT_MESSAGE_CREATE", "GAME_DIRECT_MESSAGE_UPDATE")
# Of an embed, a component or a poll: what is read in it, or leads on, and the parts of which that is true in turn.
_SHOWN = ("title", "description", "content", "text", "label", "name", "value", "url")
_PARTS = ("fields", "footer", "components", "accessory", "question", "answers", "poll_media")


class Author(msgspec.Struct, frozen=True):
    id: str
    username: str | None = None
    global_name: str | None = None


class Reference(msgspec.Struct, frozen=True):
    message_id: str | None = None


class Referenced(msgspec.Struct, frozen=True):
    author: Author


class Channel(msgspec.Struct, frozen=True):
    recipients: list[Author] = []


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a message shows, be it its own or forwarded."""

    content: str | None = None
    attachments: list[dict[str, Any]] = []
    sticker_items: list[dict[str, Any]] = []
    embeds: list[dict[str, Any]] = []
    components: Any = None
    poll: Any = None


class Snapshot(msgspec.Struct, frozen=True):
    message: Shown = Shown()


class MessageObject(Shown, frozen=True, kw_only=True):
    id: str
    channel_id: str
    author: Author | None = None
    timestamp: str | None = None
    edited_timestamp: str | None = None
    type: int = 0
    guild_id: str | None = None
    recipient_id: str | None = None
    channel: Channel = Channel()
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
        yield _event(message, message.author)


def _message(document: Mapping[str, Any]) -> object:
    if "op" in document:
        return document.get("d") if document.get("t") in _DISPATCHES else None
    if "channel_id" in document:
        return document
    event = document.get("event")
    if not isinstance(event, dict) or event.get("type") not in _DISPATCHES:
        return None
    data = event.get("data")
    if event["type"] == "GAME_DIRECT_MESSAGE_UPDATE" and isinstance(data, dict):
        return {"edited_timestamp": _zoned(event.get("timestamp"))} | data
    return data


def _zoned(timestamp: object) -> object:
    """A time of a webhook event, which leaves out that it is in UTC."""
    bare = isinstance(timestamp, str) and not timestamp.endswith("Z") and "+" not in timestamp
    return f"{timestamp}Z" if bare else timestamp


def _event(message: MessageObject, author: Author) -> dict[str, Any]:
    shown = [message, *(snapshot.message for snapshot in message.message_snapshots)]
    return {
        "event_id": message.id,
        "revision": epoch_ms(message.edited_timestamp, "edited_timestamp") if message.edited_timestamp else 0,
        "platform": "discord",
        "sender_id": author.id,
        "recipient_id": message.recipient_id,
        "recipients": [person.id for person in message.channel.recipients] or None,
        "conversation_id": message.channel_id,
        "sent_at": message.timestamp or _born_ms(message.id),
        "text": "\n".join(filter(None, map(_words, shown))),
        "in_reply_to": _answered(message, author),
        "attachments": sum(len(each.attachments) + len(each.sticker_items) for each in shown),
        "sender": {"handle": author.username, "display_name": author.global_name, "created_at": _born_ms(author.id)},
    }


def _words(shown: Shown) -> str:
    """The content, and what stands beside it but for what Discord unfurled."""
    embeds = [embed for embed in shown.embeds if embed.get("type", "rich") == "rich"]
    return _read([shown.content, embeds, shown.components, shown.poll])


def _read(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        part = [part.get(name) for name in (*_SHOWN, *_PARTS)]
    return "\n".join(filter(None, map(_read, part))) if isinstance(part, list) else ""


def _answered(message: MessageObject, author: Author) -> str | None:
    """The message that is answered, where the payload shows that somebody else wrote it."""
    other = message.referenced_message
    if message.message_reference is None or other is None or other.author.id == author.id:
        return None
    return message.message_reference.message_id


def _born_ms(snowflake: str) -> int | None:
    return (int(snowflake) >> 22) + _EPOCH_MS if snowflake.isdecimal() and len(snowflake) <= 20 else None
