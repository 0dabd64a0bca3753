"""Who wrote in which conversation, and which events were seen: a lane's memory, in event time, bounded.

Keys are 64-bit hashes of scoped ids, so that an entry costs the same whatever the platform's ids look like. What is
bounded is an OrderedDict: the first entry of a plain dict lies behind all that was deleted before it. At the bounds,
behaviour included, a message takes 35 us instead of 47.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from xxhash import xxh3_64_intdigest

from services.records import Bond, Contact, Message, scoped

DAY_MS = 24 * 3_600_000
MEMORY_MS = 90 * DAY_MS
# Until the memory is this old, a pair that it does not know may still have talked before.
YOUNG_MS = 14 * DAY_MS
REPEAT_S = 3600
MAX_CONVERSATIONS = 1_000_000
MAX_WRITERS = 8
MAX_SEEN = 2_000_000


def key_of(scoped_id: str) -> int:
    """The 64-bit key of a scoped id."""
    return xxh3_64_intdigest(scoped_id.encode())


Writers = tuple[tuple[int, int, int], ...]  # (writer, first_ms, last_ms)


@dataclass(slots=True)
class Memory:
    """Conversations of the last 90 days. `whole`: what it was given is the whole history, so nothing is unknown."""

    whole: bool = False
    begin_ms: int | None = None
    _conversations: OrderedDict[int, Writers] = field(default_factory=OrderedDict)

    def note(self, conversation: int, writer: int, event_ms: int) -> None:
        """`writer` wrote in `conversation`. A late note counts from its own time."""
        if self.begin_ms is None or event_ms < self.begin_ms:
            self.begin_ms = event_ms
        writers = self._conversations.pop(conversation, ())
        self._conversations[conversation] = _noted(writers, writer, event_ms)
        if len(self._conversations) > MAX_CONVERSATIONS:
            del self._conversations[next(iter(self._conversations))]

    def contact(self, contact: Contact) -> None:
        self.note(key_of(contact.conversation), key_of(contact.writer), contact.event_ms)

    def bond(self, message: Message, conversation: int, sender: int) -> Bond:
        """What is known of the message's conversation before it."""
        relation = message.relation
        prior = relation.prior_messages_from_recipient if relation else None
        if prior or message.in_reply_to is not None or self._answered(conversation, sender, message.event_ms):
            return Bond.WARM
        return Bond.COLD if prior == 0 or self._knows(message) else Bond.UNKNOWN

    def _answered(self, conversation: int, sender: int, event_ms: int) -> bool:
        """Whether somebody else wrote there in the 90 days before."""
        return any(
            writer != sender and first_ms <= event_ms and last_ms > event_ms - MEMORY_MS
            for writer, first_ms, last_ms in self._conversations.get(conversation, ())
        )

    def _knows(self, message: Message) -> bool:
        """Whether a pair that the memory does not hold is a pair of strangers."""
        if self.whole:
            return True
        if self.begin_ms is None:
            return False
        created_ms = message.sender.created_ms if message.sender else None
        younger = created_ms is not None and created_ms >= self.begin_ms
        return younger or message.event_ms - self.begin_ms >= YOUNG_MS


def _noted(writers: Writers, writer: int, event_ms: int) -> Writers:
    for place, (known, first_ms, last_ms) in enumerate(writers):
        if known == writer:
            span = (writer, min(first_ms, event_ms), max(last_ms, event_ms))
            return (*writers[:place], span, *writers[place + 1 :])
    return (*writers[-MAX_WRITERS + 1 :], (writer, event_ms, event_ms))


@dataclass(slots=True)
class Seen:
    """Events of the last hour of lane time. Values are seconds, one shared object each, to keep an entry small."""

    _second: int = 0
    _events: OrderedDict[int, int] = field(default_factory=OrderedDict)

    def repeat(self, message: Message, high_ms: int) -> bool:
        """Whether this event and revision was seen within the hour before `high_ms`, the lane's highest event time."""
        second = high_ms // 1000
        if second != self._second:
            self._second = second
            self._forget(second - REPEAT_S)
        event = key_of(f"{scoped(message.tenant, message.platform, message.event_id)}\n{message.revision}")
        if event in self._events:
            return True
        self._events[event] = self._second
        if len(self._events) > MAX_SEEN:
            del self._events[next(iter(self._events))]
        return False

    def _forget(self, before_s: int) -> None:
        old = []
        for event, second in self._events.items():
            if second >= before_s:
                break
            old.append(event)
        for event in old:
            del self._events[event]
