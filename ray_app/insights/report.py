"""A catalog's analyses -> what they say: tables, one HTML file to read, Markdown, alerts.

In: the output of jobs.analyze, of any size. Out: OUTPUT/report.html, report.md, report.json and OUTPUT/tables/*. The
analyses are read once, with memory that does not grow with them; no model runs.
"""

import logging
import re
import resource
import time
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from ray_app.errors import check
from ray_app.options import Options, as_dict, option

if TYPE_CHECKING:
    from ray_app.insights.findings import Report

log = logging.getLogger(__name__)
DATES = re.compile(r"(\d{4}-\d\d-\d\d)\.\.(\d{4}-\d\d-\d\d)")


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.report`."""

    analyses: str = option("runs/quickstart/analyses", "folder that jobs.analyze wrote", "Data", common=True)
    output: str = option("runs/report", "folder for the report and its tables", "Data", common=True)
    against: str = option(
        "",
        "what to compare with: another folder of analyses, or the days FIRST..LAST of the same ones, such as "
        "2026-01-01..2026-03-31, beside which all later days are now",
        "Data",
        common=True,
    )
    bundle: str = option("", "bundle that made the analyses; default: the one that they name", "Data")
    reference: str = option(
        "", "predictions.parquet of jobs.evaluate: probabilities that those of today are compared with", "Data"
    )
    title: str = option("", "heading of the report; default: the folder's name", "Report")
    language: str = option("ko", "language the report opens in; it holds both", "Report", ("ko", "en"), common=True)
    period: str = option("auto", "step of time; auto: weeks up to half a year", "Report", ("auto", "week", "month"))
    alpha: float = option(
        0.01, "of changes and of groups that stand out, the part that may be chance", "Report", above=0, below=0.5
    )
    alerts: str = option("", "file of JSON lines that new findings are appended to", "Alerts", common=True)
    webhook: str = option(
        "", "name of the environment variable that holds the URL to post new alerts to (Slack's format)", "Alerts"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            "://" not in self.webhook,
            "--webhook: an address is a secret; put it into an environment variable and name that",
        )
        if found := DATES.fullmatch(self.against):
            days = []
            for text in found.groups():
                try:
                    days.append(date.fromisoformat(text))
                except ValueError:
                    check(False, f"--against {self.against}: {text} is no day")
            check(days[0] <= days[1], f"--against {self.against}: the first day is after the last")

    @property
    def against_days(self) -> tuple[int, int] | None:
        """The days of --against, since 1970."""
        found = DATES.fullmatch(self.against)
        if not found:
            return None
        first, last = (date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal() for text in found.groups())
        return first, last


def run(config: Config) -> "Report":
    """Reads, counts, writes, alerts; returns the report."""
    from ray_app import storage
    from ray_app.insights import alerts, findings, html_report, markdown_report, tables

    began = time.monotonic()
    webhook = alerts.address(config.webhook)
    report = findings.collect(config)
    tables.write(config.output, report.tables)
    storage.write_bytes(storage.join(config.output, "report.html"), html_report.page(report, config.language).encode())
    storage.write_bytes(
        storage.join(config.output, "report.md"), markdown_report.page(report, config.language).encode()
    )
    raised = alerts.from_report(report)
    new = alerts.append(config.alerts, raised) if config.alerts else raised
    if webhook:
        alerts.post(webhook, new, report.title)
    seconds, peak = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    facts = {"seconds": round(seconds, 1), "peak_mb": peak, "alerts": len(raised), "new_alerts": len(new)}
    storage.write_json(storage.join(config.output, "report.json"), report.facts | facts | {"config": as_dict(config)})
    for line in markdown_report.headlines(report, "en"):
        print(line)
    print(
        f"{report.facts['reviews']:,} reviews, {len(raised)} alerts ({len(new)} new), {seconds:.0f} s, {peak:,} MB; "
        f"{config.output}/report.html"
    )
    return report
