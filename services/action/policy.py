"""The policy file: weights, thresholds, offsets, lists and mode, per tenant. Validated whole, versioned by content.

A tenant's table holds only what differs from `[default]`. Reasons are weighed in log-odds: what they mean stands here,
what they are worth stands in the file.
"""

import tomllib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.errors import BadSetup
from services.records import Kind, Mode, ReasonCode

# Every signal of classify's behaviour, with the words of its reason's detail.
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
}
LABELS = frozenset(kind.value for kind in Kind)
Weight = Annotated[float, Field(ge=-20, le=20, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _rising(steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    bounds = [bound for bound, _ in steps]
    if not steps or bounds != sorted(set(bounds)):
        raise ValueError("steps must be [bound, weight] pairs with rising bounds, at least one")
    return steps


Steps = Annotated[list[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], Weight]], AfterValidator(_rising)]


class SignalWeight(_Strict):
    """What a signal is worth: the weight of the last `at_least` step it reaches, or of the first `at_most` it is under.

    `strangers`: only where the pair is known to be cold.
    """

    reason: ReasonCode
    at_least: Steps | None = None
    at_most: Steps | None = None
    strangers: bool = False

    @model_validator(mode="after")
    def _one_direction(self) -> "SignalWeight":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        return self

    def weigh(self, value: float) -> float:
        """The weight of a value; 0: none."""
        if self.at_least is not None:
            return next((weight for bound, weight in reversed(self.at_least) if value >= bound), 0.0)
        return next((weight for bound, weight in self.at_most or () if value <= bound), 0.0)


class Lists(_Strict):
    """Sender ids, as the platform writes them."""

    allow: frozenset[str] = frozenset()
    block: frozenset[str] = frozenset()


class Tenant(_Strict):
    """One tenant's policy."""

    threshold: Annotated[float, Field(gt=0, lt=1)]
    mode: Mode = Mode.ENFORCE
    deadline_ms: Annotated[int, Field(ge=100, le=600_000)] = 2000
    quarantine_days: Annotated[int, Field(ge=1, le=30)] = 30
    conversation: Weight = 0.0
    campaign: Weight = 0.0
    signals: dict[str, SignalWeight] = {}
    label_offsets: dict[str, Weight] = {}
    senders: Lists = Lists()

    @model_validator(mode="after")
    def _known(self) -> "Tenant":
        unknown = [f"signals.{name}" for name in self.signals if name not in SIGNALS]
        unknown += [f"label_offsets.{name}" for name in self.label_offsets if name not in LABELS]
        if unknown:
            known = f"signals are {', '.join(SIGNALS)}; labels are {', '.join(sorted(LABELS))}"
            raise ValueError(f"unknown {', '.join(unknown)}; {known}")
        return self


@dataclass(frozen=True, slots=True)
class Policy:
    """A validated policy file. `version` is the start of its content's SHA-256."""

    version: str
    default: Tenant
    tenants: dict[str, Tenant]

    def of(self, tenant: str) -> Tenant:
        return self.tenants.get(tenant, self.default)


def read(path: Path) -> Policy:
    """Read and validate a policy file; raises BadSetup with every fault."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise BadSetup(f"policy {path}: {error.strerror}; set DOORMAN_POLICY to a readable file") from None


def parse(content: bytes, name: str = "policy") -> Policy:
    """A policy from TOML; raises BadSetup with every fault."""
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetup(f"policy {name}: not TOML: {error}") from None
    faults = [f"{table}: unknown table" for table in document.keys() - {"default", "tenants"}]
    if not isinstance(document.get("default"), dict):
        raise BadSetup(f"policy {name}:\n  default: the table [default] is missing")
    base = document["default"]
    given = document.get("tenants", {})
    tables = {"default": base} | {f"tenants.{tenant}": _merged(base, own) for tenant, own in given.items()}
    valid = {place: tenant for place, table in tables.items() if (tenant := _tenant(place, table, faults))}
    if faults:
        raise BadSetup(f"policy {name} is refused:\n" + "\n".join(f"  {fault}" for fault in faults))
    tenants = {tenant: valid[f"tenants.{tenant}"] for tenant in given}
    return Policy(version=sha256(content).hexdigest()[:12], default=valid["default"], tenants=tenants)


def _merged(base: dict[str, Any], own: Any) -> Any:
    if not isinstance(own, dict):
        return own
    both = {name: _merged(base[name], own[name]) for name in base.keys() & own.keys() if isinstance(base[name], dict)}
    return base | own | both


def _tenant(place: str, table: object, faults: list[str]) -> Tenant | None:
    try:
        return Tenant.model_validate(table)
    except ValidationError as error:
        for fault in error.errors():
            path = ".".join(str(part) for part in (place, *fault["loc"]))
            faults.append(f"{path}: {fault['msg']}")
        return None
