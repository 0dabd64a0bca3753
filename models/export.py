"""A trained model as a folder that `services.classify.scorer` loads: first.onnx, kinds.onnx and manifest.json."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node as node

from models import second
from models.data import Pool
from models.lookup import Lookup, by_row, by_word
from models.network import Floats, Network
from models.second import IR, OPSET
from services.classify.scorer import FORMAT, LABELS, MANIFEST, Scorer
from services.classify.text import SPEC

if TYPE_CHECKING:
    from models.train import Trained

# A text without a known n-gram has length 0; this keeps the division defined.
TINY = 1e-6
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
    graphs = {
        "first.onnx": graph(trained.auto, trained.idf, trained.calibration, explains=True),
        "kinds.onnx": graph(trained.kinds, trained.idf, (1.0, 0.0), explains=False),
    }
    written = [made.SerializeToString(deterministic=True) for made in graphs.values()]
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(graphs, written, strict=True):
        (folder / name).write_bytes(content)
    manifest = _manifest(Scorer(*written), trained, pool, seed, prior)
    if trained.second:
        manifest["second"] = second.described(folder, trained.second, GOLDEN)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _manifest(scorer: Scorer, trained: "Trained", pool: Pool, seed: int, prior: float) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": f"first-{scorer.sha256[:10]}",
        "first": "first.onnx",
        "kinds": "kinds.onnx",
        "second": None,
        "sha256": scorer.sha256,
        "features": {"digest": SPEC.digest, "spec": asdict(SPEC)},
        "labels": LABELS,
        "explain_from": EXPLAIN_FROM,
        "prior": prior,
        "calibration": trained.calibration,
        "training": {
            "digest": pool.digest,
            "rows": len(pool.rows),
            "seed": seed,
            "sets": ["models/corpus", *(known.name for known in pool.found)],
        },
        "golden": _golden(scorer),
    }


def _golden(scorer: Scorer) -> list[dict[str, Any]]:
    found = scorer.probabilities(GOLDEN)
    rounded = found.astype(np.float64).round(6).tolist()
    return [{"text": text, "probabilities": row} for text, row in zip(GOLDEN, rounded, strict=True)]


def _table(network: Network, idf: Floats) -> tuple[NDArray[np.int8], Floats]:
    """[rows, 1 + hidden]: what a feature adds to length², and to each hidden unit before the division by the length;
    and the unit of each column. Eight bits keep it in a core's cache, and sums of whole numbers are exact."""
    exact = np.column_stack([idf**2, network.embedding * idf[:, None]])
    exact[0] = 0
    units = (np.abs(exact).max(axis=0) / 127).astype(np.float32)
    return np.rint(exact / units).astype(np.int8), units


def graph(network: Network, idf: Floats, calibration: tuple[float, float], *, explains: bool) -> onnx.ModelProto:
    """Looked up, summed line by line and then text by text, over their length; the network; calibrated.

    `explains`: of few hidden units, packed, with the parts of each feature on demand.
    """
    slope, intercept = calibration
    hidden, labels = network.heads.shape
    table, units = _table(network, idf)
    lookup = by_word(table) if explains else by_row(table)
    spread = np.zeros(lookup.columns, dtype=np.float32)
    spread[0], spread[lookup.hidden_at : lookup.hidden_at + hidden] = units[0], units[1:]
    constants = lookup.constants | {
        "units": spread,
        "hidden_bias": network.hidden_bias,
        "heads": network.heads * np.float32(slope),
        "bias": network.bias * np.float32(slope) + np.float32(intercept),
        "tiny": np.array([TINY], dtype=np.float32),
        "at_0": np.array([0], dtype=np.int64),
        "at_1": np.array([1], dtype=np.int64),
        "at_hidden": np.array([lookup.hidden_at], dtype=np.int64),
        "at_end": np.array([lookup.hidden_at + hidden], dtype=np.int64),
        "last": np.array([-1], dtype=np.int64),
    }
    value = helper.make_tensor_value_info
    nodes = [*lookup.nodes, *_hidden(), *_probabilities()]
    inputs = [
        value("rows", TensorProto.INT32, ["lines", SPEC.width]),
        value("owners", TensorProto.INT64, ["lines", 1]),
        value("empty", TensorProto.FLOAT, ["texts", lookup.columns]),
    ]
    outputs = [value("probabilities", TensorProto.FLOAT, ["texts", labels])]
    if explains:
        constants |= {
            "pull_of_units": network.heads[:, 0] * np.float32(slope) * units[1:],
            "zero": np.zeros(1, dtype=np.float32),
            "none": np.zeros((0, 0), dtype=np.float32),
        }
        nodes.append(_explained(lookup))
        inputs.append(value("explain", TensorProto.BOOL, []))
        outputs.append(value("parts", TensorProto.FLOAT, ["p", "q"]))
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(constant), name) for name, constant in constants.items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "look", inputs, outputs, initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="doorman",
    )
    onnx.checker.check_model(model)
    return model


def _hidden() -> list[onnx.NodeProto]:
    return [
        node("ScatterND", ["empty", "owners", "lines"], ["whole"], reduction="add"),
        node("Mul", ["whole", "units"], ["sum"]),
        node("Slice", ["sum", "at_0", "at_1", "at_1"], ["square"]),
        node("Max", ["square", "tiny"], ["safe"]),
        node("Sqrt", ["safe"], ["length"]),
        node("Slice", ["sum", "at_hidden", "at_end", "at_1"], ["directed"]),
        node("Div", ["directed", "length"], ["scaled"]),
        node("Add", ["scaled", "hidden_bias"], ["reached"]),
        node("Relu", ["reached"], ["hidden"]),
    ]


def _probabilities() -> list[onnx.NodeProto]:
    """hidden × heads, as a sum over the middle one of three axes.

    A matrix product rounds differently by the number of rows; this adds in one order.
    """
    return [
        node("Unsqueeze", ["hidden", "last"], ["hidden_column"]),
        node("Mul", ["hidden_column", "heads"], ["shares"]),
        node("ReduceSum", ["shares", "at_1"], ["answered"], keepdims=0),
        node("Add", ["answered", "bias"], ["logits"]),
        node("Sigmoid", ["logits"], ["probabilities"]),
    ]


def _explained(lookup: Lookup) -> onnx.NodeProto:
    """What each feature adds to the logit through the units that are on. On demand: a service wants it of few texts."""
    parts = [
        *lookup.explained,
        node("Greater", ["reached", "zero"], ["on"]),
        node("Where", ["on", "pull_of_units", "zero"], ["pull"]),
        node("Div", ["pull", "length"], ["pull_scaled"]),
        node("Gather", ["pull_scaled", "owners"], ["pull_lines"], axis=0),
        node("Mul", ["directions", "pull_lines"], ["pulled"]),
        node("ReduceSum", ["pulled", "last"], ["parts_then"], keepdims=0),
    ]
    empty = [node("Identity", ["none"], ["parts_else"])]
    return node(
        "If",
        ["explain"],
        ["parts"],
        then_branch=_branch("explained", parts, "parts_then"),
        else_branch=_branch("unexplained", empty, "parts_else"),
    )


def _branch(name: str, nodes: list[onnx.NodeProto], output: str) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["p", "q"])])
