"""Bluesky: `chat.bsky.convo` logs and messages.

A message names its conversation and no recipient; links that the text shortens or hides are written out.
Source: AT Protocol lexicons chat.bsky.convo.defs, chat.bsky.convo.getLog, app.bsky.richtext.facet.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from services import codec
from services.errors import BadRecord
from services.ingest.adapters.profile import profile

_MESSAGE = "chat.bsky.convo.defs#messageView"
_CREATED = "chat.bsky.convo.defs#logCreateMessage"
_SCHEME = re.compile(rb"^https?://", re.IGNORECASE)


class Sender(msgspec.Struct, frozen=True):
    did: str


class Slice(msgspec.Struct, frozen=True, rename="camel"):
    """Offsets in the text's UTF-8 bytes."""

    byte_start: int
    byte_end: int


class Feature(msgspec.Struct, frozen=True):
    uri: str | None = None


class Facet(msgspec.Struct, frozen=True):
    index: Slice
    features: list[Feature] = []


class MessageView(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    sender: Sender
    sent_at: str
    text: str = ""
    facets: list[Facet] | None = None
    embed: dict[str, Any] | None = None


class Member(msgspec.Struct, frozen=True, rename="camel"):
    did: str
    handle: Any = None
    display_name: Any = None
    created_at: Any = None


def claims(document: Mapping[str, Any]) -> bool:
    """Whether a document is a payload of Bluesky's chat."""
    return (
        isinstance(document.get("logs"), list)
        or str(document.get("$type", "")).startswith("chat.bsky.")
        or ("members" in document and ("lastMessage" in document or "rev" in document))
        or ("convoId" in document and "message" in document)
        or isinstance(document.get("convo"), dict)
        or isinstance(document.get("convos"), list)
    )


def events(document: Mapping[str, Any]) -> Iterator[dict[str, Any] | BadRecord]:
    """The direct messages of a payload; one that cannot be read is told in its place; raises BadRecord."""
    for found, convo, members in _messages(document):
        if isinstance(found, dict) and found.get("$type", _MESSAGE) != _MESSAGE:
            continue
        try:
            yield _event(codec.convert(found, MessageView), convo, codec.convert(members, list[Member]))
        except BadRecord as bad:
            yield bad


def _messages(document: Mapping[str, Any]) -> Iterator[tuple[object, object, object]]:
    """The messages of a payload, each with the id and the members of its conversation, as far as they are told."""
    if isinstance(document.get("logs"), list):
        for entry in document["logs"]:
            if isinstance(entry, dict) and entry.get("$type") == _CREATED:
                yield entry.get("message"), entry.get("convoId"), ()
    elif "convo" in document or "convos" in document or "members" in document:
        for convo in codec.convert(document.get("convos", [document.get("convo", document)]), list[Any]):
            if isinstance(convo, dict) and "lastMessage" in convo:
                yield convo["lastMessage"], convo.get("id"), convo.get("members")
    elif document.get("$type") == _MESSAGE:
        yield document, document.get("convoId"), ()
    elif document.get("$type") in (_CREATED, None):
        yield document.get("message"), document.get("convoId"), ()


def _event(view: MessageView, convo: object, members: list[Member]) -> dict[str, Any]:
    known = {member.did: member for member in members}
    return {
        "event_id": view.id,
        "platform": "bluesky",
        "sender_id": view.sender.did,
        "recipients": [did for did in known if did != view.sender.did] or None,
        "conversation_id": convo,
        "sent_at": view.sent_at,
        "text": _with_links(view),
        "attachments": int(view.embed is not None),
        "sender": _person(known.get(view.sender.did)),
    }


def _person(member: Member | None) -> dict[str, Any] | None:
    if member is None:
        return None
    return profile(handle=member.handle, display_name=member.display_name, created_at=member.created_at)


def _with_links(view: MessageView) -> str:
    """The text with its links whole. Of facets that overlap the first holds, as in Bluesky's own clients."""
    text, parts, done = view.text.encode(), list[bytes](), 0
    for facet in sorted(view.facets or (), key=lambda facet: facet.index.byte_start):
        start, end = facet.index.byte_start, facet.index.byte_end
        if done <= start <= end:
            uri = next((feature.uri for feature in facet.features if feature.uri), "")
            words, rest = text[start:end], text[end:]
            shown = _linked(words, uri.encode())
            parts += text[done:start], shown, b" " if shown != words and rest[:1].isalnum() else b""
            done = end
    return b"".join([*parts, text[done:]]).decode(errors="replace")


def _linked(words: bytes, uri: bytes) -> bytes:
    """The words of a link and where it leads, which is enough where they are the beginning of it."""
    if not uri or not words.strip():
        return words
    begun = _SCHEME.sub(b"", words.strip()).removesuffix("…".encode()).removesuffix(b"...")
    return uri if _SCHEME.sub(b"", uri).startswith(begun) else words + b" " + uri
