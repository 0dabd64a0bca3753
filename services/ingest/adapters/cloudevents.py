"""CloudEvents 1.0 around a native event: binary mode (attributes in headers), structured mode, and batches.

The envelope's `id` and `time` stand in for `event_id` and `sent_at` where the event has none.
Source: CloudEvents specification 1.0.2 and its Kafka protocol binding.
"""

import base64
import binascii
import codecs
from collections.abc import Mapping
from typing import Any

from services import codec
from services.errors import BadRecord, Fault

_STRUCTURED = b"application/cloudevents+json"
_BATCH = b"application/cloudevents-batch+json"
# What may stand before JSON.
_BLANK = codecs.BOM_UTF8 + b" \t\r\n"


def is_batch(headers: Mapping[str, bytes], value: bytes) -> bool:
    """Whether a value is a batch: by its content type or, where none is kept, as a list of envelopes."""
    return _is_typed(headers, _BATCH) or (value.lstrip(_BLANK).startswith(b"[") and b'"specversion"' in value)


def is_envelope(headers: Mapping[str, bytes], document: Mapping[str, Any]) -> bool:
    """Whether a document is a structured envelope: by its content type, or by its shape."""
    shaped = "specversion" in document and ("data" in document or "data_base64" in document)
    return shaped or _is_typed(headers, _STRUCTURED)


def _is_typed(headers: Mapping[str, bytes | None], kind: bytes) -> bool:
    """Whether a record says it is of a kind; Kafka lets a header be null."""
    return (headers.get("content-type") or b"").lower().startswith(kind)


def batch(value: bytes) -> list[dict[str, Any]]:
    """The envelopes of a batch; raises BadRecord."""
    envelopes = codec.loads(value)
    if not isinstance(envelopes, list) or not all(isinstance(envelope, dict) for envelope in envelopes):
        raise BadRecord(Fault.BAD_ENVELOPE)
    return envelopes


def from_binary(headers: Mapping[str, bytes], value: bytes) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The document of a binary-mode record, and the envelope's attributes; raises BadRecord."""
    try:
        attributes = {
            name: headers["ce_" + name].decode() for name in ("specversion", "id", "time") if "ce_" + name in headers
        }
    except (UnicodeDecodeError, AttributeError):
        raise BadRecord(Fault.BAD_ENVELOPE) from None
    return codec.loads_object(value), _checked(attributes)


def from_envelope(envelope: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The document of a structured envelope, and the envelope's attributes; raises BadRecord."""
    data = envelope.get("data")
    if data is None and isinstance(envelope.get("data_base64"), str):
        try:
            data = codec.loads(base64.b64decode(envelope["data_base64"], validate=True))
        except binascii.Error:
            raise BadRecord(Fault.BAD_ENVELOPE, "data_base64") from None
    if not isinstance(data, dict):
        raise BadRecord(Fault.BAD_ENVELOPE, "data")
    return data, _checked(envelope)


def _checked(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    if attributes.get("specversion") != "1.0":
        raise BadRecord(Fault.BAD_ENVELOPE, "specversion")
    return attributes


def completed(event: dict[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A native event with what it leaves to its envelope."""
    for field, attribute in (("event_id", "id"), ("sent_at", "time")):
        if event.get(field) is None and attributes.get(attribute) is not None:
            event[field] = attributes[attribute]
    return event
