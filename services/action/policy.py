"""The policy file: weights, thresholds, lists, budget and mode, per tenant. Validated whole, versioned by content.

A tenant's table holds only what differs from `[default]`. Reasons are weighed in log-odds: what they mean stands here,
what they are worth stands in the file.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from services.action.lines import Place, line_of, lines_of
from services.action.mistakes import Mistake, mistake_of, short
from services.errors import BadSetup
from services.records import Bond, Degraded, Kind, Mode, ReasonCode

STRIKES = ReasonCode.STRIKES.value
# Every signal of classify's behaviour, and the strikes of a standing, with the words of its reason's detail.
SIGNALS = {
    "seconds_since_follow": "{:.0f} s",
    "messages_1m": "{:.0f} in 1 min",
    "messages_1h": "{:.0f} in 1 h",
    "messages_24h": "{:.0f} in 24 h",
    "cold_recipients_1h": "{:g} in 1 h",
    "cold_recipients_24h": "{:g} in 24 h",
    "repeats_1h": "{:.0f} in 1 h",
    "repeats_24h": "{:.0f} in 24 h",
    "link_repeats_24h": "{:.0f} in 24 h",
    "partners_24h": "{:.0f} in 24 h",
    "one_sided_1h": "{:g} in 1 h",
    "one_sided_24h": "{:g} in 24 h",
    "broadcast_24h": "{:.0f} strangers in 24 h",
    "word_spread_24h": "{:.0f} people in 24 h",
    "link_spread_1h": "{:.0f} people in 1 h",
    "even_gaps": "{:.2f}",
    "short_text": "two words or fewer",
    "notice": "names a code, an order or the like",
    "account_days": "{:.0f} days",
    "mutual_follow": "both",
    "trust": "{:.0f}",
    STRIKES: "{:g}",
}
_LABELS = frozenset(kind.value for kind in Kind)
MAX_NAME = 256

_DEFAULT: Place = ("default",)


class Expiry(StrEnum):
    """What becomes of a case that nobody reviewed in time: it stays in quarantine, or its message is let through."""

    STAY = "stay"
    ALLOW = "allow"


class Lacking(StrEnum):
    """What is done with a message that is judged with less than everything, the mildest first.

    `allow` and `quarantine`: whatever the score; only overrides beat them. `shadow`: decide by what there is, and let
    it through. `decide`: by what there is, which for an unreadable event is nothing: allow.
    """

    ALLOW = "allow"
    SHADOW = "shadow"
    QUARANTINE = "quarantine"
    DECIDE = "decide"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _rising(steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    bounds = [bound for bound, _ in steps]
    if not steps or bounds != sorted(set(bounds)):
        raise ValueError("bounds must rise, and there must be one")
    return steps


def _signal(name: str) -> str:
    if name not in SIGNALS:
        raise ValueError("is unknown here")
    return name


def _label(name: str) -> str:
    if name not in _LABELS:
        raise ValueError("is unknown here")
    return name


def _name(name: str) -> str:
    if not 1 <= len(name.encode(errors="replace")) <= MAX_NAME:
        raise ValueError(f"an id has 1 to {MAX_NAME} bytes")
    return name


MAX_HOST = 253
# Every word with full stops in it; begun at the start of a word only, each is passed over once.
_HOST = re.compile(r"(?<![\w-])[\w-]++(?:\.[\w-]++)+")
# What browsers leave out of a host (UTS 46, "ignored").
_LEFT_OUT = re.compile("[\u00ad\u034f\u180b-\u180f\u200b-\u200d\u2060\u2064\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]+")


def _host(name: str) -> str:
    if not _HOST.fullmatch(name) or name != name.lower() or len(name) > MAX_HOST:
        raise ValueError(f"{short(name)} is no host")
    return name


def _cause(cause: Degraded) -> Degraded:
    if cause is Degraded.BUDGET_EXHAUSTED:
        raise ValueError("an exhausted budget always means shadow")
    return cause


def _telling(answers: dict[Degraded, Lacking]) -> dict[Degraded, Lacking]:
    """Without those that change nothing: in its first weeks nearly every message lacks something."""
    return {cause: answer for cause, answer in answers.items() if answer is not Lacking.DECIDE}


Weight = Annotated[float, Field(ge=-20, le=20, allow_inf_nan=False, strict=True)]
Bound = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Steps = Annotated[list[tuple[Bound, Weight]], AfterValidator(_rising)]
_STEPS = "pairs of bound and weight like [[8, 0.5], [15, 1.2]], the bounds rising, a weight from -20 to 20"
_WEIGHT = "a weight from -20 to 20, in log-odds"


class SignalWeight(_Strict):
    """What a signal is worth: the weight of the last `at_least` step it reaches, or of the first `at_most` it is under.

    `strangers`: only where the pair is known to be cold. `conversations`: only inside one, where nothing else counts.
    """

    reason: ReasonCode = Field(description=f"one of {', '.join(ReasonCode)}, in quotes")
    at_least: Steps | None = Field(None, description=_STEPS)
    at_most: Steps | None = Field(None, description=_STEPS)
    strangers: bool = Field(False, description="true or false", strict=True)
    conversations: bool = Field(False, description="true or false", strict=True)

    @model_validator(mode="after")
    def _one_direction(self) -> "SignalWeight":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("needs at_least or at_most, not both")
        return self

    def applies(self, bond: Bond) -> bool:
        """Whether the signal counts between such a pair."""
        return (self.conversations is (bond is Bond.WARM)) and not (self.strangers and bond is not Bond.COLD)

    def weigh(self, value: float) -> float:
        """The weight of a value; 0: none."""
        found = 0.0
        if self.at_least is not None:
            for bound, weight in self.at_least:
                if value < bound:
                    break
                found = weight
            return found
        return next((weight for bound, weight in self.at_most or () if value <= bound), 0.0)


class _Lists(_Strict):
    allow: frozenset[str] = frozenset()
    block: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _apart(self) -> "_Lists":
        if both := self.allow & self.block:
            raise ValueError(f"{short(min(both))} is on both lists")
        return self


_IDS = 'ids in quotes, like ["u-17"]'
_HOSTS = 'hosts alone, in lower case, like ["shop.example"]'


class Senders(_Lists):
    """Sender ids, as the platform writes them."""

    allow: frozenset[Annotated[str, AfterValidator(_name)]] = Field(frozenset(), description=_IDS)
    block: frozenset[Annotated[str, AfterValidator(_name)]] = Field(frozenset(), description=_IDS)


class Links(_Lists):
    """Hosts that messages link to; those below them are meant too.

    A message is blocked for one host that is, and allowed where all of its hosts are.
    """

    allow: frozenset[Annotated[str, AfterValidator(_host)]] = Field(frozenset(), description=_HOSTS)
    block: frozenset[Annotated[str, AfterValidator(_host)]] = Field(frozenset(), description=_HOSTS)

    def blocks(self, text: str) -> bool:
        """Whether a text names a host that is blocked."""
        return bool(self.block) and any(_within(host, self.block) for host in _hosts(text))

    def allows(self, text: str) -> bool:
        """Whether a text names hosts, all of which are allowed."""
        hosts = [host for host in _hosts(text) if not _is_number(host)] if self.allow else []
        return bool(hosts) and all(_within(host, self.allow) for host in hosts)


def _hosts(text: str) -> Iterator[str]:
    """What in a text may be a host: a link needs no scheme before it, and a sentence no blank after its full stop.

    A text with characters that nobody sees is read twice: they may stand inside a host, or end one.
    """
    if "." in text or not text.isascii():
        for reading in {text, _LEFT_OUT.sub("", text)}:
            for match in _HOST.finditer(unicodedata.normalize("NFKC", reading)):
                yield match[0].lower()[-MAX_HOST:]


def _is_number(host: str) -> bool:
    return host.replace(".", "", 1).isdigit()


def _within(host: str, named: frozenset[str]) -> bool:
    """Whether a host, or one that it lies below, is named."""
    while host:
        if host in named:
            return True
        host = host.partition(".")[2]
    return False


class Tenant(_Strict):
    """One tenant's policy."""

    threshold: Annotated[float, Field(gt=0, lt=1, strict=True)] = Field(description="a number above 0 and below 1")
    mode: Mode = Field(Mode.ENFORCE, description='"enforce" or "shadow"')
    deadline_ms: Annotated[int, Field(ge=100, le=600_000, strict=True)] = Field(
        2000, description="whole milliseconds from 100 to 600000"
    )
    quarantine_days: Annotated[int, Field(ge=1, le=30, strict=True)] = Field(30, description="whole days from 1 to 30")
    expiry: Expiry = Field(Expiry.STAY, description='"stay" or "allow"')
    budget: Annotated[int, Field(ge=0, le=10**9, strict=True)] | None = Field(
        None, description="a whole number of quarantines an hour, from 0; without the line there is no limit"
    )
    conversation: Weight = Field(0.0, description=_WEIGHT)
    campaign: Weight = Field(0.0, description=_WEIGHT)
    text_cap: Annotated[Weight, Field(ge=0)] = Field(20.0, description="a number from 0 to 20, in log-odds")
    short_text: Weight = Field(-20.0, description=_WEIGHT)
    reach_cap: Weight = Field(20.0, description=_WEIGHT)
    signals: dict[Annotated[str, AfterValidator(_signal)], SignalWeight] = Field(
        {}, description=f"tables named by a signal: {', '.join(SIGNALS)}"
    )
    label_offsets: dict[Annotated[str, AfterValidator(_label)], Weight] = Field(
        {}, description=f"lines of a label ({', '.join(Kind)}) and its weight from -20 to 20"
    )
    senders: Senders = Field(Senders(), description="a sender on one list, allow or block")
    links: Links = Field(Links(), description="a host on one list, allow or block")
    degraded: Annotated[dict[Annotated[Degraded, AfterValidator(_cause)], Lacking], AfterValidator(_telling)] = Field(
        {},
        description="lines of a cause (model_missing, memory_young, second_look_skipped, unreadable) and what to do: "
        f"{', '.join(Lacking)}, in quotes",
    )

    @cached_property
    def has_lists(self) -> bool:
        """Whether any sender or host passes or is held whatever the score."""
        return bool(self.senders.allow or self.senders.block or self.links.allow or self.links.block)

    def lacking(self, causes: Iterable[Degraded]) -> Lacking:
        """What to do with a message that lacks something; of several answers the mildest."""
        answers = {self.degraded[cause] for cause in causes if cause in self.degraded}
        return next((answer for answer in Lacking if answer in answers), Lacking.DECIDE)


