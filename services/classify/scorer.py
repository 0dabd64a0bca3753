"""The text model: a folder with ONNX files and a manifest becomes a scorer. The only importer of onnxruntime.

    manifest.json   what the model is and must be: see `Manifest`
    first.onnx      the first look: rows int32 [lines, width] and owners int64 [lines, 1] as `text.features` makes them,
                    empty float32 [texts, columns], explain bool -> probabilities float32 [texts, 1], and parts
                    [lines, width]: what each feature adds to the logit of the score (empty unless `explain`)
    kinds.onnx      rows, owners, empty -> probabilities [texts, kinds], given that a text is automated
    second.onnx     the second look, if there is one: tokens int64 [length] of one text -> logit float32 [1]
    tokenizer.json  how a folded text becomes tokens

A score depends on its text alone: features are summed as whole numbers, which is exact in any order, and nothing in the
graph crosses texts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import exp, log
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from tokenizers import Tokenizer

from services.classify.text import SPEC, Grams, Pieces, exactly, features, in_letters, pieces
from services.errors import BadSetup
from services.records import Kind

MANIFEST: Final = "manifest.json"
FORMAT: Final = 3
_REMEDY = "train again, or use the Doorman it came with"
LABELS: Final = ("auto", *(kind.value for kind in Kind))
TOLERANCE = 1e-4
# Processors round the encoder's products in different orders.
LOGIT_TOLERANCE = 0.1
# Below this score no kind is asked for.
MIN_SCORE = 0.05
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


class GoldenLogit(_Part):
    """A text and what the encoder said of it when the model was made."""

    text: str
    logit: float


class SecondLook(_Part):
    """An encoder that re-reads what the first look is unsure of.

    `band`: from and up to which first score; `sha256`: of the .onnx file and the tokenizer, one after the other;
    `head`, `tail`: tokens that are read of a text; `weights`: of 1, the logit of the first score and the encoder's
    logit, their sum being the logit of the score.
    """

    file: Annotated[str, Field(pattern=r"^[\w.-]+\.onnx$")]
    tokenizer: Annotated[str, Field(pattern=r"^[\w.-]+\.json$")]
    sha256: Digest
    band: tuple[Probability, Probability]
    head: Annotated[int, Field(gt=0)]
    tail: Annotated[int, Field(ge=0)]
    weights: tuple[float, float, float]
    golden: Annotated[tuple[GoldenLogit, ...], Field(min_length=1)]


class Manifest(_Part):
    """manifest.json. `calibration`: slope and intercept from the raw logit of `auto` to its logit at `prior`; `sha256`:
    of the .onnx files, one after the other in the order named here."""

    format: int
    version: Annotated[str, Field(min_length=1, max_length=64)]
    first: Annotated[str, Field(pattern=r"^[\w.-]+\.onnx$")]
    kinds: Annotated[str, Field(pattern=r"^[\w.-]+\.onnx$")]
    second: SecondLook | None
    sha256: Digest
    features: Features
    labels: tuple[str, ...]
    explain_from: Probability
    prior: Probability
    calibration: tuple[float, float]
    training: Training
    golden: Annotated[tuple[Golden, ...], Field(min_length=1)]

    @field_validator("format")
    @classmethod
    def _is_ours(cls, found: int) -> int:
        if found != FORMAT:
            raise PydanticCustomError("format", f"{found}, but this Doorman reads {FORMAT}: {_REMEDY}")
        return found


class TextScore(NamedTuple):
    """What the model says of one text.

    `score` and `first` (the first look's) in 0..1; `labels`: kind -> 0..1, none below a score of 0.05; `spans`: (start,
    end, weight) of the strongest words in the text as it was written, weight in units of logit, the strongest first.
    """

    score: float
    first: float
    labels: dict[str, float]
    spans: tuple[tuple[int, int, float], ...] = ()


class Encoder:
    """A text model that reads words in their order, one text at a time."""

    def __init__(self, graph: bytes, tokenizer: bytes, head: int, tail: int) -> None:
        """`head`, `tail`: tokens that are read of a text; raises BadSetup."""
        self._session = _session(graph)
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer)
        except ValueError as error:
            raise BadSetup(f"the model's tokenizer cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._head, self._tail = head, tail

    def logit(self, text: str) -> float:
        """Its raw logit."""
        # A lone surrogate is no Unicode; the tokenizer takes none.
        whole = in_letters(text).encode("utf-8", "replace").decode()
        tokens = self._tokenizer.encode(whole).ids
        if len(tokens) > self._head + self._tail:
            tokens = tokens[: self._head] + tokens[len(tokens) - self._tail :]
        (found,) = self._session.run(None, {"tokens": np.array(tokens, dtype=np.int64)})
        return float(found[0])


@dataclass(frozen=True, slots=True)
class _Second:
    """The second look: an encoder, and what the manifest says of it."""

    encoder: Encoder
    look: SecondLook

    def with_first(self, text: str, first: float) -> float:
        """The score of both looks."""
        bias, of_first, of_second = self.look.weights
        within = min(max(first, TOLERANCE), 1 - TOLERANCE)
        logit = bias + of_first * log(within / (1 - within)) + of_second * self.encoder.logit(text)
        return 1 / (1 + exp(-logit))

    def faults(self) -> list[str]:
        """As `Scorer._faults`, for the encoder."""
        off = [abs(self.encoder.logit(row.text) - row.logit) for row in self.look.golden]
        return [
            f"second.golden row {number}: the logit is off by {by:.2f}"
            for number, by in enumerate(off, 1)
            if by > LOGIT_TOLERANCE
        ]


class Scorer:
    """A checked and warmed model."""

    def __init__(self, first: bytes, kinds: bytes, version: str = "", explain_from: float = 1.0) -> None:
        """`first`, `kinds`: the bytes of the .onnx files; raises BadSetup if they are no graphs."""
        self._first, self._kinds = _session(first), _session(kinds)
        self.sha256 = sha256(first + kinds).hexdigest()
        self.version = version
        self.explain_from = explain_from
        self._second: _Second | None = None

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """The model of a folder; raises BadSetup that names every fault found."""
        manifest = _manifest(folder)
        first, kinds = _graphs(folder, manifest)
        scorer = cls(first, kinds, manifest.version, manifest.explain_from)
        scorer._second = _second(folder, manifest.second) if manifest.second else None
        try:
            faults = scorer._faults(manifest.golden) + (scorer._second.faults() if scorer._second else [])
        except Exception as error:  # a graph with other inputs or shapes: onnxruntime's own kinds, and numpy's
            raise BadSetup(f"model {folder}: a graph is not what its name says ({type(error).__name__})") from error
        if faults:
            raise BadSetup(f"model {folder}: {'; '.join(faults)}")
        return scorer

    def unsure(self, first: float) -> bool:
        """Whether a first score should be looked at again."""
        return self._second is not None and self._second.look.band[0] <= first < self._second.look.band[1]

    def again(self, text: str, first: float) -> TextScore:
        """The score of a text from both looks, for a first score that is `unsure`."""
        score = round(self._second.with_first(text, first), 4) if self._second else first
        return self._told([text], features([text]), np.array([score]), np.array([first]))[0]

    def score(self, texts: Sequence[str]) -> list[TextScore]:
        """The first look's scores of texts, in their order, rounded to 4 decimals. Takes any strings."""
        grams = features(texts)
        scores = self.first(grams, len(texts)).astype(np.float64).round(4)
        return self._told(texts, grams, scores, scores)

    def both(self, texts: Sequence[str]) -> list[TextScore]:
        """As `score`, with a second look at every text that the first is unsure of."""
        scores = zip(texts, self.score(texts), strict=True)
        return [self.again(text, found.first) if self.unsure(found.first) else found for text, found in scores]

    def _told(
        self, texts: Sequence[str], grams: Grams, scores: NDArray[np.float64], firsts: NDArray[np.float64]
    ) -> list[TextScore]:
        """Scores with what explains those that tell: kinds and spans."""
        telling = np.flatnonzero(scores >= MIN_SCORE)
        kinds = self._given_auto(grams.of(telling), len(telling)) * scores[telling, None]
        labels = {
            place: dict(zip(LABELS[1:], values, strict=True))
            for place, values in zip(telling.tolist(), kinds.round(4).tolist(), strict=True)
        }
        explained = np.flatnonzero(scores >= self.explain_from).tolist()
        spans = dict(zip(explained, self._explain([texts[place] for place in explained]), strict=True))
        return [
            TextScore(score, first, labels.get(place, {}), spans.get(place, ()))
            for place, (score, first) in enumerate(zip(scores.tolist(), firsts.tolist(), strict=True))
        ]

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [texts, labels], not rounded, not explained."""
        grams = features(texts)
        auto = self.first(grams, len(texts))[:, None]
        return np.hstack([auto, auto * self._given_auto(grams, len(texts))])

    def first(self, grams: Grams, count: int) -> NDArray[np.float32]:
        """What the first look says [count] of the texts that `grams` was made of."""
        found = [_run(self._first, part, size, explain=False)[0][:, 0] for size, part in _parts(grams, count)]
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
            for path in sorted([*self.folder.glob("*.onnx"), *self.folder.glob("*.json")]):
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


def _run(session: onnxruntime.InferenceSession, grams: Grams, count: int, **told: bool) -> list[NDArray[np.float32]]:
    """Probabilities [count, labels], and what else the graph gives. One text more than there are: onnxruntime adds up a
    lone one in another order than one among others."""
    columns = {given.name: given.shape for given in session.get_inputs()}["empty"][1]
    given = {
        "rows": grams.rows,
        "owners": grams.owners[:, None],
        "empty": np.zeros((count + 1, columns), dtype=np.float32),
    }
    probabilities, *others = session.run(None, given | {name: np.array(value) for name, value in told.items()})
    return [probabilities[:count], *others]


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
        faults.append(f"trained on another feature spec (features.digest): {_REMEDY}")
    if manifest.labels != LABELS:
        faults.append(f"labels must be {', '.join(LABELS)}, in this order")
    if faults:
        raise BadSetup(f"model {folder}: {'; '.join(faults)}")
    return graphs


def _second(folder: Path, look: SecondLook) -> _Second:
    try:
        graph, tokenizer = (folder / look.file).read_bytes(), (folder / look.tokenizer).read_bytes()
    except OSError as error:
        raise BadSetup(f"model {folder}: {Path(error.filename).name} cannot be read: {error.strerror}") from error
    if sha256(graph + tokenizer).hexdigest() != look.sha256:
        raise BadSetup(f"model {folder}: {look.file} or {look.tokenizer} is not that of the manifest (second.sha256)")
    return _Second(Encoder(graph, tokenizer, look.head, look.tail), look)


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
