"""The training loop: losses, best epoch, resuming, and two workers that equal one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ray_app.arrays import Floats
from ray_app.engine.batching import global_batches
from ray_app.engine.device import choose_device
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.ragged import Sequences
from ray_app.errors import UserError, no_space
from ray_app.training import loop
from ray_app.training.classifier_task import ClassifierTask, Data, Metrics, Objective, predict_logits
from ray_app.training.loop import EpochRow, train_model
from ray_app.training.settings import Settings
from tests.support import bundles
from tests.support.two_processes import results_of_two

History = list[EpochRow]
SETTINGS = Settings(epochs=3, batch_size=4, learning_rate=1e-3, patience=0, warmup=0.2, clip=5.0)
CLASSES, MULTILABEL = Objective("scores", "classes"), Objective("keywords", "multilabel")


def data(rows: int, kind: str = "classes", seed: int = 0) -> Data:
    """Sequences of many lengths; the class is the token behind the first, each label whether a token occurs."""
    rng = np.random.default_rng(seed)
    ids = [[2, int(rng.integers(10, 13)), *rng.integers(10, 30, rng.integers(0, 12)), 3] for _ in range(rows)]
    if kind == "classes":
        return Data(Sequences.of(ids), np.array([row[1] - 10 for row in ids]))
    return Data(Sequences.of(ids), np.array([[float(t in row) for t in (10, 11, 12)] for row in ids], np.float32))


def model_of(seed: int = 0) -> EncoderClassifier:
    return bundles.classifier_model("bert", 3, seed=seed)


def task_of(train: Data, validation: Data, objective: Objective, metrics: Metrics) -> ClassifierTask:
    return ClassifierTask(train=train, validation=validation, objective=objective, outputs=3, metrics=metrics, pad_id=0)


def accuracy(targets: Any) -> Metrics:
    return lambda logits: {"select": float((logits.argmax(1) == targets).mean())}


def ignore(metrics: EpochRow, write: Callable[[Path], None]) -> None: ...


class Keep:
    """Reports to folders, one per epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, History()

    def __call__(self, metrics: EpochRow, write: Callable[[Path], None]) -> None:
        self.rows.append(metrics)
        self.epoch(metrics["epoch"]).mkdir(parents=True)
        write(self.epoch(metrics["epoch"]))

    def epoch(self, number: int) -> Path:
        return self.folder / str(number)


def train(
    rows: int = 12,
    settings: Settings = SETTINGS,
    model: EncoderClassifier | None = None,
    selects: list[float] | None = None,
    objective: Objective = CLASSES,
    **options: Any,
) -> tuple[History, EncoderClassifier]:
    """A small run; `selects`: the metric of each epoch, instead of its accuracy."""
    model, learned = model or model_of(), data(rows, objective.kind)
    values = iter(selects or [])
    metrics: Metrics = (lambda _: {"select": next(values)}) if selects else accuracy(np.zeros(rows))
    report = options.pop("report", ignore)
    task = task_of(learned, learned, objective, metrics)
    return train_model(model, task, settings, report, device="cpu", **options), model


def weights(model: EncoderClassifier) -> dict[str, Any]:
    """All but the keys' biases: softmax cancels them, so their gradient is noise, which Adam scales up."""
    return {name: t.numpy() for name, t in model.state_dict().items() if "key.bias" not in name}


def assert_same_weights(one: dict[str, Any], other: dict[str, Any], tolerance: float = 1e-5) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], atol=tolerance, rtol=0, err_msg=name)


def losses(history: History) -> list[float]:
    return [row["loss"] for row in history]


@pytest.mark.parametrize(("kind", "objective"), [("classes", CLASSES), ("multilabel", MULTILABEL)])
def test_the_loss_falls_on_a_task_that_can_be_learned(kind: str, objective: Objective) -> None:
    learned, held_out = data(96, kind), data(60, kind, seed=1)
    model = model_of()

    def metrics(logits: Floats) -> dict[str, float]:
        targets = held_out.targets
        right = logits.argmax(1) == targets if kind == "classes" else (logits > 0) == targets.astype(bool)
        return {"select": float(right.mean()), "other": 1.0}

    settings = Settings(epochs=10, batch_size=16, learning_rate=5e-3, patience=0)
    task = task_of(learned, held_out, objective, metrics)
    history = train_model(model, task, settings, ignore, device="cpu")
    assert losses(history)[-1] < losses(history)[0] / 2
    assert max(row["select"] for row in history) > 0.75
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert {(row["model"], row["epochs"], {**row}["other"]) for row in history} == {(objective.name, 10, 1.0)}
    best = metrics(task.validation_logits(model, choose_device("cpu")))
    assert best["select"] == max(row["select"] for row in history)


