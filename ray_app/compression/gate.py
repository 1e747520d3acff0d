"""The gate: is a smaller bundle still the bundle that it replaces?

In: two bundles and labeled reviews that neither was trained or tuned on. Out: a table of measures, old beside new, each
with its limit, and whether all hold. Both run in turns in one process, so that a busy machine slows both alike.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from ray_app.errors import check
from ray_app.options import REQUIRED, Options, option

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.compression.measures import Figures
    from ray_app.inference.bundle import Bundle

log = logging.getLogger(__name__)
FEWEST = 20  # reviews below which a table says nothing
QUICK = 1.0  # seconds: what loads in less is not judged by how much longer it takes


@dataclass(frozen=True, kw_only=True)
class GateOptions(Options):
    """The gate's options, of every verb of `jobs.compress`."""

    labels: str = option(
        "sample",
        "labels whose test rows judge: where they name none, all that both bundles do not know",
        "Data",
        common=True,
    )
    force: bool = option(
        False, "seal the bundle even if it fails; it carries the table of its failure", "Gate", common=True
    )
    reviews: int = option(400, "labeled reviews that are read, at most", "Gate", least=FEWEST)
    masked: int = option(60, "of them, how many have every word masked", "Gate", least=8)
    lose: float = option(
        0.02, "most that keywords F1 (micro), tuples F1 and signs in mixed reviews may fall", "Gate", least=0
    )
    lose_macro: float = option(0.03, "most that keywords F1 (macro) may fall", "Gate", least=0)
    lose_words: float = option(
        0.03,
        "most that the share of accepted highlights and opinions may fall, where labels have words",
        "Gate",
        least=0,
    )
    agreement: float = option(
        0.99,
        "least share of the same highlights, where the old bundle's best word leads by over 0.01; not of a model of "
        "another shape, which is judged by its faithfulness",
        "Gate",
        least=0,
        most=1,
    )
    faithfulness: float = option(
        0.8, "least comprehensiveness of highlights, as a share of the old bundle's", "Gate", least=0
    )
    speed: float = option(0.8, "least reviews per second, as a multiple of the old bundle's", "Gate", least=0)
    memory: float = option(1.1, "most peak memory, as a multiple of the old bundle's; 0 measures none", "Gate", least=0)
    load: float = option(1.5, "longest time to load, as a multiple of the old bundle's", "Gate", above=0)
    device: str = option("auto", "where everything runs", "Gate", ("auto", "cpu", "cuda"))


@dataclass(frozen=True, kw_only=True)
class GateConfig(GateOptions):
    """Options of `jobs.compress gate`."""

    bundle: str = option("ready", "bundle that the smaller one replaces", "Data", common=True)
    smaller: str = option(REQUIRED, "bundle to judge", "Data", common=True)


class Row(TypedDict):
    """One measure; `limit` says what was asked, `passed` None where nothing is."""

    measure: str
    old: float | None
    new: float | None
    limit: str
    passed: bool | None


class Verdict(TypedDict):
    """What the gate found; a bundle carries it as `metrics["gate"]`."""

    passed: bool
    against: str
    labels: str
    labeled_reviews: int
    masked_reviews: int
    rows: list[Row]


def run(config: GateConfig) -> int:
    """`jobs.compress gate`: prints the table; returns 1 where the smaller bundle fails."""
    from ray_app.inference import bundle as bundles

    verdict = judged(bundles.load(config.bundle), bundles.load(config.smaller), config)
    print(markdown(verdict))
    return 0 if verdict["passed"] or config.force else 1


def judged(old: "Bundle", new: "Bundle", options: GateOptions) -> Verdict:
    """Runs both and compares. Raises UserError where they have no taxonomy in common, or too few reviews judge."""
    from ray_app.compression.measures import figures

    same = (old.meta.taxonomy.names, old.meta.taxonomy.scores) == (new.meta.taxonomy.names, new.meta.taxonomy.scores)
    check(same, f"bundle {new.path}: other keywords or scores than bundle {old.path}; the gate compares like with like")
    tested = judging_rows(old, new, options)
    log.info("gate: %s labeled reviews, bundle %s against %s", f"{len(tested):,}", new.id, old.id)
    before, after, reshaped = figures(old, new, tested, options.masked, options.device, bool(options.memory))
    rows = list(_rows(before, after, reshaped, options))
    return {
        "passed": all(row["passed"] is not False for row in rows),
        "against": old.id,
        "labels": options.labels,
        "labeled_reviews": len(tested),
        "masked_reviews": min(options.masked, len(tested)),
        "rows": rows,
    }


def check_judged(old: "Bundle", options: GateOptions) -> None:
    """Raises UserError where the gate could not judge a successor of this bundle: told before hours of training."""
    from ray_app.engine.tokenizer import Tokenizer

    judging_rows(old, old, options)
    masks = Tokenizer.load(old.path / "tokenizer").mask_id is not None
    check(masks, f"bundle {old.path}: its tokenizer has no mask token, and the gate masks words")


