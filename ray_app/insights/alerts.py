"""What a shop should hear of today: changes for the worse and groups that stand out, once each.

In: a Report. Out: JSON lines, one object per alert with its numbers and the ids of typical reviews; and the new ones
posted to a webhook in Slack's format. A webhook that fails costs a warning, never the report.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from datetime import date
from typing import TypedDict

import requests

from ray_app import storage
from ray_app.errors import UserError, check, first_line
from ray_app.insights import groups
from ray_app.insights.findings import Report
from ray_app.insights.pages.sentences import short
from ray_app.insights.store import Row

log = logging.getLogger(__name__)
SAME = 45  # days: a change that is found again that near to where it was is no news
TRIES, SECONDS = 4, 10.0
SHOWN = 20  # alerts in one message


class Alert(TypedDict):
    """One object of the file; `since` is empty for a group that stands out."""

    kind: str
    level: str
    value: str
    keyword: str
    since: str
    complaints: int
    reviews: int
    share: float
    usual_share: float
    p_corrected: float
    review_ids: list[str]
    text: str


def address(variable: str) -> str:
    """The URL in an environment variable; "" where none is named. Raises UserError where it holds none."""
    if not variable:
        return ""
    url = os.environ.get(variable, "").strip()
    check(url.startswith(("http://", "https://")), f"--webhook {variable}: that environment variable holds no URL")
    return url


def from_report(report: Report) -> list[Alert]:
    """The report's alerts, the surest first."""
    quoted: dict[tuple[str, str, str], list[str]] = {}
    for row in report.tables.quotes.to_pylist():
        if row["about"] in ("change", "group"):
            quoted.setdefault((row["level"], row["value"], row["keyword"]), []).append(row["review_id"])
    found: list[Alert] = []
    for row in report.tables.changes.to_pylist():
        if row["direction"] == "worse":
            found.append(_change(row, quoted.get((row["level"], row["value"], row["keyword"]), [])))
    known = {(alert["level"], alert["value"], alert["keyword"]) for alert in found}
    for row in groups.outliers(report.tables.groups):
        key = (row["level"], row["value"], row["keyword"])
        if key not in known:
            found.append(_group(row, quoted.get(key, [])))
    return found


def _change(row: Row, ids: list[str]) -> Alert:
    after, reviews = row["complaints_after"], row["reviews_after"]
    share, before = row["share_after"], row["share_before"]
    text = (
        f"{short(row['keyword'])} complaints {_about(row)} x{float(str(row['ratio'])):.1f} since {row['since']}: "
        f"{after:,} of {reviews:,} reviews ({share:.0%}), {before:.0%} before; p {_p(row['q'])} after correction"
    )
    return _alert("change", row, str(row["since"]), after, reviews, share, before, ids, text)


def _group(row: Row, ids: list[str]) -> Alert:
    complaints, reviews = row["negative"], row["reviews"]
    share, usual = complaints / max(1, reviews), row["usual_complaints"]
    text = (
        f"{short(row['keyword'])} complaints {_about(row)} stand out: {complaints:,} of {reviews:,} reviews "
        f"({share:.0%}), elsewhere {usual:.0%}; p {_p(row['q'])} after correction"
    )
    return _alert("group", row, "", complaints, reviews, share, usual, ids, text)


def _alert(
    kind: str,
    row: Row,
    since: str,
    complaints: int,
    reviews: int,
    share: float,
    usual: float,
    ids: list[str],
    text: str,
) -> Alert:
    return {
        "kind": kind,
        "level": str(row["level"]),
        "value": str(row["value"]),
        "keyword": str(row["keyword"]),
        "since": since,
        "complaints": complaints,
        "reviews": reviews,
        "share": round(share, 4),
        "usual_share": round(usual, 4),
        "p_corrected": row["q"],
        "review_ids": ids,
        "text": text,
    }


def _about(row: Row) -> str:
    return "in the whole catalog" if row["level"] == "all" else f"of {row['level']} {short(row['value'])}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.4f}"


def read(uri: str) -> tuple[str, list[Alert]]:
    """(The file's text, which ends with a new line, and its alerts); none where there is no file yet.

    Raises UserError where it is not alerts.
    """
    try:
        text = storage.read_bytes(uri).decode() if storage.exists(uri) else ""
    except UnicodeDecodeError:
        raise UserError(f"--alerts {uri}: not UTF-8, so no file of alerts; name another file") from None
    known: list[Alert] = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would end lines within names
        if not line.strip():
            continue
        try:
            known.append(json.loads(line))
            _key(known[-1])
            if since := known[-1]["since"]:
                date.fromisoformat(since)
        except (ValueError, KeyError, TypeError):
            raise UserError(f"--alerts {uri} line {number}: not an alert; name another file") from None
    return text + ("\n" if text and not text.endswith("\n") else ""), known


def append(uri: str, raised: Sequence[Alert]) -> list[Alert]:
    """Appends what the file does not tell yet and returns it. Raises UserError where the file is not alerts."""
    text, known = read(uri)
    new = [alert for alert in raised if not any(_same(alert, other) for other in known)]
    if new or not text:
        lines = "".join(json.dumps(alert, ensure_ascii=False) + "\n" for alert in new)
        storage.write_bytes(uri, (text + lines).encode(errors="replace"))
    return new


def _key(alert: Alert) -> tuple[str, str, str, str]:
    return alert["kind"], alert["level"], alert["value"], alert["keyword"]


def _same(one: Alert, other: Alert) -> bool:
    if _key(one) != _key(other):
        return False
    if not one["since"] or not other["since"]:
        return True
    return abs((date.fromisoformat(one["since"]) - date.fromisoformat(other["since"])).days) <= SAME


def post(url: str, new: Sequence[Alert], title: str) -> bool:
    """Posts the alerts as one message, again after a failure; returns whether it was taken. Posts nothing for none."""
    if not new:
        return True
    lines = [f"{_slack(title)}: {len(new)} new alerts", *(f"• {_slack(alert['text'])}" for alert in new[:SHOWN])]
    if len(new) > SHOWN:
        lines.append(f"… and {len(new) - SHOWN} more")
    for attempt in range(TRIES):
        if attempt:
            time.sleep(2 ** (attempt - 1))
        try:
            answer = requests.post(url, json={"text": "\n".join(lines)}, timeout=SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            reason = first_line(error).replace(url, "the webhook")  # the address is a secret
            reason = type(error).__name__ if "://" in reason or "host=" in reason else reason
            continue
        if answer.status_code < 300:
            return True
        reason = f"HTTP {answer.status_code}"
        if answer.status_code < 500 and answer.status_code != 429:
            break
    log.warning(
        "--webhook: %s alerts were not delivered (%s); they are in the report and in --alerts", len(new), reason
    )
    return False


def _slack(text: str) -> str:
    """A stranger's text in a message, on one line: no mentions and no links by markup; `*` and `_` stay."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
