"""How near generated texts come to their references: BLEU and ROUGE over units that fit Korean. Pure functions on text.

In: texts. Out: plain numbers. A text is split into units first: `char` (every character that is no white space; for
Korean, syllables), `word` (lower-case runs of letters and digits, as rouge-score counts Latin text) or `kiwi`
(morphemes). Two texts without any unit are equal, which is 1; one without any beside one with some is 0.
"""

import re
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.data.text import morphemes
from ray_app.errors import UserError

UNITS = ("char", "word", "kiwi")
ORDERS = 4  # BLEU counts runs of one to four units, as published
_WORD = re.compile(r"[^\W_]+")


def split_units(texts: Sequence[str], unit: str) -> list[list[str]]:
    """The units of each text."""
    if unit == "kiwi":
        return morphemes(texts)
    if unit == "word":
        return [_WORD.findall(text.lower()) for text in texts]
    return [list("".join(text.split())) for text in texts]


def bleu_counts(reference: Sequence[str], generated: Sequence[str]) -> NDArray[np.int64]:
    """[10] what BLEU adds up over a corpus: runs found and runs written for each order, units written, units meant."""
    score = _sacrebleu().sentence_score(" ".join(generated), [" ".join(reference)])
    return np.array([*score.counts, *score.totals, score.sys_len, score.ref_len], np.int64)


def bleu(counts: NDArray[np.int64]) -> float:
    """Corpus BLEU, 0 to 1, of `bleu_counts` [rows, 10] or their sum [1, 10], by sacrebleu with its exponential
    smoothing (Papineni et al. 2002; Post 2018, arXiv:1804.08771)."""
    total = counts.sum(0).tolist()
    found, written, (said, meant) = total[:ORDERS], total[ORDERS : 2 * ORDERS], total[2 * ORDERS :]
    if not said or not meant:
        return float(said == meant)
    score = _sacrebleu().compute_bleu(found, written, said, meant, smooth_method="exp", effective_order=True)
    return float(score.score) / 100


def bleu_signature(unit: str) -> str:
    """How BLEU was counted, for whoever wants to compare. Raises UserError where what it needs is not installed."""
    _sacrebleu()
    split_units([""], unit)
    return f"sacrebleu {version('sacrebleu')}, corpus, smoothing exp, effective order, units {unit}"


def rouge_n(reference: Sequence[str], generated: Sequence[str], n: int) -> float:
    """F1 of the runs of n units that two texts share, each as often as both have it (Lin 2004, ROUGE-N)."""
    meant, said = (_runs(units, n) for units in (reference, generated))
    return _f1((meant & said).total(), meant.total(), said.total(), reference == generated)


def rouge_l(reference: Sequence[str], generated: Sequence[str]) -> float:
    """F1 of the longest common subsequence of units (Lin 2004, ROUGE-L at sentence level, beta 1)."""
    row = np.zeros(len(generated) + 1, np.int64)
    codes = {unit: i for i, unit in enumerate({*reference, *generated})}
    said = np.array([codes[unit] for unit in generated], np.int64)
    for unit in reference:  # row[j]: length within the reference so far and the first j units of the generated text
        row[1:] = np.maximum.accumulate(np.maximum(row[1:], row[:-1] + (said == codes[unit])))
    return _f1(int(row[-1]), len(reference), len(generated), reference == generated)


def _runs(units: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(units[i:] for i in range(n)), strict=False))


def _f1(shared: int, meant: int, said: int, equal: bool) -> float:
    """Two equal texts too short for a single run agree all the same."""
    return 2 * shared / (meant + said) if meant + said else float(equal)


def overlaps(reference: Sequence[str], generated: Sequence[str]) -> NDArray[np.float64]:
    """[13] of one text: `bleu_counts`, then ROUGE-1, ROUGE-2, ROUGE-L. `overlap_report` takes sums of them."""
    rouge = [rouge_n(reference, generated, 1), rouge_n(reference, generated, 2), rouge_l(reference, generated)]
    return np.array([*bleu_counts(reference, generated), *rouge], np.float64)


def overlap_report(sums: NDArray[np.float64], rows: int) -> dict[str, float | None]:
    """`overlaps` added up over so many rows -> corpus BLEU and mean ROUGE."""
    counts = np.rint(sums[:-3]).astype(np.int64)[None]
    means = [round(float(value) / rows, 4) if rows else None for value in sums[-3:]]
    return {
        "bleu": round(bleu(counts), 4) if rows else None,
        **dict(zip(("rouge1", "rouge2", "rougeL"), means, strict=True)),
    }


def _sacrebleu() -> Any:
    """Units are separated by spaces already, so sacrebleu is to split there and nowhere else."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise UserError("BLEU needs sacrebleu: pip install -e '.[lm]'") from None
    return BLEU(tokenize="none", effective_order=True, force=True)
