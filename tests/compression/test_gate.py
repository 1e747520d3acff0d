from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ray_app.compression import gate, measures
from ray_app.compression.gate import GateOptions, Verdict, judged
from ray_app.compression.sealed import UNSEALED, check_free, failed_of, seal_behind_gate
from ray_app.engine import unpadded
from ray_app.engine.encoder import load_keyword_scorer, save_model
from ray_app.engine.linear import Linear, linear
from ray_app.errors import UserError
from ray_app.inference import bundle as bundles
from ray_app.inference import known_texts
from tests.support.agreeing_labels import with_middle_thresholds, write_labels
from tests.support.bundles import make_bundle

REVIEWS = 30
SLOW = {"speed": 0.0, "load": 100.0, "memory": 0.0}  # a busy machine decides nothing here


@pytest.fixture(autouse=True)
def small_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "GAP", 1e-3)  # drops of random weights are small


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate")
    make_bundle(folder / "old", score_form="joint")
    with_middle_thresholds(folder / "old")
    write_labels(folder / "old", folder / "labels.jsonl", count=REVIEWS)
    return folder / "old"


def options(old: Path, **changes: Any) -> GateOptions:
    given: dict[str, Any] = {
        "labels": str(old.parent / "labels.jsonl"),
        "reviews": REVIEWS,
        "masked": 8,
        **SLOW,
        **changes,
    }
    return GateOptions(**given)


def spoilt(old: Path, folder: Path, spoil: Callable[[Any], None]) -> Path:
    """A copy of a bundle with a spoilt model."""
    model = load_keyword_scorer(old / "joint")
    spoil(model)
    loaded = bundles.load(str(old))
    save_model(model, folder / "joint")
    (folder / "tokenizer").mkdir()
    for path in (old / "tokenizer").iterdir():
        (folder / "tokenizer" / path.name).write_bytes(path.read_bytes())
    bundles.seal(folder, loaded.meta)
    return folder


def verdict(old: Path, new: Path, **changes: Any) -> Verdict:
    return judged(bundles.load(str(old)), bundles.load(str(new)), options(old, **changes))


def failed(found: Verdict) -> set[str]:
    return {row["measure"] for row in found["rows"] if row["passed"] is False}


def test_a_bundle_replaces_itself(old: Path) -> None:
    found = verdict(old, old)
    figures = {row["measure"]: row for row in found["rows"]}
    assert found["passed"]
    assert figures["keywords F1, micro"]["old"] == figures["keywords F1, micro"]["new"] == 1.0
    assert figures["same highlight where the gap is over 0.01"]["new"] == 1.0
    assert figures["difference between two batch sizes"]["new"] == 0.0
    assert "gate passed on 30 labeled reviews" in gate.markdown(found)


def test_noise_in_one_layer_is_seen(old: Path, tmp_path: Path) -> None:
    @torch.no_grad()
    def spoil(model: Any) -> None:
        weight = model.encoder.encoder.layer[1].output.dense.weight
        torch.manual_seed(0)
        weight += torch.randn_like(weight) * weight.std()

    found = verdict(old, spoilt(old, tmp_path / "new", spoil))
    assert failed(found) >= {"keywords F1, micro", "same highlight where the gap is over 0.01"}


def test_shifted_thresholds_are_seen(old: Path, tmp_path: Path) -> None:
    new = spoilt(old, tmp_path / "new", lambda model: None)
    meta = bundles.load(str(old)).meta
    bundles.seal(new, replace(meta, thresholds=tuple(t + 0.2 for t in meta.thresholds)))
    assert failed(verdict(old, new)) >= {"keywords F1, micro", "tuples F1, exact score"}


