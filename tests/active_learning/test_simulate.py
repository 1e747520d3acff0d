"""simulate: hidden labels are revealed round by round, selected as acquire selects."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.active_learning.simulate import Config, run
from ray_app.active_learning.simulated_rounds import Simulation, unsure_values
from ray_app.errors import UserError
from ray_app.labels import reader
from ray_app.sample import written_reviews

SMALL = {"start": 40, "batch": 20, "rounds": 1, "seeds": 2, "plot": False}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("labels")
    rows = [{name: row[name] for name in ("review_id", "text", "labels")} for row in written_reviews()[:220]]
    pq.write_table(pa.Table.from_pylist(rows), folder / "labels.parquet")
    return str(folder / "labels.parquet")


@pytest.fixture(scope="module")
def simulation(reviews: str) -> Simulation:
    labels = reader.read_labels(reviews)
    held = labels.table.slice(0, 60)
    return Simulation(labels.table.slice(60), held, held, labels.taxonomy, 0.8, 0)


def test_a_run_writes_curves_that_start_alike_and_can_be_repeated(
    reviews: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"labels": reviews, "strategies": "boundary", **SMALL}
    report = run(Config(**options, output=str(tmp_path / "one")))
    command = f"-m jobs.acquire --analyses YOUR_ANALYSES --labels {reviews} --mix "
    assert command in capsys.readouterr().out.splitlines()[-1]
    assert report["labels"] == [40, 60]
    curves = {name: row["runs"] for name, row in report["strategies"].items()}
    assert list(curves) == ["boundary", "random"]
    for seed in range(2):
        assert len({curves[name][seed][0] for name in curves}) == 1
        assert all(0 < f1 < 1 for name in curves for f1 in curves[name][seed])
    again = run(Config(**options, output=str(tmp_path / "two")))
    assert again["strategies"] == report["strategies"]
    assert json.loads((tmp_path / "one" / "simulation.json").read_text()) == report
    assert "| random |" in (tmp_path / "one" / "simulation.md").read_text()


def test_without_matplotlib_the_curves_are_written_and_the_missing_plot_is_announced(
    reviews: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_app.active_learning.simulate.find_spec", lambda name: None)
    caplog.set_level("INFO", "ray_app")
    run(Config(labels=reviews, strategies=("boundary",), start=40, batch=20, rounds=1, seeds=1, output=str(tmp_path)))
    assert "no plot: matplotlib is not installed" in caplog.messages[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["simulation.json", "simulation.md"]


def test_every_strategy_labels_other_reviews_than_before(simulation: Simulation) -> None:
    start = np.argsort(simulation.ties, kind="stable")[:40]
    model = simulation.trained(start)
    chosen = {
        name: simulation.choose(model, start, {name: 1.0}, 30) for name in ("boundary", "rare", "outlier", "random")
    }
    for name, rows in chosen.items():
        assert len(set(rows.tolist())) == 30, name
        assert not set(rows.tolist()) & set(start.tolist())
    assert len({tuple(sorted(rows.tolist())) for rows in chosen.values()}) == 4
    assert chosen["random"].tolist() == np.argsort(simulation.ties, kind="stable")[40:70].tolist()


def test_boundary_takes_what_the_model_is_least_sure_of(simulation: Simulation) -> None:
    start = np.argsort(simulation.ties, kind="stable")[:40]
    model = simulation.trained(start)
    values = unsure_values(model, simulation.texts)["boundary"]
    rest = np.setdiff1d(np.arange(len(simulation.texts)), start)
    chosen = simulation.choose(model, start, {"boundary": 1.0}, 10)
    assert values[chosen].min() >= np.sort(values[rest])[-12]  # near-duplicates may be passed over


def test_labels_stay_hidden_from_the_choice(reviews: str) -> None:
    labels = reader.read_labels(reviews)
    held, catalog = labels.table.slice(0, 60), labels.table.slice(60)
    start = np.argsort(Simulation(catalog, held, held, labels.taxonomy, 0.8, 0).ties, kind="stable")[:40]
    blind = [
        row if i in set(start.tolist()) else row | {"labels": [{"keyword": "만족도", "score": 2, "highlights": None}]}
        for i, row in enumerate(catalog.to_pylist())
    ]
    picked = []
    for table in (catalog, pa.Table.from_pylist(blind, schema=catalog.schema)):
        simulation = Simulation(table, held, held, labels.taxonomy, 0.8, 0)
        picked.append(simulation.choose(simulation.trained(start), start, {"boundary": 1.0}, 20).tolist())
    assert picked[0] == picked[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 100}, "--rounds: 2,040 labels in all, the catalog has"),
        ({"strategies": "boundry"}, "--strategies: unknown criterion 'boundry'; did you mean 'boundary'"),
        ({"strategies": "mix", "mix": "rare=x"}, "--mix rare=x"),
        ({"test": "nowhere.parquet"}, "nowhere.parquet: no such file"),
    ],
)
def test_a_mistake_is_one_line(reviews: str, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(Config(**{"labels": reviews, "output": str(tmp_path), **SMALL, **options}))


@pytest.mark.parametrize("option", ["start", "batch", "rounds", "seeds"])
def test_counts_are_above_zero(option: str) -> None:
    with pytest.raises(UserError, match=f"--{option} 0"):
        Config(**{option: 0})  # type: ignore[arg-type]


def test_a_catalog_that_runs_out_of_different_texts_says_so(reviews: str) -> None:
    labels = reader.read_labels(reviews)
    same = labels.table.set_column(1, "text", pa.array(["좋아요"] * len(labels.table)))
    simulation = Simulation(same, labels.table, labels.table, labels.taxonomy, 0.8, 0)
    start = np.arange(40)
    with pytest.raises(UserError, match="no other reviews that differ enough"):
        simulation.choose(simulation.trained(start), start, {"random": 1.0}, 5)
