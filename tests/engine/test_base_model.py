"""A base model at a revision of the hub, out of the hub's cache: nothing here needs the network."""

from pathlib import Path

import pytest

from ray_app.engine.base_model import at_revision, commit_of
from ray_app.engine.encoder import load_encoder
from ray_app.errors import UserError
from tests.support.families import save_family

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that holds one commit of shop/tiny, tagged v1, as huggingface_hub writes it."""
    folder = tmp_path / "models--shop--tiny"
    save_family("bert", folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "v1").write_text(COMMIT, encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_a_revision_is_loaded_and_its_commit_known(revision: str) -> None:
    encoder, _ = load_encoder(f"shop/tiny@{revision}")
    assert commit_of(encoder) == COMMIT


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["shop/tiny", "shop/tiny@v2"])
def test_another_revision_is_not_taken_in_its_place(name: str) -> None:
    with pytest.raises(UserError, match=f"--base-model '{name}': no such folder, and the model hub"):
        load_encoder(name)


def test_a_folder_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    folder = save_family("bert", tmp_path / "tiny@2")
    assert at_revision(str(folder)) == (str(folder), "main")
    assert commit_of(load_encoder(str(folder))[0]) is None
