"""The model folder: checked before it is used, refused when wrong; a score is a text's own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.classify.scorer import LABELS, ModelFolder, Scorer
from services.errors import BadSetup
from services.settings import ROOT

SHIPPED = ROOT / "models" / "shipped"


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer.load(SHIPPED)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_mass_mail_scores_above_personal_mail(scorer: Scorer) -> None:
    bulk, personal = scorer.score(
        [
            "Thanks for following! Grab my free guide: https://growth.example",
            "are you still at the station? I have keys",
        ]
    )
    assert bulk.score > 0.5 > 0.1 > personal.score
    assert set(bulk.labels) == set(LABELS) - {"auto"}


def test_a_score_does_not_depend_on_its_neighbours(scorer: Scorer) -> None:
    texts = ["", "ok", "Thx for the follow!", "x" * 5000, "Привет 👋", "free crypto " * 40, "\ud800", "\0"]
    together = [score.score for score in scorer.score(texts * 40)]
    assert together == [scorer.score([text])[0].score for text in texts] * 40


@settings(max_examples=30)
@given(st.text(alphabet=st.characters(codec=None), max_size=200))
def test_any_string_has_a_score(text: str) -> None:
    (score,) = Scorer.load(SHIPPED).score([text])
    assert 0 <= score.score <= 1
    assert all(0 <= start < end <= len(text) for start, end, _ in score.spans)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda manifest: manifest.update(sha256="0" * 64), "sha256"),
        (lambda manifest: manifest["features"].update(digest="0" * 64), "feature"),
        (lambda manifest: manifest["golden"][2]["probabilities"].__setitem__(0, 0.001), "golden row 3"),
        (lambda manifest: manifest.pop("labels"), "labels"),
        (lambda manifest: manifest["labels"].reverse(), "label"),
    ],
    ids=["other bytes", "other features", "other answers", "no labels", "other labels"],
)
def test_a_wrong_folder_is_refused(copy: Path, change: Callable[[dict[str, Any]], object], named: str) -> None:
    edit(copy, change)
    with pytest.raises(BadSetup, match=named):
        Scorer.load(copy)


def test_an_absent_model_is_refused_by_name(copy: Path) -> None:
    (copy / "first.onnx").unlink()
    with pytest.raises(BadSetup, match=r"first\.onnx"):
        Scorer.load(copy)
    with pytest.raises(BadSetup, match=r"manifest\.json"):
        Scorer.load(copy / "absent")


def test_a_changed_folder_is_noticed_once(copy: Path) -> None:
    folder = ModelFolder(copy)
    assert folder.changed()
    folder.load()
    assert not folder.changed()
    edit(copy, lambda manifest: manifest.update(version="another"))
    assert folder.changed()
    assert folder.load().version == "another"
