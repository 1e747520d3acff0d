"""Does choosing what to label pay? A labelled set plays the catalog: labels are hidden, chosen for, and revealed.

In: labelled reviews. Out: `simulation.json`, `simulation.md`, `simulation.svg`: tuple F1 over labels used for each
strategy. The learner is the TF-IDF baseline: it trains in a second, so that many rounds and seeds run on a laptop. An
encoder would take minutes a round, and may rank the strategies otherwise. What an encoder's vectors are to `acquire`, a
truncated SVD of TF-IDF vectors is here.
"""

import time
from dataclasses import dataclass
from typing import Any

from ray_app.errors import check
from ray_app.options import Options, as_dict, option


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.acquire simulate`."""

    labels: str = option("sample", "labeled reviews; their training rows play the catalog", "Data")
    test: str = option("", "labeled reviews to judge by; default: the test rows, else a fifth of all", "Data")
    output: str = option("runs/simulation", "folder for simulation.json, .md and .svg", "Data")
    plot: bool = option(True, "draw simulation.svg (needs matplotlib)", "Data")
    limit: int = option(0, "use only this many rows as the catalog, drawn at random; 0 for all", "Data", least=0)
    start: int = option(100, "labels drawn at random before the first round", "Rounds", least=1)
    batch: int = option(100, "labels per round", "Rounds", least=1)
    rounds: int = option(6, "rounds", "Rounds", least=1)
    seeds: int = option(3, "repetitions, each with a start of its own", "Rounds", least=1)
    strategies: tuple[str, ...] = option(
        ("boundary", "rare", "outlier", "mix"), "criteria to compare with random", "Rounds"
    )
    mix: str = option("boundary=0.6,rare=0.2,outlier=0.2", "shares of the strategy mix", "Rounds")
    alike: float = option(
        0.8, "share of common trigrams from which two texts are near-duplicates", "Rounds", above=0, most=1
    )


@dataclass(frozen=True, kw_only=True)
class Data:
    """Labelled tables: the catalog, what thresholds are tuned on, what is judged by."""

    catalog: Any
    validation: Any
    test: Any
    taxonomy: Any


def run(config: Config) -> dict[str, Any]:
    """Plays every strategy and seed; prints, writes, returns the report."""
    import numpy as np

    from ray_app import storage
    from ray_app.active_learning import learning_curves
    from ray_app.active_learning.simulated_rounds import Simulation

    began = time.monotonic()
    strategies = _strategies(config)
    data = _data(config)
    last = config.start + config.batch * config.rounds
    check(last <= len(data.catalog), f"--rounds: {last:,} labels in all, the catalog has {len(data.catalog):,}")
    counts = [config.start + config.batch * i for i in range(config.rounds + 1)]
    runs: dict[str, list[list[float]]] = {name: [] for name in strategies}
    for seed in range(config.seeds):
        game = Simulation(data.catalog, data.validation, data.test, data.taxonomy, config.alike, seed)
        for name, shares in strategies.items():
            runs[name].append(game.play(shares, config.start, config.batch, config.rounds))
            print(f"seed {seed}, {name}: {' '.join(f'{f1:.3f}' for f1 in runs[name][-1])}", flush=True)
    report = learning_curves.summary(counts, {name: np.array(scores) for name, scores in runs.items()})
    title = f"What to label next: {len(data.catalog):,} reviews of {config.labels.rsplit('/', 2)[-1]}"
    text = learning_curves.markdown(report, title)
    report |= {"seconds": round(time.monotonic() - began, 1), "test": len(data.test), "config": as_dict(config)}
    storage.write_json(storage.join(config.output, "simulation.json"), report)
    storage.write_bytes(storage.join(config.output, "simulation.md"), text.encode())
    if config.plot:
        storage.write_bytes(storage.join(config.output, "simulation.svg"), learning_curves.plot(report, title))
    print(f"\n{text}\n{report['seconds']:.0f} s; {config.output}/simulation.json, .md{', .svg' * config.plot}")
    return report


def _strategies(config: Config) -> dict[str, dict[str, float]]:
    """Name -> shares of criteria; random comes last, whether it is named or not."""
    from ray_app.active_learning.quotas import parse_mix

    known = ("boundary", "unsure_keyword", "unsure_score", "rare", "outlier", "random")
    named = [name for name in config.strategies if name != "random"]
    mixes = [(name, config.mix if name == "mix" else f"{name}=1") for name in [*named, "random"]]
    return {name: parse_mix(mix, known, "--mix" if name == "mix" else "--strategies") for name, mix in mixes}


def _data(config: Config) -> Data:
    """Test and validation rows as the labels name them, else a fifth and a tenth of all, by a hash of the ids."""
    import numpy as np

    from ray_app.active_learning.scoring import hashes
    from ray_app.labels import reader

    found = reader.read_labels(config.labels, "labels", "drop")
    table, test, validation = found.split("train", None), found.split("test"), found.split("validation")
    table = table.take(np.argsort(hashes(table["review_id"], 0), kind="stable"))
    if config.test:
        test = reader.read_labels_with(config.test, found.taxonomy, "drop").table
    if not len(test):
        test, table = table.slice(0, len(table) // 5), table.slice(len(table) // 5)
    if not len(validation):
        validation, table = table.slice(0, len(table) // 10), table.slice(len(table) // 10)
    return Data(catalog=table.slice(0, config.limit or None), validation=validation, test=test, taxonomy=found.taxonomy)