@dataclass(frozen=True, slots=True)
class Policy:
    """A validated policy file. `version` is the start of its content's SHA-256."""

    version: str
    default: Tenant
    tenants: dict[str, Tenant]

    def of(self, tenant: str) -> Tenant:
        return self.tenants.get(tenant, self.default)


def read(path: Path) -> Policy:
    """Read and validate a policy file; raises BadSetup with every mistake."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise BadSetup(f"policy {path}: {error.strerror}; set DOORMAN_POLICY to a readable file") from None


def parse(content: bytes, name: str = "policy") -> Policy:
    """A policy from TOML; raises BadSetup that names every mistake by file, line, what is wrong and what to write."""
    try:
        return _parsed(content, name)
    except RecursionError:
        raise BadSetup(f"policy is refused\n  {name}:1: nested too deeply; tables go four deep, lists two") from None


def _parsed(content: bytes, name: str) -> Policy:
    document, text = _loaded(content, name)
    valid: dict[Place, Tenant] = {}
    mistakes = [*_misplaced(document), *_checked(document, valid)]
    if mistakes:
        lines = lines_of(text)
        told = sorted((line_of(mistake.place, lines), str(mistake)) for mistake in mistakes)
        raise BadSetup("\n".join(["policy is refused", *(f"  {name}:{line}: {mistake}" for line, mistake in told)]))
    default = valid.pop(_DEFAULT)
    tenants = {str(place[-1]): tenant for place, tenant in valid.items()}
    return Policy(version=sha256(content).hexdigest()[:12], default=default, tenants=tenants)


def _loaded(content: bytes, name: str) -> tuple[dict[str, Any], str]:
    try:
        text = content.decode()
        return tomllib.loads(text), text
    except UnicodeDecodeError as error:
        line, wrong = content.count(b"\n", 0, error.start) + 1, "not UTF-8; save the file as UTF-8"
    except ValueError as error:  # tomllib's own, or a number of thousands of digits
        at = re.search(r"line (\d+)", str(error))
        line = int(at[1]) if at else content.count(b"\n") + 1
        wrong = f"not TOML: {str(error).partition(' (at ')[0]}; write KEY = VALUE or [TABLE], each of them once"
    raise BadSetup(f"policy is refused\n  {name}:{line}: {wrong}")


def _misplaced(document: Mapping[str, Any]) -> Iterator[Mistake]:
    """What is wrong above the tenants' tables."""
    for table in document.keys() - {"default", "tenants"}:
        yield Mistake((table,), "is unknown here", "there are [default] and [tenants.NAME]")
    if not isinstance(document.get("default"), dict):
        yield Mistake(_DEFAULT, "the table is missing", "write [default] on a line of its own")
    if not isinstance(document.get("tenants", {}), dict):
        yield Mistake(("tenants",), "is no table", "write [tenants.NAME] on a line of its own")


