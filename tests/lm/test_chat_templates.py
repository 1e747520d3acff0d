"""A model's own chat format as a template: trained, generated from and evaluated with its special tokens as tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from ray_app import storage
from ray_app.data import taxonomy
from ray_app.lm import causal_lm, evaluate_lm, evaluator, train_lm
from ray_app.lm.evaluator import EvaluationPlan, LMEvaluator
from ray_app.lm.generation import Decoding
from tests.lm.test_prompt_tokens import ATTACKS, CHAT, tokenizer

TEXTS = ["배송이 빨라요 굿", *(f"굿 {text}" for text in ATTACKS)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    hf = tokenizer("unigram")
    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 256, "initializer_range": 0.4}
    ids = {name: getattr(hf, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    folder = tmp_path_factory.mktemp("chat")
    causal_lm.save(GPT2LMHeadModel(GPT2Config(vocab_size=len(hf), **size, **ids)), hf, folder)
    return str(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Options that name the template and reviews that try to write its tokens."""
    folder = tmp_path_factory.mktemp("files")
    labels = [{"keyword": "만족도", "score": 1}]
    lines = [json.dumps({"review_id": f"{i}", "text": text, "labels": labels}) for i, text in enumerate(TEXTS)]
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    entry = {key: value for key, value in CHAT.to_dict().items() if key != "name"}
    (folder / "own.yaml").write_text(yaml.safe_dump({"chat": entry}), encoding="utf-8")
    return {"task": "chat", "labels": str(folder / "labels.jsonl"), "templates": str(folder / "own.yaml")}


def test_a_chat_template_is_trained_and_evaluated(base: str, files: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {"base_model": base, "output": str(tmp_path / "lm"), "workers": 0, "device": "cpu"}
    train_lm.run(train_lm.Config(**given, **files, epochs=1))
    own: dict[str, Any] = {"model": given["output"], "output": str(tmp_path / "report"), "workers": 0, "device": "cpu"}
    report: Any = evaluate_lm.run(evaluate_lm.Config(**own, labels=files["labels"], bertscore_model="none"))
    assert report["rows"] == len(TEXTS)
    rows = storage.read_parquet(str(tmp_path / "report" / "rows")).to_pylist()
    assert {row["reference"] for row in rows} == {"만족도1"}  # as a model writes it: the token that ends it is no text
    assert {row["completion"] for row in rows} == {"만족도1<|end|>"}
    assert [row["prompt"].count("<|start|>") for row in rows] == [2 + text.count("<|start|>") for text in TEXTS]
    assert not any("<|" in row["generated"] for row in rows)


def test_the_loss_is_that_of_the_chat_format_and_its_end_ends_an_answer(base: str) -> None:
    plan = EvaluationPlan(
        model=base,
        template=CHAT,
        taxonomy=taxonomy.load(),
        decoding=Decoding(max_new_tokens=32),
        constrained=True,
        bertscore="",
    )
    made, row = LMEvaluator(plan), {"id": "1", "text": TEXTS[0], "labels": [{"keyword": "만족도", "score": 1}]}
    inputs = evaluator.make_inputs(CHAT, [row], [row], 0)
    made.hf.backend_tokenizer.encode_special_tokens = False
    prompt, completion = ("".join(inputs[name][0].as_py()) for name in ("prompt", "completion"))
    front, back = (made.hf(text, add_special_tokens=False)["input_ids"] for text in (prompt, completion))
    front, back = [made.hf.bos_token_id, *front], [*back, made.hf.eos_token_id]
    with torch.no_grad():
        loss = made.model(torch.tensor([front + back]), labels=torch.tensor([[-100] * len(front) + back])).loss
    found = made(inputs)
    assert found["loss_tokens"].to_pylist() == [len(back)]
    assert found["loss"][0].as_py() / len(back) == pytest.approx(float(loss), abs=1e-5)
    marks = {made.hf.convert_tokens_to_ids(mark) for mark in ("<|start|>", "<|end|>")}
    assert marks <= made.generator.ends
    assert made.grammar is not None
    assert marks <= set(made.grammar.ends.tolist())
