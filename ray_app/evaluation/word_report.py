"""Whether the words of findings are those that a person accepts, and whether the model really rests on them.

In: a loaded bundle and a LABELED table whose labels may give words. Out: the `highlights` and `opinions` sections of
`report.json`, both over keywords that the labels name and the model finds, in reviews of two words or more.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NotRequired, TypedDict

import numpy as np
import pyarrow as pa

from ray_app.arrays import Floats
from ray_app.data.rows import FindingRow, LabelRow
from ray_app.data.text import Span
from ray_app.engine.keyword_attention import FEELS, NAMES
from ray_app.evaluation.metrics import hit, mean_or_none
from ray_app.inference.bundle import resolved_mode
from ray_app.inference.candidate_words import Attended, attended, strongest_words
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import assemble_findings, build_stages


class Faithfulness(TypedDict):
    """Figures of one choice of words, None over nothing; `support` counts labels that give acceptable words."""

    hit_rate: float | None
    comprehensiveness: float | None
    sufficiency: float | None
    support: int


class ModeFigures(TypedDict):
    """One way to find highlights: how often it hits, how often it says what exact masking says, and the speed of a
    whole analysis without opinions."""

    hit_rate: float | None
    agreement: float | None
    reviews_per_second: float


class HighlightReport(Faithfulness):
    """The highlighted words, and `random` words of the same reviews; on request `modes` side by side."""

    random: Faithfulness
    modes: NotRequired[dict[str, ModeFigures]]


class OpinionReport(TypedDict):
    """How often the opinion is a word that the label accepts for the feeling, and how often a `random` word and the
    `highlight` are; `support` counts labels that give such words."""

    hit_rate: float | None
    random: float | None
    highlight: float | None
    support: int


class WordReports(TypedDict):
    """Both sections; None where words are not judged."""

    highlights: HighlightReport | None
    opinions: OpinionReport | None


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """A finding to judge: its review, keyword and label, and its highlight and a random word, as variants."""

    review: int
    keyword: int
    label: LabelRow
    best: int
    random: int


class WordJudge:
    """Finds the words as an analysis does by default; its reports judge them."""

    def __init__(self, runtime: BundleRuntime, tested: pa.Table, words: str, seed: int) -> None:
        self.runtime, self.words = runtime, words
        self.texts: list[str] = tested["text"].to_pylist()
        self.occlusion = Occlusion(runtime, words)
        self.before = runtime.probabilities(runtime.tokenize(self.texts)[0].sequences)
        self.spans, self.variants = self.occlusion.mask(self.texts)
        by_attention = resolved_mode("auto", runtime.meta) == "attention"
        value = self.attended.share[:, :, NAMES] if by_attention else self.occlusion.drops(self.variants, self.before)
        self.chosen = list(self._choose(tested, value, np.random.default_rng(seed)))
        self.drops = self._chosen_drops() if by_attention else value

    def highlights(self) -> HighlightReport:
        """`hit_rate` against the acceptable words where the labels give any; `comprehensiveness`, the mean drop in
        probability without the highlighted word, and `sufficiency`, the mean drop with nothing but it (DeYoung et al.
        2020, arXiv:1911.03429; good highlights have a high first and a low second)."""
        best, random = ([getattr(one, kind) for one in self.chosen] for kind in ("best", "random"))
        report = self._faithfulness(best)
        return HighlightReport(
            hit_rate=report["hit_rate"],
            comprehensiveness=report["comprehensiveness"],
            sufficiency=report["sufficiency"],
            support=report["support"],
            random=self._faithfulness(random),
        )

    def opinions(self) -> OpinionReport | None:
        """None where no label gives words for the feeling."""
        judged = [one for one in self.chosen if one.label["opinions"]]
        if not judged:
            return None
        found = self._opinions(judged)
        spans = [(word["start"], word["end"]) for word in found.to_pylist()]

        def rate(spans: Sequence[Span]) -> float | None:
            accepted = [one.label["opinions"] or [] for one in judged]
            return mean_or_none(
                [hit(self.texts[one.review], s, a) for one, s, a in zip(judged, spans, accepted, strict=True)]
            )

        return {
            "hit_rate": rate(spans),
            "random": rate([self._span(one.random) for one in judged]),
            "highlight": rate([self._span(one.best) for one in judged]),
            "support": len(judged),
        }

    def modes(self) -> dict[str, ModeFigures]:
        """Every way to find highlights that this bundle has, on the same reviews in one run."""
        names = ["exact", *(["recheck", "attention"] if self.runtime.meta.attends else [])]
        runs = {name: self._analyzed(name) for name in names}
        exact = runs["exact"][0]
        accepted = {(one.review, one.keyword): one.label["highlights"] for one in self.chosen}
        figures: dict[str, ModeFigures] = {}
        for name, (spans, seconds) in runs.items():
            hits = [hit(self.texts[i], spans[i, k], words) for (i, k), words in accepted.items() if words]
            figures[name] = {
                "hit_rate": mean_or_none(hits),
                "agreement": mean_or_none([span == exact[key] for key, span in spans.items()]),
                "reviews_per_second": round(len(self.texts) / seconds, 1),
            }
        return figures

    @cached_property
    def attended(self) -> Attended:
        """How attention lies on the words that the variants mask, in their order."""
        words = self.occlusion.words(self.texts)
        return attended(words, self.runtime.attention(words.tokens).weights)

    def _chosen_drops(self) -> Floats:
        """[variants, keywords] exact drops of the chosen variants; no other is masked."""
        drops = np.full((len(self.variants.review), self.before.shape[1]), np.nan, np.float32)
        chosen = np.unique([v for one in self.chosen for v in (one.best, one.random)]).astype(np.int64)
        drops[chosen] = self.occlusion.drops(self.variants.take(chosen), self.before)
        return drops

    def _choose(self, tested: pa.Table, value: Floats, rng: np.random.Generator) -> Iterator[_Chosen]:
        """`value` [variants, keywords]: the highlight is the word of the largest."""
        bounds = np.searchsorted(self.variants.review, np.arange(len(self.texts) + 1))
        taxonomy, thresholds = self.runtime.meta.taxonomy, np.asarray(self.runtime.meta.thresholds, np.float32)
        for i, labels in enumerate(tested["labels"].to_pylist()):
            first, last = bounds[i : i + 2]
            if last - first < 2:
                continue
            for label in labels:
                k = taxonomy.index[label["keyword"]]
                if self.before[i, k] >= thresholds[k]:
                    best = first + int(np.argmax(value[first:last, k]))
                    yield _Chosen(
                        review=i, keyword=k, label=label, best=best, random=first + int(rng.integers(last - first))
                    )

    def _span(self, variant: int) -> Span:
        span: Span = self.spans[self.variants.review[variant]][self.variants.candidate[variant]]
        return span

    def _faithfulness(self, variants: Sequence[int]) -> Faithfulness:
        """Of one word per chosen finding."""
        words = [self.texts[one.review][slice(*self._span(v))] for one, v in zip(self.chosen, variants, strict=True)]
        alone = self.runtime.probabilities(self.runtime.tokenize(words)[0].sequences) if words else self.before[:0]
        keyword = [one.keyword for one in self.chosen]
        lost = self.before[[one.review for one in self.chosen], keyword] - alone[np.arange(len(words)), keyword]
        accepted = [(one, v) for one, v in zip(self.chosen, variants, strict=True) if one.label["highlights"]]
        hits = [hit(self.texts[one.review], self._span(v), one.label["highlights"] or []) for one, v in accepted]
        return {
            "hit_rate": mean_or_none(hits),
            "comprehensiveness": mean_or_none(self.drops[list(variants), keyword].astype(float).tolist()),
            "sufficiency": mean_or_none(lost.astype(float).tolist()),
            "support": len(hits),
        }

    def _opinions(self, judged: Sequence[_Chosen]) -> pa.Array:
        """The opinion that an analysis gives to each of these findings."""
        review, keyword = (np.array([getattr(one, name) for one in judged]) for name in ("review", "keyword"))
        if self.runtime.meta.opinions == "attention":
            value = self.attended.share[:, :, FEELS]
        else:
            tokens, _ = self.runtime.tokenize(self.texts)
            scores = self.runtime.score_probabilities(tokens.sequences, review, keyword)
            value = self.occlusion.feeling_drops(self.variants, review, keyword, scores)
        places = (self.variants.review, self.variants.candidate)
        return strongest_words(self.texts, self.spans, value, *places, review, keyword)

    def _analyzed(self, mode: str) -> tuple[dict[tuple[int, int], Span], float]:
        """(review, keyword) -> highlighted span of every finding that is judged, and the seconds of the analysis."""
        stages = [
            make(self.runtime) for _, make in build_stages(mode, self.words, opinions=False, named_by="attention")
        ]
        began = time.perf_counter()
        table = pa.table({"text": self.texts})
        for stage in stages:
            table = stage(table)
        seconds = time.perf_counter() - began
        findings: list[list[FindingRow]] = assemble_findings(table, self.runtime.bundle)["findings"].to_pylist()
        index = self.runtime.meta.taxonomy.index
        judged = {(one.review, one.keyword) for one in self.chosen}
        spans = {
            (i, index[finding["keyword"]]): (word["start"], word["end"])
            for i, row in enumerate(findings)
            for finding in row
            if (word := finding["highlight"])
        }
        return {key: span for key, span in spans.items() if key in judged}, seconds
