"""BLEU and ROUGE against sacrebleu, rouge-score and the papers, and on Korean."""

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from ray_app.evaluation.text_metrics import (
    bleu,
    bleu_counts,
    bleu_signature,
    overlap_report,
    overlaps,
    rouge_l,
    rouge_n,
    split_units,
)

KOREAN = "저는 음 협업을 가장 중요하게 생각합니다"
LATIN = st.text(st.sampled_from("abc ,.Z9"), max_size=40)
UNIT_LISTS = st.lists(st.sampled_from("가나다"), max_size=12)


@pytest.mark.parametrize("unit", ["char", "word", "kiwi"])
def test_identical_korean_is_one_where_rouge_score_says_nothing(unit: str) -> None:
    reference, hypothesis = split_units([KOREAN, KOREAN], unit)
    assert len(hypothesis) > 3
    rouge = [rouge_n(reference, hypothesis, 1), rouge_n(reference, hypothesis, 2), rouge_l(reference, hypothesis)]
    assert rouge == [1, 1, 1]
    assert bleu(bleu_counts(reference, hypothesis)[None]) == pytest.approx(1)
    assert rouge_scorer.RougeScorer(["rouge1"]).score(KOREAN, KOREAN)["rouge1"].fmeasure == 0


def test_units_are_syllables_words_or_morphemes() -> None:
    texts = ["배송이 늦어요. OK_2"]
    assert split_units(texts, "char") == [list("배송이늦어요.OK_2")]
    assert split_units(texts, "word") == [["배송이", "늦어요", "ok", "2"]]
    assert split_units(["배송이 늦어요"], "kiwi") == [["배송", "이", "늦", "어요"]]


@given(LATIN, LATIN)
def test_rouge_equals_the_library_on_latin_text(first: str, second: str) -> None:
    expected = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"]).score(first, second)
    reference, hypothesis = split_units([first, second], "word")
    if reference == hypothesis:
        return  # the library gives 0 to equal texts without a run; here equal is 1
    assert rouge_n(reference, hypothesis, 1) == pytest.approx(expected["rouge1"].fmeasure)
    assert rouge_n(reference, hypothesis, 2) == pytest.approx(expected["rouge2"].fmeasure)
    assert rouge_l(reference, hypothesis) == pytest.approx(expected["rougeL"].fmeasure)


def test_rouge_by_the_published_definition() -> None:
    """Lin 2004, section 3.1: police killed the gunman; S2 shares three words in order, S3 two."""
    reference = ["police", "killed", "the", "gunman"]
    assert rouge_l(reference, ["police", "kill", "the", "gunman"]) == 0.75
    assert rouge_l(reference, ["the", "gunman", "kill", "police"]) == 0.5
    assert rouge_n(reference, ["the", "the", "gunman"], 1) == pytest.approx(2 * 2 / (4 + 3))  # clipped: one `the`
    assert rouge_n(reference, ["the", "gunman", "kill", "police"], 2) == pytest.approx(2 * 1 / (3 + 3))


@given(UNIT_LISTS, UNIT_LISTS)
def test_rouge_is_within_bounds_and_maximal_for_the_text_itself(reference: list[str], hypothesis: list[str]) -> None:
    for value in (rouge_n(reference, hypothesis, 1), rouge_n(reference, hypothesis, 2), rouge_l(reference, hypothesis)):
        assert 0 <= value <= 1
    assert rouge_l(reference, reference) == rouge_n(reference, reference, 2) == 1
    assert rouge_l(reference, hypothesis) == rouge_l(hypothesis, reference)


def test_corpus_bleu_by_characters_equals_sacrebleus_own() -> None:
    references = ["배송이 정말 빨라서 좋았어요", "색이 화면과 달라요", "가격 대비 만족합니다"]
    hypotheses = ["배송이 빨라서 아주 좋았어요", "색이 화면과 같아요", "가격이 좋아요 만족"]
    pairs = zip(split_units(references, "char"), split_units(hypotheses, "char"), strict=True)
    counts = np.array([bleu_counts(reference, hypothesis) for reference, hypothesis in pairs])
    expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="char").score / 100
    assert bleu(counts) == pytest.approx(expected)
    assert bleu(counts.sum(0, keepdims=True)) == pytest.approx(expected)


def test_an_empty_hypothesis_and_an_empty_reference() -> None:
    assert rouge_n(["가"], [], 1) == rouge_n([], ["가"], 1) == rouge_l(["가"], []) == rouge_l([], ["가"]) == 0
    assert rouge_n([], [], 2) == rouge_l([], []) == 1
    assert bleu(bleu_counts(["가"], [])[None]) == bleu(bleu_counts([], ["가"])[None]) == 0
    assert bleu(bleu_counts([], [])[None]) == 1
    assert overlap_report(np.zeros(13), 0) == {"bleu": None, "rouge1": None, "rouge2": None, "rougeL": None}


def test_a_single_unit_is_maximal_too() -> None:
    """Without the effective order, corpus BLEU of one-word answers with themselves is 0."""
    assert bleu(bleu_counts(["굿"], ["굿"])[None]) == pytest.approx(1)
    assert rouge_n(["굿"], ["굿"], 2) == 1


def test_the_signature_says_how_bleu_was_counted() -> None:
    assert sacrebleu.__version__ in bleu_signature("char")
    assert "char" in bleu_signature("char")


def test_sums_over_rows_make_the_report() -> None:
    pairs = [(list("배송빨라요"), list("배송늦어요")), (list("굿"), list("굿")), (list("핏"), [])]
    report = overlap_report(sum((overlaps(*pair) for pair in pairs), np.zeros(13)), len(pairs))
    counts = np.array([bleu_counts(*pair) for pair in pairs])
    assert report["bleu"] == round(bleu(counts), 4)
    assert report["rouge1"] == round((3 / 5 + 1 + 0) / 3, 4)
    assert report["rouge2"] == round((1 / 4 + 1 + 0) / 3, 4)  # no run of two in `굿`, but it is equal
