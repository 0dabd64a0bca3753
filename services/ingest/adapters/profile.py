"""What of a person's profile can be read: it is optional, and what cannot be read of it costs no message."""

from typing import Any

from services import codec
from services.errors import BadRecord
from services.ingest.event import NativePerson


def profile(**parts: object) -> dict[str, Any]:
    """A native event's person, of the fields of `NativePerson` that can be read."""
    return {name: read for name, value in parts.items() if (read := _read(name, value)) is not None}


def _read(name: str, value: object) -> Any:
    try:
        person = codec.convert({name: value}, NativePerson, strict=False)
        if person.created_at is not None:
            codec.epoch_ms(person.created_at, name)
    except BadRecord:
        return None
    return getattr(person, name)
