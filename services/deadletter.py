"""What could not be used, as it came: headers, sizes, and the limit past which something is wrong with us."""

from collections import deque
from dataclasses import dataclass, field
from hashlib import sha256

from services.codec import rfc3339
from services.errors import Fault
from services.records import Inbound, Output
from services.topics import DEAD_LETTER, DEAD_LETTER_EXCERPT_BYTES, MAX_EVENT_BYTES

PREFIX = "doorman-"
# A bad deploy of ours or of the platform, not a bad record: half of the last thousand, or a hundred in a row.
WINDOW_RECORDS = 1000
MAX_SHARE = 0.5
MAX_ROW = 100


def size(record: Inbound) -> int:
    """Bytes of a record: key, value and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def dead_letter(record: Inbound, fault: Fault, service: str, time_ms: int) -> Output:
    """The record with its original bytes, key and headers, and ours beside them: never a word of its text.

    A record over the event limit keeps its first 64 KiB, its length and its digest, and loses its own headers.
    """
    told = {
        "reason": fault.value,
        "service": service,
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "time": rfc3339(time_ms),
    }
    key, value, headers = record.key, record.value, list(record.headers)
    if size(record) > MAX_EVENT_BYTES:
        whole = value or b""
        told |= {"length": str(len(whole)), "sha256": sha256(whole).hexdigest()}
        key = key and key[:DEAD_LETTER_EXCERPT_BYTES]
        value, headers = value and value[:DEAD_LETTER_EXCERPT_BYTES], []
    kept = [(name, content) for name, content in headers if not name.startswith(PREFIX)]
    ours = [(PREFIX + name, content.encode()) for name, content in told.items()]
    return Output(
        topic=DEAD_LETTER, key=key, value=value, timestamp_ms=max(record.timestamp, 0), headers=(*kept, *ours)
    )


@dataclass(slots=True)
class Limit:
    """Watches the share of dead letters, and how many came in a row."""

    _row: int = 0
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW_RECORDS))

    def passed(self, bad: bool) -> bool:
        """Take in one record; tells whether the limit is passed."""
        self._row = self._row + 1 if bad else 0
        self._recent.append(bad)
        return self._row >= MAX_ROW or (
            len(self._recent) == WINDOW_RECORDS and sum(self._recent) >= WINDOW_RECORDS * MAX_SHARE
        )
