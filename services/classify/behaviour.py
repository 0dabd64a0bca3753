"""What a sender did in the last day: a window of its messages, and the signals that it gives. Pure, in event time.

A message counts from its own time on, whenever it arrives: a late one lands among its own, and one that is dated back
sees everything that came after it too, so it cannot slip out of a window. Dates in the future are clamped by ingest.
"""

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from services.records import Bond, Message

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MAX_SENDERS = 300_000
# The most that a sender's counts can tell apart, and what bounds the time of one message.
MAX_SENT = 256
MAX_RECIPIENTS = 64
# A pair that memory is too young to know counts for half a stranger.
WEIGHT = {Bond.COLD: 1.0, Bond.UNKNOWN: 0.5, Bond.WARM: 0.0}


_moment = attrgetter("event_ms")


class Sent(NamedTuple):
    """One message in a sender's window. Ids, texts and hosts are 64-bit keys; 0: none."""

    event_ms: int
    event: int
    recipients: tuple[int, ...]
    weight: float
    fingerprint: int
    hosts: tuple[int, ...]


@dataclass(slots=True)
class Windows:
    """The senders of a lane, the longest silent first; those silent for a day are dropped."""

    high_ms: int = 0
    _senders: OrderedDict[int, list[Sent]] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._senders)

    def advance(self, event_ms: int) -> None:
        """Move the lane's highest event time."""
        self.high_ms = max(self.high_ms, event_ms)

    def add(self, sender: int, sent: Sent) -> list[Sent]:
        """Put a message into its sender's window; returns the window, oldest first."""
        window = self._senders.pop(sender, [])
        horizon_ms = self.high_ms - DAY_MS
        if sent.event_ms > horizon_ms:
            if window and sent.event_ms < window[-1].event_ms:
                insort(window, sent)
            else:
                window.append(sent)
        while window and (window[0].event_ms <= horizon_ms or len(window) > MAX_SENT):
            del window[0]
        if window:
            self._senders[sender] = window
        self._evict(horizon_ms)
        return window

    def forget(self, sender: int, event: int) -> None:
        """Take a message back that was wrongly counted."""
        window = self._senders.get(sender)
        if window:
            window[:] = [sent for sent in window if sent.event != event]

    def _evict(self, horizon_ms: int) -> None:
        while self._senders:
            oldest = next(iter(self._senders))
            window = self._senders[oldest]
            if window and window[-1].event_ms > horizon_ms and len(self._senders) <= MAX_SENDERS:
                return
            del self._senders[oldest]


def signals(window: list[Sent], sent: Sent, message: Message, bond: Bond) -> dict[str, float]:
    """The behaviour numbers of a message, itself counted, from its sender's window. Zeros are left out.

    In a conversation the window is not asked: nothing in it would change what is decided.
    """
    found: dict[str, float] = {}
    followed_ms = message.relation.followed_ms if message.relation else None
    if followed_ms is not None and message.event_ms >= followed_ms:
        found["seconds_since_follow"] = (message.event_ms - followed_ms) / 1000
    if bond is not Bond.WARM:
        found["messages_1m"] = _after(window, sent.event_ms - MINUTE_MS)
        found["messages_1h"] = _after(window, sent.event_ms - HOUR_MS)
        found["messages_24h"] = len(window)
        found.update((name, value) for name, value in _strangers(window, sent).items() if value)
    return found


def _after(window: list[Sent], begin_ms: int) -> int:
    return len(window) - bisect_right(window, begin_ms, key=_moment)


def _strangers(window: list[Sent], current: Sent) -> dict[str, float]:
    """Reach among strangers: distinct recipients, and those who got the same words or the same link host."""
    day = [sent for sent in window if sent.weight]
    hour = day[bisect_right(day, current.event_ms - HOUR_MS, key=_moment) :]
    found = {"cold_recipients_1h": _reach(hour), "cold_recipients_24h": _reach(day)}
    if current.fingerprint:
        found["repeats_1h"] = _others(sent for sent in hour if sent.fingerprint == current.fingerprint)
        found["repeats_24h"] = _others(sent for sent in day if sent.fingerprint == current.fingerprint)
    if current.hosts:
        hosts = set(current.hosts)
        found["link_repeats_24h"] = _others(sent for sent in day if not hosts.isdisjoint(sent.hosts))
    return found


def _reach(sent: list[Sent]) -> float:
    """Distinct recipients, those of unknown pairs at their weight."""
    cold = {recipient for one in sent if one.weight == 1 for recipient in one.recipients}
    unknown = {recipient for one in sent if one.weight != 1 for recipient in one.recipients}
    return len(cold) + WEIGHT[Bond.UNKNOWN] * len(unknown - cold)


def _others(sent: Iterable[Sent]) -> int:
    """Distinct recipients but one: how often it was repeated to somebody else."""
    return max(len({recipient for one in sent for recipient in one.recipients}) - 1, 0)
