"""How a model may be run, by what it answers and not by its name.

In: a model and a few texts of very different lengths. Out: `auto` (flat where `unpadded.supports` it, else padded),
`padded` (its family runs flat, this model answers otherwise), or `alone` (padding changes its answers: only texts of
one length run together). All are compared with the stock forward on one text at a time.
"""

import logging
import unicodedata
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ray_app.arrays import Floats
from ray_app.engine.classifier import Classifier
from ray_app.engine.device import choose_device
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
from ray_app.engine.unpadded import supports
from ray_app.errors import check

BATCHINGS = ("auto", "padded", "alone")  # the later, the more careful
TOLERANCE = 1e-4  # of logits, in parts of the largest where that is above 1
TEXTS = (
    "옷은 예쁘지만 배송은 늦어요",
    "굿",
    "ㅠㅠ",
    "😀👍🏽 색상이   화면과 달라요 👨‍👩‍👧‍👦",
    unicodedata.normalize("NFD", "사이즈가 커요"),
    "배송빠르고옷도이쁘네요그런데바느질이조금아쉽고길이도길어요" * 5,
    "좋아요 " * 150 + "그런데 배송이 늦어요",
    "핏\t예뻐요\n소재는 별로…",
    "Fits well, 5/5 ★★★",
    "가격 12,900원 대비 괜찮음!!!",
    "음",
    "재구매 의사 있습니다. 색이 사진과 같고 배송도 빨라요. 다만 허리가 조금 작아요.",
)
log = logging.getLogger(__name__)


class _Way(NamedTuple):
    """A way to run a model, and how far its answers lie from those on one text at a time."""

    batching: str
    apart: float


def batching_of(model: EncoderClassifier | KeywordScorer, tokenizer: Tokenizer, max_length: int, place: str) -> str:
    """One of BATCHINGS, and a line where it is not `auto`. Raises UserError where no way gives the same answers.

    The model's own training mode is kept.
    """
    sequences = tokenizer.with_special_tokens(tokenizer(TEXTS).sequences, max_length)
    training, kind = model.training, model.encoder.config.model_type
    reference = np.concatenate([_logits(model, "padded", sequences.take(np.array([i])), tokenizer) for i in range(12)])
    check(bool(np.isfinite(reference).all()), f"{place}: it answers NaN or infinity")
    ways: list[_Way] = []
    for batching in BATCHINGS if supports(model) else ("auto", "alone"):
        ways.append(_Way(batching, _apart(_logits(model, batching, sequences, tokenizer), reference)))
        if ways[-1].apart <= TOLERANCE:
            break
    model.train(training)
    *failed, best = ways
    check(
        best.apart <= TOLERANCE,
        f"{place}: what a {kind} encoder answers to a text depends on the other texts of its batch; take another",
    )
    if failed:
        log.warning("%s", _why(kind, best.batching, failed[0].apart))
    return best.batching


def _why(kind: str, batching: str, apart: float) -> str:
    if batching == "alone":
        return f"{kind}: padding changes this encoder's answers (by {apart:.1g}): only texts of one length run together"
    return f"{kind}: without padding this encoder answers otherwise (by {apart:.1g}) than with it: it is padded"


def _logits(
    model: EncoderClassifier | KeywordScorer, batching: str, sequences: Sequences, tokenizer: Tokenizer
) -> Floats:
    before, model.batching = model.batching, batching
    device = replace(choose_device("cpu"), backend="fp32", token_budget=1 << 20)
    try:
        return Classifier(model, device, tokenizer.pad_id, quiet=True)(sequences)
    except (AttributeError, RuntimeError, IndexError, ValueError, TypeError):  # it cannot be run this way at all
        return np.full((len(sequences), model.head.out_features), np.nan, np.float32)
    finally:
        model.batching = before


def _apart(answers: Floats, reference: Floats) -> float:
    """The largest difference, infinite where an answer is not a number."""
    difference = np.abs(answers - reference).max() / max(1.0, float(np.abs(reference).max()))
    return float(difference) if np.isfinite(difference) else np.inf
