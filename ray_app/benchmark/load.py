"""An endpoint under load: its throughput at saturation, its latency below it, its behavior above it.

In: the URL of an endpoint, reviews, and the bundle it serves. Out: `load.json`: reviews per second at saturation by
single-review requests, beside in-process inference; latencies under open-loop load (arrivals do not wait for responses,
as users do not) at fractions of that rate; and the seconds until full speed after the last of these.
"""

import asyncio
import logging
import multiprocessing
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NotRequired, TypedDict

from ray_app.errors import check, checked_token
from ray_app.markdown import table
from ray_app.options import SEEDS, Options, as_dict, option

if TYPE_CHECKING:
    import aiohttp

HEADER = ("measurement", "asked/s", "reviews/s", "p50 ms", "p95 ms", "p99 ms", "responses")
FULL = 0.9  # share of the saturation rate that counts as full speed
RECOVERY_SECONDS = 10
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.load`."""

    url: str = option("http://127.0.0.1:8000", "endpoint; its token comes from NUNCHI_TOKEN", "Load")
    input: str = option("sample", "reviews: Parquet, local or s3://; sample = the shipped catalog", "Load")
    bundle: str = option("", "bundle that the endpoint serves, to compare with in-process inference", "Load")
    reviews: int = option(500, "reviews to draw from", "Load", least=1)
    seconds: float = option(20.0, "length of each measurement", "Load", above=0)
    rounds: int = option(
        3, "rounds of saturation, alternating with in-process inference; medians are kept", "Load", least=1
    )
    concurrency: int = option(32, "requests under way at saturation", "Load", least=1)
    rates: tuple[float, ...] = option(
        (0.5, 0.9, 3.0), "open-loop rates, as fractions of the saturation rate", "Load", above=0
    )
    highlights: bool = option(True, "ask for highlights", "Load")
    output: str = option("runs/load", "folder for load.json", "Load")
    seed: int = option(0, "seed of arrivals", "Load", least=0, below=SEEDS)


class Latencies(TypedDict, total=False):
    """Percentiles of the responses with status 200; none where there were none."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class Throughput(Latencies):
    """One measurement: responses with status 200 per second, and all responses by status."""

    reviews_per_s: float
    statuses: dict[str, int]


class OpenLoop(Throughput):
    """A measurement at a rate of arrivals."""

    asked_per_s: float


class Saturation(TypedDict):
    """The median of the rounds, and the rounds."""

    reviews_per_s: float
    rounds: list[Throughput]


class InProcess(TypedDict):
    """In-process inference, and the endpoint's throughput as a ratio to it."""

    reviews_per_s: float
    ratio: float


class Recovery(TypedDict):
    """After the last open loop: the first second at full speed (None: none), and reviews per second in each."""

    full_speed_after_s: int | None
    reviews_per_s: list[float]


class LoadReport(TypedDict):
    """load.json."""

    saturation: Saturation
    by_hand: NotRequired[InProcess]  # only with --bundle
    open_loop: list[OpenLoop]
    recovery: Recovery
    config: dict[str, object]
    reviews: int


@dataclass
class Tally:
    """Responses by status, and the seconds that each with status 200 took."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, status: str, seconds: float) -> None:
        """Counts one response; `status` is the name of the error where there was none."""
        self.statuses[status] += 1
        if status == "200":
            self.seconds.append(seconds)

    def summary(self, elapsed: float) -> Throughput:
        """The figures of a measurement that took `elapsed` seconds."""
        ordered = sorted(self.seconds)
        rate = round(len(ordered) / elapsed, 2)
        if not ordered:
            return {"reviews_per_s": rate, "statuses": dict(self.statuses)}
        p50, p95, p99 = (round(1e3 * ordered[int(p / 100 * (len(ordered) - 1))], 1) for p in (50, 95, 99))
        return {
            "reviews_per_s": rate,
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "statuses": dict(self.statuses),
        }


Ask = Callable[[str, Tally], Coroutine[None, None, None]]  # sends one review and tallies the response


def run(config: Config, recovery_seconds: int = RECOVERY_SECONDS) -> LoadReport:
    """Measures, prints, writes `load.json`; returns it. Raises UserError where the endpoint does not answer."""
    from ray_app import storage

    texts = _texts(config)
    report = asyncio.run(_measure(config, texts, recovery_seconds))
    path = storage.join(config.output, "load.json")
    storage.write_json(path, report)
    print("\n".join(table(HEADER, _rows(report))))
    _conclude(config, path, report)
    return report


def _rows(report: LoadReport) -> Iterator[tuple[str, ...]]:
    """A row per measurement: what was asked, what was answered with 200, how long it took, what else was answered."""
    for number, throughput in enumerate(report["saturation"]["rounds"], 1):
        yield _row(f"saturation {number}", "", throughput)
    for loop in report["open_loop"]:
        yield _row("open loop", f"{loop['asked_per_s']:g}", loop)
    if "by_hand" in report:
        by_hand = report["by_hand"]
        yield ("in process", "", f"{by_hand['reviews_per_s']:g}", "", "", "", f"endpoint / this: {by_hand['ratio']:g}")
    after = report["recovery"]["full_speed_after_s"]
    yield ("full speed again", "", "", "", "", "", "not seen" if after is None else f"after {after} s")


def _row(name: str, asked: str, seen: Throughput) -> tuple[str, ...]:
    times = [f"{seen[p]:,.0f}" if p in seen else "" for p in ("p50_ms", "p95_ms", "p99_ms")]
    others = ", ".join(f"{status} x {count:,}" for status, count in sorted(seen["statuses"].items()))
    return (name, asked, f"{seen['reviews_per_s']:g}", *times, others)


def _conclude(config: Config, path: str, report: LoadReport) -> None:
    """The report's place and main figure, and the next command: the engine alone, or the comparison with it."""
    from ray_app.cli import next_command

    print(f"{path}: {report['saturation']['reviews_per_s']:g} reviews/s at saturation")
    engine_alone = next_command("benchmark", bundle=config.bundle, variants="ours")
    compared = next_command("load", url=config.url, bundle="BUNDLE")
    print(f"Next: {engine_alone if config.bundle else compared}")


def _texts(config: Config) -> list[str]:
    from ray_app.data.reviews import read_first_texts

    texts = read_first_texts(config.input, "", config.reviews)
    check(texts, f"--input {config.input}: no readable reviews there")
    return texts


async def _measure(config: Config, texts: list[str], recovery_seconds: int) -> LoadReport:
    import aiohttp

    token = checked_token(os.environ.get("NUNCHI_TOKEN", ""), "NUNCHI_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        ask = _asker(session, config)
        await _warm_up(ask, texts, config)
        online, in_process = [], []
        for number in range(config.rounds):
            log.info("saturation %d of %d: %g s", number + 1, config.rounds, config.seconds)
            online.append(await _saturate(ask, texts, config.concurrency, config.seconds))
            if config.bundle:
                in_process.append(await asyncio.to_thread(_in_process, config, texts))
        rate = statistics.median(throughput["reviews_per_s"] for throughput in online)
        loops = []
        for share in config.rates:
            log.info("open loop at %g of %g reviews/s: %g s", share, rate, config.seconds)
            loops.append(await open_loop(ask, texts, rate * share, config.seconds, config.seed))
        report: LoadReport = {
            "saturation": {"reviews_per_s": rate, "rounds": online},
            "open_loop": loops,
            "recovery": await _recover(ask, texts, config.concurrency, rate, recovery_seconds),
            "config": as_dict(config),
            "reviews": len(texts),
        }
    if in_process:
        median = statistics.median(in_process)
        report["by_hand"] = {"reviews_per_s": round(median, 2), "ratio": round(rate / median, 3)}
    return report


def _asker(session: "aiohttp.ClientSession", config: Config) -> Ask:
    import aiohttp

    url, options = f"{config.url.rstrip('/')}/analyze", {"highlights": config.highlights}

    async def ask(text: str, tally: Tally) -> None:
        began = time.monotonic()
        try:
            async with session.post(url, json={"reviews": [text], "options": options}) as response:
                await response.read()
                tally.add(str(response.status), time.monotonic() - began)
        except (aiohttp.ClientError, TimeoutError) as error:
            tally.add(type(error).__name__, time.monotonic() - began)

    return ask


async def _warm_up(ask: Ask, texts: list[str], config: Config) -> None:
    """Raises UserError where no review is analyzed."""
    tally = Tally()
    await asyncio.gather(*(ask(text, tally) for text in texts[: config.concurrency]))
    refused = ", ".join(f"{status} x {count}" for status, count in tally.statuses.items() if status.isdigit())
    check(refused, f"--url {config.url}: nothing answers there; start it with python -m jobs.serve")
    token = "; set NUNCHI_TOKEN" if tally.statuses["401"] else ""
    check(tally.statuses["200"], f"--url {config.url}: no review was analyzed ({refused}){token}")


async def _saturate(ask: Ask, texts: list[str], concurrency: int, seconds: float) -> Throughput:
    """Closed loop: `concurrency` users who each send the next request as soon as the last is answered."""
    tally, began, count = Tally(), time.monotonic(), 0

    async def user() -> None:
        nonlocal count
        while time.monotonic() - began < seconds:
            count += 1
            await ask(texts[count % len(texts)], tally)

    await asyncio.gather(*(user() for _ in range(concurrency)))
    return tally.summary(time.monotonic() - began)


async def open_loop(ask: Ask, texts: list[str], rate: float, seconds: float, seed: int) -> OpenLoop:
    """Poisson arrivals, `rate` per second for `seconds`, whether earlier requests are answered or not."""
    tally, rng, began = Tally(), random.Random(seed), time.monotonic()
    requests: set[asyncio.Task[None]] = set()
    due, sent = began, 0
    while due - began < seconds:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(ask(texts[sent % len(texts)], tally))
        requests.add(task)
        task.add_done_callback(requests.discard)
        sent, due = sent + 1, due + rng.expovariate(rate)
    await asyncio.gather(*requests)
    return {"asked_per_s": round(sent / seconds, 2), **tally.summary(time.monotonic() - began)}


async def _recover(ask: Ask, texts: list[str], concurrency: int, rate: float, seconds: int) -> Recovery:
    """Saturates for `seconds`, each measured on its own; `rate` is full speed."""
    speeds = [(await _saturate(ask, texts, concurrency, 1.0))["reviews_per_s"] for _ in range(seconds)]
    full = next((i + 1 for i, speed in enumerate(speeds) if speed >= FULL * rate), None)
    return {"full_speed_after_s": full, "reviews_per_s": speeds}


def _in_process(config: Config, texts: list[str]) -> float:
    """Reviews per second of in-process inference, in a child that leaves this process as it is."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_engine_speed, (config.bundle, texts, config.highlights, config.seconds))


def _engine_speed(bundle: str, texts: list[str], highlights: bool, seconds: float) -> float:
    from ray_app.inference.analyzer import Analyzer

    analyzer = Analyzer(bundle, highlights="auto" if highlights else "off")
    analyzer(texts[:64])
    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds / 2 or not done:
        analyzer(texts)
        done += len(texts)
    return done / (time.monotonic() - began)
