"""`doorman score`: the text model alone, on lines of JSON."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from services import codec, settings
from services.classify.scorer import Scorer, TextScore
from services.errors import BadRecord, Fault
from services.ingest.adapters import native

HELP = (
    "score texts: JSON lines with `text`, or whole events, on standard input; one line of JSON each on standard output"
)
READ_BYTES = 1 << 16


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: DOORMAN_MODEL)")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="add `spans`: [start, end, weight] of the strongest words, offsets in `text`",
    )


def run(args: argparse.Namespace) -> int:
    """0: every line was scored; 1: some could not be, and are named on standard error."""
    scorer = Scorer.load(args.model or settings.load().model)
    refused = 0
    for lines in _arriving(sys.stdin.buffer):
        texts = []
        for number, line in lines:
            try:
                texts += _texts(line)
            except BadRecord as bad:
                refused += 1
                print(f"doorman score: line {number}: {bad}", file=sys.stderr)
        for score in scorer.both(texts):
            sys.stdout.buffer.write(codec.dumps(_answer(score, scorer.version, explain=args.explain)) + b"\n")
        sys.stdout.buffer.flush()
    return 1 if refused else 0


def _arriving(stream: BinaryIO) -> Iterator[Sequence[tuple[int, bytes]]]:
    """Lines with their numbers, together as they come in: a slow writer gets its answers line by line."""
    number, rest = 0, b""
    while chunk := stream.read1(READ_BYTES):  # type: ignore[attr-defined]
        *lines, rest = (rest + chunk).split(b"\n")
        yield [(place, line) for place, line in enumerate(lines, number + 1) if line.strip()]
        number += len(lines)
    if rest.strip():
        yield [(number + 1, rest)]


def _texts(line: bytes) -> list[str]:
    """The text of a line, or of each message in a platform's payload; raises BadRecord."""
    document = codec.loads_object(line)
    if "text" not in document:
        return [_checked(event) for _, event in native(document)]
    return [_checked(document)]


def _checked(event: Mapping[str, Any] | BadRecord) -> str:
    if isinstance(event, BadRecord):
        raise event
    text = event.get("text")
    if text is None:
        raise BadRecord(Fault.MISSING_FIELD, "text")
    if not isinstance(text, str):
        raise BadRecord(Fault.WRONG_TYPE, "text")
    return text


def _answer(score: TextScore, version: str, *, explain: bool) -> dict[str, Any]:
    answer = {"score": score.score, "first": score.first, "labels": score.labels, "model": version}
    return answer | {"spans": score.spans} if explain else answer
