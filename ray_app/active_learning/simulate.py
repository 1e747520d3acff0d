"""Whether choosing what to label pays: labeled reviews are the catalog, their labels are hidden, selected, revealed.

In: labeled reviews. Out: `simulation.json`, `simulation.md`, `simulation.svg`: tuple F1 by number of labels, per
strategy. The model is the TF-IDF baseline: it trains in a second, so that many rounds and seeds run on a laptop. An
encoder would take minutes per round, and may rank the strategies differently. Truncated SVD of TF-IDF vectors stands in
for the encoder's embeddings that `acquire` uses.
"""

import logging
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ray_app.cli import next_command
from ray_app.errors import check, pip_install
from ray_app.options import Options, as_dict, option

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.active_learning.learning_curves import Curves, SimulationReport
    from ray_app.data.taxonomy import Taxonomy

log = logging.getLogger(__name__)

CRITERIA = ("boundary", "unsure_keyword", "unsure_score", "rare", "outlier", "random")  # that need no encoder


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.acquire simulate`."""

    labels: str = option("sample", "labeled reviews; their training rows are the catalog", "Data")
    test: str = option("", "labeled reviews to test on; default: the test rows, else a fifth of all", "Data")
    output: str = option("runs/simulation", "folder for simulation.json, .md and .svg", "Data")
    plot: bool = option(True, "draw simulation.svg (needs matplotlib)", "Data")
    limit: int = option(0, "use only this many rows as the catalog, drawn at random; 0 for all", "Data", least=0)
    start: int = option(100, "labels drawn at random before the first round", "Rounds", least=1)
    batch: int = option(100, "labels per round", "Rounds", least=1)
    rounds: int = option(6, "rounds", "Rounds", least=1)
    seeds: int = option(3, "repetitions, each with its own start", "Rounds", least=1)
    strategies: tuple[str, ...] = option(
        ("boundary", "rare", "outlier", "mix"), "criteria to compare with random", "Rounds"
    )
    mix: str = option("boundary=0.6,rare=0.2,outlier=0.2", "shares of the strategy mix", "Rounds")
    alike: float = option(
        0.8, "share of common trigrams from which two texts are near-duplicates", "Rounds", above=0, most=1
    )


@dataclass(frozen=True, kw_only=True)
class Data:
    """Labeled tables: the catalog, the rows to tune thresholds on, and the rows to test on."""

    catalog: "pa.Table"
    validation: "pa.Table"
    test: "pa.Table"
    taxonomy: "Taxonomy"


def run(config: Config) -> "SimulationReport":
    """Simulates every strategy with every seed; prints, writes, returns the report."""
    import numpy as np

    from ray_app import storage
    from ray_app.active_learning import learning_curves
    from ray_app.active_learning.simulated_rounds import Simulation

    began = time.monotonic()
    plot = config.plot and find_spec("matplotlib") is not None
    if config.plot and not plot:  # said before the rounds, which take minutes
        log.info("no plot: matplotlib is not installed: %s", pip_install("bench"))
    strategies, data = _strategies(config), _data(config)
    last = config.start + config.batch * config.rounds
    check(last <= len(data.catalog), f"--rounds: {last:,} labels in all, the catalog has {len(data.catalog):,}")
    counts = [config.start + config.batch * i for i in range(config.rounds + 1)]
    runs: dict[str, list[list[float]]] = {name: [] for name in strategies}
    for seed in range(config.seeds):
        simulation = Simulation(data.catalog, data.validation, data.test, data.taxonomy, config.alike, seed)
        for name, shares in strategies.items():
            scores = simulation.run(shares, config.start, config.batch, config.rounds)
            runs[name].append(scores)
            log.info("seed %d, %s: %s", seed, name, " ".join(f"{f1:.3f}" for f1 in scores))
    curves = learning_curves.summary(counts, {name: np.array(scores) for name, scores in runs.items()})
    seconds = round(time.monotonic() - began, 1)
    report: SimulationReport = {
        **curves,
        "seconds": seconds,
        "test": len(data.test),
        "config": as_dict(config),
    }
    title = f"What to label next: {len(data.catalog):,} reviews of {config.labels.rsplit('/', 2)[-1]}"
    text = learning_curves.markdown(curves, title)
    storage.write_json(storage.join(config.output, "simulation.json"), report)
    storage.write_bytes(storage.join(config.output, "simulation.md"), text.encode())
    if plot:
        storage.write_bytes(storage.join(config.output, "simulation.svg"), learning_curves.plot(curves, title))
    print(f"{text}\n{config.output}/simulation.json, .md{', .svg' * plot} after {seconds:.0f} s")
    print(_best(curves, strategies, config.labels))
    return report


def _best(curves: "Curves", strategies: dict[str, dict[str, float]], labels: str) -> str:
    """The strategy with the largest area, and the command that selects by it."""
    areas = {name: curve["area"] for name, curve in curves["strategies"].items()}
    best = max(areas, key=lambda name: areas[name])
    mix = ",".join(f"{name}={share:g}" for name, share in strategies[best].items())
    command = next_command("acquire", analyses="YOUR_ANALYSES", labels=labels, mix=mix)
    return f"largest area: {best}, {areas[best]:.4f}\nNext: {command}"


def _strategies(config: Config) -> dict[str, dict[str, float]]:
    """Name -> shares of criteria; random comes last, whether it is named or not."""
    from ray_app.active_learning.quotas import parse_mix

    named = [name for name in config.strategies if name != "random"]
    mixes = [(name, config.mix if name == "mix" else f"{name}=1") for name in [*named, "random"]]
    return {name: parse_mix(mix, CRITERIA, "--mix" if name == "mix" else "--strategies") for name, mix in mixes}


def _data(config: Config) -> Data:
    """Test and validation rows as the labels name them, else a fifth and a tenth of all, by a hash of the ids."""
    import numpy as np

    from ray_app.active_learning.scoring import hashes
    from ray_app.labels import reader

    labels = reader.read_labels(config.labels, "labels", "drop")
    catalog, test, validation = labels.split("train", None), labels.split("test"), labels.split("validation")
    catalog = catalog.take(np.argsort(hashes(catalog["review_id"], 0), kind="stable"))
    if config.test:
        test = reader.read_labels_with(config.test, labels.taxonomy, "drop").table
    if not len(test):
        test, catalog = catalog.slice(0, len(catalog) // 5), catalog.slice(len(catalog) // 5)
    if not len(validation):
        validation, catalog = catalog.slice(0, len(catalog) // 10), catalog.slice(len(catalog) // 10)
    return Data(
        catalog=catalog.slice(0, config.limit or None), validation=validation, test=test, taxonomy=labels.taxonomy
    )
