"""BERTScore by its published formula, whatever the batch, and against bert-score."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from bert_score.utils import get_bert_embedding, greedy_cos_idf
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ray_app.engine.device import choose_device
from ray_app.evaluation.bertscore import BertScore, match
from tests.support.bundles import encoder, hf_tokenizer

SHORT, LONG = (
    "배송 빨라요",
    "색상이 화면과 달라서 조금 아쉽지만 그래도 가격이 좋아서 만족하고 다음에 또 사고 싶어요 " * 3,
)


@pytest.fixture(scope="module")
def scorer() -> BertScore:
    return BertScore("starter", choose_device("cpu"))


def test_a_text_with_itself_is_maximal_and_another_is_lower(scorer: BertScore) -> None:
    scores = scorer([SHORT, LONG, SHORT], [SHORT, LONG, "소재가 까슬까슬하네요"])
    assert scores[:2] == pytest.approx(1, abs=1e-5)
    assert (scores[2] < 0.9).all()


def test_padded_batches_equal_each_pair_alone(scorer: BertScore) -> None:
    references, hypotheses = [SHORT, LONG, "굿", LONG[:40]], [LONG, SHORT, "좋아요", "굿"]
    together = scorer(references, hypotheses)
    alone = np.concatenate([scorer([one], [other]) for one, other in zip(references, hypotheses, strict=True)])
    assert together == pytest.approx(alone, abs=1e-5)


def test_swapping_the_texts_swaps_precision_and_recall(scorer: BertScore) -> None:
    assert scorer([SHORT], [LONG])[0] == pytest.approx(scorer([LONG], [SHORT])[0][[1, 0, 2]], abs=1e-6)


def test_match_by_the_published_definition() -> None:
    """Three tokens of the hypothesis against two of the reference, cosines computed by hand."""
    reference = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    hypothesis = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    precision, recall = (1 + 0.8 + 0) / 3, (1 + 0.8) / 2
    expected = (precision, recall, 2 * precision * recall / (precision + recall))
    assert match(reference, hypothesis) == pytest.approx(expected)


def test_empty_texts(scorer: BertScore) -> None:
    assert scorer(["", SHORT, "", " "], [SHORT, "", "", ""]).tolist() == [[0] * 3, [0] * 3, [1] * 3, [1] * 3]
    assert scorer([], []).shape == (0, 3)


def test_longer_texts_than_the_encoder_reads_are_cut(scorer: BertScore) -> None:
    assert np.isfinite(scorer([LONG * 60], [SHORT])).all()


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_it_equals_the_library_on_latin_text(kind: str, tmp_path: Path) -> None:
    """The library's own vectors and matching, given the words alone: on its own it also matches words with [SEP]."""
    tokenizer, model = hf_tokenizer(kind), encoder(kind, seed=3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    references = ["a b c d", "x y z", "hello there old friend"]
    hypotheses = ["a c b", "z y x w v", "hello there new friend"]
    ours = BertScore(str(tmp_path), choose_device("cpu"))
    tokenizer.model_max_length = 64  # without it, the library breaks
    sides = []
    for texts in (references, hypotheses):
        vectors, mask, _ = get_bert_embedding(texts, model, tokenizer, defaultdict(lambda: 1.0), device="cpu")
        words = [row[1 : int(kept.sum()) - 1] for row, kept in zip(vectors, mask, strict=True)]
        for mine, theirs in zip(ours.vectors(texts), words, strict=True):
            assert torch.allclose(mine, F.normalize(theirs, dim=-1), atol=1e-5)
        ones = [torch.ones(len(row)) for row in words]
        padding = [pad_sequence(rows, batch_first=True) for rows in (ones, ones)]
        sides += [pad_sequence(words, batch_first=True, padding_value=2.0), *padding]
    expected = torch.stack(greedy_cos_idf(*sides), 1)
    assert ours(references, hypotheses) == pytest.approx(expected.numpy(), abs=1e-5)
