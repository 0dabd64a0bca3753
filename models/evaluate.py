"""`python -m models.evaluate FILE…`: how well the model tells automated from personal texts that it has not seen.

A FILE holds JSON lines with `text` and `label` (auto | legit, or spam | ham), gzipped if it ends so.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from models.data import Pool, Row, Use, public_sets, read_public
from services.action import policy
from services.classify.scorer import Scorer
from services.settings import ROOT

# Text alone, at the default tenant's threshold; and the share of personal texts that the "2 %" column allows.
THRESHOLD = policy.read(ROOT / "deploy" / "policy.toml").default.threshold
FALSE_POSITIVES = 0.02


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model makes of one set. Shares are of the automated (recall) or the personal texts (false positives)."""

    name: str
    texts: int
    auroc: float | None
    recall_at_2_percent: float | None
    recall: float | None
    false_positives: float | None


def figures(name: str, rows: Sequence[Row], scorer: Scorer) -> Figures:
    """Measure one set."""
    scores = np.array([score.score for score in scorer.score([row.text for row in rows])])
    auto = np.array([row.auto for row in rows])
    both = 0 < auto.sum() < len(auto)
    bound = np.quantile(scores[~auto], 1 - FALSE_POSITIVES) if both else 0.0
    return Figures(
        name,
        len(rows),
        float(roc_auc_score(auto, scores)) if both else None,
        float((scores[auto] > bound).mean()) if both else None,
        float((scores[auto] >= THRESHOLD).mean()) if auto.any() else None,
        float((scores[~auto] >= THRESHOLD).mean()) if not auto.all() else None,
    )


def report(scorer: Scorer, folder: Path | None, pool: Pool, console: Console) -> None:
    """Show the figures on the public sets that are there and were not trained on."""
    trained = {known.name for known in pool.found}
    held = [known for known in public_sets() if known.use is not Use.NEITHER and known.name not in trained]
    there = [known for known in held if folder and (folder / known.file).exists()]
    show((figures(known.name, read_public(known, folder), scorer) for known in there if folder), console)


def show(found: Iterable[Figures], console: Console) -> None:
    """Figures as a table."""
    table = Table("set", "texts", "AUROC", "recall at 2 % FP", f"recall at {THRESHOLD}", f"FP at {THRESHOLD}")
    for one in found:
        shares = (one.recall_at_2_percent, one.recall, one.false_positives)
        table.add_row(
            one.name,
            f"{one.texts:,}",
            "" if one.auroc is None else f"{one.auroc:.3f}",
            *("" if share is None else f"{share:.1%}" for share in shares),
        )
    console.print(table)


def read(path: Path) -> list[Row]:
    """The labelled rows of a file."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    return [Row(row["text"], row["label"] in ("auto", "spam"), None, "public", path.name) for row in rows]


def main() -> int:
    """Measure the files named."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description="measure a model on labelled files")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "shipped", metavar="DIR")
    args = parser.parse_args()
    scorer = Scorer.load(args.model)
    show((figures(path.name, read(path), scorer) for path in args.files), Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
