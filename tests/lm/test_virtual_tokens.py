"""Prompt, p-tuning and prefix of causal language models: only they train, and every reader of a folder reads them."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ray_app import storage
from ray_app.engine.device import choose_device
from ray_app.errors import UserError
from ray_app.lm import adapters, causal_lm, dataset, templates, train_lm, virtual_tokens
from ray_app.lm.encoding import encode
from ray_app.lm.evaluator import EvaluationPlan, LMEvaluator
from ray_app.lm.generation import Decoding, Generator
from ray_app.lm.next_token import NextTokenTask, keeps_rows_apart, row_losses
from ray_app.lm.prompt_tokens import PromptTokenizer
from ray_app.lm.train_lm import Config
from ray_app.training.loop import train_model
from ray_app.training.settings import Settings
from tests.support.language_models import lm_tokenizer, tiny_lm
from tests.support.two_processes import results_of_two

KINDS = pytest.mark.parametrize("kind", adapters.VIRTUAL)
FAMILIES = pytest.mark.parametrize("family", ["gpt2", "llama"])
START = [11, 12, 13]


def fresh(family: str) -> Any:
    return copy.deepcopy(tiny_lm("byte-level", family))


def moved(model: Any) -> Any:
    """A model whose virtual tokens have learned something."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


def logits(model: Any, *texts: list[int]) -> list[torch.Tensor]:
    """Those of every text, padded on the right together."""
    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    with torch.no_grad():
        made = model(input_ids=ids, attention_mask=mask).logits
    return [made[i, : len(text)] for i, text in enumerate(texts)]


@KINDS
@FAMILIES
def test_virtual_tokens_alone_train_and_begin_as_a_text(kind: str, family: str, tmp_path: Path) -> None:
    model = fresh(family)
    front, text = [1], [5, 6, 7, 8]
    (as_text,) = logits(model, [*front, *START, *START[:2], *text])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned = virtual_tokens.added(model, kind, 5, front, START)
    virtual = virtual_tokens.ids_of(tuned)
    first = model.get_input_embeddings().words.num_embeddings
    assert virtual == [first + i for i in range(5)]
    (begun,) = logits(tuned.eval(), [*front, *virtual, *text])
    torch.testing.assert_close(begun[6:], as_text[6:], atol=1e-5, rtol=1e-5)
    trains = {name for name, p in tuned.named_parameters() if p.requires_grad}
    assert trains
    assert all("rows" in name or "network" in name for name in trains) == (kind != "prefix")
    assert all(name.startswith(("keys", "values")) for name in trains) == (kind == "prefix")
    moved(tuned)
    (after,) = logits(tuned, [*front, *virtual, *text])
    assert (after[6:] - begun[6:]).abs().max() > 1e-3
    assert after.shape[1] == first  # no output stands for a virtual token

    causal_lm.save(tuned, lm_tokenizer("byte-level"), tmp_path)
    again, _, _ = causal_lm.load(str(tmp_path), "cpu")
    assert virtual_tokens.ids_of(again) == virtual
    (loaded,) = logits(again, [*front, *virtual, *text])
    torch.testing.assert_close(loaded, after, atol=1e-6, rtol=0)
    plain, _ = causal_lm.open_model(str(tmp_path))  # as other tools read the folder
    assert plain.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


@KINDS
@FAMILIES
def test_batches_and_generation_are_those_of_one_text_alone(kind: str, family: str) -> None:
    tuned = moved(virtual_tokens.added(fresh(family), kind, 4, [], START))
    virtual = virtual_tokens.ids_of(tuned)
    texts = [[*virtual, *text] for text in ([5, 6, 7, 8, 9, 10], [21, 22], [5, 6])]
    for alone, together in zip((logits(tuned, text)[0] for text in texts), logits(tuned, *texts), strict=True):
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    generator, decoding = Generator(tuned, lm_tokenizer("byte-level")), Decoding(max_new_tokens=6)
    one_by_one = [generator([text], decoding)[0] for text in texts]
    assert generator(texts, decoding) == one_by_one
    by_hand = list(texts[0])  # without a cache of what came before
    while len(by_hand) < len(texts[0]) + 6 and int(by_hand[-1]) not in generator.ends:
        by_hand.append(int(logits(tuned, by_hand)[0][-1].argmax()))
    written = generator.pieces.spelled([i for i in by_hand[len(texts[0]) :] if i not in generator.ends])
    assert one_by_one[0].text == written.decode("utf-8", errors="replace")


