"""Keyword queries from texts: the head that a reader makes says what the reader says."""

from pathlib import Path

import pytest
import torch

from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.engine import keyword_reader
from ray_app.engine.device import choose_device
from ray_app.engine.keyword_reader import SCORES, KeywordReader, outputs_of
from ray_app.engine.tokenizer import Tokenizer
from tests.support import bundles

HIDDEN = 16


def reader() -> KeywordReader:
    """With random weights throughout."""
    torch.manual_seed(0)
    made = KeywordReader(HIDDEN).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        made.attention.mean.copy_(torch.randn(HIDDEN))
        made.attention.spread.copy_(torch.rand(HIDDEN) + 0.5)
    return made


@pytest.mark.parametrize("scores", [(-2, -1, 0, 1, 2), (-1, 0, 1), (-1, 1), (-2, 2), (0, 1)])
def test_the_head_of_a_taxonomy_says_what_the_reader_says(scores: tuple[int, ...]) -> None:
    model, states, mask = reader(), torch.randn(3, 7, HIDDEN), torch.ones(3, 7)
    mask[1, 4:] = 0
    vectors = [torch.randn(count, HIDDEN) for count in (1, 3, 2, 5)]
    with torch.no_grad():
        head = model.head(vectors, scores)
        logits, attention = head(states, mask)
        means = torch.stack([phrases.mean(0) for phrases in vectors])
        wanted, wanted_attention = model(model.attention.standardized(states), mask, means)
    torch.testing.assert_close(logits.view(3, 4, -1), wanted[..., [*outputs_of(scores), SCORES]])
    torch.testing.assert_close(attention, wanted_attention)


def test_each_scale_has_outputs_of_its_own() -> None:
    assert outputs_of((-2, -1, 0, 1, 2)) == [0, 1, 2, 3, 4]
    assert outputs_of((-1, 0, 1)) == [5, 6, 7]
    assert outputs_of((-2, 0, 2)) == [0, 2, 4]
    assert outputs_of((-1, 1)) == [5, 7]
    assert outputs_of((1, 2, 3, 4, 5)) == []


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model = reader()
    keyword_reader.save(model, tmp_path / "deep" / "reader.safetensors")
    loaded = keyword_reader.load(tmp_path / "deep" / "reader.safetensors")
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=0.01, rtol=0.01)


def test_a_keyword_is_all_its_phrases() -> None:
    """Vectors stand per keyword and phrase, and are those of each phrase alone."""
    keywords = (Keyword(name="배송"), Keyword(name="핏", belongs="몸에 맞는지", cues=("핏", "라인")))
    taxonomy, device = Taxonomy(name="t", keywords=keywords), choose_device("cpu")
    scorer, tokenizer = bundles.keyword_scorer("bert", taxonomy), Tokenizer(bundles.hf_tokenizer("bert"))
    vectors = keyword_reader.phrase_vectors(scorer.encoder, scorer.head, tokenizer, taxonomy, device)
    assert [len(phrases) for phrases in vectors] == [1, 4]
    alone = Taxonomy(name="t", keywords=(Keyword(name="라인"),))
    (line,) = keyword_reader.phrase_vectors(scorer.encoder, scorer.head, tokenizer, alone, device)
    torch.testing.assert_close(vectors[1][3], line[0], atol=1e-5, rtol=1e-4)
