"""What kind of automated message it is: logistic regression on words and pairs of words, for each kind by itself.

Learnt from our own automated rows alone: public sets name no kinds, and a kind is only asked for given that a message
is automated. Four rows of the table share one here; words are few beside n-grams.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.data import WEIGHTS, Row
from services.classify.scorer import LABELS
from services.classify.text import SPEC

Floats = NDArray[np.float32]

KINDS = LABELS[1:]
SHARED = 4
ROWS = (SPEC.rows - 1) // SHARED + 1
# Vectors here are without idf, some fiftyfold shorter than those of the network.
STRENGTH = 1_000.0


@dataclass(frozen=True, slots=True)
class Kinds:
    """`weights` [ROWS, kinds], to be summed over a text's words and divided by their length; `bias` [kinds]."""

    weights: Floats
    bias: Floats

    def logits(self, words: sparse.csr_matrix) -> Floats:
        """Raw logits [texts, kinds] of `train.word_vectors` [texts, table rows]."""
        found: Floats = shared(words) @ self.weights + self.bias
        return found


def shared(words: sparse.csr_matrix) -> sparse.csr_matrix:
    """Columns brought together, `SHARED` to one; column 0 stays alone."""
    return sparse.csr_matrix(
        (words.data, (words.indices + SHARED - 1) // SHARED, words.indptr), shape=(words.shape[0], ROWS)
    )


def fit(rows: list[Row], words: sparse.csr_matrix, seed: int) -> Kinds:
    """The heads for all kinds; `words` [texts, table rows] as `train.word_vectors` makes them."""
    chosen = np.array([place for place, row in enumerate(rows) if row.auto and row.part != "public"])
    vectors = shared(words[chosen])
    vectors.sum_duplicates()
    importance = np.array([WEIGHTS[rows[place].part] for place in chosen])
    weights = np.zeros((ROWS, len(KINDS)), dtype=np.float32)
    bias = np.zeros(len(KINDS), dtype=np.float32)
    for column, kind in enumerate(KINDS):
        own = np.array([rows[place].kind == kind for place in chosen])
        head = LogisticRegression(C=STRENGTH, solver="liblinear", random_state=seed)
        head.fit(vectors, own, sample_weight=importance)
        weights[:, column], bias[column] = head.coef_[0], head.intercept_[0]
    return Kinds(weights, bias)
