"""A catalog's analyses -> what they say: tables, one HTML file to read, Markdown, alerts.

In: the output of jobs.analyze, of any size. Out: OUTPUT/report.html, report.md, report.json and OUTPUT/tables/*. The
analyses are read once, with memory that does not grow with them; no model runs.
"""

import time
from typing import TYPE_CHECKING

from ray_app.insights.options import Config
from ray_app.options import as_dict
from ray_app.progress import peak_mb

if TYPE_CHECKING:
    from ray_app.insights.findings import Report

__all__ = ["Config", "run"]


def run(config: Config) -> "Report":
    """Reads, counts, writes, alerts; returns the report."""
    from ray_app import cli, storage
    from ray_app.insights import alerts, findings, sink, tables
    from ray_app.insights.pages import html_page, markdown_page
    from ray_app.storage.iceberg import open_catalog

    began = time.monotonic()
    webhook = alerts.address(config.webhook)
    if config.alerts:
        alerts.read(config.alerts)  # a file that is something else is told of before the work
    if config.sink:
        open_catalog(config.table)
    report = findings.collect(config)
    tables.write(config.output, report.tables)
    for name, page in (("report.html", html_page.page), ("report.md", markdown_page.page)):
        text = page(report, config.language)
        storage.write_bytes(storage.join(config.output, name), text.encode(errors="replace"))
    if config.sink:
        print(f"{sink.write(config.table, report.tables):,} rows in the tables {config.table}_…", flush=True)
    raised = alerts.from_report(report)
    new = alerts.append(config.alerts, raised) if config.alerts else raised
    if webhook:
        alerts.post(webhook, new, report.title)
    seconds, peak = time.monotonic() - began, round(peak_mb())
    facts = {"seconds": round(seconds, 1), "peak_mb": peak, "alerts": len(raised), "new_alerts": len(new)}
    storage.write_json(storage.join(config.output, "report.json"), report.facts | facts | {"config": as_dict(config)})
    for line in markdown_page.headlines(report, "en"):
        print(cli.visible(line))
    print(
        f"{report.facts['reviews']:,} reviews, {len(raised)} alerts ({len(new)} new), {seconds:.0f} s, {peak:,} MB; "
        f"{config.output}/report.html"
    )
    return report
