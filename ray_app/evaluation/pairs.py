"""Sentence pairs that negate one another: a model that only counts friendly words gets one of the two wrong.

In: a bundle and a table with a sentence, its score, and the same sentence turned round with its score. Out: in how many
pairs both signs are right, printed and as JSON.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

from ray_app.errors import check, closest
from ray_app.options import REQUIRED, Options, as_dict, option

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.arrays import Flags
    from ray_app.inference.bundle import BundleMeta
    from ray_app.inference.runtime import BundleRuntime

COLUMNS = ("text_origin", "score_origin", "text", "score")


class PairsReport(TypedDict):
    """Shares of the pairs; `by_category` is the share with both right, where the table names categories."""

    pairs: int
    keyword: str
    both: float
    origin: float
    turned: float
    by_category: dict[str, float]
    config: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class PairsConfig(Options):
    """Options of `jobs.evaluate pairs`."""

    pairs: str = option(REQUIRED, f"Parquet with {', '.join(COLUMNS)}, and on request category", "Data")
    bundle: str = option("ready", "bundle that jobs.train wrote; ready is the shipped one", "Data")
    keyword: str = option("", "the keyword whose score is judged; default: the one most training reviews had", "Data")
    output: str = option("", "folder for pairs.json", "Data")
    device: str = option("auto", "where the classifiers run", "Analysis", ("auto", "cpu", "cuda"))


def evaluate_pairs(config: PairsConfig) -> PairsReport:
    """Scores both sentences of every pair for one keyword and compares signs. Raises UserError naming what is amiss."""
    import numpy as np

    from ray_app import storage
    from ray_app.inference import bundle_names
    from ray_app.inference.runtime import BundleRuntime

    table = storage.read_parquet(config.pairs)
    for name in COLUMNS:
        check(name in table.column_names, f"{config.pairs}: no column {name!r}{closest(name, table.column_names)}")
    check(len(table), f"{config.pairs}: no pairs there")
    config = replace(config, bundle=bundle_names.pinned(config.bundle))
    runtime = BundleRuntime(config.bundle, config.device)
    keyword = _keyword(config, runtime.meta)
    origin, turned = (_right(runtime, table, keyword, *names) for names in (COLUMNS[:2], COLUMNS[2:]))
    both = origin & turned
    categories = np.array(table["category"].to_pylist() if "category" in table.column_names else [], str)
    report: PairsReport = {
        "pairs": len(table),
        "keyword": runtime.meta.taxonomy.names[keyword],
        "both": float(both.mean()),
        "origin": float(origin.mean()),
        "turned": float(turned.mean()),
        "by_category": {str(name): float(both[categories == name].mean()) for name in np.unique(categories)},
        "config": as_dict(config),
    }
    if config.output:
        storage.write_json(storage.join(config.output, "pairs.json"), report)
    print(_summary(report))
    return report


def _right(runtime: "BundleRuntime", table: "pa.Table", keyword: int, text: str, score: str) -> "Flags":
    """[pairs] whether the sign of the keyword's score in a column of texts is that of the column of scores."""
    import numpy as np

    reviews, rows = runtime.tokenizer(table[text].to_pylist()).sequences, np.arange(len(table))
    given = runtime.score_probabilities(reviews, rows, np.full(len(table), keyword)).argmax(1)
    scale = np.asarray(runtime.meta.taxonomy.scores)
    return np.asarray(np.sign(scale[given]) == np.sign(table[score].to_numpy()))


def _keyword(config: PairsConfig, meta: "BundleMeta") -> int:
    """The position of the keyword that is judged."""
    index, names = meta.taxonomy.index, meta.taxonomy.names
    if config.keyword:
        check(config.keyword in index, f"--keyword {config.keyword}: unknown{closest(config.keyword, names)}")
        return index[config.keyword]
    return max(range(len(names)), key=lambda k: meta.support.get(names[k], 0))


def _summary(report: PairsReport) -> str:
    categories = "".join(f", category {name} {share:.3f}" for name, share in report["by_category"].items())
    return (
        f"{report['pairs']:,} pairs, sign of {report['keyword']}: both right {report['both']:.3f} "
        f"(originals {report['origin']:.3f}, turned round {report['turned']:.3f}{categories})"
    )
