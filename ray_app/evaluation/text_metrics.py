"""How near generated texts come to their references: BLEU and ROUGE over units that fit Korean. Pure functions on text.

In: texts. Out: plain numbers. A text is split into units first: `char` (every character but white space; for Korean,
syllables), `word` (lower-case runs of letters and digits, as rouge-score counts Latin text) or `kiwi` (morphemes). Two
texts without units are equal, which is 1; one without units beside one with some is 0.

ROUGE is not the package rouge-score because that drops every character that is not Latin: equal Korean texts get 0
there. `tests/evaluation/test_text_metrics.py` shows that, and that both agree on Latin text.
"""

import re
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ray_app.arrays import Ints
from ray_app.data.text import morphemes
from ray_app.errors import UserError, pip_install

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

ORDERS = 4  # BLEU counts runs of one to four units, as published
_WORD = re.compile(r"[^\W_]+")


def split_units(texts: Sequence[str], unit: str) -> list[list[str]]:
    """The units of each text; `unit` is char, word or kiwi."""
    if unit == "kiwi":
        return morphemes(texts)
    if unit == "word":
        return [_WORD.findall(text.lower()) for text in texts]
    return [list("".join(text.split())) for text in texts]


def bleu_counts(reference: Sequence[str], hypothesis: Sequence[str]) -> Ints:
    """[10] what BLEU sums over a corpus: per order the matching runs, per order the hypothesis's runs, units of the
    hypothesis, units of the reference."""
    score = _sacrebleu().sentence_score(" ".join(hypothesis), [" ".join(reference)])
    return np.array([*score.counts, *score.totals, score.sys_len, score.ref_len], np.int64)


def bleu(counts: Ints) -> float:
    """Corpus BLEU, 0 to 1, of `bleu_counts` [rows, 10] or their sum [1, 10], by sacrebleu with its exponential
    smoothing (Papineni et al. 2002; Post 2018, arXiv:1804.08771)."""
    sums = counts.sum(0).tolist()
    matching, total, (length, reference_length) = sums[:ORDERS], sums[ORDERS : 2 * ORDERS], sums[2 * ORDERS :]
    if not length or not reference_length:
        return float(length == reference_length)
    score = _sacrebleu().compute_bleu(
        matching, total, length, reference_length, smooth_method="exp", effective_order=True
    )
    return float(score.score) / 100


def bleu_signature(unit: str) -> str:
    """How BLEU is counted, for comparison with other work. Raises UserError naming a package that is missing."""
    _sacrebleu()
    split_units([""], unit)
    return f"sacrebleu {version('sacrebleu')}, corpus, smoothing exp, effective order, units {unit}"


def rouge_n(reference: Sequence[str], hypothesis: Sequence[str], n: int) -> float:
    """F1 of the runs of n units that two texts share, each as often as both have it (Lin 2004, ROUGE-N)."""
    expected, written = (_runs(units, n) for units in (reference, hypothesis))
    return _f1((expected & written).total(), expected.total(), written.total(), reference == hypothesis)


def rouge_l(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """F1 of the longest common subsequence of units (Lin 2004, ROUGE-L at sentence level, beta 1)."""
    row = np.zeros(len(hypothesis) + 1, np.int64)
    codes = {unit: i for i, unit in enumerate({*reference, *hypothesis})}
    coded = np.array([codes[unit] for unit in hypothesis], np.int64)
    for unit in reference:  # row[j]: length within the reference so far and the hypothesis's first j units
        row[1:] = np.maximum.accumulate(np.maximum(row[1:], row[:-1] + (coded == codes[unit])))
    return _f1(int(row[-1]), len(reference), len(hypothesis), reference == hypothesis)


def _runs(units: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(units[i:] for i in range(n)), strict=False))


def _f1(shared: int, expected: int, written: int, equal: bool) -> float:
    """F1 of counts; two equal texts too short for a single run get 1."""
    return 2 * shared / (expected + written) if expected + written else float(equal)


def overlaps(reference: Sequence[str], hypothesis: Sequence[str]) -> NDArray[np.float64]:
    """[13] of one pair: `bleu_counts`, then ROUGE-1, ROUGE-2, ROUGE-L. `overlap_report` takes sums of them."""
    rouge = [rouge_n(reference, hypothesis, 1), rouge_n(reference, hypothesis, 2), rouge_l(reference, hypothesis)]
    return np.array([*bleu_counts(reference, hypothesis), *rouge], np.float64)


def overlap_report(sums: NDArray[np.float64], rows: int) -> dict[str, float | None]:
    """[13] `overlaps` summed over `rows` pairs -> corpus BLEU and mean ROUGE; None over no row."""
    counts = np.rint(sums[:-3]).astype(np.int64)[None]
    means = [round(float(value) / rows, 4) if rows else None for value in sums[-3:]]
    return {
        "bleu": round(bleu(counts), 4) if rows else None,
        **dict(zip(("rouge1", "rouge2", "rougeL"), means, strict=True)),
    }


def _sacrebleu() -> "BLEU":
    """Splits at spaces alone: units are joined by spaces."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise UserError(f"BLEU needs sacrebleu: {pip_install('lm')}") from None
    return BLEU(tokenize="none", effective_order=True, force=True)
