"""How close to the hardware's limit the engine comes: ours and other methods in turns, in one run, on real reviews.

In: reviews and a bundle, or a random encoder of a named shape. Out: a table, and with --output `benchmark.json` and a
plot. Every speed is compared with a GEMM probe taken right beside it; figures are medians over the rounds.
"""

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app.benchmark import job_runs
from ray_app.benchmark.random_bundle import SHAPES, random_bundle
from ray_app.benchmark.report import UNMASKED, Figures, Report, plot, table
from ray_app.errors import UserError, pip_install
from ray_app.inference import bundle as bundles
from ray_app.options import Options, as_dict, option

if TYPE_CHECKING:
    from ray_app.engine.device import Device

ENGINE = ("ours", "hf-review", "captum", "naive", "recheck", "shap")
JOB = tuple(job_runs.PLACEMENTS)
ORACLES = ("hf-review", "hf-batch")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.benchmark`."""

    input: str = option("sample", "reviews as for jobs.analyze; sample = the shipped catalog", "Data", common=True)
    columns: str = option("", "column names where they are not recognized: review_id=NAME,text=NAME", "Data")
    bundle: str = option("", "bundle to measure; default: random weights of --shape", "Data", common=True)
    shape: str = option("roberta-base", "random encoder where no bundle is given", "Data", tuple(SHAPES), common=True)
    output: str = option("", "folder for benchmark.json and benchmark.svg", "Data", common=True)
    variants: tuple[str, ...] = option(
        ("ours", "hf-review", "captum", "naive"),
        f"of highlights: {', '.join(ENGINE)}; without: {', '.join(UNMASKED)}; of the whole job: {', '.join(JOB)}",
        "Measure",
        each=(*ENGINE, *UNMASKED, *JOB),
        common=True,
    )
    reviews: int = option(16, "reviews per round of the engine's variants", "Measure", least=1, common=True)
    job_reviews: int = option(2_000, "reviews per round of the whole job's variants", "Measure", least=1)
    rounds: int = option(5, "rounds, after one to warm up", "Measure", least=1, common=True)
    sweeps: tuple[str, ...] = option(
        (), "also measure against any of: length, catalog, workers", "Measure", each=("length", "catalog", "workers")
    )
    catalog_rows: tuple[int, ...] = option((1_000, 10_000, 100_000), "sizes of the catalog sweep", "Measure", least=1)
    price: float = option(0.0, "dollars per hour of this machine, for reviews per dollar", "Measure", least=0)
    floor: float = option(0.0, "fail where ours stays below this ratio to the GEMM probe", "Measure", least=0)
    unit_rows: int = option(
        2_000, "rows per unit of the whole job's variants, an eighth of the reviews at most", "Measure", least=1
    )
    threads: int = option(0, "threads per variant, 0 for torch's choice", "Measure", least=0)
    device: str = option("auto", "where the classifiers run", "Measure", ("auto", "cpu", "cuda"), common=True)


class Bench:
    """Reviews, a bundle, and the ways to measure them."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.bundle = config.bundle or str(random_bundle(folder / "bundle", config.shape))
        self.thresholds = bundles.load(self.bundle).meta.thresholds  # raises UserError before anything is timed
        self.runs = 0

    def texts(self, count: int) -> list[str]:
        """The first accepted reviews of the input."""
        from ray_app.data.reviews import read_first_texts

        return read_first_texts(self.config.input, self.config.columns, count)

    def engine(self, variants: Sequence[str], texts: Sequence[str] | None = None) -> list[Figures]:
        """One row per variant of the engine that could run, compared with the oracle if it is among them."""
        from ray_app.benchmark.timing import time_methods, variant_figures

        texts = self.texts(self.config.reviews) if texts is None else texts
        config = self.config
        timings, task = time_methods(self.bundle, texts, variants, config.rounds, config.device, config.threads)
        for name, timing in timings.items():
            if not timing.seconds:
                log.warning("%s: left out, %s", name, timing.failure)
        oracle = next((timings[name].result for name in ORACLES if name in timings), None)
        return [
            variant_figures(name, timing, task, oracle, self.thresholds)
            for name, timing in timings.items()
            if timing.seconds
        ]

    def job(self, variants: Sequence[str]) -> list[Figures]:
        """One row per way to run the whole job. Speed is that after start-up; start-up has a column of its own."""
        runs: dict[str, list[job_runs.JobRun]] = {name: [] for name in variants}
        for _ in range(self.config.rounds):
            for name in variants:
                runs[name].append(self.run_job(name, self.config.job_reviews))
        reference = job_runs.findings(runs[variants[0]][-1])
        return [job_runs.variant_figures(name, runs[name], reference) for name in variants]

    def run_job(self, variant: str, count: int, workers: int = 0) -> job_runs.JobRun:
        """One run over `count` reviews, in at least eight units: speed is that of all but each worker's first unit."""
        self.runs += 1
        return job_runs.run_job(
            variant,
            self.parquet(count),
            self.bundle,
            self.folder / f"run-{self.runs}",
            device=self.config.device,
            unit_rows=min(self.config.unit_rows, max(1, count // 8)),
            workers=workers,
        )

    def parquet(self, count: int) -> str:
        """A file of the input's first `count` reviews, with unique ids. Raises UserError where there are fewer."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / f"reviews-{count}.parquet"
        if path.exists():
            return str(path)
        texts = self.texts(count)
        if len(texts) < count:
            raise UserError(f"--input {self.config.input}: {len(texts):,} reviews where {count:,} are to be measured")
        ids = pa.array([str(i) for i in range(count)])
        pq.write_table(pa.table({"review_id": ids, "text": pa.array(texts)}), path, row_group_size=50_000)
        return str(path)


def by_length(bench: Bench) -> list[Figures]:
    """The engine on reviews of 4 to 128 words, cut from real ones laid end to end."""
    words = " ".join(bench.texts(400)).split()
    rows: list[Figures] = []
    for length in (4, 8, 16, 32, 64, 128):
        count = max(1, min(bench.config.reviews, 512 // length, len(words) // length))
        texts = [" ".join(words[i * length : (i + 1) * length]) for i in range(count)]
        rows += [{"words": length, **row} for row in bench.engine(["ours"], texts)]
    return rows


def by_catalog(bench: Bench) -> list[Figures]:
    """The whole job on catalogs of growing size: speed and memory must stay flat."""
    sizes = list(bench.config.catalog_rows)
    return [{"rows": size, **job_runs.run_figures(bench.run_job("ray-fused", size))} for size in sizes]


def by_workers(bench: Bench) -> list[Figures]:
    """The whole job with one actor, two, four, and so on up to one per CPU."""
    rows: list[Figures] = []
    workers = 1
    while workers <= (os.cpu_count() or 1):
        run = bench.run_job("ray-fused", bench.config.job_reviews, workers)
        rows.append({"workers": workers, **job_runs.run_figures(run)})
        workers *= 2
    return rows


SWEEPS = {"length": by_length, "catalog": by_catalog, "workers": by_workers}


def run(config: Config) -> int:
    """Measures, prints, writes; returns the exit code, 1 where ours is below --floor."""
    with tempfile.TemporaryDirectory(prefix="nunchi-benchmark-") as folder:
        report = _measure(config, Bench(config, Path(folder)))
    print(table(report["rows"]), flush=True)
    for name, rows in report["sweeps"].items():
        print(f"\n{name}\n{table(rows)}", flush=True)
    if config.output:
        _write(config.output, report)
    ours = next((row for row in report["rows"] if row.get("variant") == "ours"), None)
    _conclude(config, ours)
    if config.floor and (ours is None or ours["gemm_ratio"] < config.floor):
        log.error("ours: %s of the GEMM probe, below --floor %g", ours and ours["gemm_ratio"], config.floor)
        return 1
    return 0


def _measure(config: Config, bench: Bench) -> Report:
    from ray_app.engine.device import choose_device
    from ray_app.engine.flops import measure_gemm_flops

    device = choose_device(config.device, config.threads)
    report: Report = {
        "machine": _machine(device),
        "gemm_gflops": round(measure_gemm_flops(device.torch_device, device.backend) / 1e9, 1),
        "bundle": config.bundle or f"random {config.shape}",
        "rows": [],
        "config": as_dict(config),
        "sweeps": {},
    }
    print(f"{report['machine']}; GEMM probe {report['gemm_gflops']:g} GFLOP/s; {report['bundle']}", flush=True)
    engine, unmasked, job = ([name for name in config.variants if name in names] for names in (ENGINE, UNMASKED, JOB))
    report["rows"] += bench.engine(engine) if engine else []
    report["rows"] += bench.engine(unmasked) if unmasked else []
    report["rows"] += bench.job(job) if job else []
    if config.price:
        for row in report["rows"]:
            row["reviews_per_dollar"] = round(row["reviews_per_s"] * 3_600 / config.price)
    report["sweeps"] = {name: SWEEPS[name](bench) for name in config.sweeps}
    return report


def _machine(device: "Device") -> str:
    import platform

    import torch

    name = torch.cuda.get_device_name() if device.torch_device.type == "cuda" else platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, {device.backend}, torch {torch.__version__}"


def _write(output: str, report: Report) -> None:
    from ray_app import storage

    storage.write_json(storage.join(output, "benchmark.json"), report)
    try:
        storage.write_bytes(storage.join(output, "benchmark.svg"), plot(report["rows"]))
    except ImportError:
        log.warning("no plot, which needs matplotlib: %s", pip_install("bench"))


def _conclude(config: Config, ours: Figures | None) -> None:
    """The report's place and main figure, and the command that measures what this run did not."""
    from ray_app.cli import next_command

    path = f"{config.output}/benchmark.json: " if config.output else ""
    if ours:
        print(f"{path}ours at {ours['reviews_per_s']:g} reviews/s, {ours['gemm_ratio']:.0%} of the GEMM probe")
    elif path:
        print(f"{path}{len(config.variants)} variants")
    left = [name for name in SWEEPS if name not in config.sweeps]
    measured = {"bundle": config.bundle} if config.bundle else {"shape": config.shape}
    if left:
        print(f"Next: {next_command('benchmark', **measured, sweeps=','.join(left))}")
