"""The whole graph in this process, without Ray. In: a bundle and texts. Out: analyses. The public entry."""

from collections.abc import Sequence
from typing import TypedDict

import pyarrow as pa

from ray_app.data.rows import FindingRow
from ray_app.inference.occlusion import SHORTLIST, Explanation, Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import assemble_findings, build_stages


class Analysis(TypedDict):
    """The analysis of one text; `keyword_probabilities` [keywords] in the taxonomy's order."""

    keyword_probabilities: list[float]
    findings: list[FindingRow]
    truncated: bool


class Analyzer:
    """The whole graph in this process.

    analyze = Analyzer()
    analyze(["옷은 예쁘지만 배송은 늦어요"])[0]["findings"]
    """

    def __init__(
        self,
        bundle: str = "ready",
        device: str = "auto",
        threads: int = 0,
        highlights: str = "auto",
        words: str = "space",
        shortlisted: int = SHORTLIST,
        opinions: bool = True,
        named_by: str = "int8",
    ) -> None:
        self.runtime, self.words = BundleRuntime(bundle, device, threads), words
        graph = build_stages(highlights, words, shortlisted, opinions=opinions, named_by=named_by)
        self.stages = [make(self.runtime) for _, make in graph]

    def __call__(self, texts: Sequence[str]) -> list[Analysis]:
        """One analysis per text."""
        rows: list[Analysis] = self.table(pa.table({"text": pa.array(texts, pa.string())})).to_pylist()
        return rows

    def explain(self, text: str) -> Explanation:
        """The drop of every word of one review for each of its found keywords."""
        return Occlusion(self.runtime, self.words).explain(text)

    def table(self, table: pa.Table) -> pa.Table:
        """A table with a `text` column -> its other columns and the analysis columns."""
        for stage in self.stages:
            table = stage(table)
        return assemble_findings(table, self.runtime.bundle)
