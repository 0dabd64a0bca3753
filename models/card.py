"""The card's figures and plots: `python -m models.evaluate --card DIR FILE` writes them.

`figures.md` is made here; `README.md` is written by hand and says what the figures mean.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_auc_score

from models.data import Row, kind_of
from services.classify.scorer import Scorer, TextScore

matplotlib.use("Agg")
from matplotlib import pyplot

Scores = NDArray[np.float64]

PRIOR = 0.05
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
FIGURES = """# What was measured

Made by `python -m models.evaluate --card DIR FILE`; the threshold is the default tenant's, {threshold}, text alone.

{sets}
![precision and recall](precision-recall.png) ![reliability](reliability.png)

Of the first file, by kind (rows that are automated) and by length:

{slices}
False positives on all legitimate texts above, by script:

{scripts}
All texts above by language; by script where a file names none:

{languages}
Our own rows of `realform` by language, each read by a first look alone that had not seen its file. Few sets are in
other languages than English; the style of one author flatters these figures, so they compare languages and no more:

{own_languages}
Automated texts of the first file that are caught, and what is still caught of them in disguise:

{disguises}"""
FEW = 10
LENGTHS = ((0, 60), (60, 120), (120, 240), (240, 100_000))
SCRIPTS = (
    ("Latin", "A", "ɏ"),
    ("Greek", "Ͱ", "Ͽ"),
    ("Cyrillic", "Ѐ", "ԯ"),
    ("Arabic", "؀", "ۿ"),
    ("Devanagari", "ऀ", "ॿ"),
    ("Thai", "฀", "๿"),
    ("Hangul", "가", "힣"),
    ("kana", "ぁ", "ヿ"),
    ("Chinese", "一", "鿿"),
)


@dataclass(frozen=True, slots=True)
class Read:
    """Rows, and what each look says of them: `first` alone, `both` together."""

    rows: Sequence[Row]
    first: Scores
    both: Scores

    @classmethod
    def by(cls, scorer: Scorer, rows: Sequence[Row]) -> "Read":
        found: list[TextScore] = scorer.both([row.text for row in rows])
        return cls(rows, np.array([one.first for one in found]), np.array([one.score for one in found]))

    @classmethod
    def joined(cls, parts: Sequence["Read"]) -> "Read":
        rows = [row for part in parts for row in part.rows]
        return cls(rows, np.concatenate([part.first for part in parts]), np.concatenate([part.both for part in parts]))

    @property
    def auto(self) -> NDArray[np.bool_]:
        return np.array([row.auto for row in self.rows], dtype=np.bool_)

    def of(self, marks: Sequence[bool] | NDArray[np.bool_]) -> "Read":
        places = [place for place, marked in enumerate(marks) if marked]
        return Read([self.rows[place] for place in places], self.first[places], self.both[places])


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def slices(read: Read, threshold: float) -> str:
    """Recall by kind and by length, false positives by length."""
    kinds = sorted({_kind(row) for row in read.rows if row.auto})
    lines = [_slice(kind, read.of([row.auto and _kind(row) == kind for row in read.rows]), threshold) for kind in kinds]
    for low, high in LENGTHS:
        name = f"{low}-{high - 1} characters" if high < LENGTHS[-1][1] else f"{low} characters and more"
        lines.append(_slice(name, read.of([low <= len(row.text) < high for row in read.rows]), threshold))
    return table(("slice", "texts", "recall, first", "recall, both", "false positives, both"), lines)


def _kind(row: Row) -> str:
    return kind_of(row.kind or "") or "other"


def _slice(name: str, read: Read, threshold: float) -> Sequence[str]:
    auto = read.auto
    return (
        name,
        str(len(auto)),
        share(read.first[auto] >= threshold),
        share(read.both[auto] >= threshold),
        share(read.both[~auto] >= threshold),
    )


def scripts(read: Read, threshold: float) -> str:
    """False positives of legitimate texts by script."""
    legitimate = read.of([not row.auto for row in read.rows])
    found = np.array([script(row.text) for row in legitimate.rows])
    lines = [
        (name, f"{(found == name).sum():,}", share(legitimate.both[found == name] >= threshold))
        for name, _, _ in SCRIPTS
        if (found == name).any()
    ]
    return table(("script", "legitimate texts", "false positives"), lines)


def languages(read: Read, threshold: float) -> str:
    """Recall, false positives and AUROC by language, the most texts first; languages with few texts are one line."""
    named = [row.lang or f"{script(row.text)} script" for row in read.rows]
    texts = Counter(named)
    found = np.array([name if texts[name] >= FEW else "others" for name in named])
    lines = [_language(name, read.of(found == name), threshold) for name, _ in Counter(found.tolist()).most_common()]
    return table(("language", "automated", "recall", "legitimate", "false positives", "AUROC"), lines)


def _language(name: str, read: Read, threshold: float) -> Sequence[str]:
    auto = read.auto
    return (
        name,
        f"{auto.sum():,}",
        share(read.both[auto] >= threshold),
        f"{(~auto).sum():,}",
        share(read.both[~auto] >= threshold),
        f"{roc_auc_score(auto, read.both):.3f}" if 0 < auto.sum() < len(auto) else "",
    )


def script(text: str) -> str:
    """The script that most of its letters are of; "none" without letters."""
    counts = {name: sum(first <= char <= last and char.isalpha() for char in text) for name, first, last in SCRIPTS}
    name = max(counts, key=lambda one: counts[one])
    return name if counts[name] else "none"


def share(marks: NDArray[np.bool_]) -> str:
    return f"{marks.mean():.1%}" if len(marks) else ""


def precision_recall(read: Read, path: Path) -> None:
    """At the base rate of real traffic, not of the set: false positives weigh as (1 - prior) / prior."""
    auto = read.auto
    weights = np.where(auto, PRIOR / auto.sum(), (1 - PRIOR) / (~auto).sum())
    figure, axes = pyplot.subplots(figsize=(6, 4.5))
    for name, scores in (("first look alone", read.first), ("both looks", read.both)):
        precision, recall, _ = precision_recall_curve(auto, scores, sample_weight=weights)
        axes.plot(recall, precision, label=f"{name}, AUROC {roc_auc_score(auto, scores):.3f}")
    axes.set(xlabel="recall", ylabel=f"precision at {PRIOR:.0%} automated", xlim=(0, 1), ylim=(0, 1.02))
    _saved(figure, axes, path)


def reliability(read: Read, path: Path) -> None:
    """How many are automated among texts of like score, at the base rate of real traffic."""
    auto = read.auto
    weights = np.where(auto, PRIOR / auto.sum(), (1 - PRIOR) / (~auto).sum())
    figure, axes = pyplot.subplots(figsize=(6, 4.5))
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":", label="perfect")
    for name, scores in (("first look alone", read.first), ("both looks", read.both)):
        bins = np.digitize(scores, BINS[1:-1])
        there = [place for place in range(len(BINS) - 1) if (bins == place).any()]
        said = [np.average(scores[bins == place], weights=weights[bins == place]) for place in there]
        were = [np.average(auto[bins == place], weights=weights[bins == place]) for place in there]
        axes.plot(said, were, marker="o", label=name)
    axes.set(xlabel="score", ylabel="share that is automated", xlim=(0, 1), ylim=(0, 1.02))
    _saved(figure, axes, path)


def _saved(figure: Figure, axes: Axes, path: Path) -> None:
    axes.legend(loc="best", fontsize="small")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
