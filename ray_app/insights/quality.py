"""How far the numbers can be trusted: rejected and cut reviews, unsure ones, probabilities that drift.

In: what `ingest` counted, the run's own facts, a reference to compare probabilities with. Out: figures, and the PSI of
every keyword's probabilities.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from ray_app import storage
from ray_app.arrays import Doubles
from ray_app.data import analyses
from ray_app.data.analyses import Analyses, matrix
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import check
from ray_app.insights.reading.ingest import Facts
from ray_app.insights.reading.parts import BINS, histograms
from ray_app.insights.statistics import stability
from ray_app.insights.store import Store

FIGURES = pa.schema([("figure", pa.string()), ("reviews", pa.int64()), ("of", pa.int64()), ("share", pa.float64())])
SAMPLE, LONGEST = 2_000, 2_000  # reviews whose words are looked up, and characters of each
UNKNOWN = ("[UNK]", "<unk>")
DRIFT = pa.schema([("keyword", pa.string()), *((name, pa.float64()) for name in ("psi", "mean_before", "mean"))])


def figures(facts: Facts, run: Mapping[str, object], unknown: tuple[int, int] | None) -> pa.Table:
    """FIGURES: rejected of all rows; without a finding, truncated, unsure (a probability within 0.1 of its threshold),
    with a rating and with a date, of the analyzed ones; of a sample, those with `unknown_words`."""
    rows_in, rejected = run.get("rows_in"), run.get("rejected")
    known = isinstance(rows_in, int) and isinstance(rejected, int)
    counted: list[tuple[str, int, int]] = [("rejected", int(str(rejected)), int(str(rows_in)))] if known else []
    counted += [
        (name, getattr(facts, name), facts.reviews)
        for name in ("nothing_found", "truncated", "unsure", "rated", "dated")
    ]
    counted[-2:-2] = [("unknown_words", *unknown)] if unknown else []
    rows = [{"figure": name, "reviews": n, "of": of, "share": n / of if of else None} for name, n, of in counted]
    return pa.Table.from_pylist(rows, FIGURES)


def unknown_words(store: Store, source: Analyses, column: str | None, bundle: str) -> tuple[int, int] | None:
    """(Reviews with a word that the bundle's tokenizer has no piece for, of how many looked at: SAMPLE at most).

    None where no texts were kept or the tokenizer knows no unknown piece. `bundle` is its folder or URI.
    """
    if column is None:
        return None
    from tokenizers import Tokenizer

    place = storage.join(bundle, "tokenizer", "tokenizer.json")
    tokenizer = Tokenizer.from_buffer(storage.read_bytes(place))
    unknown = {tokenizer.token_to_id(piece) for piece in UNKNOWN} - {None}
    found = store.rows(f"SELECT pos FROM reviews ORDER BY {store.order()} LIMIT {SAMPLE}")
    if not unknown or not found:
        return None
    table = analyses.take(source, np.array([position for (position,) in found], np.int64), [column])
    texts = [str(text or "")[:LONGEST] for text in table[column].to_pylist()]
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    return sum(not unknown.isdisjoint(one.ids) for one in encoded), len(texts)


def read_reference(uri: str, keywords: int) -> Doubles:
    """[keywords, BINS] the histogram of `keyword_probabilities` in Parquet files, such as `predictions.parquet` of
    jobs.evaluate. Raises UserError where there are none, or of another number of keywords."""
    table = storage.read_parquet(uri)
    check("keyword_probabilities" in table.column_names, f"--reference {uri}: no column keyword_probabilities")
    probabilities = matrix(table["keyword_probabilities"])
    check(
        probabilities.shape[1] == keywords,
        f"--reference {uri}: {probabilities.shape[1]} keywords, the analyses have {keywords}; evaluate the same bundle",
    )
    return histograms(probabilities)


def drift(facts: Facts, before: Doubles | None, taxonomy: Taxonomy | None) -> pa.Table:
    """DRIFT, the largest first: the PSI of every keyword's probabilities against `before`'s histogram; empty where
    either is not known."""
    now = facts.probabilities
    if before is None or taxonomy is None or before.shape != now.shape or len(taxonomy.names) != len(now):
        return DRIFT.empty_table()
    rows = [
        {
            "keyword": keyword,
            "psi": stability(before[i], now[i]),
            "mean_before": _mean(before[i]),
            "mean": _mean(now[i]),
        }
        for i, keyword in enumerate(taxonomy.names)
    ]
    rows.sort(key=lambda row: -float(str(row["psi"])))
    return pa.Table.from_pylist(rows, DRIFT)


def _mean(counts: Sequence[float] | Doubles) -> float:
    """The mean probability of a histogram, by the middles of its bins."""
    middles = (np.arange(BINS) + 0.5) / BINS
    return float(np.asarray(counts) @ middles / max(1e-9, float(np.sum(counts))))
