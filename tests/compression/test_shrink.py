import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ray_app.compression import shrink, teaching
from ray_app.compression.distil_options import DistilConfig
from ray_app.compression.shrink import ChainConfig, StoreConfig, chain, store
from ray_app.compression.student_task import StudentTask
from ray_app.engine.linear import has_int8
from ray_app.engine.weight_storage import read
from ray_app.errors import UserError
from ray_app.inference import bundle as bundles
from ray_app.inference import bundle_pointer
from ray_app.inference.known_texts import known
from ray_app.training.checkpoints import claim_folder
from tests.support.agreeing_labels import with_middle_thresholds, write_labels
from tests.support.bundles import make_bundle
from tests.support.training_folder import metric_rows

STEPS = ("distil", "vocabulary", *(["int8"] if has_int8() else []), "store")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shrink")
    make_bundle(folder / "old", "roberta", score_form="joint")
    with_middle_thresholds(folder / "old")
    write_labels(folder / "old", folder / "labels.jsonl", count=25)
    return folder / "old"


QUICK: dict[str, Any] = {"reviews": 20, "masked": 8, "speed": 0.0, "load": 100.0, "memory": 0.0, "force": True}


def config(old: Path, output: Path, **changes: Any) -> ChainConfig:
    given: dict[str, Any] = {
        "bundle": str(old),
        "labels": str(old.parent / "labels.jsonl"),
        "output": str(output),
        **QUICK,
    }
    return ChainConfig(**{**given, "layers": 1, "epochs": 1, "limit": 60, **changes})