def _checked(document: Mapping[str, Any], valid: dict[Place, Tenant]) -> Iterator[Mistake]:
    """The mistakes of every tenant's table; those without go into `valid`. What is inherited is told of once."""
    given = document.get("default")
    base = given if isinstance(given, dict) else {}
    inherited: set[tuple[Place, str]] = set()
    for place, own in [*([(_DEFAULT, base)] if base is given else []), *_own(document).items()]:
        if not isinstance(own, dict):
            yield Mistake(place, "is no table", f"write [{'.'.join(map(str, place))}] on a line of its own")
            continue
        for error in _errors(place, _merged(base, own), valid):
            if (error["loc"], error["type"]) not in inherited or _is_given(error["loc"], own):
                yield mistake_of(place, error, Tenant, _PARTS)
            if place == _DEFAULT:
                inherited.add((error["loc"], error["type"]))


def _errors(place: Place, table: Mapping[str, Any], valid: dict[Place, Tenant]) -> list[ErrorDetails]:
    try:
        valid[place] = Tenant.model_validate(table)
        return []
    except ValidationError as error:
        return error.errors(include_url=False)


def _own(document: Mapping[str, Any]) -> dict[Place, Any]:
    tenants = document.get("tenants")
    return {("tenants", name): own for name, own in tenants.items()} if isinstance(tenants, dict) else {}


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The base with what is its own; of tables in both, the same."""
    both = {
        name: _merged(base[name], own[name])
        for name in base.keys() & own.keys()
        if isinstance(base[name], dict) and isinstance(own[name], dict)
    }
    return {**base, **own, **both}


def _is_given(place: Place, table: Any) -> bool:
    """Whether a table holds something at a place."""
    for step in place:
        if isinstance(table, dict) and step in table:
            table = table[step]
        elif not isinstance(table, list):
            return False
    return True


_PARTS: dict[str | int, type[BaseModel]] = {"signals": SignalWeight, "senders": Senders, "links": Links}