def test_the_first_loss_is_the_mean_over_rows_before_any_step() -> None:
    settings = replace(SETTINGS, epochs=1, learning_rate=0.0, batch_size=5)
    learned = data(12)
    logits = torch.tensor(predict_logits(model_of(), learned.sequences, choose_device("cpu"), 0))
    expected = F.cross_entropy(logits, torch.tensor(learned.targets)).item()
    assert losses(train(settings=settings)[0]) == [pytest.approx(expected, abs=1e-5)]


@pytest.mark.parametrize(
    ("patience", "selects", "epochs"),
    [(2, [0.1, 0.5, 0.4, 0.5, 0.9], 4), (1, [0.3, 0.3, 0.9], 2), (0, [0.5, 0.4, 0.3, 0.2, 0.1], 5)],
)
def test_training_stops_after_patience_epochs_without_gain(patience: int, selects: list[float], epochs: int) -> None:
    history, _ = train(settings=replace(SETTINGS, epochs=5, patience=patience), selects=selects)
    assert [row["select"] for row in history] == selects[:epochs]


def test_the_best_epochs_weights_come_back(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    _, model = train(settings=replace(SETTINGS, epochs=4), selects=[0.1, 0.8, 0.8, 0.2], report=keep)
    states = [torch.load(keep.epoch(i) / "state.pt", weights_only=True)["model"] for i in (1, 2, 3, 4)]
    for i, state in enumerate(states):
        same = all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert same == (i == 1)
    assert [row["epoch"] for row in keep.rows] == [1, 2, 3, 4]


def test_the_last_epochs_weights_come_back_where_they_are_asked_for(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    _, model = train(settings=replace(SETTINGS, epochs=3, keep_last=True), selects=[0.1, 0.8, 0.2], report=keep)
    state = torch.load(keep.epoch(3) / "state.pt", weights_only=True)["model"]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, epoch: int) -> None:
    settings, selects = replace(SETTINGS, epochs=4), [0.1, 0.8, 0.3, 0.2]
    keep = Keep(tmp_path)
    whole, expected = train(settings=settings, selects=selects, report=keep)
    resumed, model = train(settings=settings, selects=selects[epoch:], model=model_of(seed=7), resume=keep.epoch(epoch))
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-6)
    assert [row["select"] for row in resumed] == selects
    assert_same_weights(weights(model), weights(expected), 1e-6)


def test_a_resumed_run_drops_out_the_same(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    whole, _ = train(model=bundles.classifier_model("bert", 3, dropout=0.3), report=keep)
    resumed, _ = train(model=bundles.classifier_model("bert", 3, dropout=0.3), resume=keep.epoch(1))
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-6)


@pytest.mark.parametrize(("patience", "selects"), [(2, [0.9, 0.2, 0.1]), (0, [0.5, 0.9, 0.6])])
def test_a_finished_run_is_resumed_without_training_on(tmp_path: Path, patience: int, selects: list[float]) -> None:
    settings = replace(SETTINGS, epochs=5 if patience else 3, patience=patience)
    keep = Keep(tmp_path)
    whole, expected = train(settings=settings, selects=selects, report=keep)
    resumed, model = train(settings=settings, selects=[0.0], model=model_of(seed=7), resume=keep.epoch(3))
    assert resumed == whole
    assert_same_weights(weights(model), weights(expected), 0)


@pytest.mark.parametrize("objective", [CLASSES, MULTILABEL])
def test_accumulating_gradients_equals_one_batch(objective: Objective) -> None:
    once, expected = train(11, objective=objective)
    twice, model = train(11, replace(SETTINGS, accumulate=2), objective=objective)
    assert losses(twice) == pytest.approx(losses(once), abs=1e-5)
    assert_same_weights(weights(model), weights(expected), 3e-5)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_global_batches_hold_every_row_once(lengths: list[int], size: int, epoch: int, seed: int) -> None:
    batches = [rows.tolist() for rows in global_batches(np.array(lengths), size, epoch, seed)]
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)
    assert batches == [rows.tolist() for rows in global_batches(np.array(lengths), size, epoch, seed)]


def test_global_batches_differ_by_epoch_and_seed_and_hold_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, 640)
    orders = [np.concatenate(list(global_batches(lengths, 16, e, s))).tolist() for e, s in ((1, 0), (2, 0), (1, 1))]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    spread = [np.ptp(lengths[rows]) for rows in global_batches(lengths, 16, 1, 0)]
    assert np.mean(spread) < 30