def test_a_chain_makes_one_bundle_with_one_table(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identity = chain(config(old, tmp_path / "new", steps=STEPS))
    before, after = bundles.load(str(old)), bundles.load(str(tmp_path / "new"))
    assert after.id == identity
    assert after.meta.metrics["gate"]["against"] == before.id  # type: ignore[index]
    assert after.meta.backend == ("int8" if has_int8() else "auto")
    assert (after.path / "joint/int8.safetensors").is_file()
    assert sum(p.stat().st_size for p in after.path.rglob("*")) < sum(p.stat().st_size for p in before.path.rglob("*"))
    assert "| keywords F1, micro |" in capsys.readouterr().out
    assert known(_texts(old, "train"), after.path).all()  # type: ignore[union-attr]
    assert not known(_texts(old, "test"), after.path).any()  # type: ignore[union-attr]


def _texts(old: Path, split: str) -> list[str]:
    from ray_app.labels import reader

    labels = reader.read_labels_with(str(old.parent / "labels.jsonl"), bundles.load(str(old)).meta.taxonomy, "fail")
    texts: list[str] = labels.split(split)["text"].to_pylist()
    return texts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"steps": ("store", "distil")},
            "--steps store,distil: write them in the order slice,distil,vocabulary,int8,store",
        ),
        ({"steps": ()}, "--steps: name at least one"),
        ({"steps": ("slice", "distil")}, "--steps: distil begins with a slice of its own"),
        ({"steps": ("slice",), "layers": 0}, "slice: write --layers, --intermediate, or both"),
        ({"steps": ("slice",), "layers": 9}, "--layers 9: bundle bundle has 2; write at most that, or 0 for all"),
        ({"steps": ("vocabulary", "store"), "weights": "fp32"}, "--weights fp32: the step store is for int8 or int4"),
    ],
)
def test_mistakes_are_told_at_once(old: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        chain(config(old, tmp_path / "new", **changes))


def test_nothing_is_written_over(old: Path) -> None:
    with pytest.raises(UserError, match="already exists"):
        chain(config(old, old))


def test_what_cannot_be_judged_is_not_begun(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "taught", lambda *_: pytest.fail("it was taught"))
    few = write_labels(old, tmp_path / "few.jsonl", count=5)
    with pytest.raises(UserError, match="5 reviews that the bundles were not trained or tuned on; the gate needs 20"):
        chain(config(old, tmp_path / "new", labels=str(few)))
    make_bundle(tmp_path / "maskless", score_form="joint", mask_token=False)
    with pytest.raises(UserError, match="no mask token, and the gate masks words"):
        chain(config(old, tmp_path / "new", bundle=str(tmp_path / "maskless")))


def test_only_the_joint_form_has_students(tmp_path: Path) -> None:
    make_bundle(tmp_path / "old")
    with pytest.raises(UserError, match="only one that was trained with --score-form joint"):
        chain(ChainConfig(bundle=str(tmp_path / "old"), output=str(tmp_path / "new")))


def test_a_killed_distillation_goes_on_from_its_last_pass(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {"steps": ("distil",), "epochs": 2, "limit": 40}
    chain(config(old, tmp_path / "calm", **told))
    validate, calls = StudentTask.validate, [0]

    def killed(task: StudentTask, *given: Any) -> dict[str, float]:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return validate(task, *given)

    monkeypatch.setattr(StudentTask, "validate", killed)
    with pytest.raises(KeyboardInterrupt):
        chain(config(old, tmp_path / "hit", **told))
    with pytest.raises(UserError, match=r"hit\.training: it holds an interrupted run; add --resume"):
        chain(config(old, tmp_path / "hit", **told))
    with pytest.raises(UserError, match="--resume: learning_rate differ from the interrupted run"):
        chain(config(old, tmp_path / "hit", **told, resume=True, learning_rate=1e-5))
    bundle = shutil.copytree(old, tmp_path / "kept")
    shutil.rmtree(old)
    make_bundle(old, "roberta", score_form="joint", threshold=0.6)
    with pytest.raises(UserError, match=r"--resume: what --bundle names changed since the run in .*hit\.training was"):
        chain(config(old, tmp_path / "hit", **told, resume=True))
    shutil.rmtree(old)
    shutil.copytree(bundle, old)
    chain(config(old, tmp_path / "hit", **told, resume=True, lose=0.5, track="tensorboard"))
    assert calls[0] == 3  # the first pass, the one that was killed, the same anew
    calm, hit = (metric_rows(tmp_path / f"{name}.training/metrics.jsonl") for name in ("calm", "hit"))
    assert [row["loss"] for row in hit] == pytest.approx([row["loss"] for row in calm], abs=1e-6)
    assert _weights(tmp_path / "hit") == _weights(tmp_path / "calm")
    files = [path for path in (tmp_path / "hit.training" / "tensorboard" / "run").iterdir() if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert all(text in content for text in (b"best/student/select", bundles.load(str(tmp_path / "hit")).id.encode()))
    assert sorted(path.name for path in (tmp_path / "hit.training").iterdir()) == [
        "_lease",
        "metrics.jsonl",
        "tensorboard",
    ]


def test_a_distillation_goes_on_with_the_teacher_that_it_was_begun_with(old: Path, tmp_path: Path) -> None:
    pointer, other = str(tmp_path / "current"), tmp_path / "other"
    make_bundle(other, "roberta", score_form="joint", threshold=0.6)
    ids = [bundles.load(str(folder)).id for folder in (old, other)]
    bundle_pointer.move(pointer, {"bundle": str(old), "id": ids[0]}, "", None)
    given = DistilConfig(bundle=pointer, output=str(tmp_path / "new"))
    begun = shrink._pinned(given)
    assert begun.bundle == str(old)
    claim_folder(begun, (), begun.judging)
    bundle_pointer.move(pointer, {"bundle": str(other), "id": ids[1]}, "", ids[0])
    assert shrink._pinned(given).bundle == str(other)
    again = shrink._pinned(replace(given, resume=True))
    assert again.bundle == str(old)
    claim_folder(again, (), again.judging)


def _weights(bundle: Path) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in read(bundle / "joint").items()}


def test_a_step_alone(old: Path, tmp_path: Path) -> None:
    given = config(old, tmp_path / "new")
    told: dict[str, Any] = {
        "bundle": str(old),
        "labels": given.labels,
        "output": str(tmp_path / "new"),
        "weights": "int4",
    }
    store(StoreConfig(**told, **QUICK))
    assert (tmp_path / "new/joint/int4.safetensors").is_file()
    assert json.loads((tmp_path / "new/bundle.json").read_text(encoding="utf-8"))["format"] == 5
