"""Messages in; scores and sightings out. Pure: the lane's state, the scorer and the live campaigns are handed in.

Text is scored for the whole batch at once; then each message meets memory and window in the order of the log, so that
batching changes nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services import codec
from services.classify.behaviour import MAX_RECIPIENTS, WEIGHT, Sent, Windows, signals
from services.classify.fingerprint import fingerprint, is_telling, words
from services.classify.memory import Memory, Seen, key_of
from services.classify.text import hosts
from services.deadletter import dead_letter
from services.errors import BadRecord, Fault
from services.packing import CONTACTS, CORRECTIONS, TYPE_HEADER, packed
from services.records import (
    VERSION,
    Bond,
    Contacts,
    Correction,
    Corrections,
    Degraded,
    Inbound,
    Message,
    ModelRef,
    Output,
    Score,
    Sighting,
    Sightings,
    scoped,
    trace,
)
from services.topics import SCORES, SIGHTINGS

SERVICE = "classify"
MAX_HOSTS = 4
# Below this a label says nothing, and is not carried along.
MIN_LABEL = 0.05


class TextScore(Protocol):
    """What the model says of one text."""

    @property
    def score(self) -> float: ...
    @property
    def first(self) -> float: ...
    @property
    def labels(self) -> dict[str, float]: ...
    @property
    def spans(self) -> tuple[tuple[int, int, float], ...]: ...


class Scorer(Protocol):
    """A model: texts in, scores out, in their order."""

    @property
    def version(self) -> str: ...
    @property
    def sha256(self) -> str: ...

    def score(self, texts: Sequence[str]) -> Sequence[TextScore]: ...


FindCampaign = Callable[[str, Sequence[str], int], str | None]
Locate = Callable[[str, bytes], int]


@dataclass(slots=True)
class State:
    """All that one lane remembers."""

    memory: Memory = field(default_factory=Memory)
    windows: Windows = field(default_factory=Windows)
    seen: Seen = field(default_factory=Seen)


@dataclass(frozen=True, slots=True)
class Observation:
    """What memory and window say of one message."""

    bond: Bond
    signals: dict[str, float]
    sighting: Sighting | None


@dataclass(slots=True)
class Batch:
    """What a batch of messages gave."""

    outputs: list[Output] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    duplicates: int = 0


Item = Message | Contacts | Corrections


def read(record: Inbound) -> Item:
    """A record of `dm.messages` by its type header; raises BadRecord."""
    kind = next((value for name, value in record.headers if name == TYPE_HEADER), None)
    if kind == CONTACTS:
        return codec.decode(record.value, Contacts)
    if kind == CORRECTIONS:
        return codec.decode(record.value, Corrections)
    return codec.decode(record.value, Message)


def remember(item: Item, state: State) -> bool:
    """Take in a record without scoring it: a rebuild, or what is not a message. False for a repeat."""
    if isinstance(item, Contacts):
        for contact in item.contacts:
            state.memory.contact(contact)
    elif isinstance(item, Corrections):
        for correction in item.corrections:
            _correct(correction, state)
    elif is_new(item, state):
        observe(item, state)
    else:
        return False
    return True


def classify(
    records: Sequence[Inbound],
    state: State,
    scorer: Scorer | None,
    find_campaign: FindCampaign,
    locate: Locate,
    now_ms: int,
) -> Batch:
    """Take in records of `dm.messages`. `locate`: a key's partition in a topic; `now_ms` stamps dead letters."""
    batch = Batch()
    sightings: dict[int, list[Sighting]] = defaultdict(list)
    items = list(_readable(records, batch, now_ms))
    texts = score_texts([item for _, item in items if isinstance(item, Message)], scorer)
    for record, item in items:
        if not isinstance(item, Message):
            remember(item, state)
            continue
        text_score = next(texts)
        if not is_new(item, state):
            batch.duplicates += 1
            continue
        score, sighting = one(item, text_score, state, scorer, find_campaign)
        if not item.backfill:
            batch.scores.append(score)
            batch.outputs.append(_output(record, score))
            if sighting is not None:
                sightings[locate(SIGHTINGS, sighting.keys[0].encode())].append(sighting)
    batch.outputs.extend(packed(SIGHTINGS, sightings, _sightings, state.windows.high_ms))
    return batch


def _readable(records: Sequence[Inbound], batch: Batch, now_ms: int) -> Iterator[tuple[Inbound, Item]]:
    for record in records:
        try:
            yield record, read(record)
        except BadRecord as bad:
            batch.faults.append(bad.fault)
            batch.outputs.append(dead_letter(record, bad.fault, SERVICE, now_ms))


