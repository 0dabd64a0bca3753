"""The texts to learn from and to measure on: our own corpus, and public sets that whoever trains has in a folder."""

import gzip
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.classify.text import fold
from services.errors import BadSetup

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
SETS = HERE / "datasets.json"

# Ham sets are up to 30,000 rows of one tone each: more than this of one teaches nothing new.
MAX_HAM = 1_500
WEIGHTS = {"first": 1.0, "natural": 1.0, "realform": 3.0, "boundary": 0.2, "public": 0.3}

# The corpus names its categories freely; the first pattern found in one gives its kind, none gives "auto" alone.
_KINDS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("cross_platform", r"cross platform|contact push|social site invite"),
        (
            "finance",
            r"crypto|financ|forex|invest|trading|token|nft|loan|lottery|betting|gambl|casino|advance fee|earn|stock"
            r"|mlm",
        ),
        ("follow_thanks", r"follow(er)? thanks|thanks|follow promo|new follower|follow back|welcome"),
        ("phishing", r"phish|scam|fake|impersonat|security|hacked|is this you|malware|malicious|steam account|wallet"),
        ("giveaway", r"giveaway|gift|prize|raffle|airdrop|freebie"),
        ("adult", r"adult|dating|romance|sugar|spell"),
        ("recruiting", r"recruit|\bjobs?\b|hiring|gig\b|work from home|ambassador"),
        ("newsletter", r"newsletter|lead magnet|free guide|ebook|webinar|digest"),
        ("hype", r"hype|home business|miracle"),
        ("engagement_bait", r"engagement|opener|compliment|saw your profile|quick question|connect|survey|networking"),
        (
            "pitch",
            r"pitch|outreach|promo|shop|offer|sales|seo|b2b|music|service|cold|drip|guest post|coach|link|seller|ad\b",
        ),
    )
)


class Licence(StrEnum):
    """What a set may be used for: weights come from `permissive` and `share-alike` sets only."""

    PERMISSIVE = "permissive"
    SHARE_ALIKE = "share-alike"
    NON_COMMERCIAL = "non-commercial"
    UNCLEAR = "unclear"


class Use(StrEnum):
    TRAIN = "train"
    EVALUATE = "evaluate"
    NEITHER = "neither"


class PublicSet(BaseModel):
    """A public set: a gzipped file of JSON lines with `text`, `label` (spam | ham), `source` and `kind`.

    `family`: sets that share texts have the same and are held out together. `lang`: the language of most
    of its texts, ISO 639-1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    licence: Licence
    terms: str
    source: str
    use: Use
    family: str
    lang: str = "en"


@dataclass(frozen=True, slots=True)
class Row:
    """A text with its label. `kind`: None where it is not known; `part` names its weight, `file` where it came from."""

    text: str
    auto: bool
    kind: str | None
    part: str
    file: str
    lang: str = ""


@dataclass(frozen=True, slots=True)
class Pool:
    """Rows without repeats, and the public sets among and missing from them."""

    rows: list[Row]
    found: list[PublicSet]
    missing: list[PublicSet]

    @property
    def digest(self) -> str:
        """Over texts, labels and weights, in their order."""
        found = sha256()
        for row in self.rows:
            found.update(f"{row.part}\n{int(row.auto)}\n{row.kind}\n".encode() + _bytes(row.text) + b"\0")
        return found.hexdigest()


def pool(folder: Path | None, seed: int, *, without: Callable[[str], bool] = lambda _: False) -> Pool:
    """All that may be trained on: the corpus, and from `folder` each set that is there and allowed.

    `without`: families that are held out. A text that is there twice counts where it comes first.
    """
    sets = [known for known in public_sets() if known.use is Use.TRAIN and not without(known.family)]
    found = [known for known in sets if folder and (folder / known.file).exists()]
    public = (row for known in found if folder for row in _sampled(read_public(known, folder), seed))
    rows = list(distinct([*read_corpus(), *public]))
    return Pool(rows, found, [known for known in sets if known not in found])


def key(text: str) -> str:
    """What two texts share that differ in disguise, case and blanks only."""
    return " ".join(fold(text).split())


def distinct(rows: Iterable[Row], seen: Iterable[str] = ()) -> Iterator[Row]:
    """The rows whose text was not there before."""
    known = set(seen)
    for row in rows:
        found = key(row.text)
        if found not in known:
            known.add(found)
            yield row


def read_corpus(folder: Path = CORPUS) -> list[Row]:
    """Our own texts, file by file in the order of their names."""
    return [row for path in sorted(folder.rglob("*.jsonl")) for row in _corpus_file(path, folder)]


def _corpus_file(path: Path, folder: Path) -> Iterator[Row]:
    part = "first" if path.parent == folder else path.parent.name
    for line in path.read_bytes().splitlines():
        row = json.loads(line)
        auto = row["label"] == "auto"
        yield Row(row["text"], auto, kind_of(row["category"]) if auto else None, part, path.stem, row["lang"])


def kind_of(category: str) -> str | None:
    """Our kind for a category of the corpus; None for those that are none of ours (charity, politics, …)."""
    plain = re.sub(r"[-_ ]+", " ", category.lower())
    return next((kind for kind, pattern in _KINDS if pattern.search(plain)), None)


def public_sets() -> tuple[PublicSet, ...]:
    """The table of public sets; raises BadSetup."""
    try:
        return TypeAdapter(tuple[PublicSet, ...]).validate_json(SETS.read_bytes())
    except ValidationError as error:
        raise BadSetup(f"{SETS.name}: {error}") from None


def read_public(known: PublicSet, folder: Path) -> list[Row]:
    """The rows of a set; raises BadSetup if the file is another than the one that the table names."""
    packed = (folder / known.file).read_bytes()
    if sha256(packed).hexdigest() != known.sha256:
        raise BadSetup(
            f"{known.file} is not the file that {SETS.name} names (sha256): take that version, or mend the table"
        )
    lines = gzip.decompress(packed).splitlines()
    return [
        Row(row["text"], row["label"] == "spam", None, "public", known.name, known.lang)
        for row in map(json.loads, lines)
    ]


def _sampled(rows: list[Row], seed: int) -> Iterator[Row]:
    """All automated rows and at most `MAX_HAM` others, the same for the same seed."""
    order = rows[:]
    random.Random(f"{seed} {rows[0].file}").shuffle(order)
    yield from (row for row in order if row.auto)
    yield from [row for row in order if not row.auto][:MAX_HAM]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
