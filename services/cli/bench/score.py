"""`doorman bench score`: how many texts the first look reads in a second, on one core."""

import argparse
import json
import sys
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from services import codec, settings
from services.classify.scorer import Scorer
from services.classify.text import features
from services.cli.arguments import at_least_one
from services.errors import BadSetup

HELP = "read texts of the corpus with the first look, features included, on one core"
CORPUS = settings.ROOT / "models" / "corpus"
BATCH = 256
ROUNDS = 5
MEDIAN_CHARS = 120


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=at_least_one, default=20_000, metavar="N", help="texts in a round (20000)")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: DOORMAN_MODEL)")
    parser.add_argument("--json", action="store_true", help="print the result as a line of JSON")


def run(args: argparse.Namespace) -> int:
    scorer = Scorer.load(args.model or settings.load().model)
    texts = sample(args.messages, Random(7))
    result = measure(scorer, texts, Console(stderr=True))
    if args.json:
        sys.stdout.buffer.write(codec.dumps(result) + b"\n")
        sys.stdout.buffer.flush()
        return 0
    table = Table(show_header=False)
    for name, value in result.items():
        table.add_row(name, str(value))
    Console().print(table)
    return 0


def sample(count: int, random: Random) -> list[str]:
    """Texts of the corpus, their lengths spread as there, their median brought to 120 characters; raises BadSetup."""
    paths = sorted(CORPUS.rglob("*.jsonl"))
    if not paths:
        raise BadSetup(f"{CORPUS} holds no texts to measure with")
    texts = [json.loads(line)["text"] for path in paths for line in path.read_bytes().splitlines()]
    longer = [text for text in texts if len(text) >= MEDIAN_CHARS]
    shorter = [text for text in texts if len(text) < MEDIAN_CHARS]
    return [random.choice(longer if place % 2 else shorter) for place in range(count)]


def measure(scorer: Scorer, texts: list[str], console: Console) -> dict[str, str | int | float]:
    """Batches of 256, each at the best of five rounds: the machine may be busy with other things."""
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    rounds = [
        [_timed(scorer, batch) for batch in batches]
        for _ in track(range(ROUNDS), "measuring", console=console, transient=True)
    ]
    best = np.array(rounds).min(axis=0).sum(axis=0)
    features_us, onnx_us = (best / len(texts) * 1e6).tolist()
    return {
        "bench": "score",
        "messages": len(texts),
        "messages_per_s": round(1e6 / (features_us + onnx_us)),
        "features_us": round(features_us, 2),
        "onnx_us": round(onnx_us, 2),
        "median_chars": median(map(len, texts)),
    }


def _timed(scorer: Scorer, texts: list[str]) -> tuple[float, float]:
    """Seconds for the features of a batch, and for the model."""
    begun = perf_counter()
    grams = features(texts)
    made = perf_counter()
    scorer.first(grams, len(texts))
    return made - begun, perf_counter() - made
