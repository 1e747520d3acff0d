import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ray_app import storage
from ray_app.data.taxonomy import dump, load
from ray_app.errors import UserError
from ray_app.training import base_checks, provenance, train, workers
from ray_app.training.checkpoints import LocalCheckpoints
from ray_app.training.loop import EpochRow


def row(epoch: int) -> EpochRow:
    return {"model": "m", "epoch": epoch, "epochs": 3, "loss": 1.0, "rows_per_second": 1.0, "select": 0.5}


def writes(text: str) -> Any:
    def write(folder: Path) -> None:
        (folder / "state.pt").write_text(text)
        (folder / "history.json").write_text("[]")

    return write


@pytest.mark.parametrize("place", ["local", "s3"])
def test_the_last_whole_checkpoint_is_found_wherever_the_folder_is(place: str, tmp_path: Path, s3: str) -> None:
    folder = str(tmp_path / "run") if place == "local" else f"{s3}/run"
    kept = LocalCheckpoints(folder)
    assert kept.resume("m") is None
    report = kept.reporter("m")
    report(row(1), writes("first"))
    report(row(2), writes("second"))
    storage.write_bytes(f"{folder}/checkpoints/m/000003/state.pt", b"half")  # killed while it was written
    again = LocalCheckpoints(folder)  # what it fetched lasts as long as it does
    found = again.resume("m")
    assert found is not None
    assert (found / "state.pt").read_text() == "second"
    assert not storage.exists(f"{folder}/checkpoints/m/000001")
    assert LocalCheckpoints(folder).resume("other") is None


def test_a_run_killed_while_it_writes_an_epoch_writes_it_anew(tmp_path: Path) -> None:
    report = LocalCheckpoints(str(tmp_path)).reporter("m")

    def killed(folder: Path) -> None:
        (folder / "state.pt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report(row(1), killed)
    assert LocalCheckpoints(str(tmp_path)).resume("m") is None
    report(row(1), writes("first"))
    found = LocalCheckpoints(str(tmp_path)).resume("m")
    assert found is not None
    assert (found / "state.pt").read_text() == "first"


@pytest.mark.parametrize("killed", ["before", "after a copy", "while the old ones were removed"])
def test_a_checkpoint_of_an_earlier_release_goes_on(killed: str, tmp_path: Path) -> None:
    """It lay in the model's folder itself."""
    own, place = tmp_path / "checkpoints/m", tmp_path / "checkpoints/m/000002"
    own.mkdir(parents=True)
    for folder in (own, place)[: 1 if killed == "before" else 2]:
        folder.mkdir(exist_ok=True)
        for name, text in (("state.pt", "second"), ("history.json", "[1, 2]")):
            if folder == place or name == "history.json" or killed != "while the old ones were removed":
                (folder / name).write_text(text)
    kept = LocalCheckpoints(str(tmp_path))
    assert kept.resume("m") == place
    assert (place / "state.pt").read_text() == "second"
    kept.reporter("m")(row(3), writes("third"))
    assert [path.name for path in own.iterdir()] == ["000003"]


def test_nothing_of_a_run_that_was_not_cleared_away_passes_for_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a finished run was killed, or S3 broke off, while it removed its parts."""
    config = train.Config(output=str(tmp_path / "bundle"), base_model="scratch", score_form="joint", workers=0)
    for part in ("joint/done.json", "checkpoints/joint/000001/history.json", "tokenizer/tokenizer.json"):
        storage.write_bytes(storage.join(config.storage, part), b"{}")

    def launched(*_: object) -> None:
        assert sorted(path.name for path in Path(config.storage).iterdir()) == ["_lease", "config.json"]
        raise KeyboardInterrupt

    monkeypatch.setattr(base_checks, "rehearse", lambda *_: None)
    monkeypatch.setattr(workers, "launch", launched)
    with pytest.raises(KeyboardInterrupt):
        train.run(config)


def changed(what: str, folder: Path) -> None:
    """Something else lies behind the same name."""
    if what == "--labels":
        lines = (folder / "labels.jsonl").read_text(encoding="utf-8")
        (folder / "labels.jsonl").write_text(lines.replace("배송 1번", "배송 2번"), encoding="utf-8")
    elif what == "--taxonomy":
        (folder / "taxonomy.yaml").write_text(dump(load()).replace("배송", "배달"), encoding="utf-8")
    elif what == "--base-model":
        weights = folder / "base" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    else:
        (folder / "adapter" / "joint" / "head.safetensors").write_bytes(b"another")


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> train.Config:
    """A training that was interrupted as it began, of a base model with an adapter."""

    def launched(*_: object) -> None:
        raise InterruptedError

    rows = [{"text": f"배송 {i}번", "labels": [{"keyword": "만족도", "score": 1}]} for i in range(6)]
    lines = (json.dumps({**row, "review_id": str(i)}, ensure_ascii=False) for i, row in enumerate(rows))
    (tmp_path / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "taxonomy.yaml").write_text(dump(load()), encoding="utf-8")
    for name in ("base/model.safetensors", "base/config.json", "base/README.md", "adapter/joint/head.safetensors"):
        storage.write_bytes(str(tmp_path / name), bytes(200_000))
    monkeypatch.setattr(base_checks, "rehearse", lambda *_: None)
    monkeypatch.setattr(workers, "launch", launched)
    config = train.Config(
        labels=str(tmp_path / "labels.jsonl"),
        taxonomy=str(tmp_path / "taxonomy.yaml"),
        base_model=str(tmp_path / "base"),
        adapter=(str(tmp_path / "adapter"),),
        output=str(tmp_path / "bundle"),
        workers=0,
    )
    with pytest.raises(InterruptedError):
        train.run(config)
    return config


@pytest.mark.parametrize("what", ["--labels", "--taxonomy", "--base-model", "--adapter"])
def test_what_a_resumed_run_reads_again_is_what_it_was_begun_with(
    begun: train.Config, what: str, tmp_path: Path
) -> None:
    changed(what, tmp_path)
    with pytest.raises(UserError, match=rf"--resume: what {what} names changed since .*bundle.training was interr"):
        train.run(replace(begun, resume=True))


def test_a_resumed_run_goes_on_where_nothing_changed_or_an_earlier_release_began_it(
    begun: train.Config, tmp_path: Path
) -> None:
    (tmp_path / "base" / "README.md").write_text("a note")
    with pytest.raises(InterruptedError):
        train.run(replace(begun, resume=True))
    saved = tmp_path / "bundle.training" / "config.json"
    told = storage.read_json(str(saved))
    storage.write_json(str(saved), {name: value for name, value in told.items() if name != "inputs"})
    changed("--labels", tmp_path)
    with pytest.raises(InterruptedError):
        train.run(replace(begun, resume=True))


def test_a_large_file_is_told_apart_by_pieces_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PIECE", 4)
    monkeypatch.setattr(provenance, "PIECES", 5)
    weights, told = tmp_path / "model.safetensors", []
    for content in (bytes(103), bytes(30) + b"x" + bytes(72), bytes(20) + b"x" + bytes(82), bytes(104)):
        weights.write_bytes(content)
        told.append(provenance.model_behind(str(tmp_path)))
    assert told[0] == told[1]  # between two pieces
    assert len({told[0], told[2], told[3]}) == 3
