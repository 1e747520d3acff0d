"""train_lm in this process: rows in, a model folder out; what the options change and what they do not."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ray_app import storage
from ray_app.engine.device import choose_device
from ray_app.errors import UserError
from ray_app.lm import causal_lm, dataset, templates, train_lm
from ray_app.lm.encoding import encode
from ray_app.lm.next_token import row_losses
from tests.support.language_models import lm_tokenizer, tiny_lm


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    causal_lm.save(tiny_lm(), lm_tokenizer("unigram"), folder)
    return str(folder)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 labeled reviews without splits."""
    rows = dataset.read("sample", templates.load("review")).split("train")[:40]
    keep = ("review_id", "text", "labels")
    lines = [json.dumps({k: row[k] for k in keep}, ensure_ascii=False) for row in rows]
    path = tmp_path_factory.mktemp("data") / "labels.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def config(base: str, reviews: str, output: Path, **changes: Any) -> train_lm.Config:
    options: dict[str, Any] = {"batch_size": 8, "learning_rate": 1e-3, "epochs": 2, "workers": 0, "device": "cpu"}
    return train_lm.Config(base_model=base, labels=reviews, output=str(output), **{**options, **changes})


def losses(output: Path) -> list[tuple[float, float]]:
    lines = Path(f"{output}.training/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["loss"], row["validation_loss"]) for row in map(json.loads, lines)]


def test_rows_become_a_model_folder_that_says_how_it_was_trained(
    base: str,
    reviews: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "ray_app")
    metrics = train_lm.run(config(base, reviews, tmp_path / "lm"))
    assert "review: 36 training and 4 validation rows, 0 dropped" in caplog.text
    printed = capsys.readouterr().out
    assert f"validation loss {metrics['validation_loss']:.3f}" in printed
    assert f"-m jobs.evaluate_lm --model {tmp_path}/lm --labels {reviews}\n" in printed
    model, tokenizer, meta = causal_lm.load(str(tmp_path / "lm"), "cpu")
    assert meta is not None
    assert meta.template == templates.load("review")
    assert meta.support["만족도"] == meta.provenance["rows"] == 36
    assert (meta.max_length, meta.loss_on, meta.metrics) == (256, "answer", metrics)
    assert metrics["unigram_entropy"] <= metrics["unigram_loss"]
    data = dataset.read(reviews, meta.template)
    held = train_lm.split_rows(data, config(base, reviews, tmp_path))[1]
    prompts, completions = map(meta.template.prompt, held), map(meta.template.completion, held)
    rows = encode(tokenizer, list(prompts), list(completions), 256)
    loss = row_losses(model, rows, choose_device("cpu"), tokenizer.pad_token_id).sum() / rows.terms.sum()
    assert metrics["validation_loss"] == pytest.approx(float(loss), abs=1e-4)
    assert losses(tmp_path / "lm")[-1][0] < losses(tmp_path / "lm")[0][0]
    left = {path.name for path in Path(f"{tmp_path}/lm.training").iterdir()}
    assert left == {"metrics.jsonl", "tensorboard", "_lease"}


def test_saving_memory_changes_no_loss(base: str, reviews: str, tmp_path: Path) -> None:
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "pack": {"pack": True},
        "accumulate": {"accumulate": 3},
        "checkpointing": {"checkpointing": True},
    }
    by_way = {}
    for name, options in ways.items():
        # without dropout the ways differ in nothing but the layout
        train_lm.run(config(_without_dropout(base, tmp_path), reviews, tmp_path / name, **options))
        by_way[name] = losses(tmp_path / name)
    for name in ways:
        assert by_way[name] == [pytest.approx(pair, abs=2e-5) for pair in by_way["plain"]], name


def _without_dropout(base: str, folder: Path) -> str:
    target = folder / "calm"
    storage.upload(base, str(target))
    content = storage.read_json(str(target / "config.json"))
    storage.write_json(str(target / "config.json"), {**content, **dict.fromkeys(DROPOUTS, 0.0)})
    return str(target)


DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def test_lora_leaves_a_plain_folder_and_the_rest_of_the_weights(base: str, reviews: str, tmp_path: Path) -> None:
    metrics = train_lm.run(config(base, reviews, tmp_path / "lm", lora=2, learning_rate=1e-2))
    tuned, _, meta = causal_lm.load(str(tmp_path / "lm"), "cpu")
    before, after = tiny_lm().state_dict(), tuned.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name, value in before.items() if not torch.allclose(value, after[name])}
    assert changed
    assert all("c_" in name and name.endswith("weight") for name in changed)
    assert meta is not None
    assert meta.metrics == metrics


