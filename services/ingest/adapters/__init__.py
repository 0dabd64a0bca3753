"""Payload kinds, one module each: which of them a record is, and the native events inside it."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from services import codec
from services.ingest.adapters import cloudevents
from services.records import Inbound


class Form(StrEnum):
    """The form of a payload, chosen per record from its headers or its shape."""

    NATIVE = "native"
    CLOUDEVENTS_BINARY = "cloudevents_binary"
    CLOUDEVENTS = "cloudevents"


def unwrap(record: Inbound, value: bytes) -> Iterator[tuple[Form, dict[str, Any]]]:
    """The native events in a record's value, in their order, maybe none; raises BadRecord."""
    headers = dict(record.headers) if record.headers else {}
    if "ce_specversion" in headers:
        yield Form.CLOUDEVENTS_BINARY, cloudevents.from_binary(headers, value)
    elif cloudevents.is_batch(headers):
        for envelope in cloudevents.batch(value):
            yield Form.CLOUDEVENTS, cloudevents.from_envelope(envelope)
    else:
        document = codec.loads_object(value)
        if cloudevents.is_envelope(headers, document):
            yield Form.CLOUDEVENTS, cloudevents.from_envelope(document)
        else:
            yield Form.NATIVE, document
