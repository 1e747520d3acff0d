"""Every kind of tuning on every family that runs flat: what trains, what stays, and that a plain model comes out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_app.data.taxonomy import load
from ray_app.engine.batching import padded
from ray_app.engine.classifier import Classifier
from ray_app.engine.device import choose_device
from ray_app.engine.encoder import EncoderClassifier, load_model, save_model
from ray_app.engine.unpadded import supports
from ray_app.errors import UserError
from ray_app.training.loop import EpochRow, train_model
from ray_app.training.optimizer import parameter_groups
from ray_app.training.settings import Settings
from ray_app.training.tuning import kept
from ray_app.training.tuning.frozen_encoder import FrozenEncoder
from ray_app.training.tuning.kinds import KINDS
from ray_app.training.tuning.tune import counted, make_plain, trainable, tune
from tests.support.tuned_models import (
    COUNTS,
    FAMILIES,
    PROJECTED,
    WORDS,
    expected_to_train,
    new_encoder,
    raw_tokenizer,
    small_task,
    texts_of,
    tokenizers,
    trains,
    tuned_model,
    way,
)
from tests.support.two_processes import results_of_two

PARTS = [kind for kind in KINDS if kind != "full"]
SETTINGS = Settings(epochs=2, batch_size=4, learning_rate=1e-2, patience=0, warmup=0.0, weight_decay=0.1)
CPU = choose_device("cpu")


def run(kind: str, family: str = "bert", settings: Settings = SETTINGS, **options: Any) -> tuple[list[EpochRow], Any]:
    model, report = tuned_model(kind, family), options.pop("report", lambda *_: None)
    return train_model(model, small_task(kind, family), settings, report, device="cpu", **options), model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", PARTS)
def test_a_kind_trains_its_own_weights_and_a_plain_model_comes_out(kind: str, family: str, tmp_path: Path) -> None:
    model, task = tuned_model(kind, family), small_task(kind, family)
    names, before = trains(model), {name: p.detach().clone() for name, p in model.named_parameters()}
    assert names == expected_to_train(model, kind)
    inside = COUNTS[kind] + ("projection" in family) * PROJECTED.get(kind, 0)
    assert len([name for name in names if name.startswith("encoder.")]) == inside
    stays = {name: buffer.clone() for name, buffer in model.named_buffers()}
    words = kept.words_before(model.encoder, way(kind))
    seen = []
    task.metrics = lambda logits: seen.append(logits) or {"select": float(len(seen))}  # type: ignore[func-returns-value]
    train_model(model, task, SETTINGS, lambda *_: None, device="cpu")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in names), name
    assert all(torch.equal(buffer, stays[name]) for name, buffer in model.named_buffers())
    sequences = task.validation.sequences
    with torch.no_grad():
        stock = model.eval()(*padded(sequences, task.pad_id)).numpy()
    assert seen[-1] == pytest.approx(stock, abs=2e-6)  # what selects an epoch is what the stock forward gives
    added = kept.learned(model.encoder, words)
    make_plain(model)
    assert supports(model)
    flat, plain = (Classifier(model, CPU, task.pad_id, flat=choice)(sequences) for choice in (True, False))
    assert flat == pytest.approx(plain, abs=2e-6)
    assert flat == pytest.approx(stock, abs=2e-6)
    save_model(model, tmp_path / "m")
    again = Classifier(load_model(tmp_path / "m", "mean"), CPU, task.pad_id)(sequences)
    assert again == pytest.approx(flat, abs=1e-6)
    base, taxonomy = kept.identity_of(new_encoder(family)), load()
    kept.write(str(tmp_path / "a" / "scores"), way(kind), base, taxonomy, added, model.head)
    opened = kept.Opened(encoder=new_encoder(family), tokenizer=raw_tokenizer(family), identity=base)
    put = kept.with_adapter(opened, str(tmp_path / "a"), "scores", taxonomy, attends=False)
    model.encoder = put.encoder
    assert Classifier(model, CPU, task.pad_id)(sequences) == pytest.approx(flat, abs=1e-6)
    assert put.head is not None
    assert torch.equal(put.head["weight"], model.head.weight)


@pytest.mark.parametrize("kind", PARTS)
def test_a_resumed_run_equals_an_uninterrupted_one(kind: str, tmp_path: Path) -> None:
    """The checkpoint that a killed process leaves holds what trains, and no more."""

    def report(row: EpochRow, write: Any) -> None:
        (tmp_path / str(row["epoch"])).mkdir()
        write(tmp_path / str(row["epoch"]))

    settings = replace(SETTINGS, epochs=3)
    whole, model = run(kind, settings=settings, report=report)
    names = set(torch.load(tmp_path / "1" / "state.pt", weights_only=True)["model"])
    assert names & {name for name, _ in model.named_parameters()} == trains(model)
    resumed, again = run(kind, settings=settings, resume=tmp_path / "1")
    assert [row["loss"] for row in resumed] == pytest.approx([row["loss"] for row in whole], abs=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, dict(again.named_parameters())[name], atol=1e-6, rtol=0)


def losses_of_all() -> dict[str, list[float]]:
    return {kind: [row["loss"] for row in run(kind)[0]] for kind in KINDS}


def test_two_workers_see_the_losses_of_one(tmp_path: Path) -> None:
    alone = losses_of_all()
    for found in results_of_two(tmp_path, losses_of_all):
        assert found.keys() == alone.keys()
        for kind, losses in alone.items():
            assert found[kind] == pytest.approx(losses, abs=1e-5), kind


@pytest.mark.parametrize("kind", ["ia3", "prefix", "prompt", "p-tuning", "embeddings"])
def test_nothing_draws_towards_zero_what_is_not_nothing_at_zero(kind: str) -> None:
    model = tuned_model(kind, "bert")
    groups = small_task(kind, "bert").parts(model, SETTINGS)
    made: list[dict[str, Any]] = [*parameter_groups(groups, 1.0, 0.1)]
    decayed = {id(p) for group in made if group["weight_decay"] for p in group["params"]}
    inside = {id(p) for p in model.encoder.parameters() if p.requires_grad}
    assert inside
    assert not decayed & inside
    assert (id(model.head.weight) in decayed) == (kind != "embeddings")


def test_words_that_no_text_holds_keep_their_rows_and_are_not_kept_beside_them() -> None:
    model = tuned_model("embeddings-head", "bert")
    before = kept.words_before(model.encoder, way("embeddings"))
    assert before is not None
    task = small_task("embeddings-head", "bert")
    train_model(model, task, SETTINGS, lambda *_: None, device="cpu")
    rows = kept.learned(model.encoder, before)[kept.ROWS].tolist()
    assert set(rows) <= set(task.train.sequences.ids.tolist())
    assert len(rows) < len(before) / 10


def test_a_frozen_encoder_reads_a_text_once_and_gives_what_it_gave() -> None:
    for pooling in ("keywords", "first", "mean"):
        encoder, tokenizer = new_encoder("roberta"), tokenizers("head", "roberta")[0]
        ids, mask = padded(texts_of(tokenizer), tokenizer.pad_id)
        with torch.no_grad():
            expected = encoder.eval()(input_ids=ids, attention_mask=mask).last_hidden_state
        calls: list[int] = []
        encoder.register_forward_hook(lambda _, given, out, calls=calls: calls.append(len(out.last_hidden_state)))
        frozen = FrozenEncoder(encoder, pooling).train()
        found = [frozen(input_ids=ids, attention_mask=mask).last_hidden_state for _ in range(2)]
        assert torch.equal(*found)
        assert calls == [len(ids)]
        if pooling == "keywords":
            found, expected = [found[0] * mask[..., None]], expected * mask[..., None]
        elif pooling == "first":
            found, expected = [found[0][:, 0]], expected[:, 0]
        else:
            weight = mask[..., None]
            found = [(found[0] * weight).sum(1) / weight.sum(1)]
            expected = (expected * weight).sum(1) / weight.sum(1)
        torch.testing.assert_close(found[0], expected, atol=2e-3, rtol=2e-3)
        judged = frozen.eval()(input_ids=ids, attention_mask=mask).last_hidden_state
        assert judged.dtype == torch.float32
        assert not frozen.encoder.training


def test_states_without_room_are_read_anew(caplog: pytest.LogCaptureFixture) -> None:
    encoder, tokenizer = new_encoder("bert"), tokenizers("head", "bert")[0]
    ids, mask = padded(texts_of(tokenizer), tokenizer.pad_id)
    frozen = FrozenEncoder(encoder, "keywords").train()
    first = frozen(input_ids=ids, attention_mask=mask).last_hidden_state
    cramped = FrozenEncoder(encoder, "keywords").train()
    cramped.learned.room = 0
    for _ in range(2):
        found = cramped(input_ids=ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(found, first, atol=2e-3, rtol=2e-3)
    assert caplog.text.count("no room for more states") == 1


def test_what_trains_is_counted() -> None:
    model = tuned_model("prompt", "bert")
    some, whole = trainable(model)
    assert some == 3 * 32 + 32 * 3 + 3
    line = (
        f"scores: --tune prompt trains {some} of {whole:,} weights ({some / whole:.2%}): 96 in the encoder, 99 in the"
    )
    assert counted(model, "scores", "prompt").startswith(line)


@pytest.mark.parametrize("kind", ["lora", "prompt", "head"])
def test_an_encoder_that_is_not_what_its_weights_say_does_not_run_flat(kind: str) -> None:
    model = tuned_model(kind, "bert")
    assert not supports(model)
    make_plain(model)
    assert supports(model)


def test_whatever_else_is_called_beside_the_weights_keeps_an_encoder_from_running_flat() -> None:
    from torch.nn.utils import parametrize

    for change in (
        lambda layer: layer.register_forward_hook(lambda *_: None),
        lambda layer: layer.register_forward_pre_hook(lambda *_: None),
        lambda layer: parametrize.register_parametrization(layer, "weight", torch.nn.Tanh()),
    ):
        model = tuned_model("full", "bert")
        assert supports(model)
        change(model.encoder.encoder.layer[1].output.dense)
        assert not supports(model)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    model, taxonomy = tuned_model("lora", "bert"), load()
    kept.write(str(tmp_path / "scores"), way("lora"), "other", taxonomy, kept.learned(model.encoder, None), model.head)
    encoder = new_encoder("bert")
    opened = kept.Opened(encoder=encoder, tokenizer=raw_tokenizer("bert"), identity=kept.identity_of(encoder))
    with pytest.raises(UserError, match=r"^--adapter .*: scores was tuned on another base model"):
        kept.with_adapter(opened, str(tmp_path), "scores", taxonomy, attends=False)
    (tmp_path / "scores" / "adapter.safetensors").write_bytes(b"cut")
    opened = replace(opened, identity="other")
    with pytest.raises(UserError, match=r"^--adapter .*: scores is damaged .*; copy it again$"):
        kept.with_adapter(opened, str(tmp_path), "scores", taxonomy, attends=False)


def test_adapters_lie_one_on_the_other_in_their_order(tmp_path: Path) -> None:
    taxonomy = load()
    opened = kept.Opened(
        encoder=new_encoder("bert"), tokenizer=raw_tokenizer("bert"), identity=kept.identity_of(new_encoder("bert"))
    )
    for number, kind in enumerate(("prompt", "lora")):
        model = EncoderClassifier(opened.encoder, 3, 0.0, "mean")
        torch.manual_seed(number)
        tune(model, way(kind), tokenizers("full", "bert")[0], WORDS)
        with torch.no_grad():
            for parameter in model.encoder.parameters():
                if parameter.requires_grad:
                    parameter += torch.randn_like(parameter) * 0.1
        folder = str(tmp_path / str(number))
        added = kept.learned(model.encoder, None)
        kept.write(f"{folder}/scores", way(kind), opened.identity, taxonomy, added, model.head)
        make_plain(model)
        last = kept.identity_of(model.encoder)
        fresh = replace(opened, encoder=new_encoder("bert")) if not number else None
        before = fresh or kept.with_adapter(
            replace(opened, encoder=new_encoder("bert"), identity=kept.identity_of(new_encoder("bert"))),
            str(tmp_path / "0"),
            "scores",
            taxonomy,
            attends=False,
        )
        opened = kept.with_adapter(before, folder, "scores", taxonomy, attends=False)
        assert kept.identity_of(opened.encoder) == last
    assert np.array_equal(opened.encoder.get_input_embeddings().weight.shape, [len(raw_tokenizer("bert")) + 3, 32])


def test_damaged_rows_and_shapes_of_an_adapter_are_told(tmp_path: Path) -> None:
    encoder, taxonomy = new_encoder("bert"), load()
    opened = kept.Opened(
        encoder=encoder, tokenizer=raw_tokenizer("bert"), identity=kept.identity_of(encoder), thresholds=[0.4]
    )
    name = "embeddings.word_embeddings.weight"
    for rows, width in ((10**6, 32), (1, 1)):
        state = {name: torch.zeros(1, width), kept.ROWS: torch.tensor([rows])}
        kept.write(str(tmp_path / "scores"), way("embeddings"), opened.identity, taxonomy, state, torch.nn.Linear(1, 1))
        with pytest.raises(UserError, match=r"^--adapter .*: scores is damaged .*; copy it again$"):
            kept.with_adapter(opened, str(tmp_path), "scores", taxonomy, attends=False)
    state = {name: torch.zeros(1, 32), kept.ROWS: torch.tensor([1])}
    kept.write(str(tmp_path / "scores"), way("embeddings"), opened.identity, taxonomy, state, torch.nn.Linear(1, 1))
    assert kept.with_adapter(opened, str(tmp_path), "scores", taxonomy, attends=False).thresholds == [0.4]


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ([0.3] * 15, [0.3] * 15),
        ([], [0.4] * 15),
        ([0.3] * 14, None),
        ([0.3] * 14 + [1.5], None),
        ([0.3] * 14 + [float("nan")], None),
        ([0.3] * 14 + ["half"], None),
        (0.3, None),
    ],
)
def test_an_adapter_brings_the_thresholds_of_its_head(stored: Any, found: list[float] | None, tmp_path: Path) -> None:
    """None where it finds no keywords: those of its base count. One keyword more or fewer: damaged."""
    encoder, taxonomy = new_encoder("bert"), load()
    opened = kept.Opened(
        encoder=encoder, tokenizer=raw_tokenizer("bert"), identity=kept.identity_of(encoder), thresholds=[0.4] * 15
    )
    state = {"embeddings.word_embeddings.weight": torch.zeros(1, 32), kept.ROWS: torch.tensor([1])}
    kept.write(str(tmp_path / "keywords"), way("embeddings"), opened.identity, taxonomy, state, torch.nn.Linear(32, 15))
    told = json.loads((tmp_path / "keywords" / "adapter.json").read_text(encoding="utf-8"))
    (tmp_path / "keywords" / "adapter.json").write_text(json.dumps(told | {"thresholds": stored}), encoding="utf-8")
    if found is not None:
        assert kept.with_adapter(opened, str(tmp_path), "keywords", taxonomy, attends=False).thresholds == found
        return
    with pytest.raises(UserError, match=r"^--adapter .*: keywords is damaged .*; copy it again$"):
        kept.with_adapter(opened, str(tmp_path), "keywords", taxonomy, attends=False)


def test_a_weight_without_dimensions_has_an_identity() -> None:
    model = torch.nn.Linear(1, 1)
    model.register_buffer("step", torch.tensor(3.0))
    assert len(kept.identity_of(model)) == 64


def test_a_folder_beside_the_own_adapters_is_another(tmp_path: Path) -> None:
    training = str(tmp_path / "t")
    for folder, said in (("adapter", "this training writes its own"), ("adapter-old", "no joint/adapter.json there")):
        with pytest.raises(UserError, match=said):
            kept.check_adapters((f"{training}/{folder}",), ("joint",), training)
