"""A fine-tuned encoder as second.onnx: one text at a time, weights and products in eight bits.

One text at a time, because the scale of its activations is found as it runs: among others a text's score would depend
on its neighbours. It also needs no padding and no mask then.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from services.classify.scorer import Encoder

# Read by every onnxruntime since 1.17.
OPSET, IR = 17, 9

Floats = NDArray[np.float32]

HEADS, LAYERS, WIDTH = 12, 6, 384
# Tokens that are read of a text.
HEAD_TOKENS, TAIL_TOKENS = 64, 32
# Of a weight, to either side of 0. Processors without VNNI add products in pairs of 16 bits, where 127 overflows.
LEVELS = 63
# First scores that leave the first look unsure.
BAND = (0.02, 0.8)
# Of 1, the first logit and the second. Chosen by texts that others wrote, dev.jsonl and twcs_sample: fitted to rows of
# ours they would trust the encoder too far, for it knows their author's style.
WEIGHTS = (-0.6, 0.6, 0.5)
FILE, TOKENIZER = "second.onnx", "tokenizer.json"


def found(folder: Path) -> Encoder | None:
    """The encoder that lies in a model folder, if there is one."""
    files = [folder / name for name in (FILE, TOKENIZER)]
    if not all(file.exists() for file in files):
        return None
    graph, tokenizer = (file.read_bytes() for file in files)
    return Encoder(graph, tokenizer, HEAD_TOKENS, TAIL_TOKENS)


def described(folder: Path, encoder: Encoder, golden: Iterable[str]) -> dict[str, Any]:
    """Its part of the manifest."""
    contents = b"".join((folder / name).read_bytes() for name in (FILE, TOKENIZER))
    return {
        "file": FILE,
        "tokenizer": TOKENIZER,
        "sha256": sha256(contents).hexdigest(),
        "band": BAND,
        "head": HEAD_TOKENS,
        "tail": TAIL_TOKENS,
        "weights": WEIGHTS,
        "golden": [{"text": text, "logit": round(encoder.logit(text), 4)} for text in golden],
    }


def cut(tokens: list[int]) -> list[int]:
    """The first and the last tokens."""
    if len(tokens) <= HEAD_TOKENS + TAIL_TOKENS:
        return tokens
    return tokens[:HEAD_TOKENS] + tokens[-TAIL_TOKENS:]


class _Graph:
    """Nodes and constants as they are written down; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[np.generic]] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants[name] = np.asarray(value, order="C")
        return name

    def make(self, operation: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def quantized(self, hidden: str) -> tuple[str, str, str]:
        names = tuple(f"{part}_{len(self.nodes)}" for part in ("whole", "unit", "zero"))
        self.nodes.append(helper.make_node("DynamicQuantizeLinear", [hidden], list(names)))
        return names[0], names[1], names[2]

    def dense(self, name: str, hidden: str, weight: Floats, bias: Floats) -> str:
        """hidden [length, inputs] × weight [outputs, inputs] + bias."""
        units = (np.abs(weight).max(axis=1) / LEVELS).astype(np.float32)
        eight = np.rint(weight / units[:, None]).astype(np.int8)
        whole, unit, zero = self.quantized(hidden)
        product = self.make("MatMulInteger", whole, self.constant(f"{name}.weight", eight.T), zero)
        scale = self.make("Mul", unit, self.constant(f"{name}.units", units))
        scaled = self.make("Mul", self.make("Cast", product, to=TensorProto.FLOAT), scale)
        return self.make("Add", scaled, self.constant(f"{name}.bias", bias))

    def normal(self, name: str, hidden: str, parameters: Mapping[str, Floats]) -> str:
        weight = self.constant(f"{name}.weight", parameters[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", parameters[f"{name}.bias"])
        return self.make("LayerNormalization", hidden, weight, bias, axis=-1, epsilon=1e-12)


def graph(parameters: Mapping[str, Floats]) -> onnx.ModelProto:
    """tokens int64 [length] -> logit float32 [1], of the parameters of `models.encoder`."""
    made = _Graph()
    hidden = _embedded(made, parameters)
    for layer in range(LAYERS):
        hidden = _layer(made, f"encoder.layer.{layer}", hidden, parameters)
    pooled = made.make("ReduceMean", hidden, axes=[0], keepdims=0)
    head = made.constant("head", parameters["heads.weight"][0])
    answer = made.make("ReduceSum", made.make("Mul", pooled, head), keepdims=1)
    made.nodes.append(helper.make_node("Add", [answer, made.constant("bias", parameters["heads.bias"][:1])], ["logit"]))
    value = helper.make_tensor_value_info
    whole = helper.make_graph(
        made.nodes,
        "second_look",
        [value("tokens", TensorProto.INT64, ["length"])],
        [value("logit", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(constant, name) for name, constant in made.constants.items()],
    )
    model = helper.make_model(
        whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="doorman"
    )
    onnx.checker.check_model(model)
    return model


def _embedded(made: _Graph, parameters: Mapping[str, Floats]) -> str:
    words = parameters["embeddings.word_embeddings.weight"]
    units = (np.abs(words).max(axis=1, keepdims=True) / 127).astype(np.float32)
    table = made.constant("words", np.rint(words / units).astype(np.int8))
    whole = made.make("Cast", made.make("Gather", table, "tokens"), to=TensorProto.FLOAT)
    scaled = made.make("Mul", whole, made.make("Gather", made.constant("word_units", units), "tokens"))
    places = parameters["embeddings.position_embeddings.weight"][: HEAD_TOKENS + TAIL_TOKENS]
    fixed = made.constant("places", places + parameters["embeddings.token_type_embeddings.weight"][0])
    start, one = made.constant("start", np.zeros(1, np.int64)), made.constant("one", np.ones(1, np.int64))
    length = made.make("Shape", "tokens")
    summed = made.make("Add", scaled, made.make("Slice", fixed, start, length, start, one))
    return made.normal("embeddings.LayerNorm", summed, parameters)


def _layer(made: _Graph, name: str, hidden: str, parameters: Mapping[str, Floats]) -> str:
    parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    scales = (1 / np.sqrt(WIDTH // HEADS), 1.0, 1.0)
    weight = np.concatenate([parameters[f"{part}.weight"] * scale for part, scale in zip(parts, scales, strict=True)])
    bias = np.concatenate([parameters[f"{part}.bias"] * scale for part, scale in zip(parts, scales, strict=True)])
    together = made.dense(f"{name}.attention", hidden, weight.astype(np.float32), bias.astype(np.float32))
    shape = made.constant("by_head", np.array([-1, 3, HEADS, WIDTH // HEADS], np.int64))
    split = made.make("Transpose", made.make("Reshape", together, shape), perm=[1, 2, 0, 3])
    query, key, value = (
        made.make("Gather", split, made.constant(f"part_{place}", np.array(place, np.int64)), axis=0)
        for place in range(3)
    )
    near = made.make("Softmax", made.make("MatMul", query, made.make("Transpose", key, perm=[0, 2, 1])), axis=-1)
    read = made.make("Transpose", made.make("MatMul", near, value), perm=[1, 0, 2])
    flat = made.make("Reshape", read, made.constant("flat", np.array([-1, WIDTH], np.int64)))
    hidden = _added(made, f"{name}.attention.output", hidden, flat, parameters)
    inner = _dense(made, f"{name}.intermediate.dense", hidden, parameters)
    bent = made.make("Erf", made.make("Mul", inner, made.constant("root", np.array(np.sqrt(0.5), np.float32))))
    half = made.make("Mul", inner, made.constant("half", np.array(0.5, np.float32)))
    gelu = made.make("Mul", half, made.make("Add", bent, made.constant("unity", np.array(1, np.float32))))
    return _added(made, f"{name}.output", hidden, gelu, parameters)


def _added(made: _Graph, name: str, hidden: str, read: str, parameters: Mapping[str, Floats]) -> str:
    summed = made.make("Add", hidden, _dense(made, f"{name}.dense", read, parameters))
    return made.normal(f"{name}.LayerNorm", summed, parameters)


def _dense(made: _Graph, name: str, hidden: str, parameters: Mapping[str, Floats]) -> str:
    return made.dense(name, hidden, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
