"""The words of findings are judged as an analysis gives them, whichever way it finds them."""

from typing import Any

import pyarrow as pa
import pytest

from ray_app.data.rows import HighlightRow
from ray_app.data.schema import LABELED
from ray_app.evaluation.metrics import hit
from ray_app.evaluation.word_report import WordJudge
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.bundle import resolved_mode
from ray_app.inference.runtime import BundleRuntime
from tests.support import bundles

TEXTS = [text for text in bundles.sample_texts(30) if len(text.split()) > 3]
FORMS = [("prompt", "occlusion"), ("attention", "occlusion"), ("joint", "attention")]


@pytest.fixture(scope="module", params=FORMS, ids=str)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("words") / "bundle"
    form, opinions = request.param
    bundles.make_bundle(folder, "bert", score_form=form, opinions=opinions, max_length=128)
    return str(folder)


def labeled(rows: list[list[dict[str, Any]]]) -> pa.Table:
    """What an analysis found as labels: a word of each kind is the acceptable one."""
    full = [
        {"review_id": str(i), "text": text, "labels": labels, "split": None}
        for i, (text, labels) in enumerate(zip(TEXTS, rows, strict=True))
    ]
    return pa.Table.from_pylist(full, LABELED)


def labels_of(bundle: str, text: str = "") -> list[list[dict[str, Any]]]:
    """Every finding as a label that accepts the words it has, or `text` alone."""

    def words(word: HighlightRow | None) -> list[str]:
        assert word is not None
        return [text or word["word"]]

    return [
        [
            {
                "keyword": finding["keyword"],
                "score": finding["score"],
                "highlights": words(finding["highlight"]),
                "opinions": words(finding["opinion"]),
            }
            for finding in row["findings"]
        ]
        for row in Analyzer(bundle, "cpu")(TEXTS)
    ]


def test_words_that_labels_accept_hit_and_others_do_not(bundle: str) -> None:
    runtime = BundleRuntime(bundle, "cpu")
    judge = WordJudge(runtime, labeled(labels_of(bundle)), "space", seed=0)
    highlights, opinions = judge.highlights(), judge.opinions()
    assert (highlights["hit_rate"], opinions and opinions["hit_rate"]) == (1.0, 1.0)
    assert opinions
    assert 0 < (highlights["random"]["hit_rate"] or 0) < 0.6
    assert 0 < (opinions["random"] or 0) < 0.6
    assert (opinions["highlight"] or 0) < 1
    assert opinions["support"] == highlights["support"] > 50
    never = WordJudge(runtime, labeled(labels_of(bundle, "없는말")), "space", seed=0)
    assert (never.highlights()["hit_rate"], (never.opinions() or {"hit_rate": 1})["hit_rate"]) == (0.0, 0.0)


def test_modes_are_compared_on_the_same_findings(bundle: str) -> None:
    runtime = BundleRuntime(bundle, "cpu")
    labels = labels_of(bundle)
    modes = WordJudge(runtime, labeled(labels), "space", seed=0).modes()
    assert set(modes) == ({"exact", "recheck", "attention"} if runtime.meta.attends else {"exact"})
    by_default = resolved_mode("auto", runtime.meta)
    assert (modes["exact"]["agreement"], modes[by_default]["hit_rate"]) == (1.0, 1.0)
    assert all(figures["reviews_per_second"] > 0 for figures in modes.values())
    if runtime.meta.attends:
        found = Analyzer(bundle, "cpu", highlights="attention")(TEXTS)
        hits = [
            hit(text, (f["highlight"]["start"], f["highlight"]["end"]), label["highlights"])
            for text, row, own in zip(TEXTS, found, labels, strict=True)
            for f, label in zip(row["findings"], own, strict=True)
            if f["highlight"]
        ]
        assert modes["attention"]["hit_rate"] == pytest.approx(sum(hits) / len(hits), abs=1e-4)
        assert (modes["recheck"]["agreement"] or 0) >= (modes["attention"]["agreement"] or 1)
