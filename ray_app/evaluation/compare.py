"""May another bundle replace the one in use? Both on the same labeled rows, and on a sample of the catalog.

In: two bundles, labels, reviews. Out: differences with their intervals, findings that change, a verdict: printed, and
as compare.md and compare.json; with `--promote` a pointer that moves to the other bundle (`promotion.py`).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from ray_app.errors import check
from ray_app.options import SEEDS, Options, as_dict, option

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.data.taxonomy import Taxonomy
    from ray_app.evaluation.changed_findings import Changes
    from ray_app.evaluation.paired import Answers, Difference
    from ray_app.inference.bundle import Bundle
    from ray_app.inference.bundle_pointer import Target

log = logging.getLogger(__name__)
FEWEST = 20  # rows below which a comparison says nothing
NOT_PROMOTED = 1  # exit code


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Options):
    """Options of `jobs.evaluate compare`."""

    bundle: tuple[str, ...] = option(
        (), "the bundle in use, then the one that may replace it: --bundle A --bundle B", "Data", common=True
    )
    labels: str = option("sample", "labeled reviews; their test rows where they name any", "Data", common=True)
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and report it", "Data", ("fail", "drop"))
    input: str = option("", "catalog, to see which of its findings change; none is looked at without", "Data")
    columns: str = option("", "its column names, where they are not recognized: text=NAME", "Data")
    reviews: int = option(500, "reviews of the catalog that are read, evenly drawn", "Data", least=1)
    output: str = option("", "folder for compare.md and compare.json", "Data", common=True)
    promote: str = option(
        "",
        "pointer, a file or s3://, that is moved to the second bundle unless it is worse; jobs.analyze and jobs.serve "
        "take it as --bundle",
        "Promotion",
        common=True,
    )
    force: bool = option(False, "move it though the second bundle is worse", "Promotion")
    rollback: bool = option(False, "move --promote back to the bundle before, and compare nothing", "Promotion")
    draws: int = option(1_000, "how often the rows are drawn anew for an interval", "Analysis", least=100)
    device: str = option("auto", "where the classifiers run", "Analysis", ("auto", "cpu", "cuda"))
    seed: int = option(0, "seed of the draws", "Analysis", least=0, below=SEEDS)


class Comparison(TypedDict):
    """`compare.json`. `left_out`: rows that either bundle was trained on; `unsure`: bundles that do not say."""

    old: str
    new: str
    rows: int
    left_out: int
    unsure: list[str]
    keywords: list[str]
    differences: "list[Difference]"
    changes: "Changes | None"
    verdict: str
    promoted: str
    config: dict[str, object]


def run(config: CompareConfig) -> int:
    """`jobs.evaluate compare`: prints and writes; returns 1 where a worse bundle was not promoted. Raises UserError."""
    from ray_app.evaluation import paired, promotion
    from ray_app.inference import bundle as bundles
    from ray_app.inference import bundle_names

    if config.rollback:
        check(config.promote, "--rollback: name the pointer with --promote")
        check(not config.bundle, "--rollback: it compares nothing; leave --bundle out")
        return promotion.roll_back(config.promote)
    check(len(config.bundle) == 2, "--bundle: name two, the one in use and the other: --bundle A --bundle B")
    names = [bundle_names.pinned(name) for name in config.bundle]
    old, new = (bundles.load(name) for name in names)
    if config.promote:
        promotion.check_movable(config.promote, old.id, names[1])
    report = compared(old, new, config)
    wanted = bool(config.promote) and (report["verdict"] != paired.WORSE or config.force)
    if wanted:
        report["promoted"] = config.promote
        why = f"{report['verdict']}, against {old.id} on {report['rows']} rows"
        before: Target = {"bundle": names[0], "id": old.id}
        promotion.promote(config.promote, before, {"bundle": names[1], "id": new.id}, why)
    text = _markdown(report)
    _write(config, report, text)
    print(text)
    print(_summary(config, report, names[1]))
    return NOT_PROMOTED if config.promote and not wanted else 0


def compared(old: "Bundle", new: "Bundle", config: CompareConfig) -> Comparison:
    """Runs both. Raises UserError where they cannot be compared, or too few rows judge."""
    import numpy as np

    from ray_app.data import reviews
    from ray_app.evaluation import paired
    from ray_app.evaluation.changed_findings import changed_findings

    taxonomy, shared = _common(old, new)
    table, left_out, unsure = _rows(old, new, taxonomy, config)
    log.info("bundles %s and %s on %s reviews of %s", old.id, new.id, f"{len(table):,}", config.labels)
    keywords = np.array([taxonomy.index[name] for name in shared], np.int64)
    before, after = (
        paired.measures(table, taxonomy, keywords, _answers(bundle, table, taxonomy, config.device))
        for bundle in (old, new)
    )
    rows = paired.differences(before, after, len(table), config.draws, config.seed)
    texts = reviews.sampled_texts(config.input, config.columns, config.reviews) if config.input else []
    return {
        "old": old.id,
        "new": new.id,
        "rows": len(table),
        "left_out": left_out,
        "unsure": unsure,
        "keywords": shared,
        "differences": rows,
        "changes": changed_findings(old, new, texts, config.device) if config.input else None,
        "verdict": paired.verdict(rows),
        "promoted": "",
        "config": as_dict(config),
    }


def _common(old: "Bundle", new: "Bundle") -> "tuple[Taxonomy, list[str]]":
    """The larger of two taxonomies, by which labels are read, and the keywords that both have. Raises UserError where
    neither holds the other."""
    first, second = old.meta.taxonomy, new.meta.taxonomy
    check(
        first.scores == second.scores,
        f"--bundle: scores of {old.id} are {list(first.scores)}, of {new.id} {list(second.scores)}; use one scale",
    )
    shared = [name for name in first.names if name in second.index]
    large = first if len(first.names) >= len(second.names) else second
    check(
        shared and len(shared) == min(len(first.names), len(second.names)),
        f"--bundle: {old.id} and {new.id} each have keywords that the other has not; evaluate each by itself",
    )
    extra = [name for name in large.names if name not in shared]
    if extra:
        log.warning("%s: only one bundle knows it; not compared", ", ".join(extra))
    return large, shared


def _rows(
    old: "Bundle", new: "Bundle", taxonomy: "Taxonomy", config: CompareConfig
) -> "tuple[pa.Table, int, list[str]]":
    """Labeled rows that neither bundle was trained or tuned on, how many others there are, and the ids of bundles that
    do not say what they know."""
    import numpy as np
    import pyarrow as pa

    from ray_app.inference.known_texts import known
    from ray_app.labels import reader

    labels = reader.read_labels_with(config.labels, taxonomy, config.on_bad_label)
    for line in labels.dropped:
        log.info("dropped: %s", line)
    test = labels.split("test")
    given = test if len(test) else labels.table
    seen, unsure = np.zeros(len(given), bool), []
    for bundle in (old, new):
        own = known(given["text"].to_pylist(), bundle.path)
        if own is None:
            unsure.append(bundle.id)
            log.warning("bundle %s does not say what it was trained on: some of these rows may be among it", bundle.id)
        else:
            seen |= own
    left = given.filter(pa.array(~seen))
    check(
        len(left) >= FEWEST,
        f"--labels {config.labels}: {len(left)} of {len(given)} rows that neither bundle was trained or tuned on; "
        f"{FEWEST} are needed: name more",
    )
    if count := int(seen.sum()):
        log.warning("%s of %s rows left out: a bundle was trained or tuned on them", f"{count:,}", f"{len(given):,}")
    return left, int(seen.sum()), unsure


def _answers(bundle: "Bundle", table: "pa.Table", taxonomy: "Taxonomy", device: str) -> "Answers":
    """What a bundle says of the rows, its keywords at their positions in the larger taxonomy."""
    import numpy as np

    from ray_app.evaluation.paired import Answers
    from ray_app.evaluation.report import answers_of
    from ray_app.inference.runtime import BundleRuntime

    own = bundle.meta.taxonomy.names
    columns = np.array([taxonomy.index[name] for name in own], np.int64)
    found, scores = answers_of(BundleRuntime(bundle, device), table, own)
    shape = (len(table), len(taxonomy.names))
    wide = Answers(found=np.zeros(shape, bool), scores=np.zeros(shape, np.int64))
    wide.found[:, columns], wide.scores[:, columns] = found, scores
    return wide


def _write(config: CompareConfig, report: Comparison, text: str) -> None:
    from ray_app import storage

    if config.output:
        storage.write_bytes(storage.join(config.output, "compare.md"), text.encode())
        storage.write_json(storage.join(config.output, "compare.json"), report)


def _markdown(report: Comparison) -> str:
    from ray_app.evaluation import changed_findings
    from ray_app.markdown import table

    rows = [
        (row["measure"], row["old"], row["new"], _signed(row["difference"]), _interval(row), row["verdict"])
        for row in report["differences"]
    ]
    notes = [f"{report['left_out']:,} more were left out: a bundle was trained or tuned on them."]
    unsure = [f"Bundle {name} does not say what it was trained on: rows may be among it." for name in report["unsure"]]
    lines = [
        f"# Bundle {report['old']} -> {report['new']} on {report['rows']:,} labeled reviews",
        "",
        *[part for line in (notes if report["left_out"] else []) + unsure for part in (line, "")],
        *table(("measure", report["old"], report["new"], "difference", "95% of it", ""), rows),
        "",
        *(changed_findings.markdown(report["changes"]) if report["changes"] else []),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _interval(row: "Difference") -> str:
    return "" if row["low"] is None else f"{_signed(row['low'])} to {_signed(row['high'])}"


def _names(rows: "Sequence[Difference]", verdict: str) -> str:
    return "; ".join(row["measure"] for row in rows if row["verdict"] == verdict)


def _summary(config: CompareConfig, report: Comparison, name: str) -> str:
    """The verdict with its reasons, what was done with the pointer, and what a user does next."""
    from ray_app.cli import next_command

    rows, verdict = report["differences"], report["verdict"]
    reasons = [f"  {word} in: {_names(rows, word)}" for word in ("worse", "better") if _names(rows, word)]
    line = "\n".join([f"verdict: {verdict}", *reasons])
    if config.promote and not report["promoted"]:
        return f"{line}\n{config.promote} was not moved; --force moves it all the same"
    if report["promoted"]:
        back = next_command("evaluate compare", promote=config.promote, rollback=True)
        return f"{line}\n{config.promote} is at bundle {report['new']} now: {name}\nBack: {back}"
    if len(config.bundle) == 2 and verdict != "worse":
        return f"{line}\n--promote POINTER puts {report['new']} into use"
    return line
