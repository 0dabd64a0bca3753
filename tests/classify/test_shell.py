"""The shell around classify's stage: the model that reads beside the one in use."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services import metrics
from services.classify.__main__ import CampaignsView, Classify, Model
from services.classify.scorer import MANIFEST, ModelFolder, Scorer
from services.classify.text import Grams
from services.records import Output
from services.settings import ROOT
from tests.builders import NOON_MS, message_record

SHIPPED = ROOT / "models" / "shipped"
TEXTS = ("Thanks for following! Free e-book: https://books.example/free", "see you at eight, bring the blue tent")
RECORDS = [message_record(n, event_id=f"e-{n}", text=text) for n, text in enumerate(TEXTS)]


class Lower(Scorer):
    """The shipped model, whose first look says half."""

    def first(self, grams: Grams, count: int) -> NDArray[np.float32]:
        return super().first(grams, count) * np.float32(0.5)


def run(rival: Model | None) -> list[Output]:
    work = Classify(0, Model(ModelFolder(SHIPPED)), CampaignsView(), lambda *_: 0, 1_000_000, rival)
    work.resume("", 1)
    return work.run(RECORDS, NOON_MS)


def apart() -> list[float]:
    """How many texts fell into each bucket so far."""
    return [bucket.get() for bucket in metrics.SHADOW_MODEL_DIFFERENCE._buckets]


def counted(before: list[float]) -> dict[float, float]:
    added = [now - then for now, then in zip(apart(), before, strict=True)]
    bounds = metrics.SHADOW_MODEL_DIFFERENCE._upper_bounds
    return {bound: number for bound, number in zip(bounds, added, strict=True) if number}


def test_a_shadow_model_is_compared_text_by_text_and_changes_nothing() -> None:
    rival = Model(ModelFolder(SHIPPED), metrics.SHADOW_MODEL)
    assert rival.scorer is not None
    before, alone = apart(), run(None)
    assert counted(before) == {}
    assert run(rival) == alone
    assert counted(before) == {0.01: 2}
    rival.scorer.__class__ = Lower
    before = apart()
    assert run(rival) == alone
    assert counted(before) == {0.01: 1, 0.5: 1}


def test_a_wrong_shadow_model_is_refused_and_nothing_is_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "model"))
    (folder / MANIFEST).write_text("{}")
    with caplog.at_level(logging.ERROR):
        rival = Model(ModelFolder(folder), metrics.SHADOW_MODEL)
    assert rival.scorer is None
    assert "model_refused" in caplog.text
    before = apart()
    assert len(run(rival)) == len(run(None))
    assert counted(before) == {}
