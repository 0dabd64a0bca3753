"""The program: what is wrong with its arguments is said before anything is done."""

import pytest

from services.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deadletter", "list", "--since", "x"], "'x' is not a time like"),
        (["review", "block", "--sender", "s", "--reason", "r", "--until", "x"], "'x' is not a time like"),
        (["replay", "events.jsonl", "--max-flips", "-1"], "at least 0"),
        (["demo", "--events", "0"], "at least 1"),
        (["demo", "--partitions", "0"], "at least 1"),
        (["demo", "--rate", "0"], "more than 0"),
        (["bench", "latency", "--seconds", "0"], "at least 1"),
        (["bench", "latency", "--partitions", "2", "0"], "at least 1"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_a_wrong_argument_is_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
