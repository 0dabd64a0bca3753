"""Bytes to records and back. The only importer of orjson; our own records go through msgspec, which checks types."""

import codecs
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import orjson

from services.errors import BadRecord, Fault
from services.records import VERSION
from services.spans import FIRST_MS, LAST_MS

R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T")

MAX_DEPTH = 100

_EPOCH = datetime(1970, 1, 1)

_MISSING = re.compile(r"missing required field `([^`]+)`")

_encoder = msgspec.json.Encoder()
_decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}


def encode(record: msgspec.Struct) -> bytes:
    """A record as one line of JSON."""
    return _encoder.encode(record)


def decode(value: bytes | None, kind: type[R]) -> R:
    """One of Doorman's own records from JSON; raises BadRecord. Versions `v` and `v - 1` are read."""
    if value is None:
        raise BadRecord(Fault.TOMBSTONE)
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        record: R = decoder.decode(value)
    except msgspec.ValidationError as error:
        raise BadRecord(Fault.WRONG_TYPE, _path(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRecord(Fault.NOT_JSON) from None
    if not VERSION - 1 <= getattr(record, "v", VERSION) <= VERSION:
        raise BadRecord(Fault.BAD_VERSION, "v")
    return record


def convert(document: object, kind: type[T], *, strict: bool = True) -> T:
    """A value read by `loads` as a `kind`, its types checked; raises BadRecord. Not `strict`: "7" may be a number."""
    try:
        return msgspec.convert(document, kind, strict=strict)
    except msgspec.ValidationError as error:
        missing = _MISSING.search(str(error))
        if missing:
            raise BadRecord(Fault.MISSING_FIELD, ".".join(filter(None, (_path(error), missing[1])))) from None
        raise BadRecord(Fault.WRONG_TYPE, _path(error)) from None


def _path(error: msgspec.ValidationError) -> str:
    """The field that a validation error blames, without the value."""
    _, found, path = str(error).rpartition(" - at `")
    return path.rstrip("`").removeprefix("$.") if found else ""


def loads(value: bytes | str) -> Any:
    """Any JSON; raises BadRecord with NOT_JSON. NaN, lone surrogates and deep nesting are not JSON here. A byte order
    mark before it is passed over."""
    if isinstance(value, bytes):
        value = value.removeprefix(codecs.BOM_UTF8)
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise BadRecord(Fault.NOT_JSON) from None
    if isinstance(value, str) or value.count(b"[") + value.count(b"{") > MAX_DEPTH:
        _check_depth(document)
    return document


def loads_object(value: bytes | str) -> dict[str, Any]:
    """A JSON object; raises BadRecord."""
    document = loads(value)
    if not isinstance(document, dict):
        raise BadRecord(Fault.NOT_OBJECT)
    return document


def _check_depth(document: object) -> None:
    """Raises BadRecord for what is nested so deep that no encoder is sure to write it again."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for found in level if isinstance(found, dict | list) for inner in _inside(found)]
        if not level:
            return
    raise BadRecord(Fault.NOT_JSON)


def _inside(found: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return found.values() if isinstance(found, dict) else found


def drop_nulls(document: object) -> None:
    """Take out of a value read by `loads`, however deep, every field that is null: to platforms it is as absent."""
    pending = [document]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            for name in [name for name, value in found.items() if value is None]:
                del found[name]
            pending.extend(found.values())
        elif isinstance(found, list):
            pending.extend(found)


def dumps(document: object) -> bytes:
    """Any JSON-able value as one line."""
    return orjson.dumps(document, default=msgspec.to_builtins)


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


@lru_cache(maxsize=4096)  # a batch is decided in one millisecond, and came in few
def rfc3339(epoch_ms: int) -> str:
    """Milliseconds of the Unix epoch as `2026-11-22T10:00:00.000Z`."""
    seconds, ms = divmod(epoch_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


def epoch_ms(value: object, field: str) -> int:
    """RFC 3339 or integer epoch milliseconds to milliseconds; raises BadRecord with BAD_TIME or WRONG_TYPE."""
    if isinstance(value, str):
        try:
            value = _parsed_ms(value)
        except (ValueError, IndexError, OverflowError):
            raise BadRecord(Fault.BAD_TIME, field) from None
    elif not isinstance(value, int) or isinstance(value, bool):
        raise BadRecord(Fault.WRONG_TYPE, field)
    if not FIRST_MS <= value <= LAST_MS:
        raise BadRecord(Fault.BAD_TIME, field)
    return value


def _parsed_ms(value: str) -> int:
    """Raises ValueError for what datetime reads and RFC 3339 does not allow: other forms of a date, no zone."""
    if value[17:19] == "60":  # a leap second, which datetime does not know
        return _parsed_ms(f"{value[:17]}59{value[19:]}") + 1000
    if not 20 <= len(value) <= 64 or value[4] != "-" or value[7] != "-" or value[10] not in "Tt ":
        raise ValueError
    moment = datetime.fromisoformat(value.upper())
    if moment.tzinfo is None:
        raise ValueError
    return int(moment.timestamp() * 1000 + 0.5)
