"""A small network over hashed n-grams, trained with Adam on sparse vectors. Plain numpy: one seed, the same numbers.

    hidden = relu(vector @ embedding + hidden_bias)
    logits = hidden @ heads + bias

Two things keep it from learning an author's style by heart: half of the features are left out of each reading of a text
(which is also what a misspelling or a changed link does to it), and the targets are smoothed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# The bias of a hidden unit that is never off: more than a linear reading ever takes away.
ON = np.float32(64)
BATCH = 512
RATE = 2e-3
DROPPED = 0.5


@dataclass(frozen=True, slots=True)
class Network:
    """`embedding` [rows, hidden], `hidden_bias` [hidden], `heads` [hidden, labels], `bias` [labels]."""

    embedding: Floats
    hidden_bias: Floats
    heads: Floats
    bias: Floats

    def logits(self, vectors: sparse.csr_matrix) -> Floats:
        """Raw logits [texts, labels]."""
        hidden: Floats = np.maximum(vectors @ self.embedding + self.hidden_bias, 0)
        return hidden @ self.heads + self.bias

    def with_line(self, weights: Floats, bias: float) -> "Network":
        """The same, `vectors @ weights + bias` added to its only logit: one more hidden unit, which is never off."""
        return Network(
            np.column_stack([self.embedding, weights]),
            np.append(self.hidden_bias, ON),
            np.vstack([self.heads, np.ones((1, 1), np.float32)]),
            self.bias + np.float32(bias) - ON,
        )


@dataclass(frozen=True, slots=True)
class Task:
    """`vectors` [texts, rows]; `targets` (0 to 1) [texts, labels]; `weights` [texts, 1]."""

    vectors: sparse.csr_matrix
    targets: Floats
    weights: Floats

    def take(self, places: NDArray[np.intp]) -> "Task":
        return Task(self.vectors[places], self.targets[places], self.weights[places])


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. `show`: turns the numbers of the epochs into themselves, and may show progress."""

    hidden: int = 7
    epochs: int = 10
    smoothing: float = 0.05
    show: Callable[[Iterable[int]], Iterable[int]] = iter


def fit(task: Task, seed: int, recipe: Recipe = Recipe()) -> Network:
    """A trained network."""
    random = np.random.default_rng(seed)
    used = np.flatnonzero(np.asarray(task.vectors.sum(axis=0)).ravel())
    compact = Task(task.vectors[:, used].tocsr(), _smooth(task.targets, recipe.smoothing), task.weights)
    parameters = _initial(random, len(used), recipe.hidden, task.targets.shape[1])
    adam = _Adam(parameters, recipe.epochs * -(-len(task.targets) // BATCH))
    for _ in recipe.show(range(recipe.epochs)):
        order = random.permutation(len(task.targets))
        for start in range(0, len(order), BATCH):
            batch = compact.take(order[start : start + BATCH])
            adam.step(_gradients(parameters, batch, random))
    embedding = np.zeros((task.vectors.shape[1], recipe.hidden), dtype=np.float32)
    embedding[used] = parameters[0]
    return Network(embedding, *parameters[1:])


def _smooth(targets: Floats, smoothing: float) -> Floats:
    return targets * np.float32(1 - 2 * smoothing) + np.float32(smoothing)


def _initial(random: np.random.Generator, rows: int, hidden: int, labels: int) -> list[Floats]:
    def glorot(inputs: int, outputs: int) -> Floats:
        bound = np.sqrt(6 / (inputs + outputs))
        return random.uniform(-bound, bound, (inputs, outputs)).astype(np.float32)

    return [glorot(rows, hidden), np.zeros(hidden, np.float32), glorot(hidden, labels), np.zeros(labels, np.float32)]


def _gradients(parameters: list[Floats], batch: Task, random: np.random.Generator) -> list[Floats]:
    """Of the weighted cross-entropy, averaged over the batch."""
    embedding, hidden_bias, heads, bias = parameters
    vectors = batch.vectors
    vectors.data *= (random.random(vectors.nnz, dtype=np.float32) >= DROPPED) / np.float32(1 - DROPPED)
    reached = vectors @ embedding + hidden_bias
    hidden = np.maximum(reached, 0)
    errors = batch.weights * (_sigmoid(hidden @ heads + bias) - batch.targets) / len(batch.targets)
    back = errors @ heads.T * (reached > 0)
    return [vectors.T @ back, back.sum(axis=0), hidden.T @ errors, errors.sum(axis=0)]


def _sigmoid(logits: Floats) -> Floats:
    return np.float32(1) / (np.float32(1) + np.exp(-logits))


class _Adam:
    """Adam with a rate that falls to a tenth; changes the parameters in place."""

    def __init__(self, parameters: list[Floats], steps: int) -> None:
        self._parameters = parameters
        self._steps = steps
        self._taken = 0
        self._means = [np.zeros_like(values) for values in parameters]
        self._squares = [np.zeros_like(values) for values in parameters]

    def step(self, gradients: list[Floats]) -> None:
        self._taken += 1
        rate = RATE * (1 - 0.9 * self._taken / self._steps)
        rate *= np.sqrt(1 - 0.999**self._taken) / (1 - 0.9**self._taken)
        moments = zip(self._parameters, self._means, self._squares, gradients, strict=True)
        for values, mean, square, gradient in moments:
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient**2 - square)
            values -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))
