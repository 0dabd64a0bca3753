"""From texts to a model folder, on a part of the corpus."""

from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession

from models import data, export, network, train
from models.network import Recipe
from services.classify.scorer import Scorer
from services.classify.text import features

ROWS = [row for row in data.read_corpus() if row.part == "realform"][::7]
QUICK = Recipe(epochs=60)


@pytest.fixture(scope="module")
def trained() -> train.Trained:
    counts = train.bag([row.text for row in ROWS])
    idf = train.rarity(counts)
    given = train.task(ROWS, counts, idf)
    kinds = network.fit(train.kinds_task(ROWS, given), 7, QUICK)
    return train.Trained(idf, train.reader(given, 7, QUICK), kinds, (1.5, -2.0), None)


def test_the_graphs_say_what_the_networks_say(trained: train.Trained, tmp_path: Path) -> None:
    export.write(tmp_path, trained, data.Pool(ROWS, [], []), 7, 0.05)
    texts = [row.text for row in ROWS]
    vectors = train.scaled(train.bag(texts), trained.idf)
    auto = _sigmoid(trained.auto.logits(vectors) * 1.5 - 2)
    expected = np.hstack([auto, auto * _sigmoid(trained.kinds.logits(vectors))])
    found = Scorer.load(tmp_path).probabilities(texts)
    off = np.abs(found - expected)
    assert np.quantile(off, 0.999) < 0.005, "but for eight bits a number"
    assert off.max() < 0.01


def test_packed_numbers_add_up_to_what_plain_ones_do(trained: train.Trained) -> None:
    graphs = [export.graph(trained.auto, trained.idf, (1.5, -2.0), explains=packed) for packed in (True, False)]
    grams = features([row.text for row in ROWS])
    given = {"rows": grams.rows, "owners": grams.owners[:, None]}
    packed, plain = (InferenceSession(graph.SerializeToString()) for graph in graphs)
    answers = [
        session.run(["probabilities"], given | {"empty": np.zeros((len(ROWS), columns), np.float32)} | told)[0]
        for session, columns, told in ((packed, 10, {"explain": np.array(False)}), (plain, 9, {}))
    ]
    assert np.array_equal(*answers)


def test_one_seed_makes_one_network(trained: train.Trained) -> None:
    given = train.task(ROWS, train.bag([row.text for row in ROWS]), trained.idf)
    again, other = train.reader(given, 7, QUICK), train.reader(given, 8, QUICK)
    assert np.array_equal(again.embedding, trained.auto.embedding)
    assert not np.array_equal(other.embedding, trained.auto.embedding)


def test_a_line_beside_a_network_adds_to_its_logit(trained: train.Trained) -> None:
    vectors = train.scaled(train.bag([row.text for row in ROWS]), trained.idf)
    line = np.linspace(-3, 3, vectors.shape[1], dtype=np.float32)
    added = trained.auto.with_line(line, 0.25).logits(vectors) - trained.auto.logits(vectors)
    assert added[:, 0] == pytest.approx(vectors @ line + 0.25, abs=1e-3)


def test_a_network_tells_the_texts_apart_that_it_learnt(trained: train.Trained) -> None:
    logits = trained.auto.logits(train.scaled(train.bag([row.text for row in ROWS]), trained.idf))[:, 0]
    auto = np.array([row.auto for row in ROWS])
    assert np.median(logits[auto]) > np.quantile(logits[~auto], 0.9)


def test_what_is_calibrated_has_the_prior_of_life() -> None:
    weights = train._as_in_life(ROWS)
    auto = np.array([row.auto for row in ROWS])
    assert weights[auto].sum() / weights.sum() == pytest.approx(train.PRIOR)


def _sigmoid(logits: network.Floats) -> network.Floats:
    return (1 / (1 + np.exp(-logits))).astype(np.float32)
