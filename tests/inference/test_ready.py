"""The shipped bundle: it lies in the package, is small, and reads reviews in which keywords feel differently."""

import shutil
from pathlib import Path

import pytest

from ray_app import Analyzer
from ray_app.data.taxonomy import load
from ray_app.inference import bundle, bundle_names

MIXED = [
    (
        "옷은 예쁘지만 배송은 늦어요",
        {"디자인": ("예쁘지만", "예쁘지만"), "배송": ("배송은", "늦어요")},
        {"디자인": 1, "배송": -1},
    ),
    (
        "색은 마음에 드는데 사이즈가 너무 작아요",
        {"색상": ("색은", "마음에")},
        {"색상": 1, "사이즈": -1},
    ),
    (
        "가격은 비싸지만 품질이 정말 좋네요",
        {"품질": ("품질이", "좋네요")},
        {"가격": -1, "품질": 1},
    ),
    (
        "핏은 예쁜데 원단이 얇아서 비쳐요",
        {"핏": ("핏은", "예쁜데")},
        {"핏": 1, "소재": -1, "두께": -1},
    ),
    (
        "신축성이 좋아서 편하지만 기장이 너무 짧아요",
        {"신축성": ("신축성이", "좋아서")},
        {"신축성": 1, "착용감": 1, "길이": -1},
    ),
    (
        "디자인은 별로인데 착용감은 최고예요",
        {"디자인": ("디자인은", "별로인데")},
        {"디자인": -1, "착용감": 1},
    ),
    (
        "두께가 적당해서 좋은데 보풀이 금방 생겨요",
        {"두께": ("두께가", "적당해서")},
        {"두께": 1, "품질": -1},
    ),
    (
        "가성비는 좋은데 마감이 허술해요",
        {"마감처리": ("마감이", "허술해요")},
        {"가격": 1, "마감처리": -1},
    ),
    (
        "소매가 길어서 불편하지만 디자인은 귀여워요",
        {"디자인": ("디자인은", "귀여워요")},
        {"길이": -1, "디자인": 1},
    ),
    (
        "스타일은 좋은데 냄새가 심하게 나요",
        {"스타일": ("스타일은", "좋은데")},
        {"스타일": 1, "소재": -1},
    ),
]


@pytest.fixture(scope="module")
def analyze() -> Analyzer:
    return Analyzer(device="cpu", threads=1)


@pytest.mark.parametrize(("text", "words", "signs"), MIXED)
def test_keywords_that_feel_differently_in_one_review_are_told_apart(
    analyze: Analyzer, text: str, words: dict[str, tuple[str, str]], signs: dict[str, int]
) -> None:
    findings = {finding["keyword"]: finding for finding in analyze([text])[0]["findings"]}
    found = {name: (f["score"] > 0) - (f["score"] < 0) for name, f in findings.items()}
    assert {name: found.get(name) for name in signs} == signs
    for name, pair in words.items():
        finding = findings[name]
        assert finding["highlight"]
        assert finding.get("opinion")
        assert (finding["highlight"]["word"], (finding["opinion"] or {"word": ""})["word"]) == pair


def test_it_is_found_by_its_name_wherever_the_job_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = bundle.load("ready")
    assert loaded.meta.taxonomy == load()
    assert bundle.read_summary("ready").taxonomy.names == load().names
    assert bundle_names.absolute("ready") == "ready"
    assert bundle_names.absolute("runs/b") == str(Path.cwd() / "runs" / "b")


def test_it_is_small_and_has_a_card() -> None:
    files = [path for path in bundle_names.READY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert "Trained on" in (bundle_names.READY / bundle.CARD).read_text(encoding="utf-8")


def test_a_card_is_no_part_of_a_bundles_identity(tmp_path: Path) -> None:
    shutil.copytree(bundle_names.READY, tmp_path / "copy")
    (tmp_path / "copy" / bundle.CARD).write_text("something else", encoding="utf-8")
    assert bundle.load(str(tmp_path / "copy")).id == bundle.load("ready").id
