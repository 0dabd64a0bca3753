"""The corpus and the table of public sets."""

import gzip
import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from models import data
from models.data import Licence, PublicSet, Use
from services.classify.fingerprint import prints
from services.classify.scorer import LABELS
from services.errors import BadSetup
from tests.builders import message


def public_set(folder: Path, rows: list[dict[str, str]], *, use: Use = Use.TRAIN) -> PublicSet:
    packed = gzip.compress("\n".join(map(json.dumps, rows)).encode(), mtime=0)
    (folder / "some.jsonl.gz").write_bytes(packed)
    return PublicSet(
        name="some",
        file="some.jsonl.gz",
        sha256=sha256(packed).hexdigest(),
        licence=Licence.PERMISSIVE,
        terms="MIT",
        source="a test",
        use=use,
        family="some",
    )


def test_no_two_rows_of_the_corpus_say_the_same() -> None:
    counted = Counter(data.key(row.text) for row in data.read_corpus())
    assert [text for text, count in counted.items() if count > 1] == []


def test_no_two_rows_of_the_corpus_have_one_fingerprint() -> None:
    """As campaigns know them: the same words, whatever the names, numbers and links between them."""
    found = [prints(message(text=row.text)) for row in data.read_corpus()]
    counted = Counter(one.skeleton for one in found if one.telling)
    assert counted.most_common(1)[0][1] == 1


def test_every_row_of_the_corpus_is_whole() -> None:
    for path in data.CORPUS.rglob("*.jsonl"):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            row = json.loads(line)
            assert row["label"] in ("auto", "legit"), f"{path.name}:{number}"
            assert all(row[field].strip() for field in ("text", "category", "lang")), f"{path.name}:{number}"


def test_every_part_of_the_corpus_has_a_weight_and_both_labels() -> None:
    rows = data.read_corpus()
    assert {(row.part, row.auto) for row in rows} == {
        (part, auto) for part in data.WEIGHTS if part != "public" for auto in (True, False)
    }


def test_every_kind_is_in_the_corpus() -> None:
    kinds = {row.kind for row in data.read_corpus() if row.kind}
    assert kinds == set(LABELS[1:])


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("thanks-for-follow", "follow_thanks"),
        ("cross_platform_connect", "cross_platform"),
        ("crypto job scam", "finance"),
        ("fake_support", "phishing"),
        ("gift link scam", "phishing"),
        ("recruiter_blast", "recruiting"),
        ("b2b-pitch", "pitch"),
        ("charity_politics", None),
    ],
)
def test_a_category_has_one_kind(category: str, kind: str | None) -> None:
    assert data.kind_of(category) == kind


def test_weights_come_from_permissive_and_share_alike_sets_only() -> None:
    allowed = {Licence.PERMISSIVE, Licence.SHARE_ALIKE}
    assert all(known.licence in allowed for known in data.public_sets() if known.use is Use.TRAIN)


def test_without_public_sets_the_corpus_alone_is_the_pool(tmp_path: Path) -> None:
    pool = data.pool(tmp_path, 7)
    assert pool.found == []
    assert {known.use for known in pool.missing} == {Use.TRAIN}
    assert len(pool.rows) == len(data.read_corpus())


def test_a_pool_is_the_same_for_the_same_seed() -> None:
    assert data.pool(None, 7).digest == data.pool(None, 7).digest


def test_a_set_that_is_another_file_is_refused(tmp_path: Path) -> None:
    known = public_set(tmp_path, [{"text": "hi", "label": "ham"}])
    (tmp_path / known.file).write_bytes(b"other")
    with pytest.raises(BadSetup, match="sha256"):
        data.read_public(known, tmp_path)


def test_a_text_that_differs_only_in_disguise_is_taken_once(tmp_path: Path) -> None:
    rows = [{"text": text, "label": "spam"} for text in ("Free  money", "fr\u0435e money", "FREE MONEY", "other")]
    found = data.read_public(public_set(tmp_path, rows), tmp_path)
    assert [row.text for row in data.distinct(found)] == ["Free  money", "other"]


def test_a_held_out_family_is_not_in_the_pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = public_set(tmp_path, [{"text": "a text that is nowhere else", "label": "spam"}])
    monkeypatch.setattr(data, "public_sets", lambda: (known,))
    assert "some" in {row.file for row in data.pool(tmp_path, 7).rows}
    assert "some" not in {row.file for row in data.pool(tmp_path, 7, without=lambda name: name == "some").rows}
