"""`python -m models.train --data DIR --out models/shipped`: texts in, a model folder out.

data → features → network → calibration → export → evaluation. The same seed, data and versions give the same file.

A text's vector is the sum of its rows of the table, divided by their length, so that long texts do not shout. The head
`auto` says whether a message was written to everybody; the other heads say of what kind it is, given that.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from sklearn.linear_model import LogisticRegression

from models import data, evaluate, export, network, second
from models.data import Pool, Row
from models.network import Floats, Network, Recipe, Task
from services.classify.scorer import LABELS, Encoder, Scorer
from services.classify.text import SPEC, features
from services.errors import BadSetup

PRIOR = 0.05
FOLDS = 4
KINDS_HIDDEN, KINDS_EPOCHS = 31, 25
# The linear model beside the network: the inverse of its penalty, and what of its logit is added.
LOOSENESS, LINEAR = 4.0, 0.5
# An n-gram of a single text says nothing of others.
MIN_TEXTS = 2
# Texts whose features are counted at once.
_COUNTED = 2_048

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Trained:
    """`idf` [rows]; a network for `auto` and one for kinds; slope and intercept of `auto` to its logit at `PRIOR`;
    the second look, if there is one."""

    idf: Floats
    auto: Network
    kinds: Network
    calibration: tuple[float, float]
    second: Encoder | None


def main() -> int:
    """Train, export, evaluate."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description="train the text model")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the public sets of datasets.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    try:
        pool = read(args.data, args.seed)
        trained = train(pool, second.found(args.out), args.seed)
        export.write(args.out, trained, pool, args.seed, PRIOR)
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


def train(pool: Pool, encoder: Encoder | None, seed: int) -> Trained:
    """Networks, calibrated; `encoder`: the second look that is to stand beside them."""
    counts = bag([row.text for row in pool.rows])
    idf = rarity(counts)
    given = task(pool.rows, counts, idf)
    auto = reader(given, seed, Recipe(show=_shown("auto")))
    kinds = network.fit(kinds_task(pool.rows, given), seed, Recipe(KINDS_HIDDEN, KINDS_EPOCHS, 0.0, _shown("kinds")))
    return Trained(idf, auto, kinds, calibrate(pool.rows, unseen(pool.rows, given, seed)), encoder)


def task(rows: list[Row], counts: sparse.csr_matrix, idf: Floats) -> Task:
    """What the network for `auto` is to learn."""
    targets = np.array([[row.auto] for row in rows], dtype=np.float32)
    weights = np.array([[data.WEIGHTS[row.part]] for row in rows], dtype=np.float32)
    return Task(scaled(counts, idf), targets, weights)


def reader(given: Task, seed: int, recipe: Recipe) -> Network:
    """What reads `auto`: a network, and a linear model beside it that knows more of rare words and nothing of seeds."""
    used = np.flatnonzero(np.asarray(given.vectors.sum(axis=0)).ravel())
    linear = LogisticRegression(C=LOOSENESS, solver="liblinear", max_iter=1_000)
    linear.fit(given.vectors[:, used], given.targets[:, 0] > 0.5, sample_weight=given.weights[:, 0])
    weights = np.zeros(given.vectors.shape[1], dtype=np.float32)
    weights[used] = LINEAR * linear.coef_[0]
    return network.fit(given, seed, recipe).with_line(weights, LINEAR * float(linear.intercept_[0]))


def kinds_task(rows: list[Row], given: Task) -> Task:
    """What the network for kinds is to learn, from our own automated rows alone: public sets name none."""
    own = np.flatnonzero([row.auto and row.part != "public" for row in rows])
    targets = np.array([[rows[place].kind == kind for kind in LABELS[1:]] for place in own], dtype=np.float32)
    return Task(given.vectors[own], targets, np.ones((len(own), 1), dtype=np.float32))


def _shown(name: str) -> Callable[[Iterable[int]], Iterable[int]]:
    return partial(track, description=name, console=console)


def bag(texts: list[str]) -> sparse.csr_matrix:
    """How often each text uses each row of the table: float32 [texts, rows]."""
    places, columns = [], []
    for start in range(0, len(texts), _COUNTED):
        grams = features(texts[start : start + _COUNTED])
        lines, used = np.nonzero(grams.rows)
        places.append(grams.owners[lines] + start)
        columns.append(grams.rows[lines, used])
    where = np.concatenate(places), np.concatenate(columns)
    counts = sparse.csr_matrix((np.ones(len(where[0]), dtype=np.float32), where), shape=(len(texts), SPEC.rows))
    counts.sum_duplicates()
    return counts


def rarity(counts: sparse.csr_matrix) -> Floats:
    """Inverse document frequency of each row of the table; 0 for what too few texts have."""
    texts = np.asarray((counts > 0).sum(axis=0)).ravel()
    idf = np.log((1 + counts.shape[0]) / (1 + texts)) + 1
    return np.where(texts >= MIN_TEXTS, idf, 0.0).astype(np.float32)


def scaled(counts: sparse.csr_matrix, idf: Floats) -> sparse.csr_matrix:
    """Vectors as the graph makes them: counts × idf over sqrt(sum(count × idf²))."""
    length = np.sqrt(np.maximum(counts @ idf**2, export.TINY)).astype(np.float32)
    return sparse.csr_matrix(sparse.diags(1 / length) @ counts @ sparse.diags(idf))


def unseen(rows: list[Row], given: Task, seed: int) -> Floats:
    """Raw logits [rows] of those in `realform` and of legitimate public ones, each from a network that had not seen any
    of its file; NaN for the others."""
    files = sorted({row.file for row in rows if row.part in ("realform", "public")})
    fold = np.array([files.index(row.file) % FOLDS if row.file in files else -1 for row in rows])
    judges = np.array([row.part == "realform" or (row.part == "public" and not row.auto) for row in rows])
    logits = np.full(len(rows), np.nan, dtype=np.float32)
    for number in range(FOLDS):
        kept, held = np.flatnonzero(fold != number), np.flatnonzero((fold == number) & judges)
        judge = reader(given.take(kept), seed, Recipe(show=_shown(f"calibration {number + 1}/{FOLDS}")))
        logits[held] = judge.logits(given.vectors[held])[:, 0]
    return logits


def calibrate(rows: list[Row], logits: Floats) -> tuple[float, float]:
    """Slope and intercept of `auto` to its logit at `PRIOR`, from texts of files that a network had not seen.

    Our imagined rows give their label away by their author's style, so the automated side is `realform` alone.
    Kinds are taken as they are: their shares among automated messages are those of the corpus.
    """
    judges = np.flatnonzero(~np.isnan(logits))
    judged = [rows[place] for place in judges]
    curve = LogisticRegression(C=1e9)
    curve.fit(logits[judges, None], [row.auto for row in judged], sample_weight=_as_in_life(judged))
    return float(curve.coef_[0, 0]), float(curve.intercept_[0])


def _as_in_life(rows: list[Row]) -> NDArray[np.float64]:
    """Weights that make `PRIOR` of the rows automated. Of the others half are public ones, if there are any: most of
    what people write looks like no pitch at all."""
    auto = np.array([row.auto for row in rows])
    public = np.array([row.part == "public" for row in rows])
    weights = np.zeros(len(rows))
    weights[auto] = PRIOR / auto.sum()
    sides = [side for side in (~auto & ~public, ~auto & public) if side.any()]
    for side in sides:
        weights[side] = (1 - PRIOR) / len(sides) / side.sum()
    return weights * len(rows)


if __name__ == "__main__":
    sys.exit(main())