def judging_rows(old: "Bundle", new: "Bundle", options: GateOptions) -> "pa.Table":
    """Labeled reviews that neither bundle knows, evenly drawn. Raises UserError where they are too few."""
    import pyarrow as pa

    from ray_app.arrays import evenly
    from ray_app.inference.known_texts import known
    from ray_app.labels import reader

    labels = reader.read_labels_with(options.labels, old.meta.taxonomy, "fail")
    test = labels.split("test")
    given = test if len(test) else labels.table
    for bundle in (old, new):
        seen = known(given["text"].to_pylist(), bundle.path)
        given = given if seen is None else given.filter(pa.array(~seen))
    check(
        len(given) >= FEWEST,
        f"--labels {options.labels}: {len(given)} reviews that the bundles were not trained or tuned on; the gate "
        f"needs {FEWEST}: name more with --labels",
    )
    return given.take(pa.array(evenly(len(given), options.reviews)))


def _rows(old: "Figures", new: "Figures", reshaped: bool, options: GateOptions) -> Iterator[Row]:
    """The table. `reshaped`: the new model has another shape than the old one."""
    one_label = 1 / max(1.0, new["masked labels with words"] or 0.0)  # one alone decides nothing
    for name, most in (
        ("keywords F1, micro", options.lose),
        ("keywords F1, macro", options.lose_macro),
        ("tuples F1, exact score", options.lose),
        ("tuples F1, sign of the score", options.lose),
        ("sign in mixed reviews", options.lose),
        ("highlight hit rate, by default", options.lose_words),
        ("highlight hit rate, exact", max(options.lose_words, one_label)),
        ("opinion hit rate", options.lose_words),
    ):
        yield _falls(name, old[name], new[name], most)
    name = "same highlight where the gap is over 0.01"
    yield _least(name, None, new[name], None if reshaped else options.agreement)
    name = "comprehensiveness"
    yield _least(name, old[name], new[name], _share(old[name], options.faithfulness) if reshaped else None)
    name = "difference between two batch sizes"
    yield _most(name, old[name], new[name], new["allowed difference"])
    for name in ("reviews/s, exact highlights", "reviews/s, by default"):
        yield _least(name, old[name], new[name], _share(old[name], options.speed))
    name = "peak memory, MB"
    yield _most(name, old[name], new[name], _share(old[name], options.memory))
    name = "seconds to load"
    yield _most(name, old[name], new[name], max(QUICK, _share(old[name], options.load) or 0.0))
    yield {"measure": "size, MB", "old": old["size, MB"], "new": new["size, MB"], "limit": "", "passed": None}


def _share(value: float | None, share: float) -> float | None:
    return None if value is None else value * share


def _falls(name: str, old: float | None, new: float | None, most: float) -> Row:
    """A figure that may fall by `most`. One that the old bundle has and the new one lacks fails."""
    passed = None if old is None else new is not None and old - new <= most + 1e-9
    return {"measure": name, "old": old, "new": new, "limit": f"falls by {most:.3g} at most", "passed": passed}


def _least(name: str, old: float | None, new: float | None, least: float | None) -> Row:
    passed = None if least is None or new is None else new >= least - 1e-9
    return {"measure": name, "old": old, "new": new, "limit": _said("at least", least), "passed": passed}


def _most(name: str, old: float | None, new: float | None, most: float | None) -> Row:
    passed = None if most is None or new is None else new <= most + 1e-9
    return {"measure": name, "old": old, "new": new, "limit": _said("at most", most), "passed": passed}


def _said(bound: str, value: float | None) -> str:
    return "" if value is None else f"{bound} {value:.4g}"


def markdown(verdict: Verdict) -> str:
    """The table for people, and the verdict in one line."""
    from ray_app.markdown import table

    words = {True: "holds", False: "FAILS", None: ""}
    rows = [(r["measure"], _shown(r["old"]), _shown(r["new"]), r["limit"], words[r["passed"]]) for r in verdict["rows"]]
    return "\n".join([*table(("measure", "old", "new", "limit", ""), rows), "", summary(verdict)])


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if value < 1 else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def summary(verdict: Verdict) -> str:
    """Whether it passes, and where it fails."""
    failed = failures(verdict["rows"])
    on = f"on {verdict['labeled_reviews']:,} labeled reviews, against bundle {verdict['against']}"
    return f"gate passed {on}" if not failed else f"gate FAILED {on}: {'; '.join(failed)}"


def failures(rows: Sequence[Row]) -> list[str]:
    """`keywords F1, micro 0.940 -> 0.871 (falls by 0.02 at most)` of every row that does not hold."""
    return [
        f"{row['measure']} {_shown(row['old']) or '-'} -> {_shown(row['new']) or '-'} ({row['limit']})"
        for row in rows
        if row["passed"] is False
    ]
