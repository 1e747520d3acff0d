"""Thresholds of one's own: read from a file, checked against the bundle, applied."""

import json
from pathlib import Path

import pytest

from ray_app.errors import UserError
from ray_app.inference import bundle, thresholds
from ray_app.inference.analyzer import Analyzer


def test_a_file_replaces_the_thresholds_it_names(bundle_folder: str, tmp_path: Path) -> None:
    own = bundle.load(bundle_folder)
    file = tmp_path / "thresholds.json"
    file.write_text(json.dumps({"bundle": own.id, "thresholds": {"배송": 0, "핏": 1}}), encoding="utf-8")
    text = "옷은 예쁘지만 배송은 늦어요"
    for given in (str(file), thresholds.content(str(file))):
        found = [
            row["keyword"] for row in Analyzer(bundle_folder, highlights="off", thresholds=given)([text])[0]["findings"]
        ]
        assert "배송" in found
        assert "핏" not in found
        assert thresholds.identity(own, given) == "배송=0,핏=1"
    moved = thresholds.named(thresholds.applied(own, str(file)).meta)
    assert {**thresholds.named(own.meta), "배송": 0, "핏": 1} == moved
    assert thresholds.applied(own, "") is own
    assert thresholds.identity(own, json.dumps(dict(thresholds.named(own.meta)))) == ""
    used = thresholds.of_run(bundle.read_summary(bundle_folder), {"thresholds": moved})
    assert used.thresholds.tolist() == pytest.approx(list(moved.values()))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "not JSON"),
        ("[0.5]", "not a JSON object"),
        ("{}", "no thresholds; write"),
        ('{"thresholds": [0.5]}', "no thresholds; write"),
        ('{"베송": 0.4}', "unknown keyword '베송'; did you mean '배송'?"),
        ('{"배송": 1.2}', "배송: 1.2 is no threshold from 0 to 1"),
        ('{"배송": -0.1}', "배송: -0.1 is no threshold"),
        ('{"배송": NaN}', "배송: nan is no threshold"),
        (f'{{"배송": 1{"0" * 400}}}', "배송: 1000"),
        ('{"배송": true}', "배송: True is no threshold"),
        ('{"배송": "0.4"}', "배송: '0.4' is no threshold"),
        ('{"bundle": 3, "thresholds": {"배송": 0.4}}', "bundle 3 is no id"),
        ('{"bundle": "0123456789ab", "thresholds": {"배송": 0.4}}', "made for bundle 0123456789ab, this is"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(bundle_folder: str, tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "mine.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        thresholds.applied(bundle.load(bundle_folder), str(tmp_path / "mine.json"))
    assert line in str(error.value)
    assert "mine.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(bundle_folder: str) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json"):
        thresholds.applied(bundle.load(bundle_folder), "nowhere.json")
