"""The text model: a folder with ONNX files and a manifest becomes a scorer. The only importer of onnxruntime.

    manifest.json   what the model is and must be: see `Manifest`
    first.onnx      the first look: chars int32 [n, c], words int32 [n, w], explain bool -> probabilities float32
                    [n, labels], char_parts [n, c] and word_parts [n, w] (what each feature adds to the logit of the
                    score; empty unless `explain`)

A score depends on its text alone: rows of one width go to the session together, a width is chosen by the text itself,
and nothing in the graph crosses rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.classify.text import SPEC, Block, Pieces, features, pieces, spread
from services.errors import BadSetup
from services.records import Kind

MANIFEST: Final = "manifest.json"
LABELS: Final = ("auto", *(kind.value for kind in Kind))
TOLERANCE = 1e-4
MAX_SPANS = 5
# Words of one span.
_MAX_PHRASE = 8
# Gathered rows of the table, 64 bytes each once widened, that stay in a core's second-level cache.
_GATHERED = 16_000

Probability = Annotated[float, Field(ge=0, le=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Golden(_Part):
    """A text and what the model said of it when it was made, in the order of the labels."""

    text: str
    probabilities: tuple[Probability, ...]


class Features(_Part):
    """The feature spec that the model was trained on."""

    digest: Digest
    spec: dict[str, int | list[int]]


class Training(_Part):
    """What it was trained on: a digest over the rows, their number, and the sets they came from."""

    digest: Digest
    rows: int
    seed: int
    sets: tuple[str, ...]


class Manifest(_Part):
    """manifest.json. `calibration`: for each label slope and intercept from raw logit to the logit at `prior`."""

    format: Literal[1]
    version: Annotated[str, Field(min_length=1, max_length=64)]
    first: Annotated[str, Field(pattern=r"^[\w.-]+\.onnx$")]
    second: None
    sha256: Digest
    features: Features
    labels: tuple[str, ...]
    explain_from: Probability
    prior: Probability
    calibration: dict[str, tuple[float, float]]
    training: Training
    golden: Annotated[tuple[Golden, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class TextScore:
    """What the model says of one text.

    `score` and `first` (the first look's) in 0..1; `labels`: kind -> 0..1; `spans`: (start, end, weight) of the
    strongest words in the text as it was written, weight in units of logit, the strongest first.
    """

    score: float
    first: float
    labels: dict[str, float]
    spans: tuple[tuple[int, int, float], ...] = ()


class Scorer:
    """A checked and warmed model."""

    def __init__(self, graph: bytes, version: str = "", explain_from: float = 1.0) -> None:
        """`graph`: the bytes of first.onnx; raises BadSetup if they are no graph."""
        self._session = _session(graph)
        self.sha256 = sha256(graph).hexdigest()
        self.version = version
        self.explain_from = explain_from

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """The model of a folder; raises BadSetup that names every fault found."""
        manifest = _manifest(folder)
        scorer = cls(_graph(folder, manifest), manifest.version, manifest.explain_from)
        if faults := scorer._faults(manifest.golden):
            raise BadSetup(f"model {folder}: {'; '.join(faults)}")
        return scorer

    def score(self, texts: Sequence[str]) -> list[TextScore]:
        """The scores of texts, in their order, rounded to 4 decimals. Takes any strings."""
        rounded = self.probabilities(texts).astype(np.float64).round(4)
        return [
            TextScore(
                score,
                score,
                dict(zip(LABELS[1:], kinds, strict=True)),
                self._explain(text) if score >= self.explain_from else (),
            )
            for text, (score, *kinds) in zip(texts, rounded.tolist(), strict=True)
        ]

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [texts, labels], not rounded, not explained."""
        found = np.empty((len(texts), len(LABELS)), dtype=np.float32)
        for block in features(texts):
            self.fill(block, found)
        return found

    def fill(self, block: Block, found: NDArray[np.float32]) -> None:
        """Write the probabilities of a block's texts to their places in `found` [texts, labels]."""
        for part in _slices(block):
            probabilities, _, _ = self._run(block, part, explain=False)
            places = block.places[part]
            found[places] = probabilities[: len(places)]

    def _run(self, block: Block, part: slice, *, explain: bool) -> list[NDArray[np.float32]]:
        chars, words = block.chars[part], block.words[part]
        if len(chars) == 1:
            # onnxruntime adds up a lone row in another order than one among others.
            chars, words = chars.repeat(2, axis=0), words.repeat(2, axis=0)
        given = {"chars": chars, "words": words, "explain": np.array(explain)}
        answer: list[NDArray[np.float32]] = self._session.run(None, given)
        return answer

    def _explain(self, text: str) -> tuple[tuple[int, int, float], ...]:
        cut = pieces(text)
        _, char_parts, word_parts = self._run(spread(cut.text), slice(0, 1), explain=True)
        return strongest(cut, char_parts[0].reshape(word_parts.shape[1], -1).sum(axis=1) + word_parts[0])

    def _faults(self, golden: Sequence[Golden]) -> list[str]:
        """The golden rows that come out otherwise than when the model was made. Running them warms the session."""
        texts = [row.text for row in golden]
        self.score(texts)
        return [
            f"golden row {number}: {fault}"
            for number, (row, found) in enumerate(zip(golden, self.probabilities(texts), strict=True), 1)
            if (fault := _difference(row.probabilities, found))
        ]


def _difference(expected: Sequence[float], found: NDArray[np.float32]) -> str:
    if len(expected) != len(found):
        return f"{len(expected)} probabilities for {len(found)} labels"
    off = float(np.abs(found - np.array(expected)).max())
    return f"a probability is off by {off:.4f}" if off > TOLERANCE else ""


class ModelFolder:
    """A folder that a model is loaded from again whenever what lies in it has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: str | None = None

    def changed(self) -> bool:
        """Whether the folder is another than at the last `load`, successful or not."""
        return self._state() != self._loaded

    def load(self) -> Scorer:
        """The folder's model; raises BadSetup, and then the caller keeps what it has."""
        self._loaded = self._state()
        return Scorer.load(self.folder)

    def _state(self) -> str:
        found = sha256()
        try:
            found.update((self.folder / MANIFEST).read_bytes())
            for path in sorted(self.folder.glob("*.onnx")):
                status = path.stat()
                found.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        except OSError as error:
            return type(error).__name__
        return found.hexdigest()


def strongest(cut: Pieces, weights: NDArray[np.float32]) -> tuple[tuple[int, int, float], ...]:
    """The words, joined with telling neighbours, that speak most for an automated message; at most 5.

    `weights`: what each character of the text adds to the logit, as far as the features that begin there go.
    """
    if not cut.at:
        return ()
    each = np.add.reduceat(weights, np.array(cut.at)).tolist()
    telling = max(each) / 8
    phrases = [
        (cut.spans[first][0], cut.spans[last][1], round(sum(each[first : last + 1]), 3))
        for first, last in _runs([weight > max(telling, 0.0) for weight in each])
    ]
    return tuple(sorted(phrases, key=lambda phrase: -phrase[2])[:MAX_SPANS])


def _runs(marks: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """First and last of each run of marks, runs cut to `_MAX_PHRASE`."""
    first: int | None = None
    for place, mark in enumerate([*marks, False]):
        if first is not None and (not mark or place - first == _MAX_PHRASE):
            yield first, place - 1
            first = None
        if mark and first is None:
            first = place


def _slices(block: Block) -> Iterator[slice]:
    step = max(1, min(256, _GATHERED // (block.chars.shape[1] + block.words.shape[1])))
    for start in range(0, len(block.places), step):
        yield slice(start, start + step)


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadSetup(f"model {folder}: {MANIFEST} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise BadSetup(f"{path}: {faults}") from None


def _graph(folder: Path, manifest: Manifest) -> bytes:
    """The bytes of first.onnx, once manifest and file agree with each other and with this code."""
    faults = []
    try:
        graph = (folder / manifest.first).read_bytes()
    except OSError as error:
        graph = b""
        faults.append(f"{manifest.first} cannot be read: {error.strerror}")
    if graph and sha256(graph).hexdigest() != manifest.sha256:
        faults.append(f"{manifest.first} is not the file that the manifest names (sha256)")
    if manifest.features.digest != SPEC.digest:
        faults.append("trained on another feature spec (features.digest): train again, or use the Doorman it came with")
    if manifest.labels != LABELS:
        faults.append(f"labels must be {', '.join(LABELS)}, in this order")
    if faults:
        raise BadSetup(f"model {folder}: {'; '.join(faults)}")
    return graph


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    """One thread: services scale by processes, and the pool's spinning takes a core from the loop that feeds it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, without a common root
        raise BadSetup(f"the model is not a graph that onnxruntime can run: {type(error).__name__}") from error