def test_an_interview_is_learned_from_scratch_with_the_whole_text(tmp_path: Path) -> None:
    options = {"limit": 24, "epochs": 1, "layers": 1, "hidden": 64, "vocabulary": 400, "loss_on": "all"}
    options |= {"task": "interview", "max_length": 64, "device": "cpu", "workers": 0, "seed": 1}
    train_lm.run(train_lm.Config(base_model="scratch", output=str(tmp_path / "lm"), **options))  # type: ignore[arg-type]
    model, tokenizer, meta = causal_lm.load(str(tmp_path / "lm"), "cpu")
    assert meta is not None
    assert (meta.template.name, meta.loss_on, meta.taxonomy) == ("interview", "all", None)
    assert len(tokenizer) <= 400
    assert model.config.num_hidden_layers == 1


def test_a_killed_process_resumes_to_the_same_losses(tmp_path: Path) -> None:
    """`kill -9` after the first epoch; on Ray Train the same code resumes, see tests/training/test_train_ray."""
    given: dict[str, Any] = {
        "task": "interview",
        "base_model": "scratch",
        "workers": 0,
        "limit": 64,
        "epochs": 12,
        "patience": 0,
    }
    given |= {"layers": 1, "hidden": 64, "vocabulary": 400, "max_length": 64, "device": "cpu"}
    calm, hit = tmp_path / "calm", tmp_path / "hit"

    def rows(output: Path) -> list[dict[str, Any]]:
        file = Path(f"{output}.training/metrics.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "jobs.train_lm", *flags, "--output", str(hit)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
        while not rows(hit):
            assert driver.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        driver.kill()
    assert len(rows(hit)) < 12
    assert not hit.exists()
    train_lm.run(train_lm.Config(**given, output=str(calm)))
    train_lm.run(train_lm.Config(**given, output=str(hit), resume=True))
    losses = [{row["epoch"]: row["validation_loss"] for row in rows(output)} for output in (calm, hit)]
    assert sorted(losses[0]) == list(range(1, 13))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_an_interrupted_run_resumes_only_with_the_flag(base: str, reviews: str, tmp_path: Path) -> None:
    """The run is interrupted at its very end, by an output that can no longer be written."""
    options = {"storage_path": str(tmp_path / "kept")}

    def block() -> None:
        while not (tmp_path / "kept" / "metrics.jsonl").exists():
            time.sleep(0.001)
        (tmp_path / "blocked").write_text("a file where a folder is needed")

    threading.Thread(target=block, daemon=True).start()
    with pytest.raises(UserError, match="blocked"):
        train_lm.run(config(base, reviews, tmp_path / "blocked" / "lm", **options))
    (tmp_path / "blocked").unlink()
    with pytest.raises(UserError, match="add --resume"):
        train_lm.run(config(base, reviews, tmp_path / "blocked" / "lm", **options))
    with pytest.raises(UserError, match="--resume: seed differ"):
        train_lm.run(config(base, reviews, tmp_path / "blocked" / "lm", seed=1, resume=True, **options))
    train_lm.run(config(base, reviews, tmp_path / "blocked" / "lm", resume=True, **options))
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "kept" / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2]  # nothing was trained twice
    assert causal_lm.read_meta(str(tmp_path / "blocked" / "lm")) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "reviw"}, "--task reviw: not in .* did you mean 'review'"),
        ({"max_length": 512}, "--max-length 512: .* reads 256"),
        ({"labels": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        ({"task": "interview"}, "row 1: no column 'question'"),
        ({"base_model": "nobody/nothing-here"}, "--base-model 'nobody/nothing-here': no such folder"),
        ({"templates": "none.yaml"}, "none.yaml"),
        ({"validation": 0.0}, "--validation 0.0"),
        ({"hidden": 100}, "multiple of 64"),
        ({"limit": -1}, "--limit -1: 0 or more"),
    ],
)
def test_a_mistake_gets_one_line(
    base: str, reviews: str, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    given = {"base_model": base, "labels": reviews, "output": str(tmp_path / "lm"), "workers": 0, "device": "cpu"}
    with pytest.raises(UserError, match=message):
        train_lm.run(train_lm.Config(**{**given, **options}))
    assert not (tmp_path / "lm").exists()


def test_an_output_that_is_there_is_left_alone(base: str, reviews: str, tmp_path: Path) -> None:
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="already there"):
        train_lm.run(config(base, reviews, tmp_path / "lm"))


def test_test_rows_take_no_part(tmp_path: Path) -> None:
    data = dataset.read("sample", templates.load("interview"))
    train, held = train_lm.split_rows(data, train_lm.Config(base_model="scratch", limit=100))
    assert {row["split"] for row in train} == {"train"}
    assert {row["split"] for row in held} == {"validation"}
    assert len(train) == 100
