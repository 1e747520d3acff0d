"""How good a first guess is: `python -m tests.experiments.new_taxonomy --data mabsa-ko --output runs/new_taxonomy`.

Each of five domains is left out in turn: a reader learns from the sample and the other four, a bundle is guessed from
the domain's taxonomy (`taxonomies.yaml`) and the texts of its training rows, and trained further on a few labels;
beside each stands TF-IDF, trained on the same labels. Judged on the domain's test rows. `--data` is a folder with a
Parquet file of labels per domain (M-ABSA in Korean, see docs/benchmarks.md).
"""

import argparse
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import yaml

from ray_app.data import taxonomy as taxonomies
from ray_app.engine import keyword_reader
from ray_app.engine.device import choose_device
from ray_app.engine.encoder import load_keyword_scorer
from ray_app.engine.tokenizer import Tokenizer
from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.evaluation.report import PredictionReport, evaluate_bundle, evaluate_predictions, predictions
from ray_app.inference import bundle as bundles
from ray_app.inference.runtime import BundleRuntime
from ray_app.labels import reader
from ray_app.training.settings import Settings
from ray_app.training.unlabeled.aspect_task import AspectTask, LabelSet, label_set
from ray_app.training.unlabeled.aspects import train_reader
from ray_app.training.unlabeled.first_guess import GuessConfig, guess_bundle
from tests.experiments.label_curves import drawn, trained

TAXONOMIES = Path(__file__).with_name("taxonomies.yaml")
FIGURES = ("keywords", "sign", "tuples")


def figures(report: PredictionReport) -> list[float | None]:
    """Keywords micro F1, sign given the keyword, tuples by sign."""
    confusion = np.array(report["scores"]["confusion"])
    sign = np.trace(confusion) / confusion.sum()  # the scale has three scores
    return [report["keywords"]["micro"]["f1"], round(float(sign), 4), report["tuples"]["micro_sign"]["f1"]]


class Domain:
    """One left-out domain: its labels, and what is made of them under `output`."""

    def __init__(self, name: str, data: Path, output: Path) -> None:
        self.name, self.output = name, output / name
        self.output.mkdir(parents=True, exist_ok=True)
        self.taxonomy = self.output / "taxonomy.yaml"
        content = yaml.safe_load(TAXONOMIES.read_text(encoding="utf-8"))[name]
        self.taxonomy.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        self.file = data / f"{name}.parquet"
        self.labels = reader.read_labels_with(str(self.file), taxonomies.load(self.taxonomy))
        self.train, self.test = self.labels.split("train", None), self.labels.split("test")

    def drawn(self, count: int, seed: int) -> tuple[pa.Table, pa.Table]:
        """So many training rows, a fifth of them for validation."""
        return drawn(self.train, count, seed, 0.2)

    def judged(self, bundle: str) -> list[float | None]:
        """Figures of a bundle."""
        runtime = BundleRuntime(bundle)
        return figures(evaluate_bundle(runtime, self.test, predictions(runtime, self.test)))

    def baseline(self, count: int, seed: int) -> list[float | None]:
        """Figures of TF-IDF."""
        model = TfidfBaseline(*self.drawn(count, seed), self.labels.taxonomy)
        texts = self.test["text"].to_pylist()
        predicted = model.predict(texts)
        return figures(evaluate_predictions(self.test, predicted, model.score(texts), self.labels.taxonomy, {}))

    def guessed(self, others: Callable[[], Sequence[LabelSet]], base: bundles.Bundle, epochs: int) -> str:
        """The bundle that is guessed without labels, by a reader that never saw the domain."""
        folder, output = self.output / "reader", self.output / "guess"
        if not (output / "bundle.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(base.path, folder)
            model = load_keyword_scorer(base.path / "joint", 0.0)
            task = AspectTask(sets=others(), mean=model.head.mean, spread=model.head.spread, seed=0)
            torch.manual_seed(0)
            keyword_reader.save(
                train_reader(task, Settings(epochs=epochs, learning_rate=1e-3, keep_last=True, patience=0)),
                folder / bundles.READER,
            )
            bundles.seal(folder, base.meta)
            config = GuessConfig(taxonomy=str(self.taxonomy), bundle=str(folder), output=str(output))
            guess_bundle(config, self.train["text"].to_pylist())
        return str(output)

    def trained(self, guess: str, count: int, seed: int, epochs: int) -> str:
        """The guess, trained on a few labels."""
        tables, output = self.drawn(count, seed), self.output / f"trained-{count}-{seed}"
        return trained(guess, tables, seed, epochs, output, str(self.taxonomy))


def main() -> None:
    """Prints a line of JSON per figure, as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--bundle", default="ready")
    parser.add_argument("--labels", default="50,100,200")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2, help="of the reader")
    parser.add_argument("--trained-epochs", type=int, default=6, help="on labels")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    names = list(yaml.safe_load(TAXONOMIES.read_text(encoding="utf-8")))
    domains = {name: Domain(name, given.data, given.output) for name in names}
    base = bundles.load(given.bundle)
    sources = {"sample": "sample"} | {name: f"{each.file}={each.taxonomy}" for name, each in domains.items()}

    @cache
    def read(name: str) -> LabelSet:
        model = load_keyword_scorer(base.path / "joint", 0.0)
        return label_set(sources[name], model, Tokenizer.load(base.path / "tokenizer"), choose_device())

    def without(out: str) -> list[LabelSet]:
        return [read(name) for name in sources if name != out]

    def say(name: str, labels: int, seed: int, model: str, found: list[float | None]) -> None:
        row = {"domain": name, "labels": labels, "seed": seed, "model": model, **dict(zip(FIGURES, found, strict=True))}
        print(json.dumps(row, ensure_ascii=False), flush=True)

    guesses = {}
    for name, domain in domains.items():
        guesses[name] = domain.guessed(partial(without, name), base, given.epochs)
        say(name, 0, 0, "guess", domain.judged(guesses[name]))
    for count in map(int, given.labels.split(",")):
        for seed in range(given.seeds):
            for name, domain in domains.items():
                say(name, count, seed, "TF-IDF", domain.baseline(count, seed))
                bundle = domain.trained(guesses[name], count, seed, given.trained_epochs)
                say(name, count, seed, "trained", domain.judged(bundle))


if __name__ == "__main__":
    main()
