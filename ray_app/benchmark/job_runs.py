"""Runs of the whole job, timed. In: a file of reviews and a bundle. Out: the figures of each `_run.json`."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from ray_app import storage
from ray_app.benchmark.report import Figures
from ray_app.errors import UserError

PLACEMENTS = {"graph": "here", "ray-fused": "fused", "ray-pools": "pools"}  # by variant; `graph` runs without Ray
Finding = tuple[str, str, int, int | None]  # review id, keyword, score, where its highlight starts


class EngineFigures(TypedDict):
    """What `_run.json` says of the engine; only what is read here."""

    tokens: float
    tokens_per_second: float
    gemm_ratio: float


class JobRun(TypedDict):
    """`_run.json` of jobs.analyze; only what is read here."""

    config: dict[str, str]
    analysed: int
    engine: EngineFigures
    rows_per_second: float
    steady_rows_per_second: float
    seconds_to_first_unit: float
    peak_worker_mb: int


def run_job(
    variant: str, source: str, bundle: str, output: Path, *, device: str, unit_rows: int, workers: int
) -> JobRun:
    """Runs jobs.analyze in a process of its own. Raises UserError with the last line of a run that failed."""
    options: dict[str, object] = {
        "input": source,
        "bundle": bundle,
        "output": output,
        "device": device,
        "unit-rows": unit_rows,
        "workers": workers,
        "placement": PLACEMENTS[variant],
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    done = subprocess.run([sys.executable, "-m", "jobs.analyze", *flags], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{variant}: {(done.stderr.strip().splitlines() or ['no error output'])[-1]}")
    run: JobRun = json.loads((output / "_run.json").read_text(encoding="utf-8"))
    return run


def findings(run: JobRun) -> set[Finding]:
    """Every finding in the output of a run."""
    table = storage.read_parquet(storage.join(run["config"]["output"], "data"))
    return {
        (row["review_id"], finding["keyword"], finding["score"], (finding["highlight"] or {}).get("start"))
        for row in table.select(["review_id", "findings"]).to_pylist()
        for finding in row["findings"]
    }


def variant_figures(variant: str, runs: Sequence[JobRun], reference: set[Finding]) -> Figures:
    """Medians over the runs of a variant; findings of the last one are compared with `reference`."""
    last, found = runs[-1], findings(runs[-1])
    steady = float(np.median([run["steady_rows_per_second"] for run in runs]))
    return {
        "variant": variant,
        "reviews_per_s": round(steady, 1),
        "tokens_per_s": round(steady * last["engine"]["tokens"] / max(1, last["analysed"]), 1),
        "gemm_ratio": float(np.median([run["engine"]["gemm_ratio"] for run in runs])),
        "peak_rss_mb": max(run["peak_worker_mb"] for run in runs),
        "max_abs_diff": None,
        "same_highlight": round(len(found & reference) / max(1, len(found | reference)), 6),
        "start_up_s": float(np.median([run["seconds_to_first_unit"] for run in runs])),
        "whole_run_reviews_per_s": float(np.median([run["rows_per_second"] for run in runs])),
    }


def run_figures(run: JobRun) -> Figures:
    """One run as a row of a sweep."""
    return {
        "reviews_per_s": run["steady_rows_per_second"],
        "tokens_per_s": run["engine"]["tokens_per_second"],
        "gemm_ratio": run["engine"]["gemm_ratio"],
        "peak_rss_mb": run["peak_worker_mb"],
        "start_up_s": run["seconds_to_first_unit"],
    }
