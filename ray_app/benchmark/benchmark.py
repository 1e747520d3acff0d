"""How close to the hardware's limit this is, here: ours and others' ways in turns, in one run, on real reviews.

In: reviews and a bundle, or a random encoder of a named shape. Out: a table, and with --output
`benchmark.json` and a plot. Every speed stands beside a GEMM probe taken next to it; figures are medians over the
rounds.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_app.benchmark.random_bundle import SHAPES, random_bundle
from ray_app.errors import UserError
from ray_app.inference import bundle as bundles
from ray_app.options import Options, as_dict, option

ENGINE = ("ours", "hf-review", "captum", "naive", "recheck", "shap")
JOB = ("graph", "ray-fused", "ray-pools")
ORACLE = "hf-review"


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.benchmark`."""

    input: str = option("sample", "reviews as for jobs.analyze; sample = the shipped catalog", "Data", common=True)
    columns: str = option("", "column names where they are not found: review_id=NAME,text=NAME", "Data")
    bundle: str = option("", "bundle to measure; default: random weights of --shape", "Data", common=True)
    shape: str = option("roberta-base", "random encoder where no bundle is given", "Data", tuple(SHAPES), common=True)
    output: str = option("", "folder for benchmark.json and benchmark.svg", "Data", common=True)
    variants: tuple[str, ...] = option(
        ("ours", "hf-review", "captum", "naive"),
        f"of the engine: {', '.join(ENGINE)}; of the whole job: {', '.join(JOB)}",
        "Measure",
        each=(*ENGINE, *JOB),
        common=True,
    )
    reviews: int = option(16, "reviews per round of the engine's variants", "Measure", least=1, common=True)
    job_reviews: int = option(2_000, "reviews per round of the whole job's variants", "Measure", least=1)
    rounds: int = option(5, "rounds, after one to warm up", "Measure", least=1, common=True)
    sweeps: tuple[str, ...] = option(
        (), "also cost against any of: length, catalog, workers", "Measure", each=("length", "catalog", "workers")
    )
    catalog_rows: tuple[int, ...] = option((1_000, 10_000, 100_000), "sizes of the catalog sweep", "Measure", least=1)
    floor: float = option(0.0, "fail where ours stays below this ratio to the GEMM probe", "Measure", least=0)
    unit_rows: int = option(
        2_000, "rows per unit of the whole job's variants, an eighth of the reviews at most", "Measure", least=1
    )
    threads: int = option(0, "threads of each variant, 0 for torch's choice", "Measure", least=0)
    device: str = option("auto", "where the classifiers run", "Measure", ("auto", "cpu", "cuda"), common=True)


def run(config: Config) -> int:
    """Measures, prints, writes; returns the exit code."""
    from ray_app.engine.device import choose_device
    from ray_app.engine.flops import measure_gemm_flops

    with tempfile.TemporaryDirectory(prefix="nunchi-benchmark-") as folder:
        bench = Bench(config, Path(folder))
        placement = choose_device(config.device, config.threads)
        report: dict[str, Any] = {
            "machine": _machine(placement),
            "gemm_gflops": round(measure_gemm_flops(placement.device, placement.backend) / 1e9, 1),
            "bundle": config.bundle or f"random {config.shape}",
            "rows": [],
            "config": as_dict(config),
        }
        print(f"{report['machine']}; GEMM probe {report['gemm_gflops']:g} GFLOP/s; {report['bundle']}", flush=True)
        engine, job = ([name for name in config.variants if name in kind] for kind in (ENGINE, JOB))
        report["rows"] += bench.engine(engine) if engine else []
        report["rows"] += bench.job(job) if job else []
        report["sweeps"] = {name: SWEEPS[name](bench) for name in config.sweeps}
    print(table(report["rows"]), flush=True)
    for name, rows in report["sweeps"].items():
        print(f"\n{name}\n{table(rows)}", flush=True)
    if config.output:
        _write(config.output, report)
    ours = next((row for row in report["rows"] if row["variant"] == "ours"), None)
    if config.floor and (ours is None or ours["gemm_ratio"] < config.floor):
        print(f"ours: {ours and ours['gemm_ratio']} of the GEMM probe, below --floor {config.floor:g}", file=sys.stderr)
        return 1
    return 0


