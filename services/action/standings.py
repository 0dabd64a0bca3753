"""A full copy of `dm.standing` in memory. Pure.

Most senders have no standing, so what is held is kept as it came and read when it is asked for: 100,000 of one exempt
pair each are 27 MB so, and 57 MB as records.
"""

from dataclasses import dataclass, field

from services import codec
from services.records import Inbound, Standing
from services.spans import DAY_MS

STRIKE_HALF_LIFE_MS = 30 * DAY_MS
# Strikes below this weigh nothing that can be seen in a score.
MIN_STRIKES = 0.01


def decayed(strikes: float, after_ms: int) -> float:
    """What is left of strikes: half after 30 days; of those to come, all."""
    return strikes * float(0.5 ** (max(after_ms, 0) / STRIKE_HALF_LIFE_MS))


def is_over(standing: Standing, at_ms: int) -> bool:
    """Whether nothing of it counted any more at that moment."""
    ends = (standing.block_until_ms, standing.trust_until_ms, *standing.exempt.values())
    return max(ends) < at_ms and decayed(standing.strikes, at_ms - standing.strikes_ms) < MIN_STRIKES


@dataclass(slots=True)
class Standings:
    """What is held of senders, by scoped sender."""

    _held: dict[bytes, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._held)

    def apply(self, record: Inbound) -> None:
        """Take over the latest word on a sender; raises BadRecord."""
        sender = record.key or b""
        if record.value is None:
            self._held.pop(sender, None)
            return
        codec.decode(record.value, Standing)
        self._held[sender] = record.value

    def find(self, sender: str) -> Standing | None:
        """What is held of a scoped sender."""
        value = self._held.get(sender.encode())
        return None if value is None else codec.decode(value, Standing)
