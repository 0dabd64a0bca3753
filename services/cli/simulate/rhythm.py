"""The hours of a day: people write by day, and less by night."""

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

from services.codec import rfc3339
from services.spans import DAY_MS, HOUR_MS, MINUTE_MS

# Share of a day's messages by hour, UTC: a platform used on several continents, quietest before dawn in Europe.
_HOURS = (26, 19, 14, 12, 12, 16, 24, 34, 42, 47, 49, 50, 53, 52, 50, 49, 51, 55, 60, 65, 66, 60, 50, 36)
_SUMS = (0.0, *(total / sum(_HOURS) for total in accumulate(_HOURS)))


def clock_ms(busy_days: float) -> int:
    """From activity time (one unit is a day's worth of messages, counted from the epoch) to milliseconds."""
    day = int(busy_days)
    part = busy_days - day
    hour = min(bisect_right(_SUMS, part) - 1, 23)
    within = (part - _SUMS[hour]) / (_SUMS[hour + 1] - _SUMS[hour])
    return day * DAY_MS + int((hour + within) * HOUR_MS)


def busy_days(at_ms: int) -> float:
    """The inverse of `clock_ms`."""
    day, rest = divmod(at_ms, DAY_MS)
    hour, ms = divmod(rest, HOUR_MS)
    return day + _SUMS[hour] + (_SUMS[hour + 1] - _SUMS[hour]) * ms / HOUR_MS


@lru_cache(maxsize=8192)
def _minute(minutes: int) -> str:
    return rfc3339(minutes * MINUTE_MS)[:17]


def stamp(at_ms: int) -> str:
    """RFC 3339 to the millisecond; by the minute, as a simulated day has more seconds than a cache should hold."""
    minutes, rest = divmod(at_ms, MINUTE_MS)
    second, ms = divmod(rest, 1000)
    return f"{_minute(minutes)}{second:02d}.{ms:03d}Z"


def stamp_second(at_ms: int) -> str:
    """RFC 3339 to the second, as platforms write when somebody followed."""
    minutes, rest = divmod(at_ms, MINUTE_MS)
    return f"{_minute(minutes)}{rest // 1000:02d}Z"
