"""What the gate measures of two bundles, in turns in one process.

In: two bundles, labeled reviews. Out: Figures of each. Quality is measured as `jobs.evaluate` measures it; speed by
the same reviews passing through both, part by part.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.arrays import Floats
from ray_app.compression.footprint import bytes_of, peak_memory
from ray_app.data.text import Span
from ray_app.evaluation.metrics import hit, mean_or_none
from ray_app.evaluation.report import evaluate_bundle, predictions
from ray_app.evaluation.word_report import WordJudge
from ray_app.inference.bundle import Bundle, resolved_mode
from ray_app.inference.masking import DECIMALS, above_threshold
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import Stage, build_stages

Figures = dict[str, float | None]  # by the names of the gate's table; None where there is nothing to measure
PARTS = 6  # into which the reviews are split, to be timed in turns
GAP = 0.01  # lead of the best word's drop below which another word is as good an answer
SMALL_BATCH = 256  # tokens; the other batch size is the device's own
LOADS = 2
MEMORY_TEXTS = 8
BF16 = 0.02  # probabilities in bf16 are that rough
SHAPE = ("num_hidden_layers", "hidden_size", "intermediate_size")


def figures(
    old: Bundle, new: Bundle, tested: pa.Table, masked: int, device: str, memory: bool
) -> tuple[Figures, Figures, bool]:
    """Figures of both, and whether the new model has another shape than the old one."""
    few, index, texts = tested.slice(0, masked), old.meta.taxonomy.index, tested["text"].to_pylist()
    runtimes, load_seconds = _loaded((old, new), device)
    measured = [_quality(runtime, tested, few) for runtime in runtimes]
    drops, speeds = _masked_in_turns(runtimes, few)
    hits = [_hits(own, few, index) for own in drops]
    default = _timed_in_turns([_graph(runtime) for runtime in runtimes], tested if _attends(old) else few)
    for side, (runtime, bundle) in enumerate(zip(runtimes, (old, new), strict=True)):
        measured[side] |= {
            "highlight hit rate, exact": mean_or_none(hits[side]),
            "masked labels with words": float(len(hits[side])),
            "difference between two batch sizes": batch_difference(bundle, runtime, texts),
            "reviews/s, exact highlights": speeds[side],
            "reviews/s, by default": default[side],
            "peak memory, MB": peak_memory(str(bundle.path), device, texts[:MEMORY_TEXTS]) if memory else None,
            "seconds to load": load_seconds[side],
            "size, MB": bytes_of(bundle.path) / 1e6,
            "allowed difference": 10.0**-DECIMALS if runtime.device.backend != "bf16" else BF16,
        }
    measured[1]["same highlight where the gap is over 0.01"] = _agreement(*drops)
    shapes = [tuple(getattr(runtime.keywords.config, name, None) for name in SHAPE) for runtime in runtimes]
    return measured[0], measured[1], shapes[0] != shapes[1]


def _attends(bundle: Bundle) -> bool:
    """Whether its words are found without masking, so that many reviews can be judged."""
    return resolved_mode("auto", bundle.meta) == "attention"


def _quality(runtime: BundleRuntime, tested: pa.Table, few: pa.Table) -> Figures:
    """As `jobs.evaluate` says it; words of a `few` reviews where they are found by masking."""
    report = evaluate_bundle(runtime, tested, predictions(runtime, tested))
    judge = WordJudge(runtime, tested if _attends(runtime.bundle) else few, "space", seed=0)
    highlights, opinions = judge.highlights(), judge.opinions()
    varying = report["keywords"]["micro_varying"]["f1"]
    return {
        "keywords F1, micro": report["keywords"]["micro"]["f1"] if varying is None else varying,
        "keywords F1, macro": report["keywords"]["macro"]["f1"],
        "tuples F1, exact score": report["tuples"]["micro"]["f1"],
        "tuples F1, sign of the score": report["tuples"]["micro_sign"]["f1"],
        "sign in mixed reviews": report["scores"]["mixed"]["sign_accuracy"],
        "highlight hit rate, by default": highlights["hit_rate"],
        "comprehensiveness": highlights["comprehensiveness"],
        "opinion hit rate": opinions["hit_rate"] if opinions else None,
    }


Floats64 = NDArray[np.float64]
Drops = dict[
    tuple[int, int], list[tuple[float, Span]]
]  # (review, keyword) found -> every word's drop, the largest first


def _masked_in_turns(runtimes: Sequence[BundleRuntime], tested: pa.Table) -> tuple[list[Drops], list[float]]:
    """Per bundle the drops of every word for every found keyword, and reviews per second."""
    texts: list[str] = tested["text"].to_pylist()
    occlusions = [Occlusion(runtime) for runtime in runtimes]
    found: list[Drops] = [{} for _ in runtimes]
    seconds = np.zeros((len(runtimes), PARTS))
    for occlusion in occlusions:
        _drops(occlusion, texts[:1], 0)  # what is compiled at first use
    for part, rows in enumerate(np.array_split(np.arange(len(texts)), PARTS)):
        for side in _turns(part, len(runtimes)):
            began = time.perf_counter()
            found[side] |= _drops(occlusions[side], [texts[i] for i in rows], int(rows[0]))
            seconds[side, part] = time.perf_counter() - began
    return found, _speeds(seconds, len(texts))


def _speeds(seconds: Floats64, reviews: int) -> list[float]:
    """Reviews per second from the seconds [sides, parts] of all parts: the first side's mean, and for each other side
    the same times the median ratio, which one slow moment does not move."""
    first = reviews / float(seconds[0].sum())
    return [first * float(np.median(seconds[0] / own)) for own in seconds]


def _turns(part: int, sides: int) -> Iterable[int]:
    """Who goes first changes from part to part."""
    return range(sides) if part % 2 == 0 else reversed(range(sides))


def _drops(occlusion: Occlusion, texts: Sequence[str], first: int) -> Drops:
    """`first`: the number of the first of these reviews."""
    runtime = occlusion.runtime
    before = runtime.probabilities(runtime.tokenize(texts)[0].sequences)
    spans, variants = occlusion.mask(texts)
    drops: Floats = occlusion.drops(variants, before)
    bounds = np.searchsorted(variants.review, np.arange(len(texts) + 1))
    result: Drops = {}
    for review, keyword in zip(*above_threshold(before, runtime.meta.thresholds), strict=True):
        own = slice(*bounds[review : review + 2])
        words = [spans[review][candidate] for candidate in variants.candidate[own]]
        order = np.argsort(-drops[own, keyword], kind="stable")
        result[first + int(review), int(keyword)] = [(float(drops[own, keyword][i]), words[i]) for i in order]
    return result


def _agreement(old: Drops, new: Drops) -> float | None:
    """The share of findings of both for which both name the same word, where the old one's leads by over GAP."""
    same = [
        words[0][1] == new[pair][0][1]
        for pair, words in old.items()
        if new.get(pair) and len(words) > 1 and words[0][0] - words[1][0] > GAP
    ]
    return mean_or_none(same)


