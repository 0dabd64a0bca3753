"""Telegram: updates of the Bot API, one or the answer of `getUpdates`.

Private chats are direct, and what users write to a channel. A message's number counts within its chat, so both name it.
In a bot's own chat the bot, which no update names, is the recipient; a business message goes between the account and
the user whose chat it is. A channel has one chat for all messages to it, with a topic for each user.
Source: Telegram Bot API, objects Update, Message, MessageEntity, DirectMessagesTopic, InlineKeyboardButton.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from services import codec
from services.errors import BadRecord

_MESSAGES = ("message", "edited_message", "business_message", "edited_business_message")
# What people send. All that has none of these tells of something else: a pin, a payment, a new title.
_TOLD = ("text", "caption", "checklist", "contact", "dice", "game", "giveaway", "invoice", "location", "poll", "venue")
_FILES = ("animation", "audio", "document", "paid_media", "photo", "sticker", "story", "video", "video_note", "voice")
_CONTENT = frozenset((*_TOLD, *_FILES))

Id = int | str


class User(msgspec.Struct, frozen=True):
    id: int
    username: str | None = None
    first_name: str | None = None
    last_name: str | None = None


class Chat(msgspec.Struct, frozen=True):
    id: int
    type: str
    is_direct_messages: bool = False


class Topic(msgspec.Struct, frozen=True):
    topic_id: int
    user: User


class Entity(msgspec.Struct, frozen=True):
    """Offsets in UTF-16 code units."""

    type: str
    offset: int
    length: int
    url: str | None = None


class Choice(msgspec.Struct, frozen=True):
    text: str


class Poll(msgspec.Struct, frozen=True):
    question: str
    options: list[Choice] = []


class Checklist(msgspec.Struct, frozen=True):
    title: str
    tasks: list[Choice] = []


class Button(msgspec.Struct, frozen=True):
    text: str
    url: str | None = None


class Markup(msgspec.Struct, frozen=True):
    inline_keyboard: list[list[Button]] = []


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
    direct_messages_topic: Topic | None = None
    poll: Poll | None = None
    checklist: Checklist | None = None
    reply_markup: Markup = Markup()


def claims(document: Mapping[str, Any]) -> bool:
    """Whether a document is a payload of Telegram."""
    return "update_id" in document or ("ok" in document and isinstance(document.get("result"), list))


def events(document: Mapping[str, Any]) -> Iterator[dict[str, Any] | BadRecord]:
    """The direct messages of a payload; one that cannot be read is told in its place; raises BadRecord."""
    for update in codec.convert(document.get("result", [document]), list[Any]):
        for kind in _MESSAGES:
            if isinstance(update, dict) and update.get(kind) is not None:
                try:
                    yield from _message(update[kind])
                except BadRecord as bad:
                    yield bad


def _message(found: Any) -> Iterator[dict[str, Any]]:
    message = codec.convert(found, TelegramMessage)
    direct = message.chat.type == "private" or message.chat.is_direct_messages
    if direct and message.sender is not None and not _CONTENT.isdisjoint(found):
        yield _event(message, message.sender)


def _event(message: TelegramMessage, sender: User) -> dict[str, Any]:
    answered, account = message.reply_to_message, message.business_connection_id
    chat: Id = message.chat.id if account is None else f"{account}:{message.chat.id}"
    sender_id, recipient_id, conversation_id = _parties(message, sender, chat)
    other = answered is not None and answered.sender is not None and answered.sender.id != sender.id
    names = [name for name in (sender.first_name, sender.last_name) if name]
    return {
        "event_id": f"{chat}:{message.message_id}",
        "revision": message.edit_date,
        "platform": "telegram",
        "sender_id": sender_id,
        "recipient_id": recipient_id,
        "conversation_id": conversation_id,
        "sent_at": message.date * 1000,
        "text": _words(message),
        "in_reply_to": f"{chat}:{answered.message_id}" if answered and other else None,
        "attachments": int(message.text is None),
        "sender": {"handle": sender.username, "display_name": " ".join(names) or None},
    }


def _parties(message: TelegramMessage, sender: User, chat: Id) -> tuple[Id, Id | None, Id]:
    """Sender, recipient and conversation. Who writes in a user's topic and is not the user, writes for the channel."""
    topic, home = message.direct_messages_topic, message.chat.id
    if topic is None:
        return sender.id, home if sender.id != home else message.business_connection_id, chat
    user, conversation = topic.user.id, f"{chat}:{topic.topic_id}"
    return (user, home, conversation) if sender.id == user else (home, user, conversation)


def _words(message: TelegramMessage) -> str:
    """The text, or what stands in its place, and where the buttons below it lead."""
    lines = [_with_links(message.caption or "", message.caption_entities)]
    if message.text is not None:
        lines = [_with_links(message.text, message.entities)]
    if message.poll is not None:
        lines += [message.poll.question, *(option.text for option in message.poll.options)]
    if message.checklist is not None:
        lines += [message.checklist.title, *(task.text for task in message.checklist.tasks)]
    buttons = [button for row in message.reply_markup.inline_keyboard for button in row]
    lines += [f"{button.text} {button.url}" for button in buttons if button.url]
    return "\n".join(filter(None, lines))


def _with_links(text: str, entities: list[Entity]) -> str:
    """The text with the address behind each linked word after it, the last first, so that the offsets stay true."""
    units = text.encode("utf-16-le")
    for entity in sorted(entities, key=lambda entity: entity.offset, reverse=True):
        if entity.type == "text_link" and entity.url:
            end = 2 * (entity.offset + entity.length)
            units = units[:end] + f" {entity.url}".encode("utf-16-le") + units[end:]
    return units.decode("utf-16-le", errors="replace")
