"""A trained model as a folder that `services.classify.scorer` loads: first.onnx and manifest.json."""

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.data import Pool
from models.kinds import SHARED
from models.network import HIDDEN
from services.classify.scorer import LABELS, MANIFEST, Scorer
from services.classify.text import SPEC

if TYPE_CHECKING:
    from models.train import Trained

# Read by every onnxruntime since 1.17.
OPSET, IR = 17, 9
# A text without a known n-gram has length 0; this keeps the division defined.
TINY = 1e-6
# A row of the table: hidden units, and idf². It stays in half precision until it is gathered, for a core's cache holds
# twice as much of it then, and the first look waits for memory more than for anything else.
COLUMNS = 16
EXPLAIN_FROM = 0.2

GOLDEN = (
    "",
    "ok",
    "Thanks for following! Grab my free guide to 10k followers: https://growth.example/free",
    "Let's also connect on LinkedIn (https://lnk.example/me) and Facebook (https://fb.example/me) and Instagram too!",
    "Hi! I built an app for people like you, join us here: https://app.example",
    "Hey Ana, thanks for the follow back! Your talk on tide gauges made my week: "
    "which sensor was it you said fails in frost?",
    "Hi, this is the store: your order 5531 is ready, we close at 18:00. Reply here if you want us to hold it.",
    "F\u200br\u200be\u200be  c r y p t o  sign\u0430ls, 𝗷𝗼𝗶𝗻 n\u043ew 👉 t.example/x",
    "Buenas, ¿sigue libre la habitación de la calle Mayor? Podría pasar a verla el jueves",
    "Привет! Во сколько завтра встречаемся у метро?",
    "\x00 \U0001f525\U0001f525",
    "very long " * 500,
)


def write(folder: Path, trained: "Trained", pool: Pool, seed: int, prior: float) -> None:
    """Write the folder, manifest last, so that a service that watches it never reads half of it."""
    graph = _graph(trained).SerializeToString(deterministic=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "first.onnx").write_bytes(graph)
    manifest = _manifest(graph, trained, pool, seed, prior)
    manifest["golden"] = _golden(graph)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _manifest(graph: bytes, trained: "Trained", pool: Pool, seed: int, prior: float) -> dict[str, Any]:
    digest = sha256(graph).hexdigest()
    slopes = {label: list(map(float, pair)) for label, pair in zip(LABELS, trained.calibration, strict=True)}
    return {
        "format": 1,
        "version": f"first-{digest[:10]}",
        "first": "first.onnx",
        "second": None,
        "sha256": digest,
        "features": {"digest": SPEC.digest, "spec": asdict(SPEC)},
        "labels": LABELS,
        "explain_from": EXPLAIN_FROM,
        "prior": prior,
        "calibration": slopes,
        "training": {
            "digest": pool.digest,
            "rows": len(pool.rows),
            "seed": seed,
            "sets": ["models/corpus", *(known.name for known in pool.found)],
        },
    }


def _golden(graph: bytes) -> list[dict[str, Any]]:
    found = Scorer(graph).probabilities(GOLDEN)
    rounded = found.astype(np.float64).round(6).tolist()
    return [{"text": text, "probabilities": row} for text, row in zip(GOLDEN, rounded, strict=True)]


def _table(trained: "Trained") -> NDArray[np.float16]:
    """[rows, COLUMNS]: what a feature adds to each hidden unit, before the division by the length, and to length²."""
    table = np.zeros((SPEC.rows, COLUMNS), dtype=np.float32)
    table[:, :HIDDEN] = trained.network.embedding * trained.idf[:, None]
    table[:, HIDDEN] = trained.idf**2
    table[0] = 0
    return table.astype(np.float16)


def _kind_table(trained: "Trained") -> NDArray[np.float16]:
    table = trained.kinds.weights.copy()
    table[0] = 0
    return table.astype(np.float16)


