"""Matrix: room events by themselves, in transactions to an application service, and in answers of `/sync`.

Matrix does not tell in an event whether a room is direct: feed direct rooms. An encrypted message has no text to read,
and is judged by its sender's behaviour. Whose message an answer answers is not told, so none counts as an answer here.
Nor is it told whose message an edit replaces: like clients, keep to decisions whose sender is the message's own.
Source: Matrix specification, client-server API (m.room.message, m.replace, /sync) and application service API.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from services import codec
from services.errors import BadRecord
from services.ingest.adapters.markup import text_of

_KINDS = ("m.room.message", "m.room.encrypted", "m.sticker")
_HTML = "org.matrix.custom.html"
_MEDIA = ("m.image", "m.file", "m.audio", "m.video")


class Relation(msgspec.Struct, frozen=True):
    rel_type: str | None = None
    event_id: str | None = None
    answered: dict[str, Any] | None = msgspec.field(default=None, name="m.in_reply_to")


class Words(msgspec.Struct, frozen=True):
    """`formatted_body` is what people see where its format is HTML, `body` what stands in for it.

    A medium's `body` is its file's name, unless another `filename` is given: then it is words beside the medium.
    """

    msgtype: str = ""
    body: str = ""
    filename: str = ""
    format: str = ""
    formatted_body: str = ""


class Content(Words, frozen=True):
    new: Words | None = msgspec.field(default=None, name="m.new_content")
    relates_to: Relation | None = msgspec.field(default=None, name="m.relates_to")


class RoomEvent(msgspec.Struct, frozen=True):
    type: str
    event_id: str
    sender: str
    origin_server_ts: int
    content: Content
    room_id: str | None = None
    state_key: str | None = None


class Timeline(msgspec.Struct, frozen=True):
    events: list[dict[str, Any]] = []


class Room(msgspec.Struct, frozen=True):
    timeline: Timeline = Timeline()


class Rooms(msgspec.Struct, frozen=True):
    join: dict[str, Room] = {}
    leave: dict[str, Room] = {}


def claims(document: Mapping[str, Any]) -> bool:
    """Whether a document is a payload of Matrix. What servers send each other, `pdus`, is none: it names no events."""
    return (
        ("origin_server_ts" in document and "pdus" not in document)
        or isinstance(document.get("events"), list)
        or isinstance(document.get("chunk"), list)
        or "next_batch" in document
    )


def events(document: Mapping[str, Any]) -> Iterator[dict[str, Any] | BadRecord]:
    """The messages of a payload; raises BadRecord. Anybody in a room may send a broken one: it is told in its place."""
    for found, room in _room_events(document):
        if isinstance(found, dict) and found.get("type") in _KINDS and not _is_redacted(found):
            try:
                yield _event(codec.convert(found, RoomEvent), room)
            except BadRecord as bad:
                yield bad


def _is_redacted(found: Mapping[str, Any]) -> bool:
    unsigned = found.get("unsigned")
    return isinstance(unsigned, dict) and "redacted_because" in unsigned


def _room_events(document: Mapping[str, Any]) -> Iterator[tuple[object, str | None]]:
    """The events of a payload, each with its room where it does not say so itself."""
    if "origin_server_ts" in document:
        yield document, None
    elif "next_batch" not in document:
        for found in codec.convert(document.get("events") or document.get("chunk") or (), list[Any]):
            yield found, None
    else:
        rooms = codec.convert(document.get("rooms", {}), Rooms)
        for name, room in (*rooms.join.items(), *rooms.leave.items()):
            for found in room.timeline.events:
                yield found, name


def _event(event: RoomEvent, room: str | None) -> dict[str, Any]:
    content, relation = event.content, event.content.relates_to
    edited = relation.event_id if relation is not None and relation.rel_type == "m.replace" else None
    return {
        "event_id": edited or event.event_id,
        "revision": event.origin_server_ts if edited else 0,
        "platform": "matrix",
        "sender_id": event.sender,
        "conversation_id": event.room_id or room,
        "sent_at": event.origin_server_ts,
        "text": _shown(content.new) if edited and content.new else _shown(content, _is_answer(relation)),
        "attachments": int(content.msgtype in _MEDIA or event.type == "m.sticker"),
    }


def _is_answer(relation: Relation | None) -> bool:
    return relation is not None and relation.answered is not None


def _shown(words: Words, is_answer: bool = False) -> str:
    """What people see of it."""
    if words.msgtype in _MEDIA and words.filename in ("", words.body):
        return ""
    html = text_of(words.formatted_body) if words.format == _HTML else ""
    return html or (_without_quote(words.body) if is_answer else words.body)


def _without_quote(body: str) -> str:
    """An answer's body without the lines that a client put before it from the message it answers."""
    lines = body.split("\n")
    if not lines[0].startswith(("> <@", "> * <@")):
        return body
    own = itertools.dropwhile(lambda line: line == ">" or line.startswith("> "), lines)
    return "\n".join(own).removeprefix("\n")
