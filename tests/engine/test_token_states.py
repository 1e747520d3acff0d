"""Encoders whose answers change with padding are run one length at a time wherever they are run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.engine.batching import padded
from ray_app.engine.device import choose_device
from ray_app.engine.encoder import EncoderClassifier, load_encoder
from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
from ray_app.engine.keyword_reader import phrase_vectors
from ray_app.engine.ragged import Sequences
from ray_app.engine.token_states import token_states
from ray_app.engine.tokenizer import Tokenizer
from tests.support.families import save_family

TEXTS = ["옷은 예쁘지만 배송은 늦어요", "굿", "배송이 빨라요 정말", "핏", "굿굿"]
DEVICE = choose_device("cpu")
Opened = tuple[Any, Tokenizer, Sequences]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """An fnet, in which every token reads padding too, and texts of several lengths."""
    folder: Path = save_family("fnet", tmp_path_factory.mktemp("fnet") / "base")
    encoder, hf_tokenizer = load_encoder(str(folder))
    tokenizer = Tokenizer(hf_tokenizer)
    return encoder.eval(), tokenizer, tokenizer.with_special_tokens(tokenizer(TEXTS).sequences, 64)


def alone(opened: Opened, model: nn.Module) -> Tensor:
    _, tokenizer, sequences = opened
    rows = [padded(sequences.take(np.array([i])), tokenizer.pad_id) for i in range(len(TEXTS))]
    return torch.cat([model(*row) for row in rows])


@pytest.mark.parametrize("kind", ["classifier", "scorer"])
def test_a_batch_of_several_lengths_is_answered_and_learned_as_each_text_is(opened: Opened, kind: str) -> None:
    encoder, tokenizer, sequences = opened
    torch.manual_seed(0)
    width = int(encoder.config.hidden_size)
    model: EncoderClassifier | KeywordScorer = (
        EncoderClassifier(encoder, 3, 0.0, "mean")
        if kind == "classifier"
        else KeywordScorer(encoder, KeywordAttention(2, width, 3, 0.0))
    )
    model.eval()
    ids, mask = padded(sequences, tokenizer.pad_id)
    expected = alone(opened, model)
    assert not torch.allclose(model(ids, mask), expected, atol=1e-4), "padding does change this encoder's answers"
    model.batching = "alone"
    answers = model(ids, mask)
    torch.testing.assert_close(answers, expected, atol=1e-5, rtol=1e-4)
    gradients = []
    for logits in (answers, expected):
        model.zero_grad()
        torch.autograd.backward(logits.square().sum())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_token_states_and_phrases_are_those_of_each_text_alone(opened: Opened) -> None:
    encoder, tokenizer, sequences = opened
    states = token_states(encoder, sequences, tokenizer.pad_id, DEVICE, batching="alone")
    for i, state in enumerate(states):
        [own] = token_states(encoder, sequences.take(np.array([i])), tokenizer.pad_id, DEVICE)
        torch.testing.assert_close(state, own, atol=1e-5, rtol=1e-4)
    head = KeywordAttention(1, int(encoder.config.hidden_size), 3, 0.0)
    taxonomy = Taxonomy(name="둘", keywords=(Keyword(name="배송", cues=("택배가 늦어요",)), Keyword(name="핏")))
    both = phrase_vectors(encoder, head, tokenizer, taxonomy, DEVICE, "alone")
    single = Taxonomy(name="하나", keywords=(Keyword(name="배송"),))
    [first] = phrase_vectors(encoder, head, tokenizer, single, DEVICE)
    torch.testing.assert_close(both[0][0], first[0], atol=1e-5, rtol=1e-4)
