"""The text model: a folder with ONNX files and a manifest becomes a scorer. The only importer of onnxruntime.

    manifest.json   what the model is and must be: see `Manifest`
    first.onnx      the first look: rows int32 [lines, width] and owners int64 [lines, 1] as `text.features` makes them,
                    empty float32 [texts, columns], explain bool -> probabilities float32 [texts, 1], and parts
                    [lines, width]: what each feature adds to the logit of the score (empty unless `explain`)
    kinds.onnx      the same for the kinds, given that a text is automated: probabilities [texts, kinds]

A score depends on its text alone: features are summed as whole numbers, which is exact in any order, and nothing in the
graph crosses texts.
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

from services.classify.text import SPEC, Grams, Pieces, exactly, features, pieces
from services.errors import BadSetup
from services.records import Kind

MANIFEST: Final = "manifest.json"
LABELS: Final = ("auto", *(kind.value for kind in Kind))
TOLERANCE = 1e-4
# Below this score no kind is asked for.
MIN_LABEL = 0.05
MAX_SPANS = 5
# Words of one span.
_MAX_PHRASE = 8
# Lines that the model reads at once: what it makes of them stays in a core's cache.
_LINES = 1_024

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
    """manifest.json. `calibration`: slope and intercept from the raw logit of `auto` to its logit at `prior`; `sha256`:
    of the .onnx files, one after the other in the order named here."""

    format: Literal[2]
    version: Annotated[str, Field(min_length=1, max_length=64)]
    first: Annotated[str, Field(pattern=r"^[\w.-]+\.onnx$")]
    kinds: Annotated[str, Field(pattern=r"^[\w.-]+\.onnx$")]
    second: None
    sha256: Digest
    features: Features
    labels: tuple[str, ...]
    explain_from: Probability
    prior: Probability
    calibration: tuple[float, float]
    training: Training
    golden: Annotated[tuple[Golden, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class TextScore:
    """What the model says of one text.

    `score` and `first` (the first look's) in 0..1; `labels`: kind -> 0..1, none below a score of 0.05; `spans`: (start,
    end, weight) of the strongest words in the text as it was written, weight in units of logit, the strongest first.
    """

    score: float
    first: float
    labels: dict[str, float]
    spans: tuple[tuple[int, int, float], ...] = ()


class Scorer:
    """A checked and warmed model."""

    def __init__(self, first: bytes, kinds: bytes, version: str = "", explain_from: float = 1.0) -> None:
        """`first`, `kinds`: the bytes of the .onnx files; raises BadSetup if they are no graphs."""
        self._first, self._kinds = _session(first), _session(kinds)
        self.sha256 = sha256(first + kinds).hexdigest()
        self.version = version
        self.explain_from = explain_from

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """The model of a folder; raises BadSetup that names every fault found."""
        manifest = _manifest(folder)
        first, kinds = _graphs(folder, manifest)
        scorer = cls(first, kinds, manifest.version, manifest.explain_from)
        if faults := scorer._faults(manifest.golden):
            raise BadSetup(f"model {folder}: {'; '.join(faults)}")
        return scorer

    def score(self, texts: Sequence[str]) -> list[TextScore]:
        """The scores of texts, in their order, rounded to 4 decimals. Takes any strings."""
        grams = features(texts)
        scores = self.first(grams, len(texts)).astype(np.float64).round(4)
        telling = np.flatnonzero(scores >= MIN_LABEL)
        kinds = self._given_auto(grams.of(telling), len(telling)) * scores[telling, None]
        labels = {
            place: dict(zip(LABELS[1:], values, strict=True))
            for place, values in zip(telling.tolist(), kinds.round(4).tolist(), strict=True)
        }
        explained = np.flatnonzero(scores >= self.explain_from).tolist()
        spans = dict(zip(explained, self._explain([texts[place] for place in explained]), strict=True))
        return [
            TextScore(score, score, labels.get(place, {}), spans.get(place, ()))
            for place, score in enumerate(scores.tolist())
        ]

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [texts, labels], not rounded, not explained."""
        grams = features(texts)
        auto = self.first(grams, len(texts))[:, None]
        return np.hstack([auto, auto * self._given_auto(grams, len(texts))])

    def first(self, grams: Grams, count: int) -> NDArray[np.float32]:
        """What the first look says [count] of the texts that `grams` was made of."""
        found = [_run(self._first, part, size)[0][:, 0] for size, part in _parts(grams, count)]
        return np.concatenate([np.zeros(0, np.float32), *found])

    def _given_auto(self, grams: Grams, count: int) -> NDArray[np.float32]:
        """The kinds [count, kinds], given that a text is automated."""
        found = [_run(self._kinds, part, size)[0] for size, part in _parts(grams, count)]
        return np.concatenate([np.zeros((0, len(LABELS) - 1), np.float32), *found])

    def _explain(self, texts: Sequence[str]) -> Iterator[tuple[tuple[int, int, float], ...]]:
        cuts = [pieces(text) for text in texts]
        whole = iter(cuts)
        for size, part in _parts(exactly([cut.text for cut in cuts]), len(cuts)):
            _, weights = _run(self._first, part, size, explain=True)
            by_char = weights.reshape(len(weights), SPEC.chunk, -1).sum(axis=2)
            for place in range(size):
                yield strongest(next(whole), by_char[part.owners == place].ravel())

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


def _run(
    session: onnxruntime.InferenceSession, grams: Grams, count: int, *, explain: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities [count, labels] and parts [lines, width]. One text more than there are: onnxruntime adds up a lone
    one in another order than one among others."""
    columns = {given.name: given.shape for given in session.get_inputs()}["empty"][1]
    given = {
        "rows": grams.rows,
        "owners": grams.owners[:, None],
        "empty": np.zeros((count + 1, columns), dtype=np.float32),
        "explain": np.array(explain),
    }
    probabilities, parts = session.run(None, given)
    return probabilities[:count], parts


def _parts(grams: Grams, count: int) -> Iterator[tuple[int, Grams]]:
    """The features of about `_LINES` lines or one text at a time, and of how many texts they are."""
    ends = np.searchsorted(grams.owners, np.arange(count), side="right")
    start = line = 0
    while start < count:
        stop = max(start + 1, int(np.searchsorted(ends, line + _LINES, side="right")))
        lines = slice(line, int(ends[stop - 1]))
        yield stop - start, Grams(grams.rows[lines], grams.owners[lines] - start)
        start, line = stop, lines.stop


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadSetup(f"model {folder}: {MANIFEST} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise BadSetup(f"{path}: {faults}") from None


def _graphs(folder: Path, manifest: Manifest) -> list[bytes]:
    """The bytes of the .onnx files, once manifest and files agree with each other and with this code."""
    graphs, faults = [], []
    for name in (manifest.first, manifest.kinds):
        try:
            graphs.append((folder / name).read_bytes())
        except OSError as error:
            faults.append(f"{name} cannot be read: {error.strerror}")
    if not faults and sha256(b"".join(graphs)).hexdigest() != manifest.sha256:
        faults.append("the .onnx files are not those that the manifest names (sha256)")
    if manifest.features.digest != SPEC.digest:
        faults.append("trained on another feature spec (features.digest): train again, or use the Doorman it came with")
    if manifest.labels != LABELS:
        faults.append(f"labels must be {', '.join(LABELS)}, in this order")
    if faults:
        raise BadSetup(f"model {folder}: {'; '.join(faults)}")
    return graphs


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
