"""Who writes: accounts, their ids and profiles, and what two of them have had to do with each other before.

An account is a number below `Accounts.total`; people come first, then desks, organisers and bots. Everything a person
is follows from that number and the seed, so that a hundred thousand people need no memory. All names are invented.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import gcd
from random import Random

from services.cli.simulate.words import BRANDS, CLUBS, FIRMS, FIRST_NAMES, HOBBIES, TRADES

CIRCLE = 8
VILLAGE = 64
_MASK = 0xFFFFFFFFFFFFFFFF
_IDS = 9_999_991  # prime: a walk with any step reaches every id once
_MINUTES = tuple(f"T{minute // 60:02d}:{minute % 60:02d}:" for minute in range(1440))


def mix(value: int, salt: int) -> int:
    """A 64-bit hash of a number, the same on every machine."""
    value = (value * 0x9E3779B97F4A7C15 + salt) & _MASK
    value ^= value >> 31
    value = value * 0xBF58476D1CE4E5B9 & _MASK
    return value ^ value >> 29


@dataclass(slots=True)
class Pair:
    """Two accounts that write to each other, whoever writes first.

    `history`: messages of (`one`, `two`) to the other before the simulation began. `follows`: since when, in RFC 3339,
    (`two` follows `one`, `one` follows `two`); None where it does not follow.
    """

    one: int
    two: int
    conversation: str | None
    history: tuple[int, int] = (0, 0)
    follows: tuple[str | None, str | None] = (None, None)


class Accounts:
    """All accounts of one simulation. `people` are 0 up to `people`; `add` appends the others."""

    def __init__(self, people: int, rng: Random, start_ms: int) -> None:
        self.people = people
        self.total = people
        self._salt = rng.getrandbits(63)
        self._step = rng.randrange(1_000_003, _IDS)
        self._offset = rng.randrange(_IDS)
        self._special: dict[int, dict[str, object]] = {}
        today = datetime.fromtimestamp(start_ms // 1000, UTC)
        self._days = [(today - timedelta(days=age)).strftime("%Y-%m-%d") for age in range(5000)]

    def add(self, make: Callable[[int], dict[str, object]]) -> int:
        """A new account with the profile that `make` gives for its hash."""
        account = self.total
        self.total += 1
        self._special[account] = make(mix(account, self._salt))
        return account

    def name(self, account: int) -> str:
        """The id: distinct accounts have distinct ids, and an id tells nothing of its account."""
        return f"u-{(account * self._step + self._offset) % _IDS}"

    def first_name(self, account: int) -> str:
        return FIRST_NAMES[mix(account, self._salt) % len(FIRST_NAMES)]

    def profile(self, account: int) -> dict[str, object]:
        """The `sender` part of an event."""
        special = self._special.get(account)
        return special if special is not None else self.person(mix(account, self._salt))

    def card(self, account: int) -> dict[str, object]:
        """The `recipient` part of an event."""
        special = self._special.get(account)
        if special is not None:
            return {"handle": special["handle"], "display_name": special["display_name"]}
        handle, display = _names(mix(account, self._salt))
        return {"handle": handle, "display_name": display}

    def person(self, h: int) -> dict[str, object]:
        """Anybody: years on the platform, a few hundred followers; one in twenty-five joined within the month."""
        handle, display = _names(h)
        age = h >> 9 & 4095
        return {
            "handle": handle,
            "display_name": display,
            "created_at": self.ago(age % 30 if age < 164 else age, h),
            "followers": _skewed(h >> 12 & 1023),
            "following": _skewed(h >> 22 & 1023),
            "verified": h >> 33 & 63 == 0,
        }

    def desk(self, h: int) -> dict[str, object]:
        firm, trade = FIRMS[h % len(FIRMS)], TRADES[h >> 8 & 7]
        return {
            "handle": f"{firm}{trade}Help{h >> 20 & 63}".lower(),
            "display_name": f"{firm} {trade}",
            "created_at": self.ago(400 + (h >> 9 & 2047), h),
            "followers": 2000 + (h >> 12 & 65535),
            "following": h >> 22 & 511,
            "verified": h >> 33 & 3 != 0,
        }

    def organiser(self, h: int) -> dict[str, object]:
        firm, club = FIRMS[h % len(FIRMS)], CLUBS[h >> 8 & 7]
        return {
            "handle": f"{firm}_{club}{h >> 20 & 63}".lower(),
            "display_name": f"{firm} {club}",
            "created_at": self.ago(60 + (h >> 9 & 2047), h),
            "followers": 150 + (h >> 12 & 1023),
            "following": 100 + (h >> 22 & 511),
            "verified": h >> 33 & 15 == 0,
        }

    def bot(self, h: int) -> dict[str, object]:
        """Most are weeks or months old, one in six was bought with its years; half look like a person."""
        profile = self.person(h)
        kind, age = h >> 40 & 7, h >> 9 & 4095
        profile["created_at"] = self.ago(age if kind == 0 else age % 365 if kind < 3 else age % 90, h)
        profile["following"] = 200 + (h >> 22 & 4095)
        if h >> 44 & 1:
            brand = BRANDS[h >> 48 & 7]
            profile["handle"] = f"{profile['handle']}_{brand}"
            profile["display_name"] = f"{profile['display_name']} {brand.title()}"
        return profile

    def old_account(self, h: int) -> dict[str, object]:
        """Somebody's account of four to twelve years ago."""
        return {**self.person(h), "created_at": self.ago(1460 + (h >> 9 & 2047), h)}

    def ago(self, days: int, h: int) -> str:
        """RFC 3339 of a moment so many days before the day of the start; `h` gives the time of day."""
        return f"{self._days[days + 1]}{_MINUTES[(h >> 17) % 1440]}{h >> 27 & 31:02d}Z"

    def stranger(self, person: int, rng: Random) -> int:
        """Somebody whom `person` has never written to; with fewer people than a village, anybody else."""
        village = person // VILLAGE
        for _ in range(8):
            other = int(rng.random() * self.people)
            if other // VILLAGE != village:
                return other
        return (person + self.people // 2) % self.people

    def stride(self, rng: Random) -> int:
        """A step with which a walk over the people meets everybody before anybody twice."""
        step = rng.randrange(1, 1000)
        while gcd(self.people, step) != 1:
            step += 1
        return step

    def circle(self, person: int) -> list[int]:
        """The seven friends of a person, fewer at the end of the list."""
        first = person // CIRCLE * CIRCLE
        return [other for other in range(first, min(first + CIRCLE, self.people)) if other != person]

    def village(self, person: int) -> list[int]:
        """The up to 63 people whom a person has ever written with; the circle is among them."""
        first = person // VILLAGE * VILLAGE
        return [other for other in range(first, min(first + VILLAGE, self.people)) if other != person]

    def _bond(self, one: int, two: int) -> int:
        low, high = (one, two) if one < two else (two, one)
        return mix(low * 0x1000003 + high, self._salt)

    def pair(
        self,
        one: int,
        two: int,
        history: tuple[int, int] = (0, 0),
        follows: tuple[str | None, str | None] = (None, None),
    ) -> Pair:
        """Half of all pairs have their conversation named by the platform, in both directions alike."""
        low, high = (one, two) if one < two else (two, one)
        named = self._bond(one, two) >> 7 & 1
        conversation = f"c-{self.name(low)[2:]}-{self.name(high)[2:]}" if named else None
        return Pair(one, two, conversation, history, follows)

    def friends(self, one: int, two: int) -> Pair:
        """Two people of one village: they have written before, and nearly always follow each other."""
        h = self._bond(one, two)
        most = 400 if one // CIRCLE == two // CIRCLE else 30
        since = self.ago(20 + (h >> 20 & 2047), h)
        history = (1 + (h >> 32) % most, 1 + (h >> 42) % most)
        follows = (since if h >> 8 & 15 else None, since if h >> 12 & 15 else None)
        if one > two:
            history, follows = history[::-1], follows[::-1]
        return self.pair(one, two, history, follows)

    def known(self, one: int, two: int, wrote: float, follow: tuple[float, float]) -> Pair:
        """A pair with a past by chance, the same chance whenever it is asked for.

        `wrote`: the share of such pairs in which both have written; `follow`: the share in which `two` follows
        `one`, and `one` follows `two`.
        """
        h = self._bond(one, two)
        history = (1 + (h >> 20 & 3), 1 + (h >> 22 & 3)) if (h >> 24 & 1023) < wrote * 1024 else (0, 0)
        if one > two:
            history = history[::-1]
        since = self.ago(1 + (h >> 40 & 1023), h)
        fan = since if (h >> 34 & 1023) < follow[0] * 1024 else None
        back = since if (h >> 48 & 1023) < follow[1] * 1024 else None
        return self.pair(one, two, history, (fan, back))


def _names(h: int) -> tuple[str, str]:
    """Handle and display name."""
    first, word, number = FIRST_NAMES[h % len(FIRST_NAMES)], HOBBIES[h >> 8 & 15], h >> 16 & 1023
    style = h >> 26 & 3
    if style == 0:
        return f"{first.lower()}{number}", first
    if style == 1:
        return f"{first.lower()}_{word}", f"{first} {word}"
    return f"{first.lower()}.{word}{number & 127}", first


def _skewed(level: int) -> int:
    """0..1023 to a few, a few hundred or, seldom, some thousands."""
    return 5 + level + (level * level >> 9) + (level * 8 if level > 1000 else 0)