def _hits(drops: Drops, tested: pa.Table, index: Mapping[str, int]) -> list[bool]:
    """Whether the word of the largest drop is one that the label accepts, where the label's keyword is found."""
    texts, hits = tested["text"].to_pylist(), []
    for i, labels in enumerate(tested["labels"].to_pylist()):
        for label in labels:
            words = drops.get((i, index[label["keyword"]]))
            if words and label["highlights"]:
                hits.append(hit(texts[i], words[0][1], label["highlights"]))
    return hits


def _graph(runtime: BundleRuntime) -> list[Stage]:
    """A whole analysis as it is by default."""
    return [make(runtime) for _, make in build_stages("auto", "space")]


def _timed_in_turns(graphs: Sequence[Sequence[Stage]], tested: pa.Table) -> list[float]:
    """Reviews per second of each graph."""
    texts = tested.select(["text"])
    seconds = np.zeros((len(graphs), PARTS))
    for part, rows in enumerate(np.array_split(np.arange(len(texts)), PARTS)):
        own = texts.take(pa.array(rows))
        for side in _turns(part, len(graphs)):
            began, table = time.perf_counter(), own
            for stage in graphs[side]:
                table = stage(table)
            seconds[side, part] = time.perf_counter() - began
    return _speeds(seconds, len(texts))


def batch_difference(bundle: Bundle, runtime: BundleRuntime, texts: Sequence[str]) -> float:
    """The largest difference of a probability, of keywords or scores, between two batch sizes."""
    small = BundleRuntime(bundle, runtime.device.torch_device.type)
    small.device = replace(runtime.device, token_budget=SMALL_BATCH)
    answers = []
    for one in (runtime, small):
        tokens, _ = one.tokenize(texts)
        keywords = np.arange(len(one.meta.thresholds))
        review, keyword = (axis.ravel() for axis in np.meshgrid(np.arange(len(texts)), keywords[:3], indexing="ij"))
        answers.append(
            (one.probabilities(tokens.sequences), one.score_probabilities(tokens.sequences, review, keyword))
        )
    return float(max(np.abs(a - b).max(initial=0.0) for a, b in zip(*answers, strict=True)))


def _loaded(bundles: Sequence[Bundle], device: str) -> tuple[list[BundleRuntime], list[float]]:
    """Both, and the shortest of a few times that each took to be ready."""
    seconds, runtimes = np.zeros((len(bundles), LOADS)), [BundleRuntime(bundle, device) for bundle in bundles]
    for turn in range(LOADS):
        for side, bundle in enumerate(bundles):
            began = time.perf_counter()
            runtime = BundleRuntime(bundle, device)
            _ = runtime.tokenizer, runtime.keywords, runtime.scores
            seconds[side, turn] = time.perf_counter() - began
            runtimes[side] = runtime
    return runtimes, [float(own.min()) for own in seconds]
