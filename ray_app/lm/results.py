"""Results of an evaluated language model, added up unit by unit.

In: tables of `evaluator.RESULT_COLUMNS`, one per unit of rows, in any order. Out: the keys of `report.json` that every
task has. Sums are kept and rows are not (only the best and the worst), so that any number of rows can be evaluated.
"""

import heapq
import math
from typing import NotRequired, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.evaluation.metrics import PrecisionRecall
from ray_app.evaluation.text_metrics import overlap_report
from ray_app.lm.evaluator import BERT, COMPARISONS, OVERLAPS, Speed
from ray_app.markdown import look_up

SHOWN = 20  # rows that a report shows of the best, and of the worst
BERT_KEYS = ("precision", "recall", "f1")
MEANS = {"rouge1": OVERLAPS - 3, "rouge2": OVERLAPS - 2, "rougeL": OVERLAPS - 1, "bertscore": OVERLAPS + BERT - 1}


class TextReport(TypedDict):
    """How near texts come to their references; None over no row, `bertscore` None where it was not computed."""

    bleu: float | None
    rouge1: float | None
    rouge2: float | None
    rougeL: float | None
    bertscore: PrecisionRecall | None


class Gain(TypedDict):
    """The mean of a difference, and how many of its standard errors that is (above 3 is hardly chance)."""

    mean: float
    standard_errors: float


class Cost(TypedDict):
    """Per 1,000 reviews: seconds of a worker, and CPU seconds of all its threads; None over no row."""

    seconds_per_1000: float | None
    cpu_seconds_per_1000: float | None


class GenerationReport(TypedDict):
    """Tokens generated, the time that took, prompts that were cut, and what batching gains."""

    tokens: int
    seconds: float
    tokens_per_second: float | None
    prompts_cut: int
    benchmark: NotRequired[Speed]


class ResultsReport(TextReport):
    """What the results of any task add up to; `calibration` has the comparisons that need no model."""

    rows: int
    loss: float | None
    perplexity: float | None
    loss_tokens: int
    calibration: dict[str, TextReport]
    over_shuffled: dict[str, Gain | None]
    generation: GenerationReport
    cost: Cost


class ResultRow(TypedDict):
    """A row of `rows/*.parquet`: these columns and more."""

    row: int
    id: str
    prompt: str
    reference: str
    generated: str
    bleu: float
    rougeL: float


class ResultSums:
    """Adds up tables of RESULT_COLUMNS."""

    def __init__(self) -> None:
        self.rows = self.cut = self.loss_tokens = self.new_tokens = 0
        self.loss = self.seconds = self.cpu_seconds = 0.0
        self.sums = np.zeros((len(COMPARISONS), OVERLAPS + BERT))
        self.gains = np.zeros((2, len(MEANS)))  # of rows' metrics over the shuffled reference's: sums, and of squares
        self.best: list[tuple[float, int, ResultRow]] = []
        self.worst: list[tuple[float, int, ResultRow]] = []

    def add(self, table: pa.Table) -> pa.Table:
        """Adds a unit's rows; returns them with each row's own metrics in place of `sums`."""
        numbers = {name: table[name].to_numpy() for name in ("loss", "loss_tokens", "new_tokens", "prompt_cut")}
        self.rows += len(table)
        self.loss += float(numbers["loss"].sum())
        self.loss_tokens += int(numbers["loss_tokens"].sum())
        self.new_tokens += int(numbers["new_tokens"].sum())
        self.cut += int(numbers["prompt_cut"].sum())
        self.seconds += float(table["seconds"].to_numpy().sum())
        self.cpu_seconds += float(table["cpu_seconds"].to_numpy().sum())
        sums = np.array(table["sums"].to_pylist()).reshape(len(table), len(COMPARISONS), -1)
        self.sums += sums.sum(0)
        over = (sums[:, 0] - sums[:, COMPARISONS.index("shuffled")])[:, list(MEANS.values())]
        self.gains += [over.sum(0), (over**2).sum(0)]
        metrics = [text_report(row[0], 1) for row in sums]
        scored = table.drop_columns(["sums"])
        for name in ("bleu", "rouge1", "rouge2", "rougeL"):
            scored = scored.append_column(name, pa.array([look_up(row, (name,)) for row in metrics], pa.float32()))
        for name in BERT_KEYS:
            values = [look_up(row, ("bertscore", name)) for row in metrics]
            scored = scored.append_column(f"bertscore_{name}", pa.array(values, pa.float32()))
        self._rank(scored)
        return scored

    def report(self) -> ResultsReport:
        """Loss, perplexity, text metrics, the range these can have, and the speed."""
        loss = self.loss / self.loss_tokens if self.loss_tokens else None
        texts = {name: text_report(self.sums[c], self.rows) for c, name in enumerate(COMPARISONS)}
        return {
            "rows": self.rows,
            "loss": None if loss is None else round(loss, 6),
            "perplexity": None if loss is None else round(math.exp(min(loss, 80.0)), 4),
            "loss_tokens": self.loss_tokens,
            **texts.pop("model"),
            "calibration": texts,
            "over_shuffled": {
                name: gain(float(total), float(squares), self.rows)
                for name, total, squares in zip(MEANS, *self.gains, strict=True)
            },
            "generation": {
                "tokens": self.new_tokens,
                "seconds": round(self.seconds, 3),
                "tokens_per_second": round(self.new_tokens / self.seconds, 1) if self.seconds else None,
                "prompts_cut": self.cut,
            },
            "cost": cost(self.seconds, self.cpu_seconds, self.rows),
        }

    def _rank(self, scored: pa.Table) -> None:
        """Remembers the best and the worst SHOWN rows by ROUGE-L; of equals, those that come first."""
        for row in scored.to_pylist():
            score = row["rougeL"]
            for heap, key in ((self.best, score), (self.worst, -score)):
                heapq.heappush(heap, (key, -row["row"], row))
                if len(heap) > SHOWN:
                    heapq.heappop(heap)


def text_report(sums: NDArray[np.float64], rows: int) -> TextReport:
    """[OVERLAPS + BERT] summed over `rows` rows -> their metrics."""
    overlap = overlap_report(sums[:OVERLAPS], rows)
    means = sums[OVERLAPS:] / rows if rows else sums[OVERLAPS:]
    precision, recall, f1 = (round(float(value), 4) for value in means)
    computed = rows and np.isfinite(means).all()
    return {
        "bleu": overlap["bleu"],
        "rouge1": overlap["rouge1"],
        "rouge2": overlap["rouge2"],
        "rougeL": overlap["rougeL"],
        "bertscore": {"precision": precision, "recall": recall, "f1": f1} if computed else None,
    }


def gain(total: float, squares: float, rows: int) -> Gain | None:
    """The mean of a difference and its standard errors, from its sum and sum of squares over `rows` rows.

    None where it was not computed (NaN), or over less than two rows.
    """
    if rows < 2 or not math.isfinite(total):
        return None
    mean = total / rows
    error = math.sqrt(max(0.0, squares / rows - mean**2) / (rows - 1))
    return {"mean": round(mean, 4), "standard_errors": round(mean / error, 1) if error else 0.0}


def cost(seconds: float, cpu_seconds: float, rows: int) -> Cost:
    """What `rows` reviews took, per 1,000 of them."""
    return {
        "seconds_per_1000": round(1_000 * seconds / rows, 2) if rows else None,
        "cpu_seconds_per_1000": round(1_000 * cpu_seconds / rows, 2) if rows else None,
    }
