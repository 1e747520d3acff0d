"""A score classifier whose keywords attend over the review: run flat it says what the stock forward says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ray_app.data.taxonomy import load
from ray_app.engine.batching import padded
from ray_app.engine.classifier import Classifier
from ray_app.engine.device import choose_device
from ray_app.engine.encoder import load_keyword_scorer, save_model
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
from tests.support import bundles

TAXONOMY = load()


def sequences(kind: str) -> tuple[Sequences, int]:
    tokenizer = Tokenizer(bundles.hf_tokenizer(kind))
    reviews = tokenizer([*bundles.sample_texts(30), *bundles.ODD_TEXTS]).sequences
    return tokenizer.with_special_tokens(reviews, 64), tokenizer.pad_id


@pytest.mark.parametrize("kind", bundles.KINDS)
@pytest.mark.parametrize("budget", [64, 512, 8_192])
@pytest.mark.parametrize("queries", [1, 2])
def test_the_flat_forward_equals_the_stock_one(kind: str, budget: int, queries: int) -> None:
    model, (rows, pad_id) = bundles.keyword_scorer(kind, TAXONOMY, queries=queries), sequences(kind)
    with torch.inference_mode():
        stock = model(*padded(rows, pad_id))
    device = choose_device("cpu")
    flat = Classifier(model, type(device)(device.torch_device, device.backend, budget), pad_id)
    assert flat.outputs == len(TAXONOMY.names) * len(TAXONOMY.scores)
    np.testing.assert_allclose(flat(rows), stock.numpy(), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("kind", bundles.KINDS)
def test_a_review_alone_has_the_bits_it_has_among_others(kind: str) -> None:
    model, (rows, pad_id) = bundles.keyword_scorer(kind, TAXONOMY), sequences(kind)
    classifier = Classifier(model, choose_device("cpu"), pad_id)
    together = classifier(rows)
    alone = np.concatenate([classifier(rows.take(np.array([i]))) for i in range(len(rows))])
    assert np.abs(together - alone).max() <= 2e-6


def test_attention_leaves_padding_alone_and_sums_to_one() -> None:
    model, (rows, pad_id) = bundles.keyword_scorer("bert", TAXONOMY), sequences("bert")
    ids, mask = padded(rows, pad_id)
    with torch.inference_mode():
        _, attention = model(ids, mask, attention=True)
    weights = attention.exp()
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    assert float((weights * (1 - mask[:, None, None])).max()) == 0


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    model, (rows, pad_id) = bundles.keyword_scorer("bert", TAXONOMY), sequences("bert")
    save_model(model, tmp_path)
    loaded = load_keyword_scorer(tmp_path).eval()
    with torch.inference_mode():
        torch.testing.assert_close(loaded(*padded(rows, pad_id)), model(*padded(rows, pad_id)))
