"""Slack: `message` events of the Events API in direct conversations, as they come over HTTP or Socket Mode.

A message is named by its channel and its `ts`, which an edit keeps; the delivery's own `event_id` is not used. A
delivery names one account for which the app sees it: the other side of an `im`, one of many in an `mpim`.
Source: Slack API documentation, Events API, Socket Mode, message event and its subtypes, formatting of message text,
blocks, attachments.
"""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from services import codec
from services.errors import BadRecord, Fault

_WITH_APP = ("im", "app_home")
_DIRECT = (*_WITH_APP, "mpim")
_WRITTEN = (None, "file_share", "thread_broadcast", "me_message", "bot_message")
_DELIVERIES = ("event_callback", "url_verification", "app_rate_limited", "events_api")
# What Slack writes where the words stand elsewhere.
_PLACEHOLDERS = ("This content can't be displayed.", "[no preview available]")
# Blocks whose elements stand in one line; those of others stand one below the other.
_LINES = ("rich_text_section", "rich_text_quote", "rich_text_preformatted")
# <https://a.example|words>, <https://a.example>, <@U1>, <#C1|name>, <!here>, <!date^1^{date}^https://a.example|words>
_MARKED = re.compile(r"<([@#!]?)([^>|]+)(?:\|([^>]*))?>")
_WORD = re.compile(r"\w+")


class Edited(msgspec.Struct, frozen=True):
    ts: str


class Attachment(msgspec.Struct, frozen=True):
    """What an app adds to a text or writes in its place, what is forwarded (`is_share`), or what Slack unfurled."""

    pretext: str = ""
    title: str = ""
    title_link: str | None = None
    text: str = ""
    fields: list[dict[str, Any]] = []
    blocks: Any = None
    actions: Any = None
    fallback: str = ""
    from_url: str | None = None
    is_share: bool = False


class SlackMessage(msgspec.Struct, frozen=True):
    ts: str
    text: str | None = None
    user: str | None = None
    bot_id: str | None = None
    subtype: str | None = None
    thread_ts: str | None = None
    parent_user_id: str | None = None
    edited: Edited | None = None
    files: list[dict[str, Any]] = []
    blocks: Any = None
    attachments: list[Attachment] = []


class Event(SlackMessage, frozen=True):
    type: str = ""
    channel: str | None = None
    channel_type: str | None = None
    message: SlackMessage | None = None


class Authorization(msgspec.Struct, frozen=True):
    user_id: str | None = None


class Delivery(msgspec.Struct, frozen=True):
    event: Event
    authorizations: list[Authorization] = []


def claims(document: Mapping[str, Any]) -> bool:
    """Whether a document is a payload of Slack."""
    return document.get("type") in _DELIVERIES


def events(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The direct message of a payload, if it tells of one; raises BadRecord."""
    document = document.get("payload", document)
    event = document.get("event") if isinstance(document, dict) else None
    if not isinstance(event, dict) or event.get("type") != "message" or event.get("channel_type") not in _DIRECT:
        return
    delivery = codec.convert(document, Delivery)
    message: SlackMessage | None = delivery.event
    if delivery.event.subtype == "message_changed":
        message = delivery.event.message
    if message is not None and message.subtype in _WRITTEN and (message.user or message.bot_id):
        yield _event(delivery, message)


def _event(delivery: Delivery, message: SlackMessage) -> dict[str, Any]:
    channel = delivery.event.channel
    sender = message.user or message.bot_id
    with_app = delivery.event.channel_type in _WITH_APP
    ours = delivery.authorizations[0].user_id if with_app and delivery.authorizations else None
    answered = message.parent_user_id not in (None, sender)
    return {
        "event_id": f"{channel}:{message.ts}",
        "revision": _ms(message.edited.ts) if message.edited else 0,
        "platform": "slack",
        "sender_id": sender,
        "recipient_id": ours if ours != sender else None,
        "conversation_id": channel,
        "sent_at": _ms(message.ts),
        "text": _words(message),
        "in_reply_to": f"{channel}:{message.thread_ts}" if message.thread_ts and answered else None,
        "attachments": len(message.files),
    }


def _words(message: SlackMessage) -> str:
    """The text, what only the blocks say, for those are what people see of both; then the attachments, but for what
    Slack unfurled."""
    text = _text(_said(message.text or ""))
    known = set(_WORD.findall(text))
    in_blocks = _text(_in_blocks(message.blocks)).splitlines()
    words = [text, *(line for line in in_blocks if not known.issuperset(_WORD.findall(line)))]
    attached = [each for each in message.attachments if each.is_share or not (any(words) and each.from_url)]
    return "\n".join(filter(None, (*words, *(_text(_in_attachment(each)) for each in attached))))


def _in_attachment(attached: Attachment) -> str:
    fields = [[field.get("title"), field.get("value")] for field in attached.fields]
    title = {"text": attached.title, "url": attached.title_link}
    parts = [attached.pretext, title, _said(attached.text), fields, attached.blocks, attached.actions]
    return _in_blocks(parts) or _said(attached.fallback)


def _said(words: str) -> str:
    return "" if words in _PLACEHOLDERS else words


def _in_blocks(part: Any) -> str:
    """What people read in blocks, or in any part of one, and where its links go."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "\n".join(filter(None, map(_in_blocks, part)))
    if not isinstance(part, dict):
        return ""
    if part.get("type") in _LINES and isinstance(part.get("elements"), list):
        return "".join(map(_in_blocks, part["elements"]))
    if part.get("type") == "user":
        return f"@{part.get('user_id')}"
    words = _in_blocks([part.get(name) for name in ("title", "text", "fields", "elements", "accessory")])
    url = part.get("url")
    return _linked(words, url) if isinstance(url, str) else words


def _ms(ts: str) -> int:
    try:
        return int(float(ts) * 1000)
    except (ValueError, OverflowError):
        raise BadRecord(Fault.BAD_TIME, "ts") from None


def _text(marked: str) -> str:
    """The text as people see it, and where its links go."""
    return html.unescape(_MARKED.sub(_shown, marked))


def _shown(found: re.Match[str]) -> str:
    sign, target, label = found.groups()
    if sign == "!":
        kind, *rest = target.split("^", 3)
        return _linked(label, rest[2]) if len(rest) == 3 else label or f"@{kind}"
    return sign + (label or target) if sign else _linked(label, target)


def _linked(label: str | None, target: str) -> str:
    return f"{label} {target}" if label and label not in target else target