def test_class_weights_scale_each_rows_loss() -> None:
    logits, classes = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])
    scale = np.array([0.5, 1.0, 4.0], np.float32)
    plain = CLASSES.losses(logits, classes)
    torch.testing.assert_close(plain, -logits.log_softmax(1)[torch.arange(4), classes])
    weighted = Objective("scores", "classes", scale).losses(logits, classes)
    torch.testing.assert_close(weighted, plain * torch.tensor(scale)[classes])


def test_a_multilabel_loss_sums_the_binary_ones_of_a_row() -> None:
    logits = torch.tensor([[0.0, 2.0], [-1.0, 3.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    p = logits.sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum(1)
    torch.testing.assert_close(MULTILABEL.losses(logits, targets), expected)


def test_the_head_may_learn_faster_than_the_encoder() -> None:
    settings = replace(SETTINGS, epochs=1, learning_rate=1e-6, head_start=1e4, weight_decay=0.0)
    before = weights(model_of())
    _, model = train(settings=settings)
    moved = {name: np.abs(value - before[name]).max() for name, value in weights(model).items()}
    assert moved["head.weight"] > 1e-3
    assert max(change for name, change in moved.items() if name.startswith("encoder")) < 1e-4


WORLD_CASES: dict[str, tuple[int, Settings, Objective]] = {
    "even, some batches clipped": (12, SETTINGS, CLASSES),
    "odd rows, a last batch of one": (9, SETTINGS, MULTILABEL),
    "uneven shares": (11, replace(SETTINGS, batch_size=5), CLASSES),
    "accumulated": (11, replace(SETTINGS, batch_size=6, accumulate=2), CLASSES),
    "weighted": (10, SETTINGS, Objective("scores", "classes", np.array([0.5, 1, 3], np.float32))),
}


def train_all() -> dict[str, Any]:
    """Every case: its losses, and its weights."""
    results = {}
    for name, (rows, settings, objective) in WORLD_CASES.items():
        history, model = train(rows, settings, objective=objective)
        results[name] = (losses(history), {n: torch.from_numpy(w) for n, w in weights(model).items()})
    return results


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return results_of_two(tmp_path_factory.mktemp("world"), train_all)


@pytest.mark.parametrize("name", WORLD_CASES)
def test_two_workers_equal_one(two_workers: list[dict[str, Any]], name: str) -> None:
    rows, settings, objective = WORLD_CASES[name]
    history, model = train(rows, settings, objective=objective)
    for results in two_workers:
        other_losses, learned = results[name]
        assert other_losses == pytest.approx(losses(history), abs=1e-5)
        assert_same_weights({n: w.numpy() for n, w in learned.items()}, weights(model), 3e-5)


@pytest.mark.parametrize("look", [1, 20])
def test_a_loss_that_is_not_finite_stops_training_and_leaves_the_checkpoint(
    tmp_path: Path, look: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loop.LOOK, "cpu", look)
    keep = Keep(tmp_path)
    model, learned = model_of(), data(12)
    task = task_of(learned, data(6), CLASSES, accuracy(np.zeros(6)))
    train_model(model, task, replace(SETTINGS, epochs=1), keep, device="cpu")
    good = {name: value.copy() for name, value in weights(model).items()}
    with torch.no_grad():
        model.head.weight.fill_(float("inf"))
    with pytest.raises(UserError, match=r"not finite in epoch 1, with --learning-rate 0\.001: lower it$"):
        train_model(model, task, SETTINGS, keep, device="cpu")
    assert [row["epoch"] for row in keep.rows] == [1]
    again = model_of(seed=5)
    train_model(again, task, replace(SETTINGS, epochs=1), keep, keep.epoch(1), device="cpu")
    assert_same_weights(weights(again), good, 1e-7)


def test_a_learning_rate_that_is_far_too_high_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--learning-rate 1e\+30: lower it"):
        train(settings=replace(SETTINGS, learning_rate=1e30, warmup=0.0))


def test_a_disk_that_is_full_is_the_cause_that_is_told(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "state.pt").symlink_to("/dev/full")

    def report(metrics: EpochRow, write: Callable[[Path], None]) -> None:
        write(full)

    task = task_of(data(12), data(6), CLASSES, accuracy(np.zeros(6)))
    with pytest.raises(OSError, match="No space left") as caught:
        train_model(model_of(), task, replace(SETTINGS, epochs=1), report, device="cpu")
    assert no_space(caught.value)
    assert not (full / "history.json").exists()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    task = task_of(data(12), data(6), CLASSES, accuracy(np.zeros(6)))
    train_model(model_of(), task, replace(SETTINGS, epochs=1), keep, device="cpu")
    other = bundles.classifier_model("bert", 4)
    with pytest.raises(UserError, match="--resume: the checkpoint of scores is of another model or an earlier rel"):
        train_model(other, task, SETTINGS, keep, keep.epoch(1), device="cpu")
