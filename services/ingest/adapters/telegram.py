"""Telegram: updates of the Bot API, one or the answer of `getUpdates`. Only private chats are direct.

A message's number counts within its chat, so both name it. In a bot's own chat the bot, which no update names, is the
recipient; a business message goes between the account and the user whose chat it is.
Source: Telegram Bot API, objects Update, Message, MessageEntity.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from services import codec

_MESSAGES = ("message", "edited_message", "business_message", "edited_business_message")


class User(msgspec.Struct, frozen=True):
    id: int
    username: str | None = None
    first_name: str | None = None
    last_name: str | None = None


class Chat(msgspec.Struct, frozen=True):
    id: int
    type: str


class Entity(msgspec.Struct, frozen=True):
    """Offsets in UTF-16 code units."""

    type: str
    offset: int
    length: int
    url: str | None = None


class Answered(msgspec.Struct, frozen=True):
    message_id: int
    sender: User | None = msgspec.field(default=None, name="from")


class TelegramMessage(msgspec.Struct, frozen=True):
    message_id: int
    chat: Chat
    date: int
    sender: User | None = msgspec.field(default=None, name="from")
    edit_date: int = 0
    text: str | None = None
    caption: str | None = None
    entities: list[Entity] = []
    caption_entities: list[Entity] = []
    reply_to_message: Answered | None = None
    business_connection_id: str | None = None


def claims(document: Mapping[str, Any]) -> bool:
    """Whether a document is a payload of Telegram."""
    return "update_id" in document or ("ok" in document and isinstance(document.get("result"), list))


def events(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The direct messages of a payload; raises BadRecord."""
    for update in document.get("result", [document]):
        for kind in _MESSAGES:
            if isinstance(update, dict) and update.get(kind) is not None:
                message = codec.convert(update[kind], TelegramMessage)
                if message.chat.type == "private" and message.sender is not None:
                    yield _event(message, message.sender)


def _event(message: TelegramMessage, sender: User) -> dict[str, Any]:
    answered, account = message.reply_to_message, message.business_connection_id
    chat: int | str = message.chat.id if account is None else f"{account}:{message.chat.id}"
    other = answered is not None and answered.sender is not None and answered.sender.id != sender.id
    words, entities = message.text, message.entities
    if words is None:
        words, entities = message.caption or "", message.caption_entities
    names = [name for name in (sender.first_name, sender.last_name) if name]
    return {
        "event_id": f"{chat}:{message.message_id}",
        "revision": message.edit_date,
        "platform": "telegram",
        "sender_id": sender.id,
        "recipient_id": message.chat.id if sender.id != message.chat.id else account,
        "conversation_id": chat,
        "sent_at": message.date * 1000,
        "text": _with_links(words, entities),
        "in_reply_to": f"{chat}:{answered.message_id}" if answered and other else None,
        "attachments": int(message.text is None),
        "sender": {"handle": sender.username, "display_name": " ".join(names) or None},
    }


def _with_links(text: str, entities: list[Entity]) -> str:
    """The text with the address behind each linked word after it, the last first, so that the offsets stay true."""
    units = text.encode("utf-16-le")
    for entity in sorted(entities, key=lambda entity: entity.offset, reverse=True):
        if entity.type == "text_link" and entity.url:
            end = 2 * (entity.offset + entity.length)
            units = units[:end] + f" {entity.url}".encode("utf-16-le") + units[end:]
    return units.decode("utf-16-le", errors="replace")
