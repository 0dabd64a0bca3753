"""`python -m models.evaluate FILE…`: how well the model tells automated from personal texts that it has not seen.

A FILE holds JSON lines with `text` and `label` (auto | legit, or spam | ham), gzipped if it ends so.

    --disguised        what is still caught of the automated texts when they are disguised, instead
    --held-out DIR     trains again without each family of public sets, and measures on it, instead
    --card DIR         measures the first FILE and the public sets of DIR, and writes models/figures.md and its plots
"""

import argparse
import gzip
import json
import random
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from models import card, data
from models.card import Read, Scores
from models.data import Pool, Row, Use, public_sets, read_public
from services.action import policy
from services.classify.scorer import Scorer
from services.settings import ROOT

# Text alone, at the default tenant's threshold; and the share of personal texts that the "2 %" column allows.
THRESHOLD = policy.read(ROOT / "deploy" / "policy.toml").default.threshold
FALSE_POSITIVES = 0.02
HELD_OUT = ("scamspot_instagram", "tg_spam_samples", "youtube", "sms")
ROUNDS = 1_000
HEAD = ("set", "texts", "AUROC (95 %)", "recall at 2 % FP", f"recall at {THRESHOLD}", f"FP at {THRESHOLD}")
# Sets without a single automated text that are also trained on.
HAM = ("multidogo_customer_service", "banking77")
CARD = ROOT / "models"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model makes of one set. Shares are of the automated (recall) or the personal texts (false positives).

    `auroc`: the value, and the bounds of a 95 % bootstrap interval.
    """

    name: str
    texts: int
    auroc: tuple[float, float, float] | None
    recall_at_2_percent: float | None
    recall: float | None
    false_positives: float | None


def figures(name: str, rows: Sequence[Row], scorer: Scorer) -> Figures:
    """Measure both looks on one set."""
    read = Read.by(scorer, rows)
    return measured(name, read.auto, read.both)


def measured(name: str, auto: NDArray[np.bool_], scores: Scores) -> Figures:
    """Figures of scores."""
    both = 0 < auto.sum() < len(auto)
    bound = np.quantile(scores[~auto], 1 - FALSE_POSITIVES) if both else 0.0
    return Figures(
        name,
        len(auto),
        (float(roc_auc_score(auto, scores)), *_interval(auto, scores)) if both else None,
        float((scores[auto] > bound).mean()) if both else None,
        float((scores[auto] >= THRESHOLD).mean()) if auto.any() else None,
        float((scores[~auto] >= THRESHOLD).mean()) if not auto.all() else None,
    )


def _interval(auto: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[float, float]:
    generator = np.random.default_rng(7)
    drawn = (generator.integers(0, len(auto), len(auto)) for _ in range(ROUNDS if len(auto) < ROUNDS else 50))
    found = [roc_auc_score(auto[rows], scores[rows]) for rows in drawn if 0 < auto[rows].sum() < len(rows)]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def report(scorer: Scorer, folder: Path | None, pool: Pool, console: Console) -> None:
    """Show the figures on the public sets that are there and were not trained on."""
    trained = {known.name for known in pool.found}
    held = [known for known in public_sets() if known.use is not Use.NEITHER and known.name not in trained]
    there = [known for known in held if folder and (folder / known.file).exists()]
    show((figures(known.name, read_public(known, folder), scorer) for known in there if folder), console)


def show(found: Iterable[Figures], console: Console) -> None:
    """Figures as a table."""
    table = Table(*HEAD)
    for one in found:
        table.add_row(*line(one))
    console.print(table)


def line(one: Figures) -> tuple[str, ...]:
    """Figures for people, in the order of `HEAD`."""
    shares = (one.recall_at_2_percent, one.recall, one.false_positives)
    auroc = "" if one.auroc is None else "{:.3f} ({:.3f}-{:.3f})".format(*one.auroc)
    return one.name, f"{one.texts:,}", auroc, *("" if share is None else f"{share:.1%}" for share in shares)


def write_card(scorer: Scorer, dev: Path, folder: Path) -> None:
    """models/figures.md and its plots: `dev` by slices, and the sets of `folder` that may judge."""
    near = Read.by(scorer, read(dev))
    sets = [known for known in public_sets() if known.use is not Use.NEITHER and (folder / known.file).exists()]
    wanted = [known for known in sets if known.use is Use.EVALUATE or known.name in HAM]
    measured_sets = [Read.by(scorer, read_public(known, folder)) for known in wanted]
    every = Read.joined([near, *measured_sets])
    names = [known.name + ("" if known.use is Use.EVALUATE else " (part of it trained on)") for known in wanted]
    card.precision_recall(near, CARD / "precision-recall.png")
    card.reliability(near, CARD / "reliability.png")
    rows = [
        line(measured(f"{dev.name}, first look alone", near.auto, near.first)),
        line(measured(f"{dev.name}, both looks", near.auto, near.both)),
        *(line(measured(name, one.auto, one.both)) for name, one in zip(names, measured_sets, strict=True)),
    ]
    mutated = [(name, str(caught), f"{kept:.1%}") for name, caught, kept in disguised(near.rows, scorer)]
    (CARD / "figures.md").write_text(
        card.FIGURES.format(
            threshold=THRESHOLD,
            sets=card.table(HEAD, rows),
            slices=card.slices(near, THRESHOLD),
            scripts=card.scripts(every, THRESHOLD),
            languages=card.languages(every, THRESHOLD),
            own_languages=card.languages(unseen(folder), THRESHOLD),
            disguises=card.table(("disguise", "caught without", "still caught"), mutated),
        ),
        encoding="utf-8",
    )


def read(path: Path) -> list[Row]:
    """The labelled rows of a file."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    return [
        Row(
            row["text"], row["label"] in ("auto", "spam"), row.get("category"), "public", path.name, row.get("lang", "")
        )
        for row in rows
    ]


