"""What the contracts promise, a line each, so that a change of them can be judged: fields are only ever added.

`python -m tests.promises > deploy/contracts/released.txt` writes down what a release promises.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from services.settings import ROOT

CONTRACTS = ROOT / "deploy" / "contracts"
RELEASED = CONTRACTS / "released.txt"
BOUNDS = ("const", "format", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")


def promises(schemas: Mapping[str, Any]) -> set[str]:
    """Lines of place and promise; the place is file, definition and path."""
    found: set[str] = set()
    for name, schema in schemas.items():
        found.update(_told(name, schema))
        for part, definition in schema.get("$defs", {}).items():
            found.update(_told(f"{name}#{part}", definition))
    return found


def _told(place: str, schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    kinds = schema.get("type", [])
    yield from (f"{place} is {kind}" for kind in ([kinds] if isinstance(kinds, str) else kinds))
    yield from (f"{place} may be {json.dumps(word)}" for word in schema.get("enum", ()))
    yield from (f"{place} requires {name}" for name in schema.get("required", ()))
    yield from (f"{place} has {bound} {json.dumps(schema[bound])}" for bound in BOUNDS if bound in schema)
    if schema.get("additionalProperties") is False:
        yield f"{place} holds nothing else"
    if "$ref" in schema:
        yield f"{place} is as {schema['$ref']}"
    for name, part in _parts(schema):
        yield from _told(f"{place}{name}", part)


def _parts(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas inside one, by what is added to the place."""
    yield from ((f".{name}", part) for name, part in schema.get("properties", {}).items())
    yield from ((f"[{number}]", part) for number, part in enumerate(schema.get("prefixItems", ())))
    yield from (("", part) for word in ("anyOf", "oneOf", "allOf") for part in schema.get(word, ()))
    yield from ((name, schema.get(word)) for name, word in (("[]", "items"), (".*", "additionalProperties")))


def broken(released: Iterable[str], current: Iterable[str]) -> list[str]:
    """What a change breaks: a promise that is gone, or a demand on what was there. New words of a list do not."""
    before, after = set(released), set(current)
    places = {line.partition(" ")[0] for line in before}
    gone = [f"gone: {line}" for line in before - after]
    demands = [f"new: {line}" for line in after - before if line.partition(" ")[0] in places and " may be " not in line]
    return sorted(gone + demands)


def shipped() -> dict[str, Any]:
    """The schemas of deploy/contracts by the name of their topic."""
    paths = sorted(CONTRACTS.glob("*.schema.json"))
    return {path.name.removesuffix(".schema.json"): json.loads(path.read_bytes()) for path in paths}


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in sorted(promises(shipped())))
