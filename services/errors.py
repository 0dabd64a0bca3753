"""What can go wrong, and what is done about it.

    DoormanError
    ├── BadRecord     a record that cannot be used: dead-lettered under its reason
    ├── Unavailable   something outside is away: tried again by the adapter, then the service stops uncommitted
    └── BadSetup      settings, policy, model or topics are wrong: refuse to start, or keep the old one

A message says what was wrong, where, and what to do. It never holds message text.
"""

from enum import StrEnum


class Fault(StrEnum):
    """Why a record cannot be used: one short code from exception to dead letter, metric label and test."""

    TOMBSTONE = "tombstone"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    BAD_ENVELOPE = "bad_envelope"
    BAD_VERSION = "bad_version"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_ID = "bad_id"
    BAD_TIME = "bad_time"
    NO_RECIPIENT = "no_recipient"
    INTERNAL = "internal"


class DoormanError(Exception):
    """The root of all errors that Doorman raises on purpose."""


class BadRecord(DoormanError):
    """A record that cannot be used.

    `fault` is the short code; `field` the path inside the record, where one is to blame.
    """

    def __init__(self, fault: Fault, field: str = "") -> None:
        super().__init__(f"{fault.value}: {field}" if field else fault.value)
        self.fault = fault
        self.field = field


class Unavailable(DoormanError):
    """Something outside (broker, database) did not answer in time."""


class BadSetup(DoormanError):
    """Settings, policy, model or topics are wrong; the message names every fault found."""
