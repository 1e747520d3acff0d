"""Labelers' answers join the labeled table, as a new version of it.

In: a labeled table, and files of answers. Out: `labels.parquet`, `history.parquet`, `disputed.csv` (reviews on which
labelers disagree, to be filled in and merged in turn; xlsx where answers are) and `agreement.md`, in a new folder.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

import pyarrow as pa

from ray_app import storage
from ray_app.data.rows import LabelRow, same_feeling, with_words
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import check
from ray_app.labels import agreement, labeling_tools, rows, sheets, versions, workbook
from ray_app.labels.annotations import completion
from ray_app.labels.versions import LabelVersion, VersionRow

RULES = ("", "newest", "majority")
DISPUTED = (("review_id", 14), ("text", 60), ("Completion", 40), ("Answers", 60))  # columns, and how wide they are


class DatedAnswer(TypedDict):
    """A row of ANSWERS with a time."""

    review_id: str
    text: str
    labels: list[LabelRow]
    labeller: str
    labelled_at: datetime


@dataclass(frozen=True)
class Merged:
    """The new version, the answers to each disputed review, and how many reviews went which way."""

    version: LabelVersion
    disputed: tuple[tuple[DatedAnswer, ...], ...]
    counts: dict[str, int]


def run(
    labeled: str,
    answers: str,
    output: str,
    taxonomy: Taxonomy,
    round_name: str,
    resolve: str = "",
    on_bad_label: str = "fail",
    batch: pa.Table | None = None,
) -> dict[str, Any]:
    """Reads answers, merges them into the labels, and writes the new version and the reports.

    Args:
        labeled: labeled reviews in any format, the `labels.parquet` of an earlier version, or "" to start a table.
        answers: file, folder or glob, as `labeling_tools.read_annotations` takes it; so are `on_bad_label` and `batch`.
        output: a new folder.
        round_name: the labeling round, kept with every row that it adds or changes.
        resolve: of RULES: what to do where labelers disagree.

    Returns `labels` (their URI), `answers` and the counts of reviews by what happened to them (new, changed, …),
    `skipped` tasks by reason, `dropped` lines, and the `agreement` report.
    """
    versions.check_new(output)
    read = labeling_tools.read_annotations(answers, taxonomy, on_bad_label, batch)
    merged = merge_answers(versions.load(labeled, taxonomy), read.table, round_name, datetime.now(UTC), resolve)
    agreed = agreement.report(read.table, taxonomy)
    kind = "xlsx" if any(rows.suffix_of(file.uri) == ".xlsx" for file in storage.list_files(answers)) else "csv"
    beside = {f"disputed.{kind}": _sheet(merged.disputed, kind), "agreement.md": agreement.markdown(agreed).encode()}
    uri = versions.write(output, merged.version, beside)
    counts = {"answers": len(read.table), **merged.counts, "skipped": read.skipped, "dropped": list(read.dropped)}
    return {"labels": uri, **counts, "agreement": agreed}


def _sheet(disputed: Iterable[Sequence[DatedAnswer]], kind: str) -> bytes:
    """Disputed reviews in the hand-labeling format, with all answers beside the empty `Completion`."""
    filled = []
    for answers in disputed:
        shown = " / ".join(f"{answer['labeller']}: {completion(answer['labels'])}" for answer in answers)
        filled.append((answers[0]["review_id"], answers[0]["text"], "", shown))
    return sheets.table(kind, [workbook.Column(name=name, width=width) for name, width in DISPUTED], filled)


def merge_answers(
    version: LabelVersion, answers: pa.Table, round_name: str, now: datetime, resolve: str = ""
) -> Merged:
    """Answers (ANSWERS: one row per review and labeler) -> the new version.

    - Of a labeler's answers to a review the newest counts. `now` is the time of an answer that has none.
    - Labelers who agree on every keyword and score make one row, with the highlights of all of them. Where they do not,
      `newest` takes the newest answer; `majority` takes each keyword that more than half named, at the score that more
      than half of those gave. What no rule decides is disputed, and the labels stay as they were.
    - A review that is in the table keeps its split (a test row stays one) and its other columns. Newer labels replace
      its own, which go to the history; an answer older than its labels goes to the history itself. A keyword that comes
      without words (highlights, opinions) keeps those it had, opinions only while its feeling has the same sign.

    Raises UserError at an unknown rule, or where an answer's text is not that of the review of its id.
    """
    check(resolve in RULES, f"--resolve {resolve}: write {' or '.join(filter(None, RULES))}")
    latest = _latest_answers(answers, now)
    current = version.rows(latest)
    counts = Counter(dict.fromkeys(("new", "changed", "confirmed", "outdated", "disputed"), 0))
    rows: dict[str, VersionRow] = {}
    outdated: list[VersionRow] = []
    disputed = []
    for review_id, by_labeler in latest.items():
        agreed = _agreed(list(by_labeler.values()), resolve)
        kind, row = ("disputed", None) if agreed is None else _compare(current.get(review_id), agreed, round_name)
        counts[kind] += 1
        if kind == "disputed":
            disputed.append(tuple(by_labeler.values()))
        elif row and kind == "outdated":
            outdated.append(row)
        elif row:
            rows[review_id] = row
    merged = versions.replace(version, rows, dict.fromkeys(rows, f"round {round_name}"), now)
    merged = versions.add_to_history(merged, outdated, "a newer answer", now)
    return Merged(merged, tuple(disputed), dict(counts))


def _latest_answers(table: pa.Table, now: datetime) -> dict[str, dict[str, DatedAnswer]]:
    """Review id -> labeler -> newest answer."""
    latest: dict[str, dict[str, DatedAnswer]] = {}
    for row in table.to_pylist():
        answer: DatedAnswer = row | {"labelled_at": row["labelled_at"] or now}
        by_labeler = latest.setdefault(answer["review_id"], {})
        before = by_labeler.get(answer["labeller"])
        if before is None or before["labelled_at"] <= answer["labelled_at"]:
            by_labeler[answer["labeller"]] = answer
    return latest


def _compare(old: VersionRow | None, answer: DatedAnswer, round_name: str) -> tuple[str, VersionRow | None]:
    """What an answer does to the current row, and the row it makes: new, changed, outdated, or confirmed (no row).

    Raises UserError where the answer is to another text.
    """
    if old is None:
        return "new", {**answer, "split": None, "round": round_name}
    same = labeling_tools.legible(old["text"]) == labeling_tools.legible(answer["text"])
    check(same, f"review {old['review_id']!r}: {answer['labeller']} answered to another text; give it another id")
    before = {label["keyword"]: label for label in old["labels"]}
    labels = [with_words(label, before.get(label["keyword"])) for label in answer["labels"]]
    if _by_keyword(labels) == _by_keyword(old["labels"]):
        return "confirmed", None
    newer = old["labelled_at"] is None or answer["labelled_at"] >= old["labelled_at"]
    return ("changed" if newer else "outdated"), {
        **old,
        "labeller": answer["labeller"],
        "labelled_at": answer["labelled_at"],
        "labels": labels,
        "round": round_name,
    }


def _by_keyword(labels: Iterable[LabelRow]) -> dict[str, tuple[int, list[str], list[str]]]:
    return {label["keyword"]: (label["score"], label["highlights"] or [], label["opinions"] or []) for label in labels}


def _agreed(answers: list[DatedAnswer], resolve: str) -> DatedAnswer | None:
    """The one answer that several labelers amount to, None where they disagree and no rule decides."""
    answers = sorted(answers, key=lambda answer: answer["labelled_at"])
    scores = [{label["keyword"]: label["score"] for label in answer["labels"]} for answer in answers]
    agreed = scores[0] if all(each == scores[0] for each in scores) else None
    if agreed is None and resolve == "newest" and answers[-2]["labelled_at"] < answers[-1]["labelled_at"]:
        return answers[-1]
    if agreed is None and resolve == "majority":
        agreed = _majority(scores)
    if agreed is None:
        return None
    labels: list[LabelRow] = [
        {
            "keyword": keyword,
            "score": score,
            "highlights": _distinct(label["highlights"] for label in _of(answers, keyword)),
            "opinions": _distinct(
                label["opinions"] for label in _of(answers, keyword) if same_feeling(label["score"], score)
            ),
        }
        for keyword, score in agreed.items()
    ]
    labelers = ", ".join(sorted(answer["labeller"] for answer in answers))
    return {**answers[-1], "labels": labels, "labeller": labelers}


def _majority(scores: list[dict[str, int]]) -> dict[str, int] | None:
    """Keywords and scores with more than half behind them; None where a keyword or its score is tied, and where no
    keyword has more than half behind it though more than half did not say that there is none."""
    agreed = {}
    for keyword in dict.fromkeys(keyword for each in scores for keyword in each):
        votes = Counter(each[keyword] for each in scores if keyword in each)
        (score, for_score), for_keyword = votes.most_common(1)[0], votes.total()
        if 2 * for_keyword == len(scores) or (2 * for_keyword > len(scores) and 2 * for_score <= for_keyword):
            return None
        if 2 * for_keyword > len(scores):
            agreed[keyword] = score
    nothing = 2 * sum(not each for each in scores) > len(scores)
    return agreed if agreed or nothing else None


def _of(answers: Iterable[DatedAnswer], keyword: str) -> Iterator[LabelRow]:
    """What each answer says of a keyword, where it names it."""
    return (label for answer in answers for label in answer["labels"] if label["keyword"] == keyword)


def _distinct(lists: Iterable[list[str] | None]) -> list[str] | None:
    """The distinct words of all lists, None where there are none."""
    return list(dict.fromkeys(word for words in lists for word in words or ())) or None
