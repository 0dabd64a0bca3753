"""How much a lane may still quarantine: a tenant's limit an hour, divided among the lanes, in event time. Pure.

What is spent is committed with the lane's offset: whoever takes the lane over, or replays its records, comes to the
same decisions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from services.spans import HOUR_MS

# A broker keeps 4,096 bytes beside an offset (offset.metadata.max.bytes); a tenant takes 20 of them at most.
MAX_TENANTS = 200

# (tenant, campaign id, moment) -> whether the tenant's review found the campaign unwelcome.
IsConfirmed = Callable[[str, str, int], bool]


def _nobody(tenant: str, campaign_id: str, event_ms: int) -> bool:
    return False


@dataclass(slots=True)
class Budget:
    """What one lane of several has quarantined in an hour, by tenant.

    The hour is that of the latest quarantine. Of more than 200 tenants the one that spent least is forgotten.
    """

    lane: int = 0
    lanes: int = 1
    is_confirmed: IsConfirmed = _nobody
    _hour: int = 0
    _spent: dict[str, int] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _news: list[str] = field(default_factory=list)

    def is_over(self, tenant: str, limit: int, campaign_id: str | None, event_ms: int) -> bool:
        """Whether there is nothing left for one more quarantine; if there is, it is spent.

        One of a confirmed campaign costs nothing and is never too many.
        """
        if campaign_id is not None and self.is_confirmed(tenant, campaign_id, event_ms):
            return False
        if event_ms // HOUR_MS > self._hour:
            self._begin(event_ms // HOUR_MS)
        name = _short(tenant)
        spent = self._spent.get(name, 0)
        if spent >= self._share(limit):
            self._tell(tenant)
            return True
        if not spent and len(self._spent) == MAX_TENANTS:
            del self._spent[min(self._spent, key=self._spent.__getitem__)]
        self._spent[name] = spent + 1
        return False

    def ran_out(self) -> list[str]:
        """The tenants whose budget ran out since this was asked last, each once an hour."""
        news, self._news = self._news, []
        return news

    def written(self) -> str:
        """What is spent, to be committed with the offset: the hour, then `tenant:number` of each."""
        return " ".join([str(self._hour), *(f"{name}:{spent}" for name, spent in self._spent.items())])

    def resume(self, written: str) -> None:
        """Take up what was committed; what cannot be read is an hour in which nothing was spent."""
        try:
            hour, *parts = written.split(" ")
            spent = {name: int(number) for name, _, number in (part.partition(":") for part in parts)}
            self._begin(int(hour))
            self._spent = spent
        except ValueError:
            self._begin(0)

    def _begin(self, hour: int) -> None:
        self._hour, self._spent = hour, {}
        self._told.clear()

    def _share(self, limit: int) -> int:
        """This lane's part of a limit: the parts of all lanes add up to it."""
        return limit // self.lanes + (self.lane < limit % self.lanes)

    def _tell(self, tenant: str) -> None:
        if tenant not in self._told and len(self._told) < MAX_TENANTS:
            self._told.add(tenant)
            self._news.append(tenant)


def _short(tenant: str) -> str:
    """A tenant's name in 8 characters: two of 200 are the same once in 200,000 hours."""
    return blake2b(tenant.encode(), digest_size=4).hexdigest()
