"""The corpus and the table of public sets."""

import json
from collections import Counter

from models.data import Licence, Use, key, public_sets
from services.settings import ROOT

CORPUS = ROOT / "models" / "corpus"


def test_every_row_of_the_corpus_is_whole() -> None:
    for path in CORPUS.rglob("*.jsonl"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            row = json.loads(line)
            assert row["label"] in ("auto", "legit"), f"{path.name}:{number}"
            assert row["text"].strip(), f"{path.name}:{number}"
            assert row["category"], f"{path.name}:{number}"
            assert row["lang"], f"{path.name}:{number}"


def test_no_two_rows_of_the_corpus_are_the_same_text() -> None:
    texts = Counter(
        key(json.loads(line)["text"])
        for path in CORPUS.rglob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    )
    assert [text for text, number in texts.items() if number > 1] == []


def test_weights_come_from_free_sets_only() -> None:
    trained = [known for known in public_sets() if known.use is Use.TRAIN]
    assert trained
    assert {known.licence for known in trained} <= {Licence.PERMISSIVE, Licence.SHARE_ALIKE}
