"""What thresholds tuned on a few reviews are worth, alone and drawn to those that a bundle had, or to 0.5.

    python -m tests.experiments.few_labels --reviews 300

The shipped bundle's probabilities for test reviews of the sample; some are drawn to tune on, the others judge.
"""

import argparse

import numpy as np
import pyarrow as pa

from ray_app.arrays import Floats
from ray_app.evaluation.metrics import micro_f1, tune_thresholds
from ray_app.inference.runtime import BundleRuntime
from ray_app.labels.matrices import keyword_matrix
from ray_app.labels.reader import read_labels

SIZES, DRAWS = (5, 10, 25, 50, 100), 60


def main() -> None:
    """Prints the mean and the worst F1 of every way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, default=300)
    labels = read_labels("sample")
    test = labels.split("test")
    drawn = np.random.default_rng(9).permutation(len(test))[: parser.parse_args().reviews]
    test = test.take(pa.array(np.sort(drawn)))
    runtime = BundleRuntime("ready", "cpu")
    found = runtime.probabilities(runtime.tokenize(test["text"].to_pylist())[0].sequences)
    true, before = keyword_matrix(test, labels.taxonomy).astype(bool), np.array(runtime.meta.thresholds, np.float32)
    ways: dict[str, Floats | None] = {"alone": None, "bundle's": before, "0.5": np.full_like(before, 0.5)}
    varying = ~true.all(0)
    for size in (each for each in SIZES if each < len(true)):
        for name, known in ways.items():
            scores = []
            for seed in range(DRAWS):
                order = np.random.default_rng(seed).permutation(len(true))
                tuning, judging = order[:size], order[size:]
                thresholds = tune_thresholds(
                    true[tuning], found[tuning], None if known is None else [float(each) for each in known]
                )
                kept = (found[judging] >= thresholds)[:, varying]
                scores.append(micro_f1(true[judging][:, varying], kept))
            print(f"{size} reviews, {name}: {np.mean(scores):.3f} ({min(scores):.3f})")


if __name__ == "__main__":
    main()
