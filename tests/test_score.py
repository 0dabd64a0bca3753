"""`doorman score`: text alone, a line for a line."""

import io
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
    content = b'{"text": "a"}\n{\n{"text": 7}\n{"text": "b"}'
    status, answers, err = score(monkeypatch, capfdbinary, content)
    assert (status, len(answers)) == (1, 2)
    assert "line 2: not_json" in err
    assert "line 3: wrong_type: text" in err


def test_an_explanation_points_into_the_text(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    text = "Thanks for following! Grab my free guide to 10k followers: https://growth.example/free"
    _, (answer,), _ = score(monkeypatch, capfdbinary, codec.dumps({"text": text}), "--explain")
    assert answer["spans"]
    assert all(text[start:end].strip() for start, end, _ in answer["spans"])
