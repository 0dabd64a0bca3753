"""`python -m models.train --data DIR --out models/shipped`: texts in, a model folder out.

data → features → heads → calibration → export → evaluation. The same seed, data and versions give the same file.

The model is linear in hashed n-grams. A text's vector is the sum of its rows of the table, the character n-grams and
the words each divided by their length, so that long texts do not shout: TF-IDF with the weights inside the table.
The head `auto` says whether a message was written to everybody; the other heads say of what kind it is, given that.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from sklearn.linear_model import LogisticRegression

from models import data, evaluate, export
from models.data import Pool, Row
from services.classify.scorer import LABELS, Scorer
from services.classify.text import SPEC, features
from services.errors import BadSetup

Floats = NDArray[np.float32]

PRIOR = 0.05
FOLDS = 4
# Chosen by dev.jsonl among 1, 3, 10, 30.
AUTO_STRENGTH = 10.0
KIND_STRENGTH = 10.0
# An n-gram of a single text says nothing of others.
MIN_TEXTS = 2

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Bags:
    """How often each row of the table is used by each text, characters and words apart: CSR float32 [texts, rows]."""

    chars: sparse.csr_matrix
    words: sparse.csr_matrix

    def take(self, places: NDArray[np.intp]) -> "Bags":
        return Bags(self.chars[places], self.words[places])


@dataclass(frozen=True, slots=True)
class Linear:
    """Trained heads: `idf` [rows], `weights` [rows, labels], `bias` [labels], `calibration` [labels, 2]."""

    idf: Floats
    weights: Floats
    bias: Floats
    calibration: Floats

    def logits(self, bags: Bags) -> Floats:
        """Raw logits [texts, labels]."""
        found: Floats = scaled(bags, self.idf) @ self.weights + self.bias
        return found


def main() -> int:
    """Train, export, evaluate."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description="train the text model")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the public sets of datasets.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    try:
        pool = read(args.data, args.seed)
        linear = train(pool, args.seed)
        export.write(args.out, linear, pool, args.seed, PRIOR)
        evaluate.report(Scorer.load(args.out), args.data, pool, console)
    except BadSetup as error:
        console.print(str(error), style="red", markup=False)
        return 2
    return 0


def read(folder: Path | None, seed: int) -> Pool:
    """The rows to train on; says what is missing."""
    pool = data.pool(folder, seed)
    if pool.missing:
        names = ", ".join(known.name for known in pool.missing)
        console.print(f"not there, trained without: {names}", style="yellow", markup=False)
    console.print(f"{len(pool.rows):,} texts, {len(pool.found)} public sets")
    return pool


def train(pool: Pool, seed: int) -> Linear:
    """Heads, calibrated."""
    rows = pool.rows
    bags = bag([row.text for row in rows])
    idf = rarity(bags)
    vectors = scaled(bags, idf)
    weights = np.zeros((SPEC.rows, len(LABELS)), dtype=np.float32)
    bias = np.zeros(len(LABELS), dtype=np.float32)
    for column, label in enumerate(track(LABELS, description="heads", console=console)):
        chosen, target = _task(rows, label)
        strength = KIND_STRENGTH if column else AUTO_STRENGTH
        weights[:, column], bias[column] = _fit(vectors[chosen], target, _weights(rows, chosen), strength, seed)
    return Linear(idf, weights, bias, _calibrate(rows, vectors, seed))


def bag(texts: list[str]) -> Bags:
    """The features of texts, counted."""
    blocks = list(features(texts))
    return Bags(
        _counts([(block.places, block.chars) for block in blocks], len(texts)),
        _counts([(block.places, block.words) for block in blocks], len(texts)),
    )


def _counts(grids: list[tuple[NDArray[np.int64], NDArray[np.int32]]], texts: int) -> sparse.csr_matrix:
    where = [(places, np.nonzero(grid), grid) for places, grid in grids]
    rows = np.concatenate([places[used[0]] for places, used, _ in where])
    columns = np.concatenate([grid[used] for _, used, grid in where])
    counts = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(texts, SPEC.rows))
    counts.sum_duplicates()
    return counts


def rarity(bags: Bags) -> Floats:
    """Inverse document frequency of each row of the table; 0 for what too few texts have."""
    texts = np.asarray(((bags.chars + bags.words) > 0).sum(axis=0)).ravel()
    idf = np.log((1 + bags.chars.shape[0]) / (1 + texts)) + 1
    return np.where(texts >= MIN_TEXTS, idf, 0.0).astype(np.float32)


def scaled(bags: Bags, idf: Floats) -> sparse.csr_matrix:
    """Vectors as the graph makes them: counts × idf, characters and words each over sqrt(sum(count × idf²))."""
    total = None
    for counts in (bags.chars, bags.words):
        length = np.sqrt(np.maximum(counts @ idf**2, export.TINY))
        part = sparse.diags(1 / length) @ counts @ sparse.diags(idf)
        total = part if total is None else total + part
    return sparse.csr_matrix(total, dtype=np.float32)


def _task(rows: list[Row], label: str) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The rows that a head learns from, and which of them are its own."""
    if label == "auto":
        return np.arange(len(rows)), np.array([row.auto for row in rows])
    chosen = np.array([place for place, row in enumerate(rows) if row.auto and row.part != "public"])
    return chosen, np.array([rows[place].kind == label for place in chosen])


def _weights(rows: list[Row], chosen: NDArray[np.intp]) -> Floats:
    return np.array([data.WEIGHTS[rows[place].part] for place in chosen], dtype=np.float32)


def _fit(
    vectors: sparse.csr_matrix, target: NDArray[np.bool_], weights: Floats, strength: float, seed: int
) -> tuple[Floats, float]:
    head = LogisticRegression(C=strength, solver="liblinear", random_state=seed)
    head.fit(vectors, target, sample_weight=weights)
    return head.coef_[0].astype(np.float32), float(head.intercept_[0])


def _calibrate(rows: list[Row], vectors: sparse.csr_matrix, seed: int) -> Floats:
    """Slope and intercept per label, from texts with the form of real messages that the head had not seen.

    Our imagined rows give their label away by their author's style: only `realform` is a fair judge. Kinds are taken as
    they are: their shares among automated messages are those of the corpus.
    """
    found = np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(LABELS), 1))
    files = sorted({row.file for row in rows if row.part == "realform"})
    target = np.array([row.auto for row in rows])
    places, logits = [], []
    for fold in track(range(FOLDS), description="calibration", console=console):
        held = np.array([row.part == "realform" and files.index(row.file) % FOLDS == fold for row in rows])
        kept = np.flatnonzero(~held)
        coefficients, bias = _fit(vectors[kept], target[kept], _weights(rows, kept), AUTO_STRENGTH, seed)
        places.append(np.flatnonzero(held))
        logits.append(vectors[held] @ coefficients + bias)
    found[0] = _platt(np.concatenate(logits), target[np.concatenate(places)])
    return found


def _platt(logits: Floats, target: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept to the logit at `PRIOR`, whatever the proportions of the rows."""
    weights = np.where(target, PRIOR / target.mean(), (1 - PRIOR) / (1 - target.mean()))
    curve = LogisticRegression(C=1e6).fit(logits[:, None], target, sample_weight=weights)
    return float(curve.coef_[0, 0]), float(curve.intercept_[0])


if __name__ == "__main__":
    sys.exit(main())
