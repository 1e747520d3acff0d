"""What is sealed can be loaded, is finite, and answers the same however it is batched.

In: a folder with trained models and a BundleMeta. Out: the id of the sealed bundle, or a UserError that says what is
wrong with it: it is found here, not by whoever analyzes a catalog with it.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ray_app.engine.agreement import BATCHINGS, TEXTS, batching_of
from ray_app.engine.base_model import check_finite
from ray_app.engine.encoder import load_keyword_scorer, load_model
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import check
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.bundle import BundleMeta, models_of, seal
from ray_app.inference.bundle_files import SUFFIXES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REVIEWS = 3  # that are analyzed as a user would
REMEDY = "lower --learning-rate, and see metrics.jsonl in the training folder"


def save_tokenizer(tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    """A tokenizer as a bundle holds it: without a chat template, or whatever else it brings that no bundle loads."""
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in SUFFIXES:
            path.unlink()


def seal_checked(folder: Path, meta: BundleMeta) -> str:
    """`bundle.seal` with every model's batching found out, then the bundle loaded and asked, as a user would."""
    finite = np.isfinite(np.asarray(meta.thresholds, np.float64)).all()
    check(finite, f"the trained model's thresholds are not all numbers; {REMEDY}")
    tokenizer, found = Tokenizer.load(folder / "tokenizer"), ["auto"]
    for name in models_of(meta.score_form):
        attends = name != "keywords" and meta.attends
        model = load_keyword_scorer(folder / name) if attends else load_model(folder / name, meta.pooling)
        check_finite(model, f"the trained model {name}")
        found.append(batching_of(model, tokenizer, meta.max_length, f"the trained model {name}"))
    identity = seal(folder, replace(meta, batching=max(found, key=BATCHINGS.index)))
    analyze = Analyzer(str(folder), "cpu", highlights="auto" if tokenizer.mask_id is not None else "off")
    for text, analysis in zip(TEXTS, analyze(TEXTS[:REVIEWS]), strict=False):
        scores = [p for finding in analysis["findings"] for p in finding["score_probabilities"]]
        answers = [*analysis["keyword_probabilities"], *scores]
        check(bool(np.isfinite(answers).all()), f"the trained bundle answers NaN to {text!r}; {REMEDY}")
    return identity
