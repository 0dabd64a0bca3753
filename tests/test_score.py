"""`doorman score`: text alone, a line for a line; and how fast, by `doorman bench score`."""

import io
from pathlib import Path
from typing import Any

import pytest

from services import codec
from services.cli import main
from tests.builders import event


class Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BufferedReader(io.BytesIO(content))


def score(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], content: bytes, *arguments: str
) -> tuple[int, list[dict[str, Any]], str]:
    monkeypatch.setattr("sys.stdin", Stdin(content))
    status = main(["score", *arguments])
    out, err = capfdbinary.readouterr()
    return status, [codec.loads_object(line) for line in out.splitlines()], err.decode()


def test_texts_and_whole_events_are_scored_in_their_order(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    lines = [
        {"text": "Grab my free e-book! https://x.example"},
        event(text="see you at noon?"),
        {"specversion": "1.0", "data": event()},
    ]
    status, answers, _ = score(monkeypatch, capfdbinary, b"\n".join(map(codec.dumps, lines)))
    assert status == 0
    assert answers[0]["score"] > answers[1]["score"] == answers[2]["score"]
    assert set(answers[0]) == {"score", "first", "labels", "model"}


def test_a_bad_line_is_named_and_the_rest_is_served(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    content = b'{"text": "a"}\n{secret\n{"text": 7}\n{"text": "b"}'
    status, answers, err = score(monkeypatch, capfdbinary, content)
    assert (status, len(answers)) == (1, 2)
    assert "line 2: not_json" in err
    assert "line 3: wrong_type: text" in err
    assert "secret" not in err


def test_an_explanation_points_into_the_text(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    text = "Thanks for following! Grab my free guide to 10k followers: https://growth.example/free"
    _, (answer,), _ = score(monkeypatch, capfdbinary, codec.dumps({"text": text}), "--explain")
    assert answer["spans"]
    assert all(text[start:end].strip() for start, end, _ in answer["spans"])


def test_a_folder_without_a_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    status, answers, err = score(monkeypatch, capfdbinary, b"", "--model", str(tmp_path))
    assert (status, answers) == (2, [])
    assert "manifest.json" in err


def test_the_bench_prints_one_object(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["bench", "score", "--json", "--messages", "256"]) == 0
    result = codec.loads_object(capfdbinary.readouterr().out)
    assert result["bench"] == "score"
    assert result["messages"] == 256
    assert {"messages_per_s", "features_us", "onnx_us"} <= set(result)