class Bench:
    """Reviews, a bundle and the ways to measure them."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.bundle = config.bundle or str(random_bundle(folder / "bundle", config.shape))
        bundles.load(self.bundle)  # a mistake shows here, before anything is timed
        self.runs = 0

    def texts(self, count: int) -> list[str]:
        """The first accepted reviews of the input."""
        from ray_app.data import reviews as units

        return units.read_first_texts(self.config.input, self.config.columns, count)

    def engine(self, names: list[str], texts: list[str] | None = None) -> list[dict[str, Any]]:
        """One row a variant of the engine, all against the oracle where it takes part."""
        import numpy as np

        from ray_app.benchmark.timing import compare, time_methods

        texts = self.texts(self.config.reviews) if texts is None else texts
        config = self.config
        results, task = time_methods(self.bundle, texts, names, config.rounds, config.device, config.threads)
        thresholds = bundles.load(self.bundle).meta.thresholds
        oracle = results[ORACLE].seen if ORACLE in results else None
        rows = []
        for name, result in results.items():
            if not result.seconds:
                print(f"{name}: left out, {result.failure}", flush=True)
                continue
            seconds = float(np.median(result.seconds))
            ratio = float(np.median([task.flops / s / g for s, g in zip(result.seconds, result.gemm, strict=True)]))
            difference, same = (
                compare(result.seen, oracle, task.owner, thresholds) if oracle and result.seen else (None, None)
            )
            rows.append(
                {
                    "variant": name,
                    "reviews_per_s": round(task.reviews / seconds, 3),
                    "tokens_per_s": round(task.tokens / seconds, 1),
                    "gemm_ratio": round(ratio, 3),
                    "peak_rss_mb": round(result.peak_mb),
                    "max_abs_diff": difference,
                    "same_highlight": same,
                }
            )
        return rows

    def job(self, names: list[str]) -> list[dict[str, Any]]:
        """One row a way to run the whole job; speed after start-up, which stands apart."""
        import numpy as np

        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(self.config.rounds):
            for name in names:
                found[name].append(self.once(name, self.config.job_reviews))
        rows = []
        reference = self.highlights(found[names[0]][-1])
        for name, runs in found.items():
            steady = float(np.median([run["steady_rows_per_second"] for run in runs]))
            engine = runs[-1]["engine"]
            rows.append(
                {
                    "variant": name,
                    "reviews_per_s": round(steady, 1),
                    "tokens_per_s": round(steady * engine["tokens"] / max(1, runs[-1]["analysed"]), 1),
                    "gemm_ratio": float(np.median([run["engine"]["gemm_ratio"] for run in runs])),
                    "peak_rss_mb": max(run["peak_worker_mb"] for run in runs),
                    "max_abs_diff": None,
                    "same_highlight": round(_share_equal(self.highlights(runs[-1]), reference), 6),
                    "start_up_s": float(np.median([run["seconds_to_first_unit"] for run in runs])),
                    "whole_run_reviews_per_s": float(np.median([run["rows_per_second"] for run in runs])),
                }
            )
        return rows

    def parquet(self, count: int) -> str:
        """The input's first reviews as files of their own, with ids that differ."""
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

    def highlights(self, run: dict[str, Any]) -> set[tuple[Any, ...]]:
        """Every finding of a run: review, keyword, score, where its highlight starts."""
        from ray_app import storage

        table = storage.read_parquet(storage.join(run["config"]["output"], "data"))
        return {
            (row["review_id"], finding["keyword"], finding["score"], (finding["highlight"] or {}).get("start"))
            for row in table.select(["review_id", "findings"]).to_pylist()
            for finding in row["findings"]
        }

    def once(self, name: str, count: int, workers: int = 0) -> dict[str, Any]:
        """`_run.json` of one run over so many reviews; `graph` is the same units in a process of their own, without
        Ray. Eight units at least: the speed after start-up is that of all but each worker's first one."""
        source, unit_rows = self.parquet(count), min(self.config.unit_rows, max(1, count // 8))
        self.runs += 1
        out = self.folder / f"run-{self.runs}"
        arguments = ["--input", source, "--bundle", self.bundle, "--output", str(out), "--device", self.config.device]
        arguments += ["--unit-rows", str(unit_rows), "--workers", str(workers)]
        placement = {"graph": "here", "ray-fused": "fused", "ray-pools": "pools"}[name]
        command = [sys.executable, "-m", "jobs.analyze", *arguments, "--placement", placement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{name}: {(done.stderr.strip().splitlines() or ['no word why'])[-1]}")
        result: dict[str, Any] = json.loads((out / "_run.json").read_text(encoding="utf-8"))
        return result


def by_length(bench: Bench) -> list[dict[str, Any]]:
    """The engine on reviews of 4 to 128 words, made of real ones end to end."""
    words = " ".join(bench.texts(400)).split()
    rows = []
    for length in (4, 8, 16, 32, 64, 128):
        count = max(1, min(bench.config.reviews, 512 // length, len(words) // length))
        texts = [" ".join(words[i * length : (i + 1) * length]) for i in range(count)]
        rows += [{"words": length} | row for row in bench.engine(["ours"], texts)]
    return rows


def by_catalog(bench: Bench) -> list[dict[str, Any]]:
    """The whole job on catalogs of growing size: speed and memory must stay flat."""
    sizes = list(bench.config.catalog_rows)
    return [{"rows": size} | _job_row(bench.once("ray-fused", size)) for size in sizes]


def by_workers(bench: Bench) -> list[dict[str, Any]]:
    """The whole job with one actor, two, and so on up to one a CPU."""
    rows, workers = [], 1
    while workers <= (os.cpu_count() or 1):
        rows.append({"workers": workers} | _job_row(bench.once("ray-fused", bench.config.job_reviews, workers)))
        workers *= 2
    return rows


def _share_equal(found: set[Any], reference: set[Any]) -> float:
    """1 where both hold the same."""
    return len(found & reference) / max(1, len(found | reference))


SWEEPS = {"length": by_length, "catalog": by_catalog, "workers": by_workers}


def _job_row(run: dict[str, Any]) -> dict[str, Any]:
    engine = run["engine"]
    return {
        "reviews_per_s": run["steady_rows_per_second"],
        "tokens_per_s": engine["tokens_per_second"],
        "gemm_ratio": engine["gemm_ratio"],
        "peak_rss_mb": run["peak_worker_mb"],
        "start_up_s": run["seconds_to_first_unit"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    if not rows:
        return "nothing was measured"
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in rows:
        cells = [row.get(name) for name in names]
        shown = ["" if c is None else f"{c:.3g}" if isinstance(c, float) and abs(c) < 10 else f"{c}" for c in cells]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _machine(placement: Any) -> str:
    import platform

    import torch

    name = torch.cuda.get_device_name() if placement.device.type == "cuda" else platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, {placement.backend}, torch {torch.__version__}"


def _write(output: str, report: dict[str, Any]) -> None:
    from ray_app import storage

    storage.write_json(storage.join(output, "benchmark.json"), report)
    try:
        storage.write_bytes(storage.join(output, "benchmark.svg"), plot(report["rows"]))
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'nunchi[bench]')")
    print(f"{output}/benchmark.json")


def plot(rows: list[dict[str, Any]]) -> bytes:
    """Reviews per second a variant, as SVG. Raises ImportError without matplotlib."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.5 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([row["variant"] for row in rows], [row["reviews_per_s"] for row in rows])
    axes.bar_label(bars, [f"{row['reviews_per_s']:g}/s, {row['gemm_ratio']:.0%} of GEMM" for row in rows], padding=3)
    axes.set_xlabel("reviews per second")
    axes.margins(x=0.35)
    axes.invert_yaxis()
    sink = io.BytesIO()
    figure.savefig(sink, format="svg")
    return sink.getvalue()
