"""How a graph finds the numbers of features and adds them up, line by line. Whole numbers, so exact in any order."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import make_node as node

from services.classify.text import SPEC

# Where the fields of a word begin and how many bits they have: length², then four hidden units, each with room for the
# sum of a line. Numbers of hidden units are raised above zero.
_FIELDS = ((0, 12), (12, 13), (25, 13), (38, 13), (51, 13))
_RAISED = 128


class Lookup(NamedTuple):
    """How a graph turns `rows` into `lines` [lines, columns], what the features of each line add up to.

    Length² is the first column, hidden units follow from column `hidden_at` on. `explained`: the nodes that make
    `directions` [lines, width, hidden], what each feature adds to each hidden unit.
    """

    constants: dict[str, NDArray[Any]]
    nodes: list[onnx.NodeProto]
    columns: int
    hidden_at: int
    explained: Sequence[onnx.NodeProto] = ()


def by_row(table: NDArray[np.int8]) -> Lookup:
    """One Gather: for many hidden units."""
    nodes = [
        node("Gather", ["table", "rows"], ["gathered"], axis=0),
        node("Cast", ["gathered"], ["numbers"], to=TensorProto.FLOAT),
        node("ReduceSum", ["numbers", "at_1"], ["lines"], keepdims=0),
    ]
    return Lookup({"table": table}, nodes, table.shape[1], 1)


def by_word(table: NDArray[np.int8]) -> Lookup:
    """Numbers packed into words of 64 bits, which add up without touching each other: for few hidden units.

    Gather copies 17 ns a row, GatherElements and a product with ones 3 ns a word: 5.5 to 2.2 us a text of two words.
    """
    words = _packed(table)
    columns = words.shape[0] * len(_FIELDS)
    constants = {f"words_{place}": word for place, word in enumerate(words)} | {
        "ones": np.ones((SPEC.width, 1), dtype=np.uint64),
        "up": np.array([[64 - start - bits] for start, bits in _FIELDS], dtype=np.uint64),
        "down": np.array([[64 - bits] for _, bits in _FIELDS], dtype=np.uint64),
        "raised": np.array([[0], *[[_RAISED]] * (len(_FIELDS) - 1)], dtype=np.float32),
        "raised_line": np.array([[0], *[[_RAISED * SPEC.width]] * (len(_FIELDS) - 1)], dtype=np.float32),
        "as_lines": np.array([-1, SPEC.width], dtype=np.int64),
        "as_row": np.array([1, -1], dtype=np.int64),
        "as_fields": np.array([len(_FIELDS), len(words), -1], dtype=np.int64),
        "as_columns": np.array([-1, columns], dtype=np.int64),
        "as_features": np.array([-1, SPEC.width, columns], dtype=np.int64),
    }
    gathered = [f"gathered_{place}" for place in range(len(words))]
    nodes = [node("Reshape", ["rows", "last"], ["flat"])]
    for place, found in enumerate(gathered):
        nodes += [
            node("GatherElements", [f"words_{place}", "flat"], [found]),
            node("Reshape", [found, "as_lines"], [f"{found}_lines"]),
            node("MatMul", [f"{found}_lines", "ones"], [f"{found}_sum"]),
        ]
    nodes += _unpacked([f"{found}_sum" for found in gathered], "raised_line", "lines")
    explained = [
        *_unpacked(gathered, "raised", "features"),
        node("Reshape", ["features", "as_features"], ["numbers"]),
        node("Slice", ["numbers", "at_hidden", "at_end", "last"], ["directions"]),
    ]
    return Lookup(constants, nodes, columns, len(words), explained)


def _packed(table: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Words [words, rows]: hidden unit j is in word j modulo words, so that unpacked fields come out in order."""
    square, hidden = table[:, 0].astype(np.uint64), (table[:, 1:].astype(np.int64) + _RAISED).astype(np.uint64)
    words = np.zeros((-(-hidden.shape[1] // (len(_FIELDS) - 1)), len(table)), dtype=np.uint64)
    words[0] = square
    for unit, numbers in enumerate(hidden.T):
        field, word = divmod(unit, len(words))
        words[word] |= numbers << np.uint64(_FIELDS[1 + field][0])
    return words


def _unpacked(words: list[str], raised: str, to: str) -> list[onnx.NodeProto]:
    """Words of one place each, as many tensors as a row has words -> [places, columns]: what lies above a field is
    shifted out at the top, what lies below it at the bottom."""
    return [
        node("Concat", words, [f"{to}_words"], axis=0),
        node("Reshape", [f"{to}_words", "as_row"], [f"{to}_row"]),
        node("BitShift", [f"{to}_row", "up"], [f"{to}_up"], direction="LEFT"),
        node("BitShift", [f"{to}_up", "down"], [f"{to}_field"], direction="RIGHT"),
        node("Cast", [f"{to}_field"], [f"{to}_raised"], to=TensorProto.FLOAT),
        node("Sub", [f"{to}_raised", raised], [f"{to}_number"]),
        node("Reshape", [f"{to}_number", "as_fields"], [f"{to}_apart"]),
        node("Transpose", [f"{to}_apart"], [f"{to}_together"], perm=[2, 0, 1]),
        node("Reshape", [f"{to}_together", "as_columns"], [to]),
    ]
