"""What is tried before a run: what the run would cost, and whether recheck's highlights are those of exact masking.

In: the plan's units and columns. Out: an estimate on stdout; the share of highlights in which recheck agrees.
"""

import logging
import resource
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from ray_app import storage
from ray_app.data import reviews
from ray_app.data.columns import Columns
from ray_app.data.reviews import Plan, Unit
from ray_app.errors import UserError, check, first_line

if TYPE_CHECKING:
    from ray_app.catalog.options import Config

log = logging.getLogger(__name__)
SAMPLE_UNITS, SAMPLE_REVIEWS = 16, 256
DRY_RUN_ROWS = 64


class RecheckAgreement(TypedDict):
    """The share of highlights in which recheck agrees with exact, among how many findings, and the share required."""

    agreement: float
    findings: int
    floor: float


def dry_run(config: "Config", plan: Plan) -> None:
    """Analyzes a few rows in this process and prints the time, memory and cost of the whole plan."""
    from ray_app.inference.analyzer import Analyzer

    analyzer = Analyzer(
        config.bundle,
        config.device,
        highlights=config.highlights,
        words=config.words,
        shortlisted=config.recheck_words,
        opinions=config.opinions,
        named_by=config.recheck_by,
    )
    accepted, rejected = reviews.read(plan.units[0], plan.columns) if plan.units else (None, [])
    if accepted is None or not len(accepted):
        print("the first unit has no readable row: no estimate")
        return
    some = accepted.slice(0, DRY_RUN_ROWS)
    began = time.monotonic()
    analyzer.table(some)
    speed = len(some) / (time.monotonic() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    cost = plan.rows / speed / 3600 * config.price_per_hour
    print(
        f"first unit: {len(accepted):,} accepted, {len(rejected):,} rejected; one worker here: {speed:.0f} rows/s, "
        f"{plan.rows / speed / 60:.1f} min for {plan.rows:,} rows, {memory:.1f} GB per worker"
        f"{f', {cost:,.2f} at {config.price_per_hour:g} per hour' if cost else ''}. Nothing was written."
    )


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
    from ray_app.inference import occlusion
    from ray_app.inference.runtime import BundleRuntime

    runtime = BundleRuntime(storage.absolute(config.bundle), config.device)
    texts = sample_texts(units, columns)
    return occlusion.recheck_agreement(runtime, texts, config.words, config.recheck_words, config.recheck_by)


def sample_texts(units: Sequence[Unit], columns: Columns) -> list[str]:
    """Up to SAMPLE_REVIEWS accepted texts, evenly out of SAMPLE_UNITS units from the first to the last."""
    if not units:
        return []
    texts: list[str] = []
    positions = np.unique(np.linspace(0, len(units) - 1, SAMPLE_UNITS).astype(int))
    for position in positions:
        accepted, _ = reviews.read(units[position], columns)
        if accepted is not None and len(accepted):
            rows = np.unique(np.linspace(0, len(accepted) - 1, SAMPLE_REVIEWS // len(positions)).astype(int))
            texts += accepted["text"].take(rows).to_pylist()
    return texts
