"""An audit for people. In: an AuditResult and what was audited. Out: the Markdown of report.md."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ray_app.audit.confusable_keywords import LEAST, LEVEL
from ray_app.audit.suspects import KINDS, WIDE, AuditResult, Suspect
from ray_app.markdown import escape, table

WORST = 3  # rows shown per keyword
BROKEN = 5  # rows shown per rule
SHOWN = 120  # characters shown of a review


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What was audited: the labels' URI, how many reviews and test reviews it holds, the model and its folds."""

    labels: str
    reviews: int
    test_reviews: int
    model: str
    folds: int


def markdown(result: AuditResult, audited: Audited) -> str:
    """The text of report.md."""
    kinds = result.suspects["kind"].to_pylist()
    counts = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in KINDS)
    lines = [
        f"# Audit of {escape(audited.labels)}",
        "",
        f"{audited.reviews:,} reviews, each judged by a model that did not train on it ({escape(audited.model)}, "
        f"{audited.folds} folds); {audited.test_reviews:,} test reviews were left alone. "
        f"{len(kinds):,} suspects in {len(set(result.suspects['review_id'].to_pylist())):,} reviews: {counts}.",
        "",
        "Suspects are not errors: look at them, decide, and `python -m jobs.audit apply` writes what you decided.",
        *_keywords(result),
        *_support(result, audited.test_reviews or audited.reviews),
        *_worst(result),
        *_rules(result),
        *_pairs(result),
    ]
    return "\n".join(lines) + "\n"


def _text_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """An empty line and the lines of a table whose cells are escaped text."""
    return ["", *table(header, ([escape(str(cell)) for cell in row] for row in rows))]


def _keywords(result: AuditResult) -> Iterator[str]:
    yield from (
        "",
        "## Keywords",
        "",
        "Flagged: keywords that look missing or superfluous, and their share of support.",
    )
    header = ("keyword", "support", "flagged", "share", "missing", "should not be there", "score", "rule")
    rows = [
        (
            *(row["keyword"], row["support"], row["flagged"], _share(row["flagged"], row["support"])),
            *(row["missing"], row["extra"], row["score"], row["rule"]),
        )
        for row in result.keywords
    ]
    yield from _text_table(header, rows)


def _support(result: AuditResult, size: int) -> Iterator[str]:
    yield from (
        "",
        "## Support",
        "",
        f"F1 of the out-of-fold models against the labels as given, and the interval that holds it on 95% of test "
        f"splits of {size:,} reviews (percentile bootstrap). An interval wider than {WIDE} says little about "
        "a model: label more test reviews with that keyword.",
    )
    header = ("keyword", "training support", "test support", "test / training", "F1", "95% interval", "")
    rows = []
    for row in result.keywords:
        ratio = "" if row["test_ratio"] is None else f"{row['test_ratio']:.3f}"
        interval = f"{row['low']:.2f}-{row['high']:.2f}"
        note = "too few examples" if row["few"] else ""
        rows.append((row["keyword"], row["support"], row["test_support"], ratio, f"{row['f1']:.2f}", interval, note))
    yield from _text_table(header, rows)


def _worst(result: AuditResult) -> Iterator[str]:
    yield from (
        "",
        "## Worst rows",
        "",
        f"The {WORST} likeliest errors of each keyword and of its scores; suspects.parquet has them all.",
    )
    suspects: list[Suspect] = result.suspects.to_pylist()
    for keyword in (row["keyword"] for row in result.keywords):
        own = [suspect for suspect in suspects if suspect["keyword"] == keyword]
        worst = [
            suspect
            for kinds in (("missing", "extra"), ("score",))
            for suspect in [suspect for suspect in own if suspect["kind"] in kinds][:WORST]
        ]
        if not worst:
            continue
        yield from ("", f"### {escape(keyword)}")
        yield from _text_table(
            ("review", "text", "given", "suggested", "confidence", "why"), map(_suspect_cells, worst)
        )


def _suspect_cells(suspect: Suspect) -> tuple[str, ...]:
    return (
        suspect["review_id"],
        _short(suspect["text"]),
        suspect["given"] or "",
        suspect["suggested"] or "remove",
        f"{suspect['confidence']:.2f}",
        suspect["reason"],
    )


def _rules(result: AuditResult) -> Iterator[str]:
    yield from ("", "## Guideline", "", "Rules of the taxonomy, and the labels that contradict them.")
    header = ("rule", "reviews it applies to", "labels follow it", "broken")
    rows = [(rule.title, len(rule.matches), f"{rule.share_followed:.1%}", len(rule.broken)) for rule in result.rules]
    yield from _text_table(header, rows)
    suspects: list[Suspect] = [row for row in result.suspects.to_pylist() if row["kind"] == "rule"]
    for rule in result.rules:
        prefixes = (f"rule {rule.title}, and", f"rule {rule.title};")
        broken = [suspect for suspect in suspects if suspect["reason"].startswith(prefixes)][:BROKEN]
        if broken:
            yield from ("", f"### {escape(rule.title)}")
            yield from _text_table(
                ("review", "text", "says", "given", "required"),
                [
                    (row["review_id"], _short(row["text"]), row["evidence"] or "", row["given"] or "", row["suggested"])
                    for row in broken
                ],
            )


def _pairs(result: AuditResult) -> Iterator[str]:
    yield from (
        "",
        "## Confusable keywords",
        "",
        "Swapped: the first looks superfluous and the second missing in the same review. Together: both are labeled. "
        f"Shown are pairs that occur in {LEAST} reviews or more, and more often than by chance: one-sided Fisher exact "
        f"test over reviews, Benjamini-Hochberg at {LEVEL} over all pairs of a kind.",
    )
    header = ("kind", "first", "second", "reviews", "by chance", "adjusted p")
    rows = [
        (pair.kind, pair.first, pair.second, pair.count, f"{pair.expected:.1f}", f"{pair.p:.1e}")
        for pair in result.pairs
    ]
    yield from _text_table(header, rows) if rows else ("", "None.")


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else ""


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
