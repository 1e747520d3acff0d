from pathlib import Path
from typing import Any

import pytest

from ray_app import storage
from ray_app.training import base_checks, train, workers
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
