"""Messages in; scores and sightings out. Pure: the lane's state, the scorer and the live campaigns are handed in.

Text is scored for the whole batch at once; then each message meets memory and window in the order of the log, so that
batching changes nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from services import codec
from services.classify.behaviour import (
    ASKED,
    BOND_FLAG,
    MAX_RECIPIENTS,
    NOTICE,
    WORDY,
    Sent,
    Windows,
    is_broadcasting,
    is_writing_around,
    signals,
)
from services.classify.fingerprint import Prints, prints
from services.classify.memory import Memory, Seen, key_of
from services.classify.shelf import Shelf
from services.classify.text import hosts
from services.deadletter import dead_letter
from services.errors import BadRecord, Fault
from services.packing import CONTACTS, CORRECTIONS, TYPE_HEADER, packed
from services.records import (
    VERSION,
    Bond,
    Contact,
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
# Words of a text that says too little to tell who wrote it.
SHORT = 2
_LOW = 0xFFFFFFFF
# Below this a label says nothing, and is not carried along.
MIN_LABEL = 0.05
# A second look takes 4 ms, a message 0.1 ms in all: one look for so many messages adds a twentieth to their cost.
MESSAGES_A_LOOK = 1024
LOOKS_SAVED = 32


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
    def unsure(self, first: float) -> bool: ...
    def again(self, text: str, first: float) -> TextScore: ...


FindCampaign = Callable[[str, Sequence[str], int], str | None]
Locate = Callable[[str, bytes], int]


@dataclass(slots=True)
class Looks:
    """The budget of second looks, each as dear as hundreds of messages: a lane earns one with every second in which
    messages were received, and one with every `MESSAGES_A_LOOK` of them.

    In seconds of the record, not of the clock: a replay comes to the same. `saved` is in parts of a look.
    """

    saved: int = LOOKS_SAVED * MESSAGES_A_LOOK
    received_ms: int = 0

    def earn(self, received_ms: int) -> None:
        passed_ms = max(received_ms - self.received_ms, 0)
        self.received_ms += passed_ms
        earned = 1 + passed_ms * MESSAGES_A_LOOK // 1000
        self.saved = min(self.saved + earned, LOOKS_SAVED * MESSAGES_A_LOOK)

    def spend(self) -> bool:
        """Whether there is one left."""
        if self.saved < MESSAGES_A_LOOK:
            return False
        self.saved -= MESSAGES_A_LOOK
        return True


@dataclass(slots=True)
class State:
    """All that one lane remembers. `high_ms`: its highest event time."""

    memory: Memory = field(default_factory=Memory)
    windows: Windows = field(default_factory=Windows)
    seen: Seen = field(default_factory=Seen)
    looks: Looks = field(default_factory=Looks)
    high_ms: int = 0

    @classmethod
    def bounded(cls, max_bytes: int) -> "State":
        """A state of at most so many bytes, three in five for windows, the rest for conversations."""
        return cls(Memory(shelf=Shelf(max_bytes * 2 // 5)), Windows(Shelf(max_bytes * 3 // 5)))

    def at(self, offset: int) -> None:
        """The record that is taken in next, while a log is read again."""
        self.memory.shelf.offset = self.windows.shelf.offset = offset

    def go_on(self) -> None:
        """What comes next was never taken in."""
        self.memory.shelf.go_on()
        self.windows.shelf.go_on()


class Observation(NamedTuple):
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
            _meet(contact, state)
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
                _spread(sighting, sightings, locate)
    batch.outputs.extend(packed(SIGHTINGS, sightings, _sightings, state.high_ms))
    return batch


def _spread(sighting: Sighting, sightings: dict[int, list[Sighting]], locate: Locate) -> None:
    """A sighting goes wherever one of its keys is counted, with the keys that are counted there."""
    places: dict[int, list[str]] = defaultdict(list)
    for key in sighting.keys:
        places[locate(SIGHTINGS, key.encode())].append(key)
    for place, keys in places.items():
        sightings[place].append(replace(sighting, keys=tuple(keys)))


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
    text_score, skipped = _looked_again(message, observation.bond, text_score, state.looks, scorer)
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
        degraded=tuple(_degraded(observation.bond, text_score, skipped=skipped)),
        message=message,
    )
    return score, sighting


def _looked_again(
    message: Message, bond: Bond, first: TextScore | None, looks: Looks, scorer: Scorer | None
) -> tuple[TextScore | None, bool]:
    """The text score, with a second look where a stranger's message leaves the first unsure; whether it was skipped."""
    looks.earn(message.received_ms)
    if scorer is None or first is None or bond is not Bond.COLD or not scorer.unsure(first.first):
        return first, False
    return (scorer.again(message.text, first.first), False) if looks.spend() else (first, True)


