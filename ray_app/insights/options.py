"""What a report is told: the options of `jobs.report`."""

import re
from dataclasses import dataclass
from datetime import date

from ray_app.errors import check
from ray_app.options import Options, option

DATES = re.compile(r"(\d{4}-\d\d-\d\d)\.\.(\d{4}-\d\d-\d\d)(?:,(\d{4}-\d\d-\d\d)\.\.(\d{4}-\d\d-\d\d))?")

FOREVER = 2**31 - 1  # a day, since 1970, that no review has


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.report`."""

    analyses: str = option("runs/quickstart/analyses", "folder that jobs.analyze wrote", "Data", common=True)
    output: str = option("runs/report", "folder for the report and its tables", "Data", common=True)
    against: str = option(
        "",
        "what to compare with: another folder of analyses, or the days FIRST..LAST of the same ones, such as "
        "2025-01-01..2025-03-31, beside which all later days are now, or those after a comma: …,2026-01-01..2026-03-31",
        "Data",
        common=True,
    )
    bundle: str = option("", "bundle that made the analyses; default: the one that they name", "Data")
    reference: str = option(
        "", "predictions.parquet of jobs.evaluate: probabilities that those of today are compared with", "Data"
    )
    placement: str = option(
        "here", "where the analyses are read: in this process, or on a Ray cluster", "Data", ("here", "ray")
    )
    sink: str = option("", "also write the tables of numbers into pyiceberg's catalog", "Data", ("", "iceberg"))
    table: str = option("nunchi.report", "what their names there begin with: nunchi.report_keywords, …", "Data")
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
        check(
            not self.webhook or self.alerts,
            "--webhook: without --alerts nothing tells what is new; name the file that remembers it",
        )
        check("." in self.table.strip("."), f"--table {self.table}: name a namespace too, such as nunchi.report")
        if found := DATES.fullmatch(self.against):
            days = []
            for text in filter(None, found.groups()):
                try:
                    days.append(date.fromisoformat(text))
                except ValueError:
                    check(False, f"--against {self.against}: {text} is no day")
            for first, last in zip(days[::2], days[1::2], strict=True):
                check(first <= last, f"--against {self.against}: the first day is after the last")

    @property
    def against_days(self) -> tuple[int, int, int, int] | None:
        """The days of --against, since 1970: first and last of before, first and last of now."""
        found = DATES.fullmatch(self.against)
        if not found:
            return None
        given = [date.fromisoformat(text) for text in filter(None, found.groups())]
        first, last, *now = (day.toordinal() - date(1970, 1, 1).toordinal() for day in given)
        return first, last, *(now or (last + 1, FOREVER))
