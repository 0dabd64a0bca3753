"""The words of Doorman as records: what travels between the stages, and how it is keyed.

One event's path: `Message` (ingest) → `Score` (classify) → `Decision` (action). Times inside are integers, milliseconds
of the Unix epoch (`_ms`); decisions, which people read, carry RFC 3339. Optional parts are left out of the JSON when
they hold their default. Every record that is a topic's value carries its version `v`.
"""

from collections.abc import Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, Any, Protocol

import msgspec

from services.spans import FIRST_MS, LAST_MS

VERSION = 1

# A moment: milliseconds of the Unix epoch, within the years that RFC 3339 can write.
Ms = Annotated[int, msgspec.Meta(ge=FIRST_MS, le=LAST_MS)]


class Inbound(Protocol):
    """A record as it comes from a topic, or from a file in a replay."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A record to be produced. `topic` is a name from the table of topics, without prefix.

    `partition` None lets the key choose.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


def trace(record: Inbound) -> tuple[tuple[str, bytes], ...]:
    """A record's W3C trace context, to be copied to what comes of it."""
    if not record.headers:
        return ()
    return tuple(header for header in record.headers if header[0] in ("traceparent", "tracestate"))


class Verdict(StrEnum):
    ALLOW = "allow"
    QUARANTINE = "quarantine"


class Mode(StrEnum):
    """`shadow`: the verdict says what would have been done; consumers let the message through."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Kind(StrEnum):
    """What kind of automated message a text is: the labels of a score and, after `auto`, the model's heads in order."""

    FOLLOW_THANKS = "follow_thanks"
    PITCH = "pitch"
    CROSS_PLATFORM = "cross_platform"
    ENGAGEMENT_BAIT = "engagement_bait"
    HYPE = "hype"
    NEWSLETTER = "newsletter"
    FINANCE = "finance"
    GIVEAWAY = "giveaway"
    PHISHING = "phishing"
    ADULT = "adult"
    RECRUITING = "recruiting"


class Bond(StrEnum):
    """What the lane's memory holds of the pair: nobody wrote back yet, a conversation, or too young to know."""

    COLD = "cold"
    WARM = "warm"
    UNKNOWN = "unknown"


class Degraded(StrEnum):
    """Why a decision was made with less than everything."""

    MODEL_MISSING = "model_missing"
    MEMORY_YOUNG = "memory_young"
    SECOND_LOOK_SKIPPED = "second_look_skipped"
    UNREADABLE = "unreadable"
    BUDGET_EXHAUSTED = "budget_exhausted"


class ReasonCode(StrEnum):
    """Why a score is what it is. What each is worth stands in the policy file."""

    TEXT = "text"
    JUST_FOLLOWED = "just_followed"
    FAN_OUT = "fan_out"
    REPEATS = "repeats"
    BURST = "burst"
    LINK_REPEATS = "link_repeats"
    EVEN_GAPS = "even_gaps"
    NEW_ACCOUNT = "new_account"
    MUTUAL_FOLLOW = "mutual_follow"
    TRUST = "trust"
    STRIKES = "strikes"
    CAMPAIGN = "campaign"
    CONVERSATION = "conversation"


class Override(StrEnum):
    """What beats the score, strongest first."""

    BLOCK = "block"
    EXEMPT_PAIR = "exempt_pair"
    TRUST = "trust"
    ALLOW_LIST = "allow_list"