@pytest.mark.parametrize("kind", ["prompt", "p-tuning"])
def test_packed_rows_stay_apart(kind: str) -> None:
    tuned = moved(virtual_tokens.added(fresh("llama"), kind, 4, [1], START))
    rows = encode(
        lm_tokenizer("byte-level"), ["옷은", "배송은 늦어요"], ["1", "2"], 64, virtual=virtual_tokens.ids_of(tuned)
    )
    assert keeps_rows_apart(tuned, rows, 0)


@pytest.mark.parametrize("tokenizer", ["unigram", "byte-level"])  # with a first token, and without
def test_every_prompt_begins_with_them(tokenizer: str) -> None:
    hf, virtual = lm_tokenizer(tokenizer), [9_000, 9_001]
    wrapper = PromptTokenizer(hf, virtual)
    plain, first = PromptTokenizer(hf), wrapper.tokenizer.prefix
    (ids,), (own,) = wrapper.prompts(["배송은 늦어요"]), plain.prompts(["배송은 늦어요"])
    assert ids == [*first, *virtual, *own[len(first) :]]
    assert wrapper.kept == len(first) + 2
    for loss_on in ("answer", "all"):
        rows = encode(hf, ["배송은 늦어요" * 30], ["배송-1"], 32, "늦어요", loss_on, virtual)
        row = rows.sequences.ids.tolist()
        assert row[: wrapper.kept] == ids[: wrapper.kept]  # also of a prompt that is cut
        assert rows.cut == 1
        assert not set(row[int(rows.begin[0]) :]) & set(virtual)  # they are nothing to be learned
    with pytest.raises(UserError, match=r"--max-length 32: half of it is for prompts, of which .* stay"):
        encode(hf, ["배송은"], ["배송-1"], 32, "늦어요", virtual=range(9_000, 9_014))


def trained(folder: Path, kind: str, **changes: Any) -> Config:
    """What a run on 28 reviews without splits is told."""
    rows = dataset.read("sample", templates.load("review")).split("train")[:28]
    lines = (json.dumps({key: row[key] for key in ("review_id", "text", "labels")}, ensure_ascii=False) for row in rows)
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    causal_lm.save(fresh("llama"), lm_tokenizer("byte-level"), folder / "base")
    given: dict[str, Any] = {
        "base_model": str(folder / "base"),
        "output": str(folder / "lm"),
        "tune": kind,
        "virtual_tokens": 3,
        "labels": str(folder / "labels.jsonl"),
        "epochs": 2,
        "max_length": 160,
        "batch_size": 8,
        "workers": 0,
        "device": "cpu",
    }
    return Config(**{**given, **changes})


