import pytest
import torch

from ray_app.compression.slicing import check_sliceable, sliced
from ray_app.data.taxonomy import load
from ray_app.engine.batching import padded
from ray_app.engine.classifier import Classifier
from ray_app.engine.device import choose_device
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.prefix import Prefix, attach
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError
from tests.support.bundles import KINDS, hf_tokenizer, keyword_scorer, sample_texts

TAXONOMY = load()


def reviews(kind: str) -> tuple[Sequences, int]:
    tokenizer = Tokenizer(hf_tokenizer(kind))
    return tokenizer.with_special_tokens(tokenizer(sample_texts(12)).sequences, 64), tokenizer.pad_id


@torch.no_grad()
def states(model: KeywordScorer | EncoderClassifier, sequences: Sequences, pad_id: int) -> torch.Tensor:
    ids, mask = padded(sequences, pad_id)
    found: torch.Tensor = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_model_runs_flat_as_it_runs_stock(kind: str) -> None:
    (sequences, pad_id), teacher = reviews(kind), keyword_scorer(kind, TAXONOMY, finds=True)
    student = sliced(teacher, 1, 24, sequences, pad_id)
    config = student.encoder.config
    assert (config.num_hidden_layers, config.intermediate_size) == (1, 24)
    assert teacher.encoder.config.num_hidden_layers == 2  # the teacher is left as it was
    flat, stock = (Classifier(student, choose_device("cpu"), pad_id, flat=flat)(sequences) for flat in (True, False))
    torch.testing.assert_close(torch.from_numpy(flat), torch.from_numpy(stock), atol=2e-5, rtol=0)


@pytest.mark.parametrize("idle", [0, 1])
def test_the_layer_that_does_nothing_goes(idle: int) -> None:
    (sequences, pad_id), teacher = reviews("bert"), keyword_scorer("bert", TAXONOMY)
    layer = teacher.encoder.encoder.layer[idle]
    for dense in (layer.attention.output.dense, layer.output.dense):
        torch.nn.init.zeros_(dense.weight)
        torch.nn.init.zeros_(dense.bias)
    student = sliced(teacher, 1, 0, sequences, pad_id)
    torch.testing.assert_close(
        states(student, sequences, pad_id), states(teacher, sequences, pad_id), atol=1e-4, rtol=0
    )


def test_neurons_that_add_nothing_go() -> None:
    (sequences, pad_id), teacher = reviews("bert"), keyword_scorer("bert", TAXONOMY)
    for layer in teacher.encoder.encoder.layer:
        layer.output.dense.weight.data[:, ::2] = 0
    student = sliced(teacher, 0, 32, sequences, pad_id)
    assert student.encoder.config.intermediate_size == 32
    torch.testing.assert_close(
        states(student, sequences, pad_id), states(teacher, sequences, pad_id), atol=1e-5, rtol=0
    )


def test_other_families_are_refused() -> None:
    model = keyword_scorer("bert", TAXONOMY)
    model.encoder.config.model_type = "mpnet"
    with pytest.raises(UserError, match="a mpnet encoder cannot be cut"):
        check_sliceable(model, "--bundle x")


@pytest.mark.parametrize(
    ("asked", "said"), [({"layers": 3}, "--layers 3: x has 2"), ({"intermediate": 999}, "--intermediate 999: x has ")]
)
def test_no_more_than_there_is_can_be_kept(asked: dict[str, int], said: str) -> None:
    teacher = keyword_scorer("bert", TAXONOMY)
    check_sliceable(teacher, "x", layers=2, intermediate=teacher.encoder.config.intermediate_size)
    with pytest.raises(UserError, match=said):
        check_sliceable(teacher, "x", **asked)


def test_a_teacher_with_a_prefix_is_not_cut() -> None:
    teacher = keyword_scorer("bert", TAXONOMY)
    attach(teacher.encoder, Prefix(torch.zeros(2, 1, 2, 16), torch.zeros(2, 1, 2, 16)))
    with pytest.raises(UserError, match=r"^x: a prefix lies on its layers"):
        check_sliceable(teacher, "x")
