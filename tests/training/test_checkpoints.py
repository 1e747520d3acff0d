from pathlib import Path

import pytest

from ray_app import storage


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
