"""Masked variants, drops and the strongest word against slow references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.arrays import Ints
from ray_app.data.text import words
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer, word_of_token
from ray_app.inference.masking import Variants, candidates, drops, mask, shortlist, strongest_variant
from tests.support import bundles

MASK = 999
TEXTS = [*bundles.sample_texts(300), *bundles.ODD_TEXTS]
Word = tuple[int, int]  # its candidate (-1: white space of no word), how many tokens it has
REVIEWS = st.lists(st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 3)), max_size=6), max_size=6)


def ints(values: list[int]) -> Ints:
    return np.array(values, np.int64)


def slow_masks(rows: list[list[int]], candidate: list[list[int]], word: list[list[int]]) -> list[list[object]]:
    """One row a variant: review, candidate, ids."""
    variants: list[list[object]] = []
    for review, row in enumerate(rows):
        for wanted in sorted(set(candidate[review]) - {-1}):
            ids = []
            for at, token in enumerate(row):
                if candidate[review][at] != wanted:
                    ids.append(token)
                elif at == 0 or word[review][at - 1] != word[review][at]:
                    ids.append(MASK)
            variants.append([review, wanted, ids])
    return variants


def as_lists(variants: Variants) -> list[list[object]]:
    return [
        [int(variants.review[i]), int(variants.candidate[i]), variants.sequences.row(i).tolist()]
        for i in range(len(variants.sequences))
    ]


@given(REVIEWS)
def test_masked_variants_equal_a_slow_reference(reviews: list[list[Word]]) -> None:
    candidate = [[c for c, n in review for _ in range(n)] for review in reviews]
    word = [[-1 if c < 0 else at for at, (c, n) in enumerate(review) for _ in range(n)] for review in reviews]
    rows = [list(range(len(row))) for row in candidate]
    found = mask(Sequences.of(rows), Sequences.of(candidate).ids, Sequences.of(word).ids, MASK)
    assert as_lists(found) == slow_masks(rows, candidate, word)


def variants_of(tokenizer: Tokenizer, texts: list[str], room: int) -> tuple[Variants, list[list[tuple[int, int]]]]:
    """Masked variants of texts, and the spans of every candidate."""
    spans = words(texts)
    tokens = tokenizer(texts).cut(room)
    word = word_of_token(tokens, spans)
    firsts, positions = candidates(texts, spans)
    owner = np.repeat(np.arange(len(texts)), tokens.sequences.lengths)
    begin = np.cumsum([0, *map(len, spans)])
    candidate = ints([positions[begin[i] + w] if w >= 0 else -1 for i, w in zip(owner, word, strict=True)])
    return mask(tokens.sequences, candidate, word, tokenizer.mask_id or 0), firsts


def masked_text(text: str, word: str, mask_token: str) -> str:
    for start, end in reversed(words([text])[0]):
        if text[start:end] == word:
            text = text[:start] + mask_token + text[end:]
    return text


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_masking_ids_equals_tokenizing_the_text_with_the_mask_token_in_the_words_place(kind: str) -> None:
    """WordPiece: no exception. Metaspace Unigram: the text's version has a lone `▁` before a mask, since an added token
    cuts the text before the space is moved into the next word; masking ids takes the word's `▁` with it. Spaces at the
    end belong to the last word, and line breaks are tokens of the word after them: such texts are left out.
    """
    hf = bundles.hf_tokenizer(kind)
    tokenizer = Tokenizer(hf)
    space = hf.convert_tokens_to_ids("▁") if kind == "roberta" else -1
    texts = TEXTS if kind == "bert" else [t.rstrip() for t in TEXTS if "\n" not in t]
    variants, firsts = variants_of(tokenizer, texts, 10_000)
    assert len(variants.sequences) == sum(len(spans) for spans in firsts)
    for i, (review, candidate) in enumerate(zip(variants.review, variants.candidate, strict=True)):
        text = texts[review]
        start, end = firsts[review][candidate]
        ids = hf(masked_text(text, text[start:end], hf.mask_token), add_special_tokens=False)["input_ids"]
        assert variants.sequences.row(i).tolist() == without_space_before_mask(ids, space, hf.mask_token_id), text


def without_space_before_mask(ids: list[int], space: int, mask_id: int) -> list[int]:
    kept: list[int] = []
    for token in ids:
        while token == mask_id and kept and kept[-1] == space:
            kept.pop()
        kept.append(token)
    return kept


def test_a_repeated_word_is_one_candidate_masked_in_all_its_places() -> None:
    tokenizer = Tokenizer(bundles.hf_tokenizer("bert"))
    variants, firsts = variants_of(tokenizer, ["좋아요 옷이 좋아요 좋아요"], 100)
    assert firsts == [[(0, 3), (4, 6)]]
    assert variants.candidate.tolist() == [0, 1]
    assert variants.sequences.row(0).tolist().count(tokenizer.mask_id or 0) == 3
    assert variants.sequences.row(1).tolist().count(tokenizer.mask_id or 0) == 1


def test_words_beyond_the_cut_are_no_candidates() -> None:
    tokenizer = Tokenizer(bundles.hf_tokenizer("bert"))
    text = "옷은 예쁘지만 배송은 늦어요 그래도 만족해요"
    tokens = tokenizer([text])
    shown = word_of_token(tokens, words([text]))[:4]
    variants, _ = variants_of(tokenizer, [text, "굿"], 4)
    assert variants.candidate[variants.review == 0].tolist() == sorted(set(shown.tolist()))
    assert len(set(shown.tolist())) < 6
    assert variants.review[-1] == 1


def test_nothing_to_mask_gives_no_variant() -> None:
    variants = mask(Sequences.of([[], [1, 2]]), ints([-1, -1]), ints([-1, -1]), MASK)
    assert len(variants.sequences) == len(variants.review) == 0
    assert len(mask(Sequences.of([]), ints([]), ints([]), MASK).sequences) == 0


def test_a_drop_is_the_fall_of_each_keyword_to_four_decimals() -> None:
    before = np.array([[0.9, 0.5], [0.9, 0.5], [0.3, 0.2]], np.float32)
    after = np.array([[0.40004, 0.6], [0.9, 0.5], [0.1, 0.2]], np.float32)
    expected = np.array([[0.5, -0.1], [0.0, 0.0], [0.2, 0.0]])
    np.testing.assert_allclose(drops(before, after), expected, atol=1e-7)


def test_the_strongest_word_wins_and_the_first_of_a_tie() -> None:
    drop = np.array([[0.1, 0.3], [0.5, 0.3], [0.5, 0.2], [-0.2, -0.1]], np.float32)
    owner = ints([0, 0, 0, 2])
    assert strongest_variant(drop, owner, ints([0, 0, 1, 2, 3]), ints([0, 1, 0, 1, 0])).tolist() == [1, 0, -1, 3, -1]
    assert strongest_variant(drop[:0], ints([]), ints([0]), ints([0])).tolist() == [-1]


SCORES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20)


@given(SCORES, st.integers(1, 4))
def test_the_strongest_and_the_shortlist_equal_a_slow_reference(rows: list[tuple[int, int, int]], size: int) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    owner, drop = ints([row[0] for row in rows]), np.array([row[1:] for row in rows], np.float32)
    pairs = [(i, k) for i in range(6) for k in range(2)]
    ranked = [sorted(np.flatnonzero(owner == i).tolist(), key=lambda v: (-drop[v, k], v)) for i, k in pairs]
    review, keyword = ints([i for i, _ in pairs]), ints([k for _, k in pairs])
    assert strongest_variant(drop, owner, review, keyword).tolist() == [row[0] if row else -1 for row in ranked]
    expected = sorted({v for row in ranked for v in row[:size]})
    assert shortlist(drop, owner, review, keyword, size).tolist() == expected


WORDS = st.lists(st.sampled_from(["가", "가나", "나가", "😀", "x😀", "\ud800", "é", "좋아요"]), max_size=12)


@given(st.lists(st.tuples(WORDS, st.sampled_from([" ", "  ", "\n", "\u3000"])), max_size=8))
def test_candidates_are_the_distinct_words_in_order_of_appearance(reviews: list[tuple[list[str], str]]) -> None:
    texts = [space + space.join(own) + space for own, space in reviews]
    spans = words(texts)
    firsts, positions = candidates(texts, spans)
    of_word = iter(positions.tolist())
    for text, own, first in zip(texts, spans, firsts, strict=True):
        distinct = list(dict.fromkeys(text[a:b] for a, b in own))
        assert [text[a:b] for a, b in first] == distinct
        assert [text.index(word) for word in distinct[:1]] == [a for a, _ in first[:1]]
        assert [next(of_word) for _ in own] == [distinct.index(text[a:b]) for a, b in own]
    assert not list(of_word)
