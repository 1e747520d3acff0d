"""An endpoint under load: what it can take, how long answers take, what it does when it is asked for too much.

In: the URL of an endpoint, reviews, and the bundle it serves. Out: `load.json`: reviews a second under single-review
requests beside the engine by hand, latencies under open-loop load (arrivals do not wait for answers, as users do not)
at shares of that rate, and the time until full speed after the last one.
"""

import asyncio
import json
import multiprocessing
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from ray_app.errors import check
from ray_app.options import Options, as_dict, option

FULL = 0.9  # of the saturation rate counts as full speed again
RECOVERY_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.load`."""

    url: str = option("http://127.0.0.1:8000", "endpoint; its token comes from NUNCHI_TOKEN", "Load")
    input: str = option("sample", "reviews: Parquet, local or s3://; sample = the shipped catalog", "Load")
    bundle: str = option("", "the bundle the endpoint serves, to compare with the engine in this process", "Load")
    reviews: int = option(500, "reviews to draw from", "Load", least=1)
    seconds: float = option(20.0, "length of each measurement", "Load", above=0)
    rounds: int = option(
        3, "of saturation and of the engine in this process, alternating; medians are kept", "Load", least=1
    )
    concurrency: int = option(32, "requests under way at saturation", "Load", least=1)
    rates: tuple[float, ...] = option(
        (0.5, 0.9, 3.0), "open-loop rates, as shares of the saturation rate", "Load", above=0
    )
    highlights: bool = option(True, "ask for highlights", "Load")
    output: str = option("runs/load", "folder for load.json", "Load")
    seed: int = option(0, "seed of arrivals", "Load")


@dataclass
class Tally:
    """Answers by status, and how long those with 200 took, in seconds."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, status: str, seconds: float) -> None:
        self.statuses[status] += 1
        if status == "200":
            self.seconds.append(seconds)

    def summary(self, elapsed: float) -> dict[str, Any]:
        ordered = sorted(self.seconds)
        marks = {
            f"p{p}_ms": round(1e3 * ordered[int(p / 100 * (len(ordered) - 1))], 1) for p in (50, 95, 99) if ordered
        }
        return {"reviews_per_s": round(len(ordered) / elapsed, 2), **marks, "statuses": dict(self.statuses)}


def run(config: Config) -> dict[str, Any]:
    """Measures, prints, writes `load.json`; returns it."""
    from ray_app import storage

    texts = _texts(config)
    result = asyncio.run(_measure(config, texts))
    result |= {"config": as_dict(config), "reviews": len(texts)}
    storage.write_json(storage.join(config.output, "load.json"), result)
    print(json.dumps({key: value for key, value in result.items() if key != "config"}, indent=1, ensure_ascii=False))
    return result


def _texts(config: Config) -> list[str]:
    from ray_app.data import reviews as units

    texts = units.read_first_texts(config.input, "", config.reviews)
    check(texts, f"--input {config.input}: no readable reviews there")
    return texts


async def _measure(config: Config, texts: list[str]) -> dict[str, Any]:
    import aiohttp

    headers = {"Authorization": f"Bearer {token}"} if (token := os.environ.get("NUNCHI_TOKEN", "").strip()) else {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        ask = _asker(session, config)
        await _warm(ask, texts, config)
        online, hand = [], []
        for _ in range(config.rounds):
            online.append(await _saturate(ask, texts, config.concurrency, config.seconds))
            if config.bundle:
                hand.append(await asyncio.to_thread(_by_hand, config, texts))
        rate = statistics.median(one["reviews_per_s"] for one in online)
        result: dict[str, Any] = {"saturation": {"reviews_per_s": rate, "rounds": online}}
        if hand:
            median = statistics.median(hand)
            result["by_hand"] = {"reviews_per_s": round(median, 2), "ratio": round(rate / median, 3)}
        result["open_loop"] = [await _open_loop(ask, texts, rate * share, config) for share in config.rates]
        result["recovery"] = await _recover(ask, texts, config, rate)
    return result


Ask = Callable[[str, Tally], Coroutine[Any, Any, None]]


def _asker(session: Any, config: Config) -> Ask:
    """One single-review request."""
    import aiohttp

    url, options = f"{config.url.rstrip('/')}/analyze", {"highlights": config.highlights}

    async def ask(text: str, tally: Tally) -> None:
        began = time.monotonic()
        try:
            async with session.post(url, json={"reviews": [text], "options": options}) as answer:
                await answer.read()
                tally.add(str(answer.status), time.monotonic() - began)
        except (aiohttp.ClientError, TimeoutError) as error:
            tally.add(type(error).__name__, time.monotonic() - began)

    return ask


async def _warm(ask: Ask, texts: list[str], config: Config) -> None:
    tally = Tally()
    await asyncio.gather(*(ask(text, tally) for text in texts[: config.concurrency]))
    check(tally.statuses["200"], f"--url {config.url}: {dict(tally.statuses)}; start it with python -m jobs.serve")


async def _saturate(ask: Ask, texts: list[str], concurrency: int, seconds: float) -> dict[str, Any]:
    """Closed loop: `concurrency` users who ask again as soon as they are answered."""
    tally, began, count = Tally(), time.monotonic(), 0

    async def user() -> None:
        nonlocal count
        while time.monotonic() - began < seconds:
            count += 1
            await ask(texts[count % len(texts)], tally)

    await asyncio.gather(*(user() for _ in range(concurrency)))
    return tally.summary(time.monotonic() - began)


async def _open_loop(ask: Ask, texts: list[str], rate: float, config: Config) -> dict[str, Any]:
    """Poisson arrivals at `rate` a second."""
    tally, rng, began = Tally(), random.Random(config.seed), time.monotonic()
    requests: set[asyncio.Task[None]] = set()
    due, asked = began, 0
    while due - began < config.seconds:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(ask(texts[asked % len(texts)], tally))
        requests.add(task)
        task.add_done_callback(requests.discard)
        asked, due = asked + 1, due + rng.expovariate(rate)
    await asyncio.gather(*requests)
    return {"asked_per_s": round(asked / config.seconds, 2), **tally.summary(time.monotonic() - began)}


async def _recover(ask: Ask, texts: list[str], config: Config, rate: float) -> dict[str, Any]:
    """Reviews a second in each of the seconds that follow, and the first one at full speed."""
    speeds = [(await _saturate(ask, texts, config.concurrency, 1.0))["reviews_per_s"] for _ in range(RECOVERY_SECONDS)]
    full = next((i + 1 for i, speed in enumerate(speeds) if speed >= FULL * rate), None)
    return {"full_speed_after_s": full, "reviews_per_s": speeds}


def _by_hand(config: Config, texts: list[str]) -> float:
    """Reviews a second of the engine alone, in a process of its own that ends with it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_engine_speed, (config.bundle, texts, config.highlights, config.seconds))


def _engine_speed(bundle: str, texts: list[str], highlights: bool, seconds: float) -> float:
    from ray_app.inference.analyzer import Analyzer

    analyzer = Analyzer(bundle, highlights="exact" if highlights else "off")
    analyzer(texts[:64])
    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds / 2 or not done:
        analyzer(texts)
        done += len(texts)
    return done / (time.monotonic() - began)
