"""What is tried before a run: what the run would cost, and whether recheck's highlights are those of exact masking.

In: the plan's units and columns. Out: an estimate on stdout; the share of highlights in which recheck agrees.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import pyarrow as pa

from ray_app.data import reviews
from ray_app.data.columns import Columns
from ray_app.data.reviews import Plan, Unit
from ray_app.data.values import texts
from ray_app.errors import UserError, check, first_line
from ray_app.progress import peak_mb

if TYPE_CHECKING:
    from ray_app.catalog.options import Config

log = logging.getLogger(__name__)
SAMPLE_REVIEWS = 256
DRY_RUN_ROWS = 64
SHOWN_ROWS, SHOWN_REJECTS, SHOWN_CHARACTERS = 3, 10, 60


class RecheckAgreement(TypedDict):
    """The share of highlights in which recheck agrees with exact, among how many findings, and the share required."""

    agreement: float
    findings: int
    floor: float


def dry_run(config: "Config", plan: Plan) -> None:
    """Shows how the first rows are read, analyzes a few of them in this process, and prints the time, memory and cost
    of the whole plan."""
    from ray_app.inference.analyzer import Analyzer

    accepted, rejected = reviews.read(plan.units[0], plan.columns) if plan.units else (None, None)
    for line in _shown(accepted, rejected):
        print(line)
    if accepted is None or rejected is None or not len(accepted):
        print(
            f"{'the first unit' if plan.units else 'the input'} has no readable row: no estimate. Nothing was written."
        )
        return
    analyzer = Analyzer(
        config.bundle,
        config.device,
        highlights=config.highlights,
        words=config.words,
        shortlisted=config.recheck_words,
        opinions=config.opinions,
        named_by=config.recheck_by,
        thresholds=config.thresholds,
    )
    some = accepted.slice(0, DRY_RUN_ROWS)
    began = time.monotonic()
    analyzer.table(some)
    speed = len(some) / (time.monotonic() - began)
    memory = peak_mb() / 1e3
    cost = plan.rows / speed / 3600 * config.price_per_hour
    refused = sum(rejected["rows"].to_pylist())
    print(
        f"first unit: {len(accepted):,} accepted, {refused:,} rejected; one worker here: {speed:.0f} rows/s, "
        f"{plan.rows / speed / 60:.1f} min for {plan.rows:,} rows, {memory:.1f} GB per worker"
        f"{f', {cost:,.2f} at {config.price_per_hour:g} per hour' if cost else ''}. Nothing was written."
    )


def _shown(accepted: pa.Table | None, rejected: pa.Table | None) -> Iterator[str]:
    """The first rows as they are read, and the first rejects with their reasons."""
    if accepted is not None:
        shown = accepted.slice(0, SHOWN_ROWS).drop_columns(["source_file", "source_row"])
        for row in zip(*map(texts, shown.columns), strict=True):
            values = zip(shown.column_names, row, strict=True)
            yield "row " + " · ".join(f"{name}={str(value)[:SHOWN_CHARACTERS]!r}" for name, value in values)
    rows = rejected.to_pylist() if rejected is not None else []
    for row in rows[:SHOWN_REJECTS]:
        yield f"rejected {row['file']} row {row['row']} (id {row['review_id']}): {row['reason']}"
    if len(rows) > SHOWN_REJECTS:
        yield f"and {len(rows) - SHOWN_REJECTS:,} more in the first unit"


def recheck_agreement(config: "Config", units: Sequence[Unit], columns: Columns) -> RecheckAgreement:
    """Measures recheck against exact on reviews from all over the input; raises UserError below the floor."""
    share, findings = (_measure if config.placement == "here" else _measure_on_ray)(config, units, columns)
    result = f"recheck finds {share:.1%} of {findings:,} highlights as exact does, on a sample of the input"
    check(
        share >= config.recheck_floor,
        f"--highlights recheck: {result}, below --recheck-floor {config.recheck_floor:g}; raise --recheck-words, or "
        "write --highlights exact",
    )
    log.info("%s", result)
    return {"agreement": round(share, 4), "findings": findings, "floor": config.recheck_floor}


def _measure_on_ray(config: "Config", units: Sequence[Unit], columns: Columns) -> tuple[float, int]:
    """`_measure` in a task, so that its memory is given back before the run."""
    import ray

    from ray_app import cluster
    from ray_app.inference.runtime import NO_RECHECK

    cluster.start()
    check(config.recheck_by == "attention" or not cluster.wants_gpu(config.device), NO_RECHECK)
    try:
        result: tuple[float, int] = ray.get(ray.remote(_measure).options(num_cpus=1).remote(config, units, columns))
    except ray.exceptions.RayTaskError as error:
        raise UserError(first_line(error.cause)) from None
    return result


def _measure(config: "Config", units: Sequence[Unit], columns: Columns) -> tuple[float, int]:
    """The share of the sample's highlights in which recheck agrees with exact, and how many highlights those are."""
    from ray_app.inference import bundle_names, occlusion
    from ray_app.inference.runtime import BundleRuntime

    runtime = BundleRuntime(bundle_names.absolute(config.bundle), config.device, thresholds=config.thresholds)
    texts = reviews.sample_texts(units, columns, SAMPLE_REVIEWS)
    return occlusion.recheck_agreement(runtime, texts, config.words, config.recheck_words, config.recheck_by)
