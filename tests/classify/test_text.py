"""Folding and features: the same words however they are disguised, and no script suspicious by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.classify.text import SPEC, features, fold, hosts, visible


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("FREE Crypto", "free crypto"),
        ("fr\u200bee", "free"),
        ("ｆｒｅｅ", "free"),
        ("𝗳𝗿𝗲𝗲", "free"),
        ("fr\u0435\u0435", "free"),
        ("f r e e money", "free money"),
        ("f.r.e.e", "free"),
    ],
)
def test_disguises_fold_to_the_same_words(disguised: str, plain: str) -> None:
    assert fold(disguised) == plain


@pytest.mark.parametrize(
    "text", ["привет, как дела", "καλημέρα σας", "çok teşekkürler", "dobrý den", "مرحبا بك", "你好"]
)
def test_other_scripts_stay_what_they_are(text: str) -> None:
    assert fold(text) == text.casefold()


def test_a_long_text_is_read_at_both_ends() -> None:
    text = "a" * 3000 + "b" * 5000 + "c" * 1000
    assert visible(text) == "a" * 3000 + "c" * 1000


def test_link_hosts_are_found() -> None:
    assert hosts("see https://a.example/x and https://B.example") == ("a.example", "b.example")


@given(st.lists(st.text(), max_size=8))
def test_a_text_s_features_do_not_depend_on_its_neighbours(texts: list[str]) -> None:
    together = {int(place): block.chars[row] for block in features(texts) for row, place in enumerate(block.places)}
    for place, text in enumerate(texts):
        (alone,) = features([text])
        assert np.array_equal(alone.chars[0], together[place])


@given(st.text(alphabet=st.characters(codec=None), max_size=300))
def test_any_string_has_features_within_the_table(text: str) -> None:
    for block in features([text]):
        for grid in (block.chars, block.words):
            assert 0 <= grid.min(initial=0) <= grid.max(initial=0) < SPEC.rows
