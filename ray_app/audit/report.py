"""An audit for people: Markdown. In: an Audit and what it was made with. Out: the text of report.md."""

from collections.abc import Iterator, Sequence
from typing import Any

from ray_app.audit.confusable_keywords import LEAST, LEVEL
from ray_app.audit.suspects import KINDS, WIDE, AuditResult

WORST = 3  # rows shown a keyword
BROKEN = 5  # rows shown a rule
SHOWN = 120  # characters of a review


def markdown(found: AuditResult, about: dict[str, Any]) -> str:
    """`about`: labels, reviews, test, model, folds."""
    kinds = found.suspects["kind"].to_pylist()
    counts = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in KINDS)
    lines = [
        f"# Audit of {about['labels']}",
        "",
        f"{about['reviews']:,} reviews, each judged by a model that did not learn from it ({about['model']}, "
        f"{about['folds']} folds); {about['test']:,} test reviews were left alone. "
        f"{len(kinds):,} suspects in {len(set(found.suspects['review_id'].to_pylist())):,} reviews: {counts}.",
        "",
        "Suspects are not errors: look at them, then `python -m jobs.audit apply` writes what you decide.",
        *_keywords(found),
        *_few(found, about),
        *_worst(found),
        *_rules(found),
        *_pairs(found),
    ]
    return "\n".join(lines) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Markdown lines; a `|` in a cell does not end it."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (header, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return ["", lines[0], "|" + " --- |" * len(header), *lines[1:]]


def _keywords(found: AuditResult) -> Iterator[str]:
    yield from (
        "",
        "## Keywords",
        "",
        "Flagged: keywords that look missing or superfluous, and their share of support.",
    )
    header = ("keyword", "support", "flagged", "share", "missing", "should not be there", "score", "rule")
    yield from table(
        header,
        [
            (
                *(row["keyword"], row["support"], row["flagged"], _share(row["flagged"], row["support"])),
                *(row[kind] for kind in KINDS),
            )
            for row in found.keywords
        ],
    )


def _few(found: AuditResult, about: dict[str, Any]) -> Iterator[str]:
    size = about["test"] or about["reviews"]
    yield from (
        "",
        "## Support",
        "",
        f"F1 of the out-of-fold models against the labels as given, and between what it would lie on 95% of test "
        f"splits of {size:,} reviews (percentile bootstrap). An interval wider than {WIDE} says little about "
        "a model: label more test reviews with that keyword.",
    )
    header = ("keyword", "training support", "test support", "test / training", "F1", "95% interval", "")
    rows = []
    for row in found.keywords:
        ratio = "" if row["test_ratio"] is None else f"{row['test_ratio']:.3f}"
        interval = f"{row['low']:.2f}-{row['high']:.2f}"
        mark = "too few examples" if row["few"] else ""
        rows.append((row["keyword"], row["support"], row["test_support"], ratio, f"{row['f1']:.2f}", interval, mark))
    yield from table(header, rows)


def _worst(found: AuditResult) -> Iterator[str]:
    yield from (
        "",
        "## Worst rows",
        "",
        f"The {WORST} likeliest errors of each keyword and of its scores; suspects.parquet has them all.",
    )
    rows = found.suspects.to_pylist()
    for keyword in (row["keyword"] for row in found.keywords):
        own = [row for row in rows if row["keyword"] == keyword]
        parted = ([row for row in own if row["kind"] in kinds] for kinds in (("missing", "extra"), ("score",)))
        worst = [row for part in parted for row in part[:WORST]]
        if not worst:
            continue
        yield from ("", f"### {keyword}")
        yield from table(
            ("review", "text", "given", "suggested", "confidence", "why"),
            [
                (
                    row["review_id"],
                    _short(row["text"]),
                    row["given"] or "",
                    row["suggested"] or "remove",
                    f"{row['confidence']:.2f}",
                    row["reason"],
                )
                for row in worst
            ],
        )


def _rules(found: AuditResult) -> Iterator[str]:
    yield from ("", "## Guideline", "", "Rules of the taxonomy, and the labels that contradict them.")
    header = ("rule", "reviews it speaks of", "labels follow it", "broken")
    rows = [(rule.title, len(rule.demands), f"{rule.obeyed:.1%}", len(rule.broken)) for rule in found.rules]
    yield from table(header, rows)
    every = [row for row in found.suspects.to_pylist() if row["kind"] == "rule"]
    for rule in found.rules:
        broken = [row for row in every if row["reason"].startswith((f"rule {rule.title}, and", f"rule {rule.title};"))][
            :BROKEN
        ]
        if broken:
            yield from ("", f"### {rule.title}")
            cells = [
                (row["review_id"], _short(row["text"]), row["evidence"] or "", row["given"] or "", row["suggested"])
                for row in broken
            ]
            yield from table(("review", "text", "says", "given", "asked for"), cells)


def _pairs(found: AuditResult) -> Iterator[str]:
    yield from (
        "",
        "## Confusable keywords",
        "",
        "Swapped: the first looks superfluous and the second missing in the same review. Together: both are labelled. "
        f"Told are pairs seen in {LEAST} reviews or more and above chance: one-sided Fisher exact test over reviews, "
        f"Benjamini-Hochberg at {LEVEL} over all pairs of a kind.",
    )
    header = ("kind", "first", "second", "reviews", "by chance", "adjusted p")
    cells = [
        (pair.kind, pair.first, pair.second, pair.seen, f"{pair.expected:.1f}", f"{pair.p:.1e}") for pair in found.pairs
    ]
    yield from table(header, cells) if cells else ("", "None.")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
