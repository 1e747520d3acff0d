"""Analyses read on Ray: the tables are those of reading them here, to the last digit, whichever file is done first."""

from pathlib import Path

import pytest

from ray_app.insights import report
from ray_app.insights.report import Config
from tests.insights.test_report import shop
from tests.support.page_data import write_analyses

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_a_report_is_the_same_wherever_its_analyses_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_analyses(str(tmp_path / "analyses"), shop(900))
    monkeypatch.chdir(tmp_path)
    here, there = (
        report.run(Config(analyses="analyses", output=placement, placement=placement)) for placement in ("here", "ray")
    )
    assert here.tables == there.tables
    assert here.facts == there.facts
