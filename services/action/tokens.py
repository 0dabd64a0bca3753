"""Who may use casebook's API: the file of `DOORMAN_API_TOKENS`, in TOML, one table for each token.

    ["<SHA-256 of the token, in hex>"]
    actor = "ana"
    tenants = ["default"]      # or ["*"]
    scopes = ["read", "text", "review", "erase"]

The file holds no token, so whoever reads it can use none. It is read again when it changes, whole or not at all.
"""

import hmac
import logging
import tomllib
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from services.errors import BadSetup
from services.observe import event

log = logging.getLogger(__name__)


class Scope(StrEnum):
    """`read`: cases and statistics. `text`: the words of a case. `review`: all commands but erase. `erase`: that."""

    READ = "read"
    TEXT = "text"
    REVIEW = "review"
    ERASE = "erase"


class Token(BaseModel):
    """What one token lets its bearer do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    tenants: Annotated[frozenset[str], Field(min_length=1)]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]

    def allows(self, scope: Scope, tenant: str) -> bool:
        return scope in self.scopes and not self.tenants.isdisjoint((tenant, "*"))


_FILE = TypeAdapter(dict[Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")], Token])


class Tokens:
    """The tokens in use; none until the file is there. Raises BadSetup for a file that is wrong at start."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = self._state()
        self._known = {} if path is None or self._seen is None else read(path)
        if path is not None and self._seen is None:
            event(
                log, "tokens_missing", logging.WARNING, why=f"{path} is not there: nobody may use the API until it is"
            )

    def find(self, presented: str) -> Token | None:
        """The token of which the bearer shows this; every known one is compared, each in constant time."""
        self._refresh()
        shown, found = digest(presented), None
        for known, token in self._known.items():
            if hmac.compare_digest(known, shown):
                found = token
        return found

    def _refresh(self) -> None:
        state = self._state()
        if self._path is None or state == self._seen:
            return
        self._seen = state
        try:
            self._known = read(self._path)
            event(log, "tokens_loaded", number=len(self._known))
        except BadSetup as refused:
            event(log, "tokens_refused", logging.ERROR, why=str(refused))

    def _state(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat() if self._path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size) if status else None


def digest(token: str) -> str:
    """What the file holds of a token."""
    return sha256(token.encode(errors="surrogateescape")).hexdigest()


def read(path: Path) -> dict[str, Token]:
    """The tokens of a file by their digests; raises BadSetup with every fault."""
    try:
        return _FILE.validate_python(tomllib.loads(path.read_text()))
    except OSError as error:
        raise BadSetup(f"tokens {path}: {error.strerror}; set DOORMAN_API_TOKENS to a readable file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetup(f"tokens {path}: not TOML: {error}") from None
    except ValidationError as error:
        faults = (f"  {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors())
        raise BadSetup(f"tokens {path} are refused:\n" + "\n".join(faults)) from None