class Person(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What the platform says of a sender or recipient."""

    handle: str | None = None
    display_name: str | None = None
    created_ms: Ms | None = None
    followers: int | None = None
    following: int | None = None
    verified: bool | None = None


class Relation(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What the platform says of the pair. `followed_ms`: when the recipient began to follow the sender."""

    followed_ms: Ms | None = None
    recipient_follows_sender: bool | None = None
    sender_follows_recipient: bool | None = None
    prior_messages_from_recipient: int | None = None


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a decision needs of a message: who, whom, when, and the text for the lists of link hosts.

    `event_ms` is event time: `sent_ms` clamped to [`received_ms` - 24 h, `received_ms` + 60 s]. `unreadable`: only the
    ids could be read; gets a decision, feeds nothing. `v`, the identity and the times are always written.
    """

    v: int
    event_id: str
    sender_id: str
    conversation_id: str
    sent_ms: Ms
    event_ms: Ms
    received_ms: Ms
    text: str
    revision: int = 0
    tenant: str = "default"
    platform: str = "default"
    recipient_id: str | None = None
    unreadable: bool = False


class Message(Envelope, frozen=True, kw_only=True, omit_defaults=True):
    """An event in canonical form: the value of `dm.messages`.

    `recipients` names the conversation's other members, as far as the event does. `backfill`: feeds the memory, gets
    no decision. `extra` keeps the event's unknown fields.
    """

    recipients: tuple[str, ...] = ()
    in_reply_to: str | None = None
    attachments: int = 0
    sender: Person | None = None
    recipient: Person | None = None
    relation: Relation | None = None
    backfill: bool = False
    extra: dict[str, Any] = {}


class Contact(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """ "`writer` wrote in `conversation` at `event_ms`": both scoped. Told to the lanes of the other members."""

    conversation: str
    writer: str
    event_ms: Ms


class Contacts(msgspec.Struct, frozen=True, kw_only=True):
    """Contacts packed for one partition of `dm.messages` (header `doorman-type: contacts`, null key)."""

    v: int
    contacts: tuple[Contact, ...]


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was wrongly counted against its sender. `sender` is scoped."""

    sender: str
    event_id: str
    revision: int
    event_ms: Ms


class Corrections(msgspec.Struct, frozen=True, kw_only=True):
    """Corrections packed for one partition of `dm.messages` (header `doorman-type: corrections`, null key)."""

    v: int
    corrections: tuple[Correction, ...]


class ModelRef(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    version: str
    sha256: str


class PolicyRef(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    version: str


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a decision rests on: a score without what only evidence needs. 1.8 us to decode, the whole takes 4.3.

    `text_score` and `labels` are probabilities, rounded to 4 decimals; `signals` are behaviour numbers by name.
    """

    v: int
    text_score: float | None
    bond: Bond
    message: Envelope
    labels: dict[str, float] = {}
    signals: dict[str, float] = {}
    campaign_id: str | None = None
    model: ModelRef | None = None
    degraded: tuple[Degraded, ...] = ()


class Score(Finding, frozen=True, kw_only=True, omit_defaults=True):
    """What classify knows of a message: the value of `dm.scores`.

    `spans` are (start, end, weight) offsets of the text's strongest spans.
    """

    message: Message
    first_score: float | None = None
    spans: tuple[tuple[int, int, float], ...] = ()


class Reason(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """`weight` is in log-odds: a decision's score is sigmoid(sum of its reasons' weights)."""

    code: ReasonCode
    weight: float
    detail: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict with its reasons: the value of `dm.decisions`. It holds no message text."""

    v: int
    decision_id: str
    event_id: str
    revision: int
    cause: str
    tenant: str
    platform: str
    sender_id: str | None
    recipient_id: str | None
    conversation_id: str | None
    verdict: Verdict
    mode: Mode
    score: float | None
    threshold: float | None
    text_score: float | None
    override: Override | None
    labels: dict[str, float]
    reasons: tuple[Reason, ...]
    signals: dict[str, float]
    campaign_id: str | None
    supersedes: str | None
    expires_at: str | None
    model: ModelRef | None
    policy: PolicyRef | None
    degraded: tuple[Degraded, ...]
    sent_at: str | None
    ingested_at: str
    decided_at: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a quarantine rests on, with the text: the value of `dm.quarantine`."""

    v: int
    decision: Decision
    message: Message
    spans: tuple[tuple[int, int, float], ...] = ()


class Sighting(msgspec.Struct, frozen=True, array_like=True):
    """A cold message as campaigns see it: no text, only its keys. `sender`, `conversation`, `recipient` are scoped.

    `recipient`: the one it goes to; empty where there are several or none is named.
    """

    tenant: str
    keys: tuple[str, ...]
    sender: str
    conversation: str
    event_ms: Ms
    recipient: str = ""


class Sightings(msgspec.Struct, frozen=True, kw_only=True):
    """Sightings packed for one partition of `dm.sightings` (null key): the value of the topic."""

    v: int
    sightings: tuple[Sighting, ...]


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """One fingerprint, many senders: the value of `dm.campaigns`. `campaign_id` is its key.

    What a review says of a campaign is a record of its own, under `campaign_review_key`: `exempt` or `confirmed` until
    `expires_ms`, whenever its words are sent. It has no `key`, and its counts are 0.
    """

    v: int
    campaign_id: str
    tenant: str
    key: str
    senders: int
    conversations: int
    first_ms: Ms
    last_ms: Ms
    expires_ms: Ms
    exempt: bool = False
    confirmed: bool = False


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a lane's state: the value of `dm.memory`. It reflects every record of its partition before `offset`.

    The pieces of one `generation` are whole together; `state` is read by classify alone.
    """

    v: int
    offset: int
    state: bytes
    generation: int = 0
    piece: str = ""


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What reviews left of a sender: the value of `dm.standing`. Times 0: not so; each ends at its `_until_ms`.

    `exempt` maps a scoped recipient or conversation to the end of its exemption, milliseconds.
    """

    v: int
    sender: str
    strikes: float = 0.0
    strikes_ms: Ms = 0
    block_until_ms: Ms = 0
    trust_until_ms: Ms = 0
    exempt: dict[str, int] = {}


class ReviewCommand(StrEnum):
    RELEASE = "release"
    CONFIRM = "confirm"
    REPORT = "report"
    TRUST = "trust"
    BLOCK = "block"
    ERASE = "erase"
    EXPIRE = "expire"


class Review(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An operator's command: the value of `dm.reviews`. It names an event, a sender or a campaign.

    `text` is for the report of an event that has no case: what the label should hold.
    """

    v: int
    review_id: str
    command: ReviewCommand
    actor: str
    reason: str
    reviewed_ms: Ms
    tenant: str = "default"
    platform: str = "default"
    event_id: str | None = None
    sender_id: str | None = None
    campaign_id: str | None = None
    until_ms: Ms | None = None
    text: str | None = None


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """A labelled sample born of a review, for retraining: the value of `dm.labels`."""

    v: int
    event_id: str
    revision: int
    tenant: str
    platform: str
    label: str
    text: str
    review_id: str
    labelled_ms: Ms


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The switch for all tenants at once: the value of `dm.control`. `enforce` leaves the mode to the policies."""

    v: int
    mode: Mode
    actor: str
    reason: str
    at_ms: Ms


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Who changed what, and why: the value of `dm.audit`."""

    v: int
    audit_id: str
    actor: str
    action: str
    subject: str
    reason: str
    at_ms: Ms


def scoped(tenant: str, platform: str, name: str) -> str:
    """The key of an id: nothing crosses tenants or platforms. A slash in either is escaped, so no two scopes meet."""
    if "/" in tenant or "%" in tenant:
        tenant = tenant.replace("%", "%25").replace("/", "%2F")
    if "/" in platform or "%" in platform:
        platform = platform.replace("%", "%25").replace("/", "%2F")
    return f"{tenant}/{platform}/{name}"


def campaign_review_key(tenant: str, campaign_id: str) -> str:
    """The key in `dm.campaigns` of what a tenant's reviews say. Casebook writes it; the campaign itself is not its."""
    return f"{campaign_id}/review/{tenant}"


def decision_id(tenant: str, platform: str, event_id: str, revision: int, cause: str) -> str:
    """The same event, revision and cause have the same id for ever, whatever the model or the policy."""
    joined = f"{len(tenant)}:{tenant}{len(platform)}:{platform}{len(event_id)}:{event_id}{revision}:{cause}"
    return "d-" + blake2b(joined.encode(), digest_size=16).hexdigest()


def derived_conversation(sender_id: str, recipients: Sequence[str]) -> str:
    """A conversation's id where the platform names none: the same for every member, whoever writes."""
    members = sorted({sender_id, *recipients})
    joined = "".join(f"{len(member)}:{member}" for member in members)
    return "c-" + blake2b(joined.encode(), digest_size=16).hexdigest()