def unseen(folder: Path, seed: int = 7) -> Read:
    """Our rows with the form of real messages, as the first look reads them that has not seen their file."""
    from models import train

    rows = data.pool(folder, seed).rows
    counts = train.bag([row.text for row in rows])
    logits = train.unseen(rows, train.task(rows, counts, train.rarity(counts)), seed)
    slope, intercept = train.calibrate(rows, logits)
    scores = expit(slope * logits.astype(np.float64) + intercept)
    return Read(rows, scores, scores).of([row.part == "realform" for row in rows])


def disguised(rows: Sequence[Row], scorer: Scorer) -> Iterable[tuple[str, int, float]]:
    """For each disguise: its name, the automated texts caught without it, the share of them still caught with it."""
    texts = [row.text for row in rows if row.auto]
    caught = [text for text, score in zip(texts, scorer.both(texts), strict=True) if score.score >= THRESHOLD]
    for name, change in DISGUISES.items():
        changed = [change(text, random.Random(place)) for place, text in enumerate(caught)]
        still = [score.score >= THRESHOLD for score in scorer.both(changed)]
        yield name, len(caught), sum(still) / max(1, len(still))


_LOOK_ALIKES = str.maketrans("aceopxyiAEOPCTMHK", "асеорхуіАЕОРСТМНК")
_LEET = str.maketrans("aeiost", "431057")
_LINK = re.compile(r"https?://\S+|\b[\w-]+(?:\.[\w-]+)+/\S*")


def _sprinkled(change: Callable[[str], str], share: float) -> Callable[[str, random.Random], str]:
    """A change of this share of the characters."""
    return lambda text, dice: "".join(change(char) if dice.random() < share else char for char in text)


def _spaced(text: str, dice: random.Random) -> str:
    chosen = [len(word) > 3 and word.isalpha() and dice.random() < 0.2 for word in text.split(" ")]
    return " ".join(" ".join(word) if out else word for word, out in zip(text.split(" "), chosen, strict=True))


DISGUISES: dict[str, Callable[[str, random.Random], str]] = {
    "look-alikes, 30 % of letters": _sprinkled(lambda char: char.translate(_LOOK_ALIKES), 0.3),
    "zero-width after 20 % of characters": _sprinkled(lambda char: char + "\u200b", 0.2),
    "a fifth of the words spaced out": _spaced,
    "leetspeak, 15 % of letters": _sprinkled(lambda char: char.translate(_LEET), 0.15),
    "capitals": lambda text, _: text.upper(),
    "an emoji for every second blank": lambda text, dice: re.sub(" ", lambda _: dice.choice([" ", " 🔥 "]), text),
    "other links": lambda text, dice: _LINK.sub(lambda _: f"https://go{dice.randint(10, 99)}.example/r", text),
}


def held_out(folder: Path, seed: int = 7) -> Iterable[tuple[str, int, float]]:
    """The same recipe without a family of public sets, measured on each of it: name, texts, AUROC."""
    from models import network, train

    for family in HELD_OUT:
        pool = data.pool(folder, seed, without=lambda name, family=family: name == family)  # type: ignore[misc]
        counts = train.bag([row.text for row in pool.rows])
        idf = train.rarity(counts)
        trained = train.reader(train.task(pool.rows, counts, idf), seed, network.Recipe())
        seen = {data.key(row.text) for row in pool.rows}
        for known in public_sets():
            if known.family == family and known.use is Use.TRAIN and (folder / known.file).exists():
                rows = list(data.distinct(read_public(known, folder), seen))
                logits = trained.logits(train.scaled(train.bag([row.text for row in rows]), idf))[:, 0]
                yield known.name, len(rows), float(roc_auc_score([row.auto for row in rows], logits))


def main() -> int:
    """Measure the files named."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description="measure a model on labelled files")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "shipped", metavar="DIR")
    parser.add_argument("--disguised", action="store_true", help="what is still caught of disguised texts")
    parser.add_argument("--card", type=Path, metavar="DIR", help="folder of public sets: write the card's figures")
    parser.add_argument("--held-out", type=Path, metavar="DIR", help="folder of public sets: train without each family")
    args = parser.parse_args()
    if not args.files and not args.held_out:
        parser.error("name a FILE to measure on, or --held-out DIR")
    console = Console()
    if args.held_out:
        _print(console, ("held out", "texts", "AUROC"), held_out(args.held_out), "{:.3f}")
        return 0
    scorer = Scorer.load(args.model)
    if args.card:
        write_card(scorer, args.files[0], args.card)
    elif args.disguised:
        rows = [row for path in args.files for row in read(path)]
        _print(console, ("disguise", "caught without", "still caught"), disguised(rows, scorer), "{:.1%}")
    else:
        show((figures(path.name, read(path), scorer) for path in args.files), console)
    return 0


def _print(console: Console, head: tuple[str, ...], rows: Iterable[tuple[str, int, float]], form: str) -> None:
    table = Table(*head)
    for name, count, value in rows:
        table.add_row(name, f"{count:,}", form.format(value))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
