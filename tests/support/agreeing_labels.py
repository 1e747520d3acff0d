"""Labels with which a bundle agrees: its own findings, so that whatever spoils it is seen as a loss."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from ray_app.inference import known_texts
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.bundle import load, seal
from ray_app.inference.runtime import BundleRuntime
from tests.support.bundles import sample_texts


def with_middle_thresholds(bundle: Path) -> None:
    """Seals a bundle anew so that a keyword is found in half of the texts; random weights find it in all or none."""
    meta = load(str(bundle)).meta
    known_texts.write([], bundle)  # it knows no text
    seal(bundle, meta)
    runtime = BundleRuntime(bundle)
    probabilities = runtime.probabilities(runtime.tokenize(sample_texts(60))[0].sequences)
    middle = np.median(probabilities, 0)
    middle[runtime.meta.taxonomy.index["만족도"]] = 0.0  # every labeled review must have it
    seal(bundle, replace(runtime.meta, thresholds=tuple(middle.tolist())))


def write_labels(bundle: Path, file: Path, count: int = 40) -> Path:
    """JSONL of `count` test rows, a few validation rows and training rows."""
    texts = [text for text in sample_texts(count + 40) if len(text.split()) > 2]
    rows = []
    splits = ["test"] * count + ["validation"] * 10 + ["train"] * (len(texts) - count - 10)
    for i, (text, analysis, split) in enumerate(zip(texts, Analyzer(bundle)(texts), splits, strict=True)):
        labels = [
            {"keyword": found["keyword"], "score": found["score"], "highlights": [found["highlight"]["word"]]}
            for found in analysis["findings"]
            if found["highlight"]
        ]
        rows.append({"review_id": str(i), "text": text, "split": split, "labels": labels})
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return file
