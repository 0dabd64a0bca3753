"""The tables of the card."""

import numpy as np

from models import card
from models.card import FEW, Read
from models.data import Row


def read(*parts: tuple[str, str, bool, float, int]) -> Read:
    """So many rows of a text, its language, whether it is automated, and its score."""
    rows = [Row(text, auto, None, "public", "some", lang) for text, lang, auto, _, count in parts for _ in range(count)]
    scores = np.array([score for *_, score, count in parts for _ in range(count)])
    return Read(rows, scores, scores)


def test_a_language_has_its_own_recall_and_false_positives() -> None:
    given = read(
        ("a", "es", True, 0.9, 6), ("a", "es", True, 0.1, 2), ("a", "es", False, 0.2, 4), ("a", "en", False, 0.9, 20)
    )
    assert card.languages(given, 0.5).splitlines()[2:] == [
        "| en | 0 |  | 20 | 100.0% |  |",
        "| es | 8 | 75.0% | 4 | 0.0% | 0.750 |",
    ]


def test_a_text_whose_language_nobody_named_counts_by_its_script() -> None:
    given = read(("привет", "", False, 0.1, FEW))
    assert "| Cyrillic script | 0 |" in card.languages(given, 0.5)


def test_languages_with_few_texts_are_one() -> None:
    given = read(("a", "sv", False, 0.1, FEW - 1), ("a", "cs", False, 0.1, 1))
    assert [line.split(" | ")[0] for line in card.languages(given, 0.5).splitlines()[2:]] == ["| others"]