@KINDS
def test_a_model_is_trained_evaluated_and_resumed_with_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trained(tmp_path, kind)
    metrics = train_lm.run(config)
    meta = causal_lm.read_meta(config.output)
    assert meta is not None
    assert (meta.virtual_tokens, storage.read_json(f"{config.output}/nunchi_lm.json")["format"]) == (3, 2)
    model, tokenizer, _ = causal_lm.load(config.output, "cpu")
    losses = [
        json.loads(line)["loss"] for line in (tmp_path / "lm.training" / "metrics.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < losses[0]

    held = train_lm.split_rows(dataset.read(config.labels, meta.template), config)[1]
    plan = EvaluationPlan(
        model=config.output,
        template=meta.template,
        taxonomy=meta.taxonomy,
        decoding=Decoding(max_new_tokens=40),
        constrained=True,
        limit=160,
        bertscore="",
        device="cpu",
    )
    evaluator = LMEvaluator(plan)
    prompts, completions = map(meta.template.prompt_parts, held), map(meta.template.completion_parts, held)
    prompts_, completions_ = list(prompts), list(completions)
    found, _ = evaluator.losses(prompts_, completions_)
    virtual = virtual_tokens.ids_of(model)
    rows = encode(tokenizer, prompts_, completions_, 160, meta.template.tail, virtual=virtual)
    expected = row_losses(model, rows, choose_device("cpu"), tokenizer.pad_token_id)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert meta.taxonomy is not None
    written, _ = evaluator.generate(prompts_, range(len(held)))
    assert all(meta.template.parse(one.text, meta.taxonomy).bad == () for one in written)

    calls, own = [0], NextTokenTask.validate

    def killed(task: NextTokenTask, *given: Any) -> dict[str, float]:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return own(task, *given)

    monkeypatch.setattr(NextTokenTask, "validate", killed)
    hit = trained(tmp_path, kind, output=str(tmp_path / "hit"))
    with pytest.raises(KeyboardInterrupt):
        train_lm.run(hit)
    again = train_lm.run(trained(tmp_path, kind, output=str(tmp_path / "hit"), resume=True))
    assert again["validation_loss"] == pytest.approx(metrics["validation_loss"], abs=1e-6)


def train_in_turn() -> dict[str, Any]:
    """Each kind, in one process group: losses and what was learned."""
    found = {}
    for kind in adapters.VIRTUAL:
        torch.manual_seed(0)
        model = virtual_tokens.added(fresh("llama"), kind, 3, [], START)
        texts = ["옷은", "배송은 늦어요", "예뻐요", "색이 다르고 배송도 늦어요", "좋아요"]
        given = (texts, ["배송-1"] * len(texts), 64)
        rows = encode(lm_tokenizer("byte-level"), *given, virtual=virtual_tokens.ids_of(model))
        task = NextTokenTask(name="t", train=rows, validation=rows, pad_id=0)
        settings = Settings(epochs=2, batch_size=3, learning_rate=1e-2, patience=0)
        history = train_model(model, task, settings, lambda metrics, write: None, device="cpu")
        learned = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        found[kind] = {"losses": torch.tensor([row["loss"] for row in history]), **learned}
    return found


def test_two_workers_equal_one(tmp_path: Path) -> None:
    alone = train_in_turn()
    for both in results_of_two(tmp_path, train_in_turn):
        for kind, learned in alone.items():
            for name, value in learned.items():
                torch.testing.assert_close(both[kind][name], value, atol=1e-4, rtol=1e-4, msg=f"{kind} {name}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tune": "lora", "virtual_tokens": 4}, "--virtual-tokens 4: --tune lora has none"),
        (
            {"tune": "prompt", "virtual_tokens": 80},
            "--virtual-tokens 80: they are among the 160 tokens of --max-length",
        ),
        ({"tune": "prompt", "lora": 4}, "--lora 4: --tune prompt has no rank"),
        ({"tune": "prefix", "weight_decay": 0.1}, "--weight-decay: a virtual token of zeros"),
        ({"tune": "prefix", "pack": True}, "--tune prefix: not with --pack; leave it out, or write prompt"),
        ({"tune": "prefix", "checkpointing": True}, "--tune prefix: not with --checkpointing"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(base_model="x", **{"max_length": 160, **options})


def test_random_weights_are_not_tuned_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tune prompt: the weights of --base-model scratch are random"):
        train_lm.run(Config(base_model="scratch", tune="prompt", output=str(tmp_path / "lm"), workers=0))


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "wide", "not a number"])
def test_a_damaged_folder_is_one_line(damage: str, tmp_path: Path) -> None:
    tuned = virtual_tokens.added(fresh("llama"), "prefix", 4, [], START)
    meta = causal_lm.TaskMeta(template=templates.load("review"), taxonomy=None, virtual_tokens=4)
    causal_lm.save(tuned, lm_tokenizer("byte-level"), tmp_path, meta)
    file = tmp_path / virtual_tokens.FILE
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        rows = {"other": torch.zeros(3, 32), "wide": torch.zeros(4, 64), "not a number": torch.full((4, 32), np.nan)}
        save_file({"rows": rows[damage]}, file)
    with pytest.raises(UserError, match=rf"--model .*{virtual_tokens.FILE} is (missing|damaged)"):
        causal_lm.load(str(tmp_path), "cpu")


def test_a_model_with_virtual_tokens_is_no_base(tmp_path: Path) -> None:
    tuned = virtual_tokens.added(fresh("llama"), "prompt", 4, [], START)
    meta = causal_lm.TaskMeta(template=templates.load("review"), taxonomy=None, virtual_tokens=4)
    causal_lm.save(tuned, lm_tokenizer("byte-level"), tmp_path / "tuned", meta)
    with pytest.raises(UserError, match=r"--base-model .*tuned: it has 4 virtual tokens.*give the model that it was"):
        train_lm.run(trained(tmp_path, "lora", base_model=str(tmp_path / "tuned"), virtual_tokens=0))
