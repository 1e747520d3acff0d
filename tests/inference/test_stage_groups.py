"""Which stages are worth a pool of their own, by what a bundle leaves for them to do."""

import pytest

from ray_app.data.taxonomy import load
from ray_app.inference.bundle import BundleSummary, read_summary
from ray_app.inference.stages import stage_groups


@pytest.mark.parametrize(
    ("form", "found_by", "highlights", "groups"),
    [
        ("prompt", "occlusion", "auto", [("keywords",), ("scores",), ("highlights",)]),
        ("joint", "attention", "auto", [("keywords", "scores", "highlights")]),
        ("joint", "attention", "exact", [("keywords", "scores"), ("highlights",)]),
        ("joint", "occlusion", "auto", [("keywords", "scores"), ("highlights",)]),
        ("attention", "attention", "auto", [("keywords",), ("scores", "highlights")]),
        ("joint", "attention", "off", [("keywords", "scores")]),
    ],
)
def test_a_stage_without_work_has_no_pool(
    form: str, found_by: str, highlights: str, groups: list[tuple[str, ...]]
) -> None:
    summary = BundleSummary(load(), read_summary("ready").thresholds, form, found_by)
    assert stage_groups(highlights, "space", summary) == groups


def test_embeddings_keep_the_scores_apart() -> None:
    summary = read_summary("ready")
    assert (summary.score_form, summary.highlights) == ("joint", "attention")
    assert stage_groups("auto", "space", summary, embeddings=True) == [("keywords",), ("scores", "highlights")]
