"""Payload kinds, one module each: which of them a record is, and the native events inside it.

A platform's module says which documents are its own (`claims`) and what direct messages they hold (`events`): several,
or none, where a payload tells of something else. It reads what it needs and checks its types; what it yields is
checked as any native event is. A part that cannot be read may be told in its place, and spoils none of the others.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from services import codec
from services.errors import BadRecord
from services.ingest.adapters import bluesky, cloudevents, discord, mastodon, matrix, slack, telegram, x
from services.records import Inbound


class Form(StrEnum):
    """The form of a payload, chosen per record from its headers or its shape."""

    NATIVE = "native"
    CLOUDEVENTS_BINARY = "cloudevents_binary"
    CLOUDEVENTS = "cloudevents"
    X = "x"
    MASTODON = "mastodon"
    BLUESKY = "bluesky"
    DISCORD = "discord"
    TELEGRAM = "telegram"
    SLACK = "slack"
    MATRIX = "matrix"


# An event, or why a part of the record is none.
Found = tuple[Form, dict[str, Any] | BadRecord]

_PLATFORMS = (
    (Form.X, x),
    (Form.MASTODON, mastodon),
    (Form.BLUESKY, bluesky),
    (Form.DISCORD, discord),
    (Form.TELEGRAM, telegram),
    (Form.SLACK, slack),
    (Form.MATRIX, matrix),
)


def unwrap(record: Inbound, value: bytes) -> Iterator[Found]:
    """The native events in a record's value, in their order, maybe none; raises BadRecord."""
    headers = dict(record.headers) if record.headers else {}
    if "ce_specversion" in headers:
        yield from _events(Form.CLOUDEVENTS_BINARY, *cloudevents.from_binary(headers, value))
    elif cloudevents.is_batch(headers, value):
        for envelope in cloudevents.batch(value):
            yield from _events(Form.CLOUDEVENTS, *cloudevents.from_envelope(envelope))
    else:
        yield from native(codec.loads_object(value), headers)


def native(document: dict[str, Any], headers: Mapping[str, bytes] = {}) -> Iterator[Found]:
    """The native events in a document that is not in binary mode; raises BadRecord."""
    if cloudevents.is_envelope(headers, document):
        yield from _events(Form.CLOUDEVENTS, *cloudevents.from_envelope(document))
    else:
        yield from _events(Form.NATIVE, document)


def _events(form: Form, document: dict[str, Any], attributes: Mapping[str, Any] = {}) -> Iterator[Found]:
    """The events of the platform that claims the document; else a native event, completed from its envelope's."""
    if not _is_native(document):
        for platform, adapter in _PLATFORMS:
            if adapter.claims(document):
                codec.drop_nulls(document)
                for event in adapter.events(document):
                    yield platform, event
                return
    yield form, cloudevents.completed(document, attributes) if attributes else document


def _is_native(document: Mapping[str, Any]) -> bool:
    """Whether a document is a native event, whatever else it holds. An envelope's id may stand in for its own; of the
    platforms' events only X's have a `sender_id` too."""
    return "sender_id" in document and (
        "event_id" in document or ("text" in document and "dm_conversation_id" not in document)
    )