def test_a_model_that_depends_on_its_batch_is_seen(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a scale per tensor does: the largest activation of the whole batch decides how all of it is rounded."""

    def per_tensor(weight: Tensor, bias: Tensor, backend: str, gelu: bool = False) -> Linear:
        product = linear(weight, bias, "fp32", gelu)

        def run(x: Tensor) -> Tensor:
            step = x.abs().max() / 20
            return product((x / step).round() * step)

        return run

    monkeypatch.setattr(unpadded, "linear", per_tensor)
    assert "difference between two batch sizes" in failed(verdict(old, old, agreement=0.0))


def test_another_shape_is_judged_by_faithfulness(old: Path, tmp_path: Path) -> None:
    def shorter(model: Any) -> None:
        model.encoder.encoder.layer = model.encoder.encoder.layer[:1]
        model.encoder.config.num_hidden_layers = 1

    found = verdict(old, spoilt(old, tmp_path / "new", shorter))
    rows = {row["measure"]: row for row in found["rows"]}
    assert rows["same highlight where the gap is over 0.01"]["passed"] is None
    assert rows["comprehensiveness"]["passed"] is not None


def test_a_slow_bundle_fails_by_its_limits(old: Path) -> None:
    assert failed(verdict(old, old, speed=1e3)) == {"reviews/s, exact highlights", "reviews/s, by default"}


def test_known_reviews_do_not_judge(old: Path, tmp_path: Path) -> None:
    new = spoilt(old, tmp_path / "new", lambda model: None)
    loaded = bundles.load(str(old))
    rows = gate.judging_rows(loaded, loaded, options(old))["text"].to_pylist()
    known_texts.write(rows[:5], new)
    bundles.seal(new, loaded.meta)
    assert len(gate.judging_rows(loaded, bundles.load(str(new)), options(old))) == len(rows) - 5
    known_texts.write(rows[:15], new)
    bundles.seal(new, loaded.meta)
    with pytest.raises(UserError, match="15 reviews that the bundles were not trained or tuned on; the gate needs 20"):
        verdict(old, new)


def test_other_keywords_are_not_compared(old: Path, tmp_path: Path) -> None:
    meta = bundles.load(str(old)).meta
    taxonomy = replace(meta.taxonomy, keywords=meta.taxonomy.keywords[:3], rules=())
    make_bundle(tmp_path / "other", score_form="joint", taxonomy=taxonomy)
    with pytest.raises(UserError, match="other keywords or scores"):
        verdict(old, tmp_path / "other")


def test_what_fails_is_not_sealed_and_not_lost(old: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    folder, loaded = spoilt(old, tmp_path / "new", lambda model: None), bundles.load(str(old))
    worse = replace(loaded.meta, thresholds=tuple(t + 0.2 for t in loaded.meta.thresholds))
    with pytest.raises(UserError, match=r"gate FAILED .*keywords F1, micro .*rename unsealed.json"):
        seal_behind_gate(folder, worse, loaded, options(old), output)
    left = Path(failed_of(output))
    assert not Path(output).exists()
    assert not (left / "bundle.json").exists()
    with pytest.raises(UserError, match="already exists"):
        check_free(output)
    (left / UNSEALED).rename(left / "bundle.json")  # as the message says
    assert bundles.load(str(left)).meta.metrics["gate"]["passed"] is False  # type: ignore[index]


def test_what_is_forced_carries_the_table_of_its_failure(old: Path, tmp_path: Path) -> None:
    folder, loaded = spoilt(old, tmp_path / "new", lambda model: None), bundles.load(str(old))
    worse = replace(loaded.meta, thresholds=tuple(t + 0.2 for t in loaded.meta.thresholds))
    identity = seal_behind_gate(folder, worse, loaded, options(old, force=True), str(tmp_path / "out"))
    sealed = bundles.load(str(tmp_path / "out"))
    assert sealed.id == identity
    assert sealed.meta.metrics["gate"]["passed"] is False  # type: ignore[index]
    assert sealed.meta.metrics["gate"]["against"] == loaded.id  # type: ignore[index]


@pytest.mark.parametrize(("labels", "fails"), [(19, False), (100, True)])
def test_one_label_with_words_decides_nothing(labels: int, fails: bool) -> None:
    names = [row["measure"] for row in gate._rows(Blank(), Blank(), False, GateOptions())]
    old, new = Blank(dict.fromkeys(names)), Blank({"masked labels with words": float(labels)})
    old["highlight hit rate, exact"], new["highlight hit rate, exact"] = 0.842, 0.842 - 1 / 19
    rows = {row["measure"]: row["passed"] for row in gate._rows(old, new, False, GateOptions())}
    assert rows["highlight hit rate, exact"] is not fails


class Blank(dict[str, float | None]):
    """Figures of nothing but what is set."""

    def __missing__(self, name: str) -> None:
        return None
