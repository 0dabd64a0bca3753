"""`python -m models.train --data DIR --out models/shipped`: texts in, a model folder out.

data → features → network → calibration → export → evaluation. The same seed, data and versions give the same file.

A text's vector is the sum of its rows of the table, n-grams of characters and words each divided by their length, so
that long texts do not shout. The head `auto` says whether a message was written to everybody; the other heads say of
what kind it is, given that.
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

from models import data, evaluate, export, kinds, network
from models.data import Pool, Row
from models.kinds import Kinds
from models.network import Floats, Network, Task
from services.classify.scorer import LABELS, Scorer
from services.classify.text import SPEC, features
from services.errors import BadSetup

PRIOR = 0.05
FOLDS = 4
# An n-gram of a single text says nothing of others.
MIN_TEXTS = 2

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Trained:
    """`idf` [rows], network and kinds, and `calibration` [labels, slope & intercept] to the logit at `PRIOR`."""

    idf: Floats
    network: Network
    kinds: Kinds
    calibration: Floats


@dataclass(frozen=True, slots=True)
class Bags:
    """How often each row of the table is used by each text, characters and words apart: CSR float32 [texts, rows]."""

    chars: sparse.csr_matrix
    words: sparse.csr_matrix


def main() -> int:
    """Train, export, evaluate."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description="train the text model")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the public sets of datasets.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    try:
        pool = read(args.data, args.seed)
        export.write(args.out, train(pool, args.seed), pool, args.seed, PRIOR)
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
    console.print(f"{len(pool.rows):,} texts, {len(pool.found)} public sets", highlight=False)
    return pool


def train(pool: Pool, seed: int) -> Trained:
    """A network, calibrated."""
    bags = bag([row.text for row in pool.rows])
    idf = rarity(bags)
    given = task(pool.rows, bags, idf)
    found = network.fit(given, seed, _epochs("network"))
    return Trained(idf, found, kinds.fit(pool.rows, word_vectors(bags, idf), seed), _calibrate(pool.rows, given, seed))


def task(rows: list[Row], bags: Bags, idf: Floats) -> Task:
    """What the network is to learn."""
    targets = np.array([row.auto for row in rows], dtype=np.float32)
    weights = np.array([data.WEIGHTS[row.part] for row in rows], dtype=np.float32)
    return Task(scaled(bags, idf), targets, weights)


def _epochs(name: str) -> "range":
    return track(range(network.EPOCHS), description=name, console=console)  # type: ignore[return-value]


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
    return sparse.csr_matrix(
        _over_length(bags.chars, idf) @ sparse.diags(idf) + word_vectors(bags, idf) @ sparse.diags(idf)
    )


def word_vectors(bags: Bags, idf: Floats) -> sparse.csr_matrix:
    """Counts of words over sqrt(sum(count × idf²)): the idf of each stays in the weights."""
    return _over_length(bags.words, idf)


def _over_length(counts: sparse.csr_matrix, idf: Floats) -> sparse.csr_matrix:
    length = np.sqrt(np.maximum(counts @ idf**2, export.TINY)).astype(np.float32)
    return sparse.csr_matrix(sparse.diags(1 / length) @ counts)


def _calibrate(rows: list[Row], given: Task, seed: int) -> Floats:
    """Slope and intercept per label, from texts of files that the network had not seen.

    Our imagined rows give their label away by their author's style, so the automated side is `realform` alone. The
    other side is half `realform` and half public sets, because most of what people write looks like no pitch at all.
    Kinds are taken as they are: their shares among automated messages are those of the corpus.
    """
    files = sorted({row.file for row in rows if row.part in ("realform", "public")})
    fold = np.array([files.index(row.file) % FOLDS if row.file in files else -1 for row in rows])
    judges = np.array([row.part == "realform" or (row.part == "public" and not row.auto) for row in rows])
    logits = np.zeros(len(rows), dtype=np.float32)
    for number in range(FOLDS):
        kept, held = np.flatnonzero(fold != number), np.flatnonzero((fold == number) & judges)
        judge = network.fit(given.take(kept), seed, _epochs(f"calibration {number + 1}/{FOLDS}"))
        logits[held] = judge.logits(given.vectors[held])
    found = np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(LABELS), 1))
    public = np.array([row.part == "public" for row in rows])
    found[0] = _platt(logits[judges], given.targets[judges] > 0, public[judges])
    return found


def _platt(logits: Floats, auto: NDArray[np.bool_], public: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept to the logit at `PRIOR`, whatever the proportions of the rows."""
    weights = np.zeros(len(logits))
    weights[auto] = PRIOR / auto.sum()
    sides = [side for side in (~auto & ~public, ~auto & public) if side.any()]
    for side in sides:
        weights[side] = (1 - PRIOR) / len(sides) / side.sum()
    curve = LogisticRegression(C=1e9).fit(logits[:, None], auto, sample_weight=weights * len(logits))
    return float(curve.coef_[0, 0]), float(curve.intercept_[0])


if __name__ == "__main__":
    sys.exit(main())