def _telling_labels(labels: dict[str, float]) -> dict[str, float]:
    return {label: probability for label, probability in labels.items() if probability >= MIN_LABEL}


_UNREADABLE = (Degraded.UNREADABLE,)


def _degraded(bond: Bond, text_score: TextScore | None, *, skipped: bool) -> Iterable[Degraded]:
    if text_score is None:
        yield Degraded.MODEL_MISSING
    if skipped:
        yield Degraded.SECOND_LOOK_SKIPPED
    if bond is Bond.UNKNOWN:
        yield Degraded.MEMORY_YOUNG


def observe(message: Message, state: State) -> Observation:
    """Let memory and window take in a message; returns what they know of it."""
    scope = scoped(message.tenant, message.platform, "")
    sender, conversation = scope + message.sender_id, scope + message.conversation_id
    sender_key, conversation_key = key_of(sender), key_of(conversation)
    recipients = message.recipients
    met = state.memory.meet(conversation_key, sender_key, message.event_ms)
    bond, asked = state.memory.bond(message, met.heard), met.asked and len(recipients) == 1
    before = state.windows.get(sender_key)
    broadcasting = is_broadcasting(before)
    # A conversation's words are nobody's business, unless its sender broadcasts, or writes to many who had not asked.
    apart = bond is not Bond.WARM or broadcasting or (not asked and is_writing_around(before))
    found = prints(message) if apart else _own_words(message.text) if met.answers else _UNREAD
    sent = Sent(
        message.event_ms,
        key_of(scope + recipients[0]) if len(recipients) == 1 else conversation_key,
        found.skeleton & _LOW,
        found.band_a & _LOW,
        found.band_b & _LOW,
        _host(message.text, bond),
        _event_key(message.event_id, message.revision),
        min(len(recipients), MAX_RECIPIENTS) or 1,
        BOND_FLAG[bond]
        | (ASKED if asked else 0)
        | (WORDY if found.words > SHORT else 0)
        | (NOTICE if found.notice else 0),
    )
    window = state.windows.add(sender_key, before, sent)
    for other in met.answers:
        state.windows.answered(other, sender_key, conversation_key)
    if met.answers:
        state.windows.conversed(sender_key, sent)
    sighting = None
    if found.telling and bond is not Bond.WARM:
        recipient = scope + recipients[0] if len(recipients) == 1 else ""
        sighting = Sighting(message.tenant, found.keys, sender, conversation, message.event_ms, recipient)
    return Observation(bond, signals(window, sent, message, bond, broadcasting), sighting)


def _own_words(text: str) -> Prints:
    """How many words a text has, and a key that the very same words share."""
    return Prints(key_of(text) if text else 0, 0, 0, 1 + text.count(" "))


_UNREAD = Prints()


def _host(text: str, bond: Bond) -> int:
    """The first host that a text links to; 0: none. In a conversation a link needs its scheme to be seen."""
    if bond is Bond.WARM and "://" not in text:
        return 0
    return next((key_of(host) & _LOW for host in hosts(text)), 0)


def is_new(message: Message, state: State) -> bool:
    """Whether it must be taken in. History is: it was decided elsewhere, or never."""
    state.high_ms = max(state.high_ms, message.event_ms)
    return message.backfill or not state.seen.repeat(message, state.high_ms)


def _event_key(event_id: str, revision: int) -> int:
    """The key of an event among its sender's."""
    return (key_of(event_id) + revision) & _LOW


def _meet(contact: Contact, state: State) -> None:
    """Somebody wrote in a conversation, maybe in answer to one of this lane's senders."""
    conversation, writer = key_of(contact.conversation), key_of(contact.writer)
    for other in state.memory.meet(conversation, writer, contact.event_ms).answers:
        state.windows.answered(other, writer, conversation)


def _correct(correction: Correction, state: State) -> None:
    state.windows.forget(key_of(correction.sender), _event_key(correction.event_id, correction.revision))


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
