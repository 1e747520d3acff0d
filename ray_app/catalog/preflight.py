"""What is tried before a run: what it would cost, and whether recheck's highlights are those of exact masking."""

import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ray_app import storage
from ray_app.data import reviews
from ray_app.data.columns import Columns
from ray_app.data.reviews import Plan, Unit
from ray_app.errors import UserError, check, first_line

SAMPLE_UNITS, SAMPLE_REVIEWS = 16, 256


def dry_run(config: Any, plan: Plan) -> None:
    """Analyses a handful of rows here and scales up."""
    from ray_app.inference.analyzer import Analyzer

    analyzer = Analyzer(config.bundle, config.device, 0, config.highlights, config.words, config.recheck_words)
    accepted, rejected = reviews.read(plan.units[0], plan.columns) if plan.units else (None, [])
    if accepted is None or not len(accepted):
        print("the first unit holds no readable row: no estimate")
        return
    some = accepted.slice(0, 64)
    began = time.monotonic()
    analyzer.table(some)
    speed = len(some) / (time.monotonic() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    cost = plan.rows / speed / 3600 * config.price_per_hour
    print(
        f"first unit: {len(accepted):,} accepted, {len(rejected):,} rejected; one worker here: {speed:.0f} rows/s, "
        f"{plan.rows / speed / 60:.1f} min for {plan.rows:,} rows, {memory:.1f} GB a worker"
        f"{f', {cost:,.2f} at {config.price_per_hour:g} an hour' if cost else ''}. Nothing was written."
    )


def agreement(config: Any, all_units: Sequence[Unit], columns: Columns) -> dict[str, Any]:
    """Measures recheck against exact on reviews from all over the input; raises UserError below the floor."""
    share, findings = (_measure if config.placement == "here" else _measure_on_ray)(config, all_units, columns)
    told = f"recheck finds {share:.1%} of {findings:,} highlights as exact does, on a sample of the input"
    check(
        share >= config.recheck_floor,
        f"--highlights recheck: {told}, below --recheck-floor {config.recheck_floor:g}; raise --recheck-words, or "
        "write --highlights exact",
    )
    print(told, flush=True)
    return {"recheck": {"agreement": round(share, 4), "findings": findings, "floor": config.recheck_floor}}


def _measure_on_ray(config: Any, all_units: Any, columns: Any) -> tuple[float, int]:
    """In a task, so that its memory is given back before the run."""
    import ray

    from ray_app import cluster
    from ray_app.inference.runtime import NO_RECHECK

    cluster.start()
    check(not cluster.wants_gpu(config.device), NO_RECHECK)
    try:
        found: tuple[float, int] = ray.get(ray.remote(_measure).options(num_cpus=1).remote(config, all_units, columns))
    except ray.exceptions.RayTaskError as error:
        raise UserError(first_line(error.cause)) from None
    return found


def _measure(config: Any, all_units: Any, columns: Any) -> tuple[float, int]:
    from ray_app.inference import occlusion
    from ray_app.inference.runtime import BundleRuntime

    runtime = BundleRuntime(storage.absolute(config.bundle), config.device)
    return occlusion.recheck_agreement(runtime, sampled(all_units, columns), config.words, config.recheck_words)


def sampled(all_units: Sequence[Unit], columns: Columns) -> list[str]:
    """Up to SAMPLE_REVIEWS accepted texts, evenly out of SAMPLE_UNITS units from the first to the last."""
    texts: list[str] = []
    picked: Any = np.unique(np.linspace(0, len(all_units) - 1, SAMPLE_UNITS).astype(int)) if all_units else ()
    for i in picked:
        accepted, _ = reviews.read(all_units[i], columns)
        if accepted is not None and len(accepted):
            rows = np.unique(np.linspace(0, len(accepted) - 1, SAMPLE_REVIEWS // len(picked)).astype(int))
            texts += accepted["text"].take(rows).to_pylist()
    return texts
