import json
import subprocess
import sys
from pathlib import Path

import pytest

from ray_app.compression.onnx_export import OnnxConfig, run
from ray_app.errors import UserError
from ray_app.inference import bundle as bundles
from ray_app.inference.analyzer import Analyzer
from tests.support.bundles import make_bundle, sample_texts

for needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed, reason="the extra onnx is not installed")
TEXTS = [*sample_texts(6), "이 옷 [MASK] 좋아요 [SEP] 정말", "가" * 300, ""]
# What may not be imported by a program without torch; None makes an import fail as if it were absent.
ALONE = (
    "import runpy, sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'ray_app')));"
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    make_bundle(folder / "bundle", "roberta", score_form="joint")
    assert run(OnnxConfig(bundle=str(folder / "bundle"), output=str(folder / "onnx"), reviews=20)) <= 1e-5
    return folder / "bundle"


def test_the_runner_says_the_same_without_torch(bundle: Path) -> None:
    script = [sys.executable, "-c", ALONE, str(bundle.parent / "onnx/run.py")]
    given = "".join(f"{text}\n" for text in TEXTS)
    done = subprocess.run(script, input=given, capture_output=True, text=True, check=False, cwd=bundle.parent)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    for row, analysis in zip(rows, Analyzer(bundle, "cpu")(TEXTS), strict=True):
        assert [one["keyword"] for one in row["findings"]] == [one["keyword"] for one in analysis["findings"]]
        for own, wanted in zip(row["findings"], analysis["findings"], strict=True):
            assert own["score"] == wanted["score"]
            assert own["probability"] == pytest.approx(wanted["probability"], abs=2e-4)


def test_an_export_is_not_written_over(bundle: Path) -> None:
    with pytest.raises(UserError, match="already exists; remove it or name another"):
        run(OnnxConfig(bundle=str(bundle), output=str(bundle.parent / "onnx")))


def test_it_names_the_bundle_that_it_was_made_of(bundle: Path) -> None:
    told = json.loads((bundle.parent / "onnx/nunchi.json").read_text(encoding="utf-8"))
    assert (told["bundle"], told["models"]) == (bundles.load(str(bundle)).id, ["joint"])
