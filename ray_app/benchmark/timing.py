"""Variants timed in turns, each in a process of its own, so that a busy machine slows them alike.

In: a bundle, texts, names of `methods.METHODS`. Out: one VariantTiming per variant, and the size of the work.
"""

import importlib.util
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
from transformers import AutoConfig

from ray_app.arrays import Ints
from ray_app.benchmark.methods import METHODS, PACKAGES, MethodResult, Workload
from ray_app.benchmark.report import UNMASKED, Figures
from ray_app.engine.flops import encoder_flops, measure_gemm_flops
from ray_app.engine.ragged import concatenate
from ray_app.errors import first_line, pip_install
from ray_app.inference.bundle import models_of
from ray_app.inference.masking import above_threshold, drops, strongest_variant
from ray_app.inference.runtime import rounded
from ray_app.progress import peak_mb

WorkloadArguments = tuple[str, list[str], str, int]  # bundle, texts, device, threads
Round = tuple[float, float, MethodResult, float]  # seconds, FLOP/s of the GEMM probe, result, peak memory in MB


@dataclass(kw_only=True)
class VariantTiming:
    """One variant: seconds and the GEMM probe's FLOP/s per round, its latest result; or why it did not run."""

    seconds: list[float] = field(default_factory=list)
    gemm: list[float] = field(default_factory=list)
    result: MethodResult | None = None
    peak_mb: float = 0.0
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The work of every variant: its size, and `owner` [masked variants], the review of each."""

    reviews: int
    tokens: int
    flops: float
    owner: Ints


def time_methods(
    bundle: str, texts: Sequence[str], names: Sequence[str], rounds: int, device: str, threads: int
) -> tuple[dict[str, VariantTiming], Task]:
    """Runs each variant `rounds` times after one warm-up, in turns: those that mask, or those of UNMASKED."""
    workload = Workload(bundle, texts, device, threads)
    masks = not set(names) <= set(UNMASKED)
    sequences, _ = concatenate([workload.whole, *([workload.masked] if masks else [])]).unique()
    meta = workload.runtime.meta
    first_only = meta.pooling == "first" and not workload.runtime.joint
    folder = workload.runtime.bundle.path / models_of(meta.score_form)[0]
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    flops = encoder_flops(config, len(meta.thresholds), sequences.lengths, first_only)
    tokens = workload.tokens if masks else len(workload.whole.ids)
    task = Task(reviews=len(texts), tokens=tokens, flops=flops, owner=workload.variants.review)
    del workload
    timings = {name: VariantTiming() for name in names}
    for name, package in PACKAGES.items():
        if name in timings and importlib.util.find_spec(package) is None:
            timings[name].failure = f"{package} is not installed: {pip_install('bench')}"
    present = [name for name in names if not timings[name].failure]
    with _children(present, (bundle, list(texts), device, threads)) as connections:
        for turn in range(rounds + 1):
            for name, connection in connections.items():
                if not timings[name].failure:
                    _run_once(connection, timings[name], warm_up=turn == 0)
    return timings, task


def _run_once(connection: Connection, timing: VariantTiming, warm_up: bool) -> None:
    """One round of the child at the other end, added to its timing."""
    connection.send(True)
    try:
        outcome: Round | str = connection.recv()
    except EOFError:
        outcome = "its process died"
    if isinstance(outcome, str):
        timing.failure = outcome
        return
    seconds, gemm, timing.result, timing.peak_mb = outcome
    if not warm_up:
        timing.seconds.append(seconds)
        timing.gemm.append(gemm)


@contextmanager
def _children(names: Sequence[str], arguments: WorkloadArguments) -> Iterator[dict[str, Connection]]:
    """A process per variant; sending anything runs a round, which comes back as a Round, or as why it failed."""
    context = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    processes = []
    for name in names:
        here, there = context.Pipe()
        process = context.Process(target=_child, args=(there, name, *arguments), daemon=True)
        process.start()
        there.close()
        connections[name] = here
        processes.append(process)
    try:
        yield connections
    finally:
        for connection in connections.values():
            connection.close()  # ends a child that waits for its turn
        for process in processes:
            process.join(10)


def _child(connection: Connection, name: str, bundle: str, texts: list[str], device: str, threads: int) -> None:
    workload: Workload | None = None
    try:
        while connection.recv():
            workload = workload or Workload(bundle, texts, device, threads)
            chosen = workload.runtime.device
            gemm = [measure_gemm_flops(chosen.torch_device, chosen.backend, rounds=3)]
            began = time.perf_counter()
            result = METHODS[name](workload)
            seconds = time.perf_counter() - began
            gemm.append(measure_gemm_flops(chosen.torch_device, chosen.backend, rounds=3))
            connection.send((seconds, float(np.mean(gemm)), result, peak_mb()))
    except EOFError:
        pass
    except Exception as error:
        connection.send(f"{type(error).__name__}: {first_line(error)}")


def variant_figures(
    name: str, timing: VariantTiming, task: Task, oracle: MethodResult | None, thresholds: Sequence[float]
) -> Figures:
    """Medians over the rounds of a variant, and its difference from the oracle's result where both have one."""
    seconds = float(np.median(timing.seconds))
    ratios = [task.flops / each / gemm for each, gemm in zip(timing.seconds, timing.gemm, strict=True)]
    difference, same = None, None
    if oracle and timing.result:
        difference, same = compare(timing.result, oracle, task.owner, thresholds)
    return {
        "variant": name,
        "reviews_per_s": round(task.reviews / seconds, 3),
        "tokens_per_s": round(task.tokens / seconds, 1),
        "gemm_ratio": round(float(np.median(ratios)), 3),
        "peak_rss_mb": round(timing.peak_mb),
        "max_abs_diff": difference,
        "same_highlight": same,
    }


def compare(
    result: MethodResult, oracle: MethodResult, owner: Ints, thresholds: Sequence[float]
) -> tuple[float, float | None]:
    """The largest difference from the oracle's probabilities, and the share of found keywords with its highlight.

    `owner` [masked variants]: the review of each. The share is None for a result without masked variants.
    """
    difference = float(np.abs(result.before - oracle.before).max(initial=0.0))
    if result.after is None or oracle.after is None:
        return difference, None
    decided = np.isfinite(result.after)
    difference = max(difference, float(np.abs(result.after - oracle.after)[decided].max(initial=0.0)))
    review, keyword = above_threshold(oracle.before, thresholds)
    best, reference = (
        strongest_variant(drops(rounded(before)[owner], rounded(after)), owner, review, keyword)
        for before, after in ((result.before, result.after), (oracle.before, oracle.after))
    )
    return difference, float((best == reference).mean()) if len(review) else None
