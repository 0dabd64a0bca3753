"""Which texts are being sent by many senders to many people: distinct names per fingerprint. Pure, in event time.

The same core runs in the `campaigns` service and, message by message, in `doorman replay`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from services.classify.memory import key_of
from services.records import VERSION, Campaign, Sighting, campaign_review_key
from services.spans import DAY_MS, HOUR_MS

MIN_SENDERS = 10
# Many may write the same to one: a club that one joins by a phrase, a shop, a star. That is no campaign.
MIN_RECIPIENTS = 5
# What one text counts exactly; past it a campaign is a campaign, and its counts stay.
MAX_NAMES_OF_TEXT = 1000
# About 300 MB at most: 850 bytes a text, 110 a name.
MAX_TEXTS = 200_000
MAX_NAMES = 1_000_000
# A text may come a day late; one silent for longer than that comes as a new one.
SILENT_MS = 2 * DAY_MS
# A campaign is told of again when it has grown by a fifth, or lives an hour longer than was told.
GROWTH = 1.2
STRETCH_MS = HOUR_MS

Key = tuple[str, str]


def campaign_id(tenant: str, key: str) -> str:
    """The same words in the same tenant are the same campaign, whenever they are sent."""
    return "k-" + blake2b(f"{len(tenant)}:{tenant}{key}".encode(), digest_size=10).hexdigest()


@dataclass(slots=True)
class _Text:
    """Who sent one text to strangers, and when last. Names are hashes of 64 bits; `oldest_ms` is a lower bound.

    Where no recipient is named the conversation stands for them.
    """

    senders: dict[int, int] = field(default_factory=dict)
    conversations: dict[int, int] = field(default_factory=dict)
    recipients: dict[int, int] = field(default_factory=dict)
    first_ms: int = 0
    last_ms: int = 0
    oldest_ms: int = 0
    told_senders: int = 0
    told_expiry_ms: int = 0

    @property
    def names(self) -> int:
        return sum(map(len, self._counted()))

    def take(self, sender: int, conversation: int, recipient: int, event_ms: int) -> bool:
        """False for a sighting that is older than a day when it comes."""
        if event_ms <= self.last_ms - DAY_MS:
            return False
        self.last_ms = max(self.last_ms, event_ms)
        if self.oldest_ms <= self.last_ms - DAY_MS:
            self._forget(self.last_ms - DAY_MS, event_ms)
        self.oldest_ms = min(self.oldest_ms, event_ms)
        self.first_ms = min(self.first_ms, event_ms)
        for counted, name in zip(self._counted(), (sender, conversation, recipient), strict=True):
            if name in counted or len(counted) < MAX_NAMES_OF_TEXT:
                counted[name] = max(counted.get(name, 0), event_ms)
        return True

    def _forget(self, horizon_ms: int, event_ms: int) -> None:
        for counted in self._counted():
            for name in [name for name, last_ms in counted.items() if last_ms <= horizon_ms]:
                del counted[name]
        self.oldest_ms = min(self.senders.values(), default=event_ms)
        if not self.senders:
            self.first_ms = event_ms

    def _counted(self) -> tuple[dict[int, int], ...]:
        return self.senders, self.conversations, self.recipients

    def news(self) -> bool:
        """Whether there is a campaign of which not all is told."""
        count = len(self.senders)
        grown = count >= self.told_senders * GROWTH or self.last_ms + DAY_MS >= self.told_expiry_ms + STRETCH_MS
        return grown and count >= MIN_SENDERS and len(self.recipients) >= MIN_RECIPIENTS


@dataclass(slots=True)
class Campaigns:
    """The texts of a day, those silent longest dropped first. Taking a sighting in twice changes nothing."""

    # A plain dict finds its first entry by passing over all that were deleted before it: 70 µs a sighting when full.
    _texts: OrderedDict[Key, _Text] = field(default_factory=OrderedDict)
    _names: int = 0
    _high_ms: int = 0

    def sight(self, sighting: Sighting) -> Campaign | None:
        """Take in a sighting; returns the campaign that there is to tell of."""
        told = None
        sender, conversation = key_of(sighting.sender), key_of(sighting.conversation)
        recipient = key_of(sighting.recipient) if sighting.recipient else conversation
        self._high_ms = max(self._high_ms, sighting.event_ms)
        for key in sighting.keys:
            place = (sighting.tenant, key)
            text = self._texts.setdefault(place, _Text())
            self._texts.move_to_end(place)
            held = text.names
            if text.take(sender, conversation, recipient, sighting.event_ms) and told is None and text.news():
                told = self._tell(place, text)
            self._names += text.names - held
        self._drop()
        return told

    def _drop(self) -> None:
        """Drop the texts seen longest ago that are over, or one too many."""
        while self._texts:
            place = next(iter(self._texts))
            text = self._texts[place]
            crowded = len(self._texts) > MAX_TEXTS or self._names > MAX_NAMES
            if not crowded and text.last_ms > self._high_ms - SILENT_MS:
                return
            del self._texts[place]
            self._names -= text.names

    def _tell(self, place: Key, text: _Text) -> Campaign:
        tenant, key = place
        text.told_senders, text.told_expiry_ms = len(text.senders), text.last_ms + DAY_MS
        return Campaign(
            v=VERSION,
            campaign_id=campaign_id(tenant, key),
            tenant=tenant,
            key=key,
            senders=len(text.senders),
            conversations=len(text.conversations),
            first_ms=text.first_ms,
            last_ms=text.last_ms,
            expires_ms=text.told_expiry_ms,
        )


@dataclass(slots=True)
class LiveCampaigns:
    """A full copy of what was told of campaigns, by the keys of their texts, and of what reviews exempt."""

    _by_key: dict[Key, Campaign] = field(default_factory=dict)
    _keys: dict[str, Key] = field(default_factory=dict)
    _exempt: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_key)

    def apply(self, name: str, campaign: Campaign | None) -> None:
        """Take over the latest word on a campaign; None: it is over."""
        place = self._keys.pop(name, None)
        if place is not None:
            self._by_key.pop(place, None)
        self._exempt.pop(name, None)
        if campaign is not None and campaign.exempt:
            self._exempt[name] = campaign.expires_ms
        if campaign is not None and campaign.key:
            place = self._keys[name] = (campaign.tenant, campaign.key)
            self._by_key[place] = campaign

    def find(self, tenant: str, keys: Sequence[str], event_ms: int) -> str | None:
        """The campaign that a text with these keys belongs to at a moment, the first of them that is live.

        None where one of them is exempt: near-identical texts share some of their keys, and a review names one.
        """
        found = None
        for key in keys:
            campaign = self._by_key.get((tenant, key))
            if campaign is not None and campaign.expires_ms > event_ms:
                if self._is_exempt(campaign, event_ms):
                    return None
                found = found or campaign.campaign_id
        return found

    def _is_exempt(self, campaign: Campaign, event_ms: int) -> bool:
        return self._exempt.get(campaign_review_key(campaign.tenant, campaign.campaign_id), 0) > event_ms

    def get(self, name: str) -> Campaign | None:
        """The latest word on a campaign, by its id."""
        place = self._keys.get(name)
        return None if place is None else self._by_key[place]

    def expired(self, event_ms: int) -> list[str]:
        """The campaigns that were over before a moment."""
        return [campaign.campaign_id for campaign in self._by_key.values() if campaign.expires_ms <= event_ms]
