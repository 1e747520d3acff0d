"""Batches of nothing: no review, no finding, no word. They are ordinary where every row of a unit was rejected."""

import pyarrow as pa
import pytest

from ray_app.data.schema import ANALYSIS
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import MODES, assemble_findings, build_stages
from tests.support import bundles

FORMS = ("prompt", "attention", "joint")


@pytest.fixture(scope="module", params=[(form, threshold) for form in FORMS for threshold in (0.5, 1.0)], ids=str)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    form, threshold = request.param
    folder = tmp_path_factory.mktemp("empty") / "bundle"
    words = "occlusion" if form == "prompt" else "attention"
    bundles.make_bundle(folder, "bert", score_form=form, opinions=words, threshold=threshold)
    return str(folder)


@pytest.mark.parametrize("texts", [[], ["\u200b"], ["굿"], ["😀", "배송 굿"]], ids=str)
@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_takes_batches_in_which_there_is_nothing(
    bundle: str, mode: str, embeddings: bool, texts: list[str]
) -> None:
    runtime = BundleRuntime(bundle, "cpu")
    if mode == "attention" and not runtime.meta.attends:
        pytest.skip("its keywords do not attend")
    table = pa.table({"text": pa.array(texts, pa.string())})
    for _, make in build_stages(mode, "space", embeddings=embeddings):
        table = make(runtime)(table)
    found = assemble_findings(table, runtime.bundle)
    assert len(found) == len(texts)
    assert [found.schema.field(name).type for name, _ in ANALYSIS] == [kind for _, kind in ANALYSIS]


def test_no_review_has_no_analysis(bundle: str) -> None:
    assert Analyzer(bundle, "cpu")([]) == []
