"""Environment to frozen settings. The only reader of os.environ; all faults are named at once."""

import difflib
import logging
import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from services.errors import BadSetup
from services.records import Mode

PREFIX = "DOORMAN_"
ROOT = Path(__file__).resolve().parents[1]

log = logging.getLogger(__name__)


class Delivery(StrEnum):
    EXACTLY_ONCE = "exactly_once"
    AT_LEAST_ONCE = "at_least_once"


class Compression(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    LZ4 = "lz4"
    SNAPPY = "snappy"
    ZSTD = "zstd"


def _servers(value: str) -> str:
    for server in value.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{server.strip()!r} is not host:port")
    return value


def _prefix(value: str) -> str:
    if len(value) > 100 or not all(letter.isalnum() or letter in "._-" for letter in value):
        raise ValueError("letters, digits, '.', '_' and '-' only, at most 100")
    return value


def address(http: str) -> tuple[str, int | None]:
    """Host and port, None for the default one; raises ValueError for anything else."""
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::(\d{1,5}))?", http)
    if found is None or int(found[3] or 0) > 65535:
        raise ValueError("must be host, or host:port with a port from 0 to 65535; IPv6 in brackets: [::1]:9105")
    return found[1] or found[2], None if found[3] is None else int(found[3])


def _http(value: str) -> str:
    address(value)
    return value


def _file(value: Path | None) -> Path | None:
    if value is not None:
        try:
            value.open("rb").close()
        except OSError as error:
            raise ValueError(f"{value}: {error.strerror}") from None
    return value


def _credential(value: str | None, told: ValidationInfo) -> str | None:
    security = str(told.data.get("kafka_security"))
    if value is None and security.startswith("SASL"):
        raise ValueError(f"{security} needs it")
    return value


def _key(value: Path | None, told: ValidationInfo) -> Path | None:
    if "kafka_cert" in told.data and (value is None) != (told.data["kafka_cert"] is None):
        raise ValueError("certificate and key go together; one file that holds both is named twice")
    return value


def _home(variable: str, default: str) -> Path:
    home = os.environ.get(variable)
    return (Path(home) if home else Path.home() / default) / "doorman"


def _state_home() -> Path:
    return _home("XDG_STATE_HOME", ".local/state")


def cache_home() -> Path:
    """Where what was fetched once is kept."""
    return _home("XDG_CACHE_HOME", ".cache")


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process: ours, and `variables`."""
    return {**os.environ, **variables}


class Settings(BaseModel):
    """What a process is told. Each field is the variable `DOORMAN_<FIELD>`; its description is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka: Annotated[str, AfterValidator(_servers)] = Field("127.0.0.1:9092", description="bootstrap servers")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="security protocol"
    )
    kafka_ca: Annotated[Path | None, AfterValidator(_file)] = Field(
        None, description="file with the broker's certificate authority"
    )
    kafka_cert: Annotated[Path | None, AfterValidator(_file)] = Field(
        None, description="file with our certificate, for mutual TLS"
    )
    kafka_key: Annotated[Path | None, AfterValidator(_file), AfterValidator(_key)] = Field(
        None, description="file with our private key", validate_default=True
    )
    kafka_sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("PLAIN", description="SASL mechanism")
    kafka_username: Annotated[str | None, AfterValidator(_credential)] = Field(
        None, description="SASL user", validate_default=True
    )
    kafka_password: Annotated[str | None, AfterValidator(_credential)] = Field(
        None, description="SASL password", repr=False, validate_default=True
    )
    topic_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "", description="put before every topic, group and transactional id"
    )
    instance: Annotated[str, AfterValidator(_prefix)] = Field(
        "", description="a name that stays over restarts (a pod's): its partitions then wait for it"
    )
    compression: Compression = Field(
        Compression.NONE, description="of what is produced: gzip, lz4, snappy or zstd, if all who read it know that"
    )
    delivery: Delivery = Field(Delivery.EXACTLY_ONCE, description="or at_least_once, for brokers without transactions")
    model: Path = Field(ROOT / "models" / "shipped", description="model folder")
    shadow_model: Path | None = Field(
        None, description="a second model folder, scored beside the first; it never decides"
    )
    policy: Path = Field(ROOT / "deploy" / "policy.toml", description="policy file")
    shadow_policy: Path | None = Field(
        None, description="a second policy file, asked beside the first; it never decides"
    )
    http: Annotated[str, AfterValidator(_http)] = Field(
        "127.0.0.1", description="host, or host:port, of metrics, health and API; port 0 takes a free one"
    )
    database: str | None = Field(None, description="SQLAlchemy URL of casebook's database; None: SQLite in `state`")
    state: Path = Field(default_factory=_state_home, description="the only writable place")
    mode: Mode = Field(Mode.ENFORCE, description="shadow puts every tenant in shadow")
    api_tokens: Path | None = Field(None, description="file of token hash -> actor, tenants, scopes")
    partitions: int = Field(4, ge=1, le=1024, description="partitions of each topic, for `topics create`")
    replication: int = Field(
        1, ge=1, le=7, description="replicas of each topic, for `topics create`; of 3 or more all but one in sync"
    )
    erasure_seconds: int = Field(
        86_400, ge=6, le=30 * 86_400, description="within which an erased person is gone from compacted topics"
    )
    batch: int = Field(2000, ge=1, le=20000, description="most records in one batch of a lane")
    pause_ms: int = Field(3, ge=0, le=1000, description="pause of a lane after a transaction, per lane of the process")
    memory_mb: int = Field(
        440, ge=16, le=100_000, description="megabytes of windows and conversations in one process of classify"
    )
    deadletter_stop: bool = Field(False, description="stop ingest when it dead-letters past its limit")

    @property
    def database_url(self) -> str:
        """The URL, or SQLite in the state directory."""
        return self.database or f"sqlite:///{self.state / 'casebook.db'}"

    @property
    def compaction_ms(self) -> int:
        """How long a segment of a compacted topic is written to, and how long tombstones are kept.

        A tombstone is in a segment that is closed after up to two of these (`_stir` of casebook), cleaned soon after,
        and dropped itself by a cleaning one or two later.
        """
        return self.erasure_seconds * 1000 // 6


# Read by the tests and by Make, not by a service.
_FOREIGN = {"REQUIRE_KAFKA"}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings that the environment gives; raises BadSetup with every fault. An unknown variable is warned of."""
    given = {
        name.removeprefix(PREFIX): value
        for name, value in (os.environ if environ is None else environ).items()
        if name.startswith(PREFIX) and value != ""
    }
    known = {name.upper(): name for name in Settings.model_fields}
    for name in sorted(given.keys() - known.keys() - _FOREIGN):
        close = difflib.get_close_matches(name, known, n=1)
        log.warning("unknown setting %s%s%s", PREFIX, name, f": did you mean {PREFIX}{close[0]}?" if close else "")
    try:
        return Settings.model_validate({known[name]: value for name, value in given.items() if name in known})
    except ValidationError as error:
        raise BadSetup(_faults(error)) from None


def _faults(error: ValidationError) -> str:
    lines = (f"  {PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
    return "wrong settings, nothing was started:\n" + "\n".join(lines)