def score_texts(messages: Sequence[Message], scorer: Scorer | None) -> Iterator[TextScore | None]:
    """The text scores of a batch, in its order; None where there is no text to score, or no model."""
    wanted = [not (message.backfill or message.unreadable) for message in messages]
    if scorer is None or not any(wanted):
        return iter([None] * len(messages))
    texts = [message.text for message, needed in zip(messages, wanted, strict=True) if needed]
    scores = iter(scorer.score(texts))
    return iter([next(scores) if needed else None for needed in wanted])


def one(
    message: Message, text_score: TextScore | None, state: State, scorer: Scorer | None, find_campaign: FindCampaign
) -> tuple[Score, Sighting | None]:
    """One message that is new: its score, and the sighting that campaigns should know of."""
    if message.unreadable:
        return Score(v=VERSION, text_score=None, bond=Bond.UNKNOWN, message=message, degraded=_UNREADABLE), None
    observation = observe(message, state)
    sighting = observation.sighting
    score = Score(
        v=VERSION,
        text_score=text_score.score if text_score else None,
        first_score=text_score.first if text_score else None,
        labels=_telling_labels(text_score.labels) if text_score else {},
        spans=text_score.spans if text_score else (),
        bond=observation.bond,
        signals=observation.signals,
        campaign_id=find_campaign(message.tenant, sighting.keys, message.event_ms) if sighting else None,
        model=ModelRef(version=scorer.version, sha256=scorer.sha256) if scorer else None,
        degraded=tuple(_degraded(observation.bond, text_score)),
        message=message,
    )
    return score, sighting


def _telling_labels(labels: dict[str, float]) -> dict[str, float]:
    return {label: probability for label, probability in labels.items() if probability >= MIN_LABEL}


_UNREADABLE = (Degraded.UNREADABLE,)


def _degraded(bond: Bond, text_score: TextScore | None) -> Iterable[Degraded]:
    if text_score is None:
        yield Degraded.MODEL_MISSING
    if bond is Bond.UNKNOWN:
        yield Degraded.MEMORY_YOUNG


def observe(message: Message, state: State) -> Observation:
    """Let memory and window take in a message; returns what they know of it."""
    scope = scoped(message.tenant, message.platform, "")
    sender, conversation = scope + message.sender_id, scope + message.conversation_id
    sender_key, conversation_key = key_of(sender), key_of(conversation)
    bond = state.memory.bond(message, conversation_key, sender_key)
    state.memory.note(conversation_key, sender_key, message.event_ms)
    # Only what strangers get is compared: the words of a conversation are nobody's business.
    found = [] if bond is Bond.WARM else words(message)
    skeleton = fingerprint(found)
    sent = Sent(
        event_ms=message.event_ms,
        event=_event_key(sender, message.event_id, message.revision),
        recipients=_recipients(message, scope, conversation_key),
        weight=WEIGHT[bond],
        fingerprint=skeleton,
        hosts=() if bond is Bond.WARM else tuple(key_of(host) for host in hosts(message.text)[:MAX_HOSTS]),
    )
    window = state.windows.add(sender_key, sent)
    sighting = None
    if is_telling(found):
        sighting = Sighting(
            tenant=message.tenant,
            keys=(f"{skeleton:016x}",),
            sender=sender,
            conversation=conversation,
            event_ms=message.event_ms,
        )
    return Observation(bond, signals(window, sent, message, bond), sighting)


def is_new(message: Message, state: State) -> bool:
    """Whether it must be taken in. History is: it was decided elsewhere, or never."""
    state.windows.advance(message.event_ms)
    return message.backfill or not state.seen.repeat(message, state.windows.high_ms)


def _event_key(sender: str, event_id: str, revision: int) -> int:
    return key_of(f"{sender}\n{event_id}\n{revision}")


def _recipients(message: Message, scope: str, conversation_key: int) -> tuple[int, ...]:
    """Whom a message reaches; where no recipient is named the conversation counts as one."""
    if not message.recipients:
        return (conversation_key,)
    named = message.recipients[:MAX_RECIPIENTS]
    return tuple(key_of(scope + name) for name in named)


def _correct(correction: Correction, state: State) -> None:
    event = _event_key(correction.sender, correction.event_id, correction.revision)
    state.windows.forget(key_of(correction.sender), event)


def _output(record: Inbound, score: Score) -> Output:
    return Output(
        topic=SCORES,
        key=record.key,
        value=codec.encode(score),
        timestamp_ms=score.message.received_ms,
        headers=trace(record),
    )


def _sightings(entries: tuple[Sighting, ...]) -> Sightings:
    return Sightings(v=VERSION, sightings=entries)
