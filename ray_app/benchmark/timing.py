"""Variants timed in turns, each in a process of its own, so that a busy machine hurts them alike.

In: a bundle, texts, names of `rivals.RIVALS`. Out: one Result a variant: its rounds, and what it found in the first.
"""

import importlib.util
import multiprocessing
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from transformers import AutoConfig

from ray_app.arrays import Ints
from ray_app.benchmark.methods import EXTRAS, METHODS, MethodResult, Workload
from ray_app.engine.flops import encoder_flops, measure_gemm_flops
from ray_app.engine.ragged import concatenate
from ray_app.errors import first_line
from ray_app.inference.masking import above_threshold, drops, strongest_variant
from ray_app.inference.runtime import rounded


@dataclass(kw_only=True)
class Result:
    """One variant: seconds and the GEMM probe's FLOP/s of each round; why it did not run, where it did not."""

    seconds: list[float] = field(default_factory=list)
    gemm: list[float] = field(default_factory=list)
    seen: MethodResult | None = None
    peak_mb: float = 0.0
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every variant is asked: sizes of the work, and the pairs highlights are compared on."""

    reviews: int
    tokens: int
    flops: float
    owner: Ints


def time_methods(
    bundle: str, texts: Sequence[str], names: Sequence[str], rounds: int, device: str, threads: int
) -> tuple[dict[str, Result], Task]:
    """Runs each variant `rounds` times after one warm-up, in turns."""
    subject = Workload(bundle, texts, device, threads)
    sequences, _ = concatenate([subject.whole, subject.masked]).unique()
    first_only = subject.runtime.meta.pooling == "first"
    config = AutoConfig.from_pretrained(subject.runtime.bundle.path / "keywords")
    flops = encoder_flops(config, len(subject.runtime.meta.thresholds), sequences.lengths, first_only)
    task = Task(reviews=len(texts), tokens=subject.tokens, flops=flops, owner=subject.variants.review)
    del subject
    results = {name: Result() for name in names}
    with _children(names, (bundle, list(texts), device, threads), results) as connections:
        for turn in range(rounds + 1):
            for name, connection in connections.items():
                if not results[name].failure:
                    _turn(connection, results[name], warm_up=turn == 0)
    return results, task


def _turn(connection: Connection, result: Result, warm_up: bool) -> None:
    connection.send(True)
    try:
        answer: Any = connection.recv()
    except EOFError:
        answer = "its process died"
    if isinstance(answer, str):
        result.failure = answer
        return
    seconds, gemm, result.seen, result.peak_mb = answer
    if not warm_up:
        result.seconds.append(seconds)
        result.gemm.append(gemm)


@contextmanager
def _children(
    names: Sequence[str], arguments: tuple[Any, ...], results: dict[str, Result]
) -> Iterator[dict[str, Connection]]:
    context = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    processes = []
    for name in names:
        package = EXTRAS.get(name)
        if package and importlib.util.find_spec(package) is None:
            results[name].failure = f"{package} is not installed: pip install 'nunchi[bench]'"
            continue
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
            connection.close()  # a child that waits for its turn sees the end and leaves
        for process in processes:
            process.join(10)


def _child(connection: Connection, name: str, bundle: str, texts: list[str], device: str, threads: int) -> None:
    subject: Workload | None = None
    try:
        while connection.recv():
            subject = subject or Workload(bundle, texts, device, threads)
            place = subject.runtime.placement
            gemm = [measure_gemm_flops(place.device, place.backend, rounds=3)]
            began = time.perf_counter()
            seen = METHODS[name](subject)
            seconds = time.perf_counter() - began
            gemm.append(measure_gemm_flops(place.device, place.backend, rounds=3))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            connection.send((seconds, float(np.mean(gemm)), seen, peak))
    except EOFError:
        pass
    except Exception as error:
        connection.send(f"{type(error).__name__}: {first_line(error)}")


def compare(
    seen: MethodResult, oracle: MethodResult, owner: Ints, thresholds: Sequence[float]
) -> tuple[float, float | None]:
    """The largest difference of probabilities to the oracle's, and the share of found keywords with its highlight."""
    difference = float(np.abs(seen.before - oracle.before).max(initial=0.0))
    if seen.after is None or oracle.after is None:
        return difference, None
    decided = np.isfinite(seen.after)
    difference = max(difference, float(np.abs(seen.after - oracle.after)[decided].max(initial=0.0)))
    review, keyword = above_threshold(oracle.before, thresholds)
    best = [
        strongest_variant(drops(rounded(one.before)[owner], rounded(one.after)), owner, review, keyword)  # type: ignore[arg-type]
        for one in (seen, oracle)
    ]
    return difference, float((best[0] == best[1]).mean()) if len(review) else None
