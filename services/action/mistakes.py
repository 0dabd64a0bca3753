"""What pydantic finds wrong, in words for the one who wrote the file: where, what, and what to write instead. Pure.

A field's description says what to write there: it is the remedy of every mistake found in it.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from services.action.lines import Place

SHORT = 60


@dataclass(frozen=True, slots=True)
class Mistake:
    """`place`: the keys that lead to it."""

    place: Place
    wrong: str
    remedy: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.place))}: {self.wrong}; {self.remedy}"


def mistake_of(
    table: Place, error: ErrorDetails, model: type[BaseModel], parts: Mapping[str | int, type[BaseModel]]
) -> Mistake:
    """A mistake of the table, which is a `model`; `parts` are the models behind some of its keys."""
    place = tuple(step for step in error["loc"] if step != "[key]")
    remedy = ""
    for step in place:
        if step in model.model_fields:
            remedy = f"write {model.model_fields[str(step)].description}"
        model = parts.get(step, model)
    if error["type"] == "extra_forbidden":
        remedy = _suggested(str(place[-1]), list(model.model_fields))
    return Mistake(table + place, _wrong(error), remedy)


def _wrong(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden" or "[key]" in error["loc"]:
        return "is unknown here"
    return f"{short(error['input'])} is not allowed"


def _suggested(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def short(value: object) -> str:
    """A value as it is told of."""
    text = repr(value)
    return text if len(text) <= SHORT else text[: SHORT - 3] + "..."