def _graph(trained: "Trained") -> onnx.ModelProto:
    """Gathered rows summed, over their length, for characters and for words; the network; calibrated; kinds × auto."""
    slope, intercept = trained.calibration.T
    network = trained.network
    constants = {
        "table": _table(trained),
        "hidden_bias": network.hidden_bias,
        "head_twice": np.stack([network.head] * 2, axis=1),
        "head_sloped": network.head * slope[0],
        "bias": network.bias,
        "kind_table": _kind_table(trained),
        "kind_bias": trained.kinds.bias,
        "shared": np.array(SHARED, dtype=np.int32),
        "shared_less_1": np.array(SHARED - 1, dtype=np.int32),
        "slope": slope,
        "intercept": intercept,
        "zero": np.zeros(1, dtype=np.float32),
        "tiny": np.array([TINY], dtype=np.float32),
        "none": np.zeros((0, 0), dtype=np.float32),
        "at_0": np.array([0], dtype=np.int64),
        "at_1": np.array([1], dtype=np.int64),
        "at_labels": np.array([len(LABELS)], dtype=np.int64),
        "at_length": np.array([HIDDEN], dtype=np.int64),
        "at_end": np.array([HIDDEN + 1], dtype=np.int64),
        "last": np.array([-1], dtype=np.int64),
    }
    nodes = _summed("chars") + _summed("words") + _auto() + _kinds() + _probabilities() + [_explained()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "first_look",
        [
            value("chars", TensorProto.INT32, ["n", "c"]),
            value("words", TensorProto.INT32, ["n", "w"]),
            value("explain", TensorProto.BOOL, []),
        ],
        [
            value("probabilities", TensorProto.FLOAT, ["n", len(LABELS)]),
            value("char_parts", TensorProto.FLOAT, ["p", "q"]),
            value("word_parts", TensorProto.FLOAT, ["r", "s"]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(constant), name) for name, constant in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="doorman"
    )
    onnx.checker.check_model(model)
    return model


def _summed(name: str) -> list[onnx.NodeProto]:
    """rows -> `<name>_length` [n, 1] and `<name>_hidden` [n, hidden]."""
    node = helper.make_node
    return [
        node("Gather", ["table", name], [f"{name}_half"], axis=0),
        node("Cast", [f"{name}_half"], [f"{name}_rows"], to=TensorProto.FLOAT),
        node("ReduceSum", [f"{name}_rows", "at_1"], [f"{name}_sum"], keepdims=0),
        node("Slice", [f"{name}_sum", "at_length", "at_end", "at_1"], [f"{name}_square"]),
        node("Max", [f"{name}_square", "tiny"], [f"{name}_safe"]),
        node("Sqrt", [f"{name}_safe"], [f"{name}_length"]),
        node("Slice", [f"{name}_sum", "at_0", "at_length", "at_1"], [f"{name}_reached"]),
        node("Div", [f"{name}_reached", f"{name}_length"], [f"{name}_hidden"]),
    ]


def _auto() -> list[onnx.NodeProto]:
    """hidden × head, as a sum over the middle one of three axes, like the sums over features.

    A matrix product, and a sum over the last axis, round differently by the number of rows and by where they lie in
    memory; this one adds in one order.
    """
    node = helper.make_node
    return [
        node("Add", ["chars_hidden", "words_hidden"], ["both"]),
        node("Add", ["both", "hidden_bias"], ["reached"]),
        node("Relu", ["reached"], ["hidden"]),
        node("Unsqueeze", ["hidden", "last"], ["hidden_column"]),
        node("Mul", ["hidden_column", "head_twice"], ["shares"]),
        node("ReduceSum", ["shares", "at_1"], ["sum_twice"], keepdims=0),
        node("Slice", ["sum_twice", "at_0", "at_1", "at_1"], ["sum"]),
        node("Add", ["sum", "bias"], ["auto_raw"]),
    ]


def _kinds() -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("Add", ["words", "shared_less_1"], ["words_up"]),
        node("Div", ["words_up", "shared"], ["words_shared"]),
        node("Gather", ["kind_table", "words_shared"], ["kind_half"], axis=0),
        node("Cast", ["kind_half"], ["kind_rows"], to=TensorProto.FLOAT),
        node("ReduceSum", ["kind_rows", "at_1"], ["kind_sum"], keepdims=0),
        node("Div", ["kind_sum", "words_length"], ["kind_reached"]),
        node("Add", ["kind_reached", "kind_bias"], ["kinds_raw"]),
    ]


def _probabilities() -> list[onnx.NodeProto]:
    """Calibrated; a kind's is that of an automated message of this kind."""
    node = helper.make_node
    return [
        node("Concat", ["auto_raw", "kinds_raw"], ["raw"], axis=1),
        node("Mul", ["raw", "slope"], ["sloped"]),
        node("Add", ["sloped", "intercept"], ["logits"]),
        node("Sigmoid", ["logits"], ["given"]),
        node("Slice", ["given", "at_0", "at_1", "at_1"], ["auto"]),
        node("Slice", ["given", "at_1", "at_labels", "at_1"], ["kinds_given_auto"]),
        node("Mul", ["kinds_given_auto", "auto"], ["kinds"]),
        node("Concat", ["auto", "kinds"], ["probabilities"], axis=1),
    ]


def _explained() -> onnx.NodeProto:
    """What each feature adds to the logit through the units that are on. On demand: a service wants it of few rows."""
    node = helper.make_node
    parts = [
        node("Greater", ["reached", "zero"], ["on"]),
        node("Where", ["on", "head_sloped", "zero"], ["pull"]),
        node("Unsqueeze", ["pull", "at_1"], ["pull_row"]),
    ]
    for name, output in (("chars", "char_parts"), ("words", "word_parts")):
        parts += [
            node("Slice", [f"{name}_rows", "at_0", "at_length", "last"], [f"{name}_units"]),
            node("Mul", [f"{name}_units", "pull_row"], [f"{name}_pulled"]),
            node("ReduceSum", [f"{name}_pulled", "last"], [f"{name}_flat"], keepdims=0),
            node("Div", [f"{name}_flat", f"{name}_length"], [f"{output}_then"]),
        ]
    empty = [node("Identity", ["none"], [f"{output}_else"]) for output in ("char_parts", "word_parts")]
    return node(
        "If",
        ["explain"],
        ["char_parts", "word_parts"],
        then_branch=_branch("explained", parts, "then"),
        else_branch=_branch("unexplained", empty, "else"),
    )


def _branch(name: str, nodes: list[onnx.NodeProto], suffix: str) -> onnx.GraphProto:
    outputs = [
        helper.make_tensor_value_info(f"{output}_{suffix}", TensorProto.FLOAT, [f"{output}_p", f"{output}_q"])
        for output in ("char_parts", "word_parts")
    ]
    return helper.make_graph(nodes, name, [], outputs)
