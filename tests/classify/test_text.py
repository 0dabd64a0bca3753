"""Folding, hosts and features: what a text becomes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.classify.text import SPEC, features, fold, hosts, in_letters, pieces, visible

# Lone surrogates included: a platform may send any UTF-16.
ANY_TEXT = st.text(st.characters(), max_size=300)


def rows(text: str) -> list[int]:
    """The rows of the table that a text uses, in their order."""
    grams = features([text]).rows
    return grams[grams > 0].tolist()  # type: ignore[no-any-return]


def test_a_long_text_is_read_at_both_ends() -> None:
    text = "a" * 3_000 + "b" * 500_000 + "c" * 1_000
    assert visible(text) == "a" * 3_000 + "c" * 1_000


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("FREE", "free"),
        ("ｆｒｅｅ", "free"),
        ("𝗙𝗿𝗲𝗲", "free"),
        ("🅵🆁🅴🅴", "free"),
        ("ꜰʀᴇᴇ".replace("ꜰ", "f"), "free"),
        ("f\u200br\u200be\u200de", "free"),
        ("f̶r̶e̶e̶", "free"),
        ("f r e e", "free"),
        ("f.r.e.e", "free"),
        ("f-r-e-e", "free"),
        ("frее", "free"),
        ("\u03bfpen", "open"),
        ("İstanbul", "istanbul"),
    ],
)
def test_a_disguised_word_folds_to_the_word(disguised: str, plain: str) -> None:
    assert fold(f"get {disguised} now") == f"get {plain} now"
    assert rows(f"get {disguised} now") == rows(f"get {plain} now")


@pytest.mark.parametrize(
    "text",
    [
        "привет, как дела? сор",
        "καλημέρα, τι κάνεις",
        "günaydın, yarın görüşürüz",
        "příliš žluťoučký kůň",
        "مرحبا كيف حالك",
        "明日の会議は三時からです",
    ],
)
def test_other_scripts_stay_what_they_are(text: str) -> None:
    assert fold(text) == text.casefold()


def test_a_mostly_cyrillic_word_is_brought_back_to_cyrillic() -> None:
    assert fold("в прoeкт cпoкoйныx") == "в проект спокойных"


@pytest.mark.parametrize("text", ["e.g. this", "U.S.A.", "1 2 3 4 5", "a b", "i.e. that"])
def test_ordinary_abbreviations_are_not_closed_up(text: str) -> None:
    assert fold(text) == text.lower()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://www.Example.com/a?b=c and http://x.example:8080", ("example.com", "x.example")),
        ("bit.example/abc or shop.example", ("bit.example", "shop.example")),
        ("https://me@evil.example/x", ("evil.example",)),
        ("HTTPS://A.Example, **https://b.example** or https://c.example!", ("a.example", "b.example", "c.example")),
        ("see you at six.Then we go", ()),
        ("mail ana@home.example", ()),
        ("no link", ()),
        ("https://a.example https://a.example", ("a.example",)),
    ],
)
def test_hosts_are_named_once_in_order(text: str, expected: tuple[str, ...]) -> None:
    assert hosts(text) == expected


@given(ANY_TEXT)
def test_any_string_folds_and_has_features(text: str) -> None:
    fold(text)
    hosts(text)
    grams = features([text])
    assert grams.rows.shape[1] == SPEC.width
    assert grams.rows.min() >= 0
    assert grams.rows.max() < SPEC.rows


@given(st.lists(ANY_TEXT, min_size=1, max_size=12))
def test_features_do_not_depend_on_the_neighbours(texts: list[str]) -> None:
    together = features(texts)
    assert np.array_equal(np.unique(together.owners), np.arange(len(texts)))
    for place, text in enumerate(texts):
        assert np.array_equal(together.rows[together.owners == place], features([text]).rows)


@given(st.text(st.sampled_from("abеоnf .-_*\u200b\u0301Aп1"), max_size=40))
def test_a_text_and_its_folded_form_have_the_same_features(text: str) -> None:
    assert rows(text) == rows(fold(text))


def test_sharp_s_folds_to_two_letters() -> None:
    assert fold("Straße") == "strasse"


def test_letters_that_grow_when_folded_are_cut() -> None:
    assert len(features(["\ufdfa" * 4_000]).rows) <= SPEC.max_chars // SPEC.chunk + 1


def test_case_accents_and_digits_are_one_to_the_features() -> None:
    assert rows("Café 2024") == rows("CAFE 1999")


def test_a_digit_written_for_a_letter_is_that_letter_to_the_features() -> None:
    assert rows("fr3e m0ney for you") == rows("free money for you")
    assert rows("order 5531 at 8") == rows("order 1234 at 9")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Fr3e m0ney", "free money"),
        ("at 3pm, 10k, 2nd, covid19", "at 3pm, 10k, 2nd, covid19"),
        ("а5б", "аsб"),
    ],
)
def test_a_digit_between_letters_is_read_as_one(text: str, read: str) -> None:
    assert in_letters(text) == read


def test_no_texts_have_no_features() -> None:
    assert features([]).rows.shape == (0, SPEC.width)


def test_the_digest_tells_specs_apart() -> None:
    assert SPEC.digest != type(SPEC)(bits=SPEC.bits + 1).digest
    assert SPEC.digest == type(SPEC)().digest


@given(ANY_TEXT)
def test_pieces_point_into_the_text_as_it_was_written(text: str) -> None:
    cut = pieces(text)
    assert len(cut.spans) == len(cut.at)
    assert cut.at == sorted(cut.at)
    for start, end in cut.spans:
        assert 0 <= start < end <= len(text)
    assert np.all(np.diff([start for start, _ in cut.spans]) > 0)
