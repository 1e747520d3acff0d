"""The whole graph in this process, without Ray. In: a bundle and texts. Out: analyses. The public entry."""

import os
from collections.abc import Iterable
from typing import NotRequired, TypedDict

import pyarrow as pa

from ray_app.data import given_texts
from ray_app.data.rows import FindingRow
from ray_app.inference.occlusion import SHORTLIST, Explanation, Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import assemble_findings, build_stages


class Analysis(TypedDict):
    """The analysis of one text; `keyword_probabilities` [keywords] in the taxonomy's order."""

    keyword_probabilities: list[float]
    findings: list[FindingRow]
    truncated: bool
    rejected: NotRequired[str]  # why there is no analysis; the catalog job and the endpoint reject such texts too


def _rejected(why: str) -> Analysis:
    return {"keyword_probabilities": [], "findings": [], "truncated": False, "rejected": why}


class Analyzer:
    """The whole graph in this process.

    analyze = Analyzer()
    analyze(["옷은 예쁘지만 배송은 늦어요"])[0]["findings"]
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] = "ready",
        device: str = "auto",
        threads: int = 0,
        highlights: str = "auto",
        words: str = "space",
        shortlisted: int = SHORTLIST,
        opinions: bool = True,
        named_by: str = "int8",
        thresholds: str = "",
    ) -> None:
        self.runtime, self.words = BundleRuntime(bundle, device, threads, thresholds=thresholds), words
        graph = build_stages(highlights, words, shortlisted, opinions=opinions, named_by=named_by)
        self.stages = [make(self.runtime) for _, make in graph]

    def __call__(self, texts: Iterable[str | None]) -> list[Analysis]:
        """One analysis per text; one that cannot be analyzed (None, NaN, empty) has no findings, and says why."""
        good, reasons = given_texts.sorted_out(texts)
        rows: list[Analysis] = self.table(pa.table({"text": pa.array(good, pa.string())})).to_pylist()
        analyzed = iter(rows)
        return [next(analyzed) if why is None else _rejected(why) for why in reasons]

    def explain(self, text: str) -> Explanation:
        """The drop of every word of one review for each of its found keywords."""
        return Occlusion(self.runtime, self.words).explain(text)

    def table(self, table: pa.Table) -> pa.Table:
        """A table with a `text` column -> its other columns and the analysis columns."""
        for stage in self.stages:
            table = stage(table)
        return assemble_findings(table, self.runtime.bundle)
