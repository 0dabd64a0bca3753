"""The shipped model through the scorer: what it promises, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.classify.scorer import LABELS, MANIFEST, ModelFolder, Scorer
from services.errors import BadSetup
from services.settings import ROOT

SHIPPED = ROOT / "models" / "shipped"

AUTOMATED = [
    "Thanks for following! Grab my free guide to 10k followers: https://growth.example/free",
    "Let's also connect on LinkedIn (https://lnk.example/me) and Facebook (https://fb.example/me) and Instagram too!",
    "Hi! I built an app for people like you, join us here: https://app.example",
]
WRITTEN_BY_SOMEBODY = [
    "Hey Ana, thanks for the follow back! Your talk on tide gauges made my week: "
    "which sensor was it you said fails in frost?",
    "Hi, this is the store: your order 5531 is ready, we close at 18:00. Reply here if you want us to hold it.",
]
UNSURE = [
    "Hey, loved your last post! Are you taking on new clients at the moment?",
    "Hi, I run a small studio nearby. Would you like to have a look at our prices?",
    "Thanks for following, I post about bread every day",
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer.load(SHIPPED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


@pytest.mark.parametrize("text", AUTOMATED)
def test_an_automated_message_scores_high(scorer: Scorer, text: str) -> None:
    assert scorer.score([text])[0].score >= 0.5


@pytest.mark.parametrize("text", WRITTEN_BY_SOMEBODY)
def test_a_message_to_somebody_scores_low(scorer: Scorer, text: str) -> None:
    assert scorer.score([text])[0].score < 0.15


def test_a_score_does_not_depend_on_its_neighbours(scorer: Scorer) -> None:
    texts = [*AUTOMATED, *WRITTEN_BY_SOMEBODY, "", "ok", "x" * 5_000, *(f"{'word ' * n}{n}" for n in range(200))]
    together = scorer.probabilities(texts)
    alone = np.concatenate([scorer.probabilities([text]) for text in texts])
    backwards = scorer.probabilities(texts[::-1])[::-1]
    assert np.array_equal(together, alone)
    assert np.array_equal(together, backwards)


@given(texts=st.lists(st.text(st.characters(), max_size=200), max_size=8))
def test_any_strings_are_scored(scorer: Scorer, texts: list[str]) -> None:
    for text, found in zip(texts, scorer.score(texts), strict=True):
        assert 0 <= found.score <= 1
        assert found.first == found.score
        assert tuple(found.labels) == (LABELS[1:] if found.score >= 0.05 else ())
        assert all(0 <= value <= found.score + 1e-4 for value in found.labels.values())
        assert all(0 <= start < end <= len(text) for start, end, _ in found.spans)


@pytest.mark.parametrize(
    "text", ["", " ", "\x00", "\ud800", "👍" * 3_000, "a" * 262_144, "\ufdfa" * 4_000, "х" * 9_000]
)
def test_odd_texts_are_scored(scorer: Scorer, text: str) -> None:
    assert 0 <= scorer.score([text])[0].score <= 1


def test_no_texts_get_no_scores(scorer: Scorer) -> None:
    assert scorer.score([]) == []


def test_scores_have_four_decimals(scorer: Scorer) -> None:
    (found,) = scorer.score(AUTOMATED[:1])
    for value in (found.score, *found.labels.values()):
        assert value == round(value, 4)


def test_a_second_look_changes_what_the_first_is_unsure_of_and_nothing_else(scorer: Scorer) -> None:
    texts = [*AUTOMATED, *WRITTEN_BY_SOMEBODY, *UNSURE]
    for once, twice in zip(scorer.score(texts), scorer.both(texts), strict=True):
        assert twice.first == once.first
        assert (twice.score != once.score) is scorer.unsure(once.first)
    assert all(scorer.unsure(once.first) for once in scorer.score(UNSURE))


def test_a_second_look_does_not_depend_on_its_neighbours(scorer: Scorer) -> None:
    assert scorer.both(UNSURE) == [scorer.both([text])[0] for text in UNSURE]


def test_a_score_that_a_second_look_has_raised_is_explained(scorer: Scorer) -> None:
    for found in scorer.both(UNSURE):
        assert bool(found.labels) is (found.score >= 0.05)
        assert bool(found.spans) is (found.score >= scorer.explain_from)


@given(text=st.text(st.characters(), max_size=300), first=st.floats(0, 1))
def test_any_string_may_be_looked_at_again(scorer: Scorer, text: str, first: float) -> None:
    assert 0 <= scorer.again(text, first).score <= 1


def test_without_a_second_look_the_first_is_never_unsure(folder: Path) -> None:
    _changed(folder, lambda manifest: manifest.update(second=None))
    alone = Scorer.load(folder)
    assert not any(alone.unsure(first / 100) for first in range(101))
    assert alone.both(UNSURE) == alone.score(UNSURE)


@pytest.mark.parametrize("text", AUTOMATED)
def test_spans_point_at_the_pitch_in_the_text_as_written(scorer: Scorer, text: str) -> None:
    disguised = text.replace("o", "о")
    for written in (text, disguised):
        (found,) = scorer.score([written])
        weights = [weight for _, _, weight in found.spans]
        assert 1 <= len(weights) <= 5
        assert weights == sorted(weights, reverse=True)
        assert any("http" in written[start:end] for start, end, _ in found.spans)


def test_a_low_score_is_not_explained(scorer: Scorer) -> None:
    assert scorer.score(["see you at eight"])[0].spans == ()


def test_spans_in_the_tail_of_a_long_text_keep_their_places(scorer: Scorer) -> None:
    text = "hello there " * 1_000 + AUTOMATED[0]
    for start, end, _ in next(scorer._explain([text])):
        assert text[start:end].strip() == text[start:end]
        assert start < 3_000 or start >= len(text) - 1_000


def _changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(format=2), "format: 2, but this Doorman reads 3: train again"),
        (lambda manifest: manifest.update(sha256="0" * 64), "sha256"),
        (lambda manifest: manifest["features"].update(digest="0" * 64), "feature spec"),
        (lambda manifest: manifest["labels"].reverse(), "labels must be"),
        (lambda manifest: manifest["golden"][2]["probabilities"].__setitem__(0, 0.5), "golden row 3"),
        (lambda manifest: manifest["golden"][0]["probabilities"].pop(), "golden row 1: 11 probabilities for 12"),
        (lambda manifest: manifest.pop("prior"), "prior"),
        (lambda manifest: manifest.update(first="../first.onnx"), "first"),
        (lambda manifest: manifest.update(kinds="/kinds.onnx"), "kinds"),
        (lambda manifest: manifest.update(surprise=1), "surprise"),
        (lambda manifest: manifest["second"].update(sha256="0" * 64), "second.sha256"),
        (lambda manifest: manifest["second"]["golden"][1].update(logit=99), "second.golden row 2"),
    ],
    ids=[
        "format",
        "sha",
        "spec",
        "labels",
        "golden",
        "golden-length",
        "field-missing",
        "outside-the-folder",
        "absolute",
        "unknown-field",
        "second-sha",
        "second-golden",
    ],
)
def test_a_wrong_folder_is_refused(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    _changed(folder, change)
    with pytest.raises(BadSetup, match=message):
        Scorer.load(folder)


def test_every_fault_is_named_at_once(folder: Path) -> None:
    _changed(folder, lambda manifest: (manifest.update(sha256="0" * 64), manifest["labels"].reverse()))
    with pytest.raises(BadSetup, match=r"sha256.*labels must be"):
        Scorer.load(folder)


@pytest.mark.parametrize("name", [MANIFEST, "first.onnx", "kinds.onnx", "second.onnx", "tokenizer.json"])
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadSetup, match=name):
        Scorer.load(folder)


def _swapped(folder: Path, manifest: dict[str, Any]) -> None:
    graphs = [(folder / name).read_bytes() for name in ("kinds.onnx", "first.onnx")]
    (folder / "first.onnx").write_bytes(graphs[0])
    (folder / "kinds.onnx").write_bytes(graphs[1])
    manifest["sha256"] = sha256(b"".join(graphs)).hexdigest()


def _second_of_another_shape(folder: Path, manifest: dict[str, Any]) -> None:
    graph = (folder / "kinds.onnx").read_bytes()
    (folder / "second.onnx").write_bytes(graph)
    manifest["second"]["sha256"] = sha256(graph + (folder / "tokenizer.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("change", [_swapped, _second_of_another_shape])
def test_a_graph_in_anothers_place_is_refused(folder: Path, change: Callable[[Path, dict[str, Any]], None]) -> None:
    _changed(folder, lambda manifest: change(folder, manifest))
    with pytest.raises(BadSetup, match=f"{folder}: a graph is not what its name says"):
        Scorer.load(folder)


def test_a_graph_that_is_none_is_refused() -> None:
    with pytest.raises(BadSetup, match="not a graph"):
        Scorer(b"nothing", b"nothing")


def test_a_folder_is_new_until_it_is_loaded_and_when_it_changes(folder: Path) -> None:
    watched = ModelFolder(folder)
    assert watched.changed()
    watched.load()
    assert not watched.changed()
    _changed(folder, lambda manifest: manifest.update(version="another"))
    assert watched.changed()
    assert watched.load().version == "another"


def test_a_refused_folder_is_not_tried_again_until_it_changes(folder: Path) -> None:
    watched = ModelFolder(folder)
    _changed(folder, lambda manifest: manifest.update(sha256="0" * 64))
    with pytest.raises(BadSetup):
        watched.load()
    assert not watched.changed()
    shutil.copy(SHIPPED / MANIFEST, folder / MANIFEST)
    assert watched.changed()
    watched.load()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    watched = ModelFolder(tmp_path / "none")
    assert watched.changed()
    with pytest.raises(BadSetup, match="cannot be read"):
        watched.load()
    assert not watched.changed()
