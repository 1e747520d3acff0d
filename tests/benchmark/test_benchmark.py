"""The benchmark measures the right thing; how fast it is is no test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_app.benchmark import benchmark
from ray_app.benchmark.benchmark import Config
from ray_app.benchmark.methods import METHODS, PACKAGES, MethodResult, Workload
from ray_app.benchmark.random_bundle import SHAPES, random_bundle
from ray_app.benchmark.report import UNMASKED, table
from ray_app.benchmark.timing import compare
from ray_app.errors import UserError, pip_install
from ray_app.inference import bundle
from tests.support.bundles import sample_texts


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(random_bundle(tmp_path_factory.mktemp("shapes") / "tiny", "tiny"))


def test_a_random_bundle_has_the_named_shape(tiny: str) -> None:
    loaded = bundle.load(tiny)
    config = json.loads((loaded.path / "keywords" / "config.json").read_text(encoding="utf-8"))
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
    assert tuple(config[name] for name in names) == SHAPES["tiny"]


@pytest.mark.parametrize("name", ["ours", "naive"])
def test_every_exact_method_finds_the_oracles_numbers(tiny: str, name: str) -> None:
    """Highlights may differ where two drops of these random weights lie on both sides of a rounding step."""
    workload = Workload(tiny, sample_texts(6), "cpu", 1)
    oracle = METHODS["hf-review"](workload)
    difference, same = compare(
        METHODS[name](workload), oracle, workload.variants.review, workload.runtime.meta.thresholds
    )
    assert difference <= 2e-6
    assert same is not None
    assert same > 0.9


@pytest.mark.parametrize("name", UNMASKED)
def test_methods_that_mask_nothing_find_the_same_keywords(tiny: str, name: str) -> None:
    workload = Workload(tiny, sample_texts(40), "cpu", 1)
    found = METHODS[name](workload)
    assert found.after is None
    np.testing.assert_allclose(found.before, METHODS["hf-review"](workload).before, atol=1e-4)


def test_captum_masks_the_same_words_where_each_is_one_token(tiny: str) -> None:
    """It puts one mask in place of every token, we put one in place of a word."""
    pytest.importorskip("captum")
    workload = Workload(tiny, sample_texts(6), "cpu", 1)
    ours, captum = METHODS["ours"](workload), METHODS["captum"](workload)
    assert ours.after is not None
    assert captum.after is not None
    whole = workload.masked.lengths == workload.whole.lengths[workload.variants.review]
    assert 0 < whole.sum() < len(whole)
    np.testing.assert_allclose(captum.after[whole], ours.after[whole], atol=2e-6)


def test_recheck_decides_by_exact_drops(tiny: str) -> None:
    workload = Workload(tiny, sample_texts(6), "cpu", 1)
    ours, recheck = METHODS["ours"](workload), METHODS["recheck"](workload)
    assert ours.after is not None
    assert recheck.after is not None
    decided = np.isfinite(recheck.after)
    assert 0 < decided.sum() < decided.size
    np.testing.assert_allclose(recheck.after[decided], ours.after[decided], atol=2e-4)


def test_compare_sees_a_difference_and_another_highlight() -> None:
    owner = np.array([0, 0])
    oracle = MethodResult(np.array([[0.9]], np.float32), np.array([[0.2], [0.5]], np.float32))
    other = MethodResult(np.array([[0.8]], np.float32), np.array([[0.5], [0.2]], np.float32))
    assert compare(oracle, oracle, owner, [0.5]) == (0.0, 1.0)
    difference, same = compare(other, oracle, owner, [0.5])
    assert (round(difference, 6), same) == (0.3, 0.0)
    assert compare(MethodResult(oracle.before, None), oracle, owner, [0.5]) == (0.0, None)


def test_a_run_writes_its_report_and_a_floor_out_of_reach_fails(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variants take turns, and one that cannot run says why."""
    monkeypatch.setitem(PACKAGES, "shap", "no_such_package")
    options: dict[str, Any] = {"shape": "tiny", "reviews": 2, "rounds": 1, "threads": 1, "price": 0.5}
    options["variants"] = "ours,classify,shap"
    assert benchmark.run(Config(**options, output=str(tmp_path), floor=1_000.0)) == 1
    assert "below --floor 1000" in caplog.text
    assert f"shap: left out, no_such_package is not installed: {pip_install('bench')}" in caplog.text
    assert f"{tmp_path}/benchmark.json: ours at " in capsys.readouterr().out
    report = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert {"machine", "gemm_gflops", "rows"} <= set(report)
    names = {"variant", "reviews_per_s", "tokens_per_s", "gemm_ratio", "peak_rss_mb", "max_abs_diff", "same_highlight"}
    masked, unmasked = report["rows"]
    assert set(masked) == set(unmasked) == names | {"reviews_per_dollar"}
    assert masked["peak_rss_mb"] > 50
    assert masked["gemm_ratio"] > 0
    assert masked["reviews_per_dollar"] == pytest.approx(masked["reviews_per_s"] * 7_200, abs=1)
    assert unmasked["tokens_per_s"] / unmasked["reviews_per_s"] < masked["tokens_per_s"] / masked["reviews_per_s"] / 2


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="--variants our: unknown; did you mean 'ours'"):
        Config(variants=("our",))
    with pytest.raises(UserError, match="--sweeps lenght: unknown; did you mean 'length'"):
        Config(sweeps=("lenght",))
    with pytest.raises(UserError, match="at least 1"):
        Config(reviews=0)


def test_a_table_shows_every_column_once() -> None:
    rows: list[dict[str, Any]] = [{"variant": "ours", "x": 0.12345}, {"variant": "theirs", "y": None}]
    assert table(rows).splitlines()[2:] == ["| ours | 0.123 |  |", "| theirs |  |  |"]
    assert table([]) == "nothing was measured"
