"""What labellers answered joins the labelled table, as a new version of it.

In: a labelled table, and files of answers. Out: `labels.parquet`, `history.parquet`, `disputed.csv` (reviews on which
labellers disagree, to be filled in and merged in turn) and `agreement.md`, in a new folder.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import check
from ray_app.labels import agreement, labeling_tools, spreadsheet, versions
from ray_app.labels.annotations import completion
from ray_app.labels.versions import LabelVersion

RULES = ("", "newest", "majority")
Row = dict[str, Any]


@dataclass(frozen=True)
class Merged:
    """The new version, the answers to each disputed review, and how many reviews went which way."""

    version: LabelVersion
    disputed: tuple[tuple[Row, ...], ...]
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
    """Reads answers, merges them into the labels, writes the new version and the reports; returns what happened.

    Args:
        labelled: labelled reviews in any format, the `labels.parquet` of an earlier version, or "" to start a table.
        answers: file, folder or glob, as `labelling.read_back` takes it; so are `on_bad_label` and `batch`.
        output: a new folder.
        round_name: the labelling round, kept with every row that it brings.
        resolve: of RULES: what is done where labellers disagree.
    """
    versions.check_new(output)
    read = labeling_tools.read_annotations(answers, taxonomy, on_bad_label, batch)
    merged = merge(versions.load(labeled, taxonomy), read.table, round_name, datetime.now(UTC), resolve)
    agreed = agreement.report(read.table, taxonomy)
    beside = {"disputed.csv": _sheet(merged.disputed), "agreement.md": agreement.markdown(agreed).encode()}
    uri = versions.write(output, merged.version, beside)
    told = {"answers": len(read.table), **merged.counts, "skipped": read.skipped, "dropped": list(read.dropped)}
    return {"labels": uri, **told, "agreement": agreed}


def _sheet(disputed: Sequence[Sequence[Row]]) -> bytes:
    """The hand-labelling format with everyone's answer beside the empty one."""
    rows = []
    for said in disputed:
        answers = " / ".join(f"{answer['labeller']}: {completion(answer['labels'])}" for answer in said)
        rows.append((said[0]["review_id"], said[0]["text"], "", answers))
    return spreadsheet.to_csv(("review_id", "text", "Completion", "Answers"), rows)


def merge(version: LabelVersion, answers: pa.Table, round_name: str, now: datetime, resolve: str = "") -> Merged:
    """Answers (ANSWERS: one row per review and labeller) -> the new version.

    - A labeller who answered twice means the newer answer. `now` is the time of an answer that has none.
    - Labellers who agree on every keyword and score make one row, with the highlights of them all. Where they do not,
      `newest` takes the newest answer; `majority` takes each keyword that more than half named, at the score that more
      than half of those gave. What no rule decides is disputed, and left as it was.
    - A review that is in the table keeps its split (a test row stays one) and whatever other columns it has. Its labels
      are replaced by newer ones, and then it goes to the history; an answer older than its labels goes there itself.
      A keyword that comes without highlights keeps those it had.

    Raises UserError at an unknown rule, or where an answer's text is not that of the review of its id.
    """
    check(resolve in RULES, f"--resolve {resolve}: write {' or '.join(filter(None, RULES))}")
    said: dict[str, dict[str, Row]] = {}
    for answer in answers.to_pylist():
        answer["labelled_at"] = answer["labelled_at"] or now
        by = said.setdefault(answer["review_id"], {})
        if answer["labeller"] not in by or by[answer["labeller"]]["labelled_at"] <= answer["labelled_at"]:
            by[answer["labeller"]] = answer
    known = version.rows(said)
    counts = Counter(dict.fromkeys(("new", "changed", "confirmed", "outdated", "disputed"), 0))
    rows: dict[str, Row] = {}
    outdated: list[Row] = []
    disputed = []
    for review_id, by in said.items():
        agreed = _agreed(list(by.values()), resolve)
        kind, row = _against(known.get(review_id), agreed, round_name) if agreed else ("disputed", None)
        counts[kind] += 1
        if kind == "disputed":
            disputed.append(tuple(by.values()))
        elif row and kind == "outdated":
            outdated.append(row)
        elif row:
            rows[review_id] = row
    merged = versions.replace(version, rows, dict.fromkeys(rows, f"round {round_name}"), now)
    merged = versions.add_to_history(merged, outdated, "a newer answer", now)
    return Merged(merged, tuple(disputed), dict(counts))


def _against(old: Row | None, answer: Row, round_name: str) -> tuple[str, Row | None]:
    """What an answer is to the row that stands: new, changed, outdated (with the row it makes), or confirmed."""
    if old is None:
        return "new", answer | {"split": None, "round": round_name}
    same = labeling_tools.legible(old["text"]) == labeling_tools.legible(answer["text"])
    check(same, f"review {old['review_id']!r}: {answer['labeller']} answered to another text; give it another id")
    held = {label["keyword"]: label["highlights"] for label in old["labels"]}
    labels = [label | {"highlights": label["highlights"] or held.get(label["keyword"])} for label in answer["labels"]]
    row = old | {name: answer[name] for name in ("labeller", "labelled_at")} | {"labels": labels, "round": round_name}
    if _by_keyword(labels) == _by_keyword(old["labels"]):
        return "confirmed", None
    newer = old["labelled_at"] is None or answer["labelled_at"] >= old["labelled_at"]
    return ("changed" if newer else "outdated"), row


def _by_keyword(labels: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, list[str]]]:
    return {label["keyword"]: (label["score"], label["highlights"] or []) for label in labels}


def _agreed(answers: list[Row], resolve: str) -> Row | None:
    """The one answer of several labellers, None where they disagree and no rule decides."""
    answers = sorted(answers, key=lambda answer: answer["labelled_at"])
    scores = [{label["keyword"]: label["score"] for label in answer["labels"]} for answer in answers]
    agreed = scores[0] if all(each == scores[0] for each in scores) else None
    if agreed is None and resolve == "newest" and answers[-2]["labelled_at"] < answers[-1]["labelled_at"]:
        return answers[-1]
    if agreed is None and resolve == "majority":
        agreed = _majority(scores)
    if not agreed:
        return None
    labels = [{"keyword": k, "score": s, "highlights": _highlights(answers, k)} for k, s in agreed.items()]
    return answers[-1] | {"labels": labels, "labeller": ", ".join(sorted(answer["labeller"] for answer in answers))}


def _majority(scores: list[dict[str, int]]) -> dict[str, int] | None:
    """Keywords and scores with more than half behind them; None where a keyword or its score is tied."""
    agreed = {}
    for keyword in dict.fromkeys(keyword for each in scores for keyword in each):
        given = Counter(each[keyword] for each in scores if keyword in each)
        (score, votes), named = given.most_common(1)[0], given.total()
        if 2 * named == len(scores) or (2 * named > len(scores) and 2 * votes <= named):
            return None
        if 2 * named > len(scores):
            agreed[keyword] = score
    return agreed


def _highlights(answers: list[Row], keyword: str) -> list[str] | None:
    said = (label for answer in answers for label in answer["labels"] if label["keyword"] == keyword)
    return list(dict.fromkeys(word for label in said for word in label["highlights"] or ())) or None
