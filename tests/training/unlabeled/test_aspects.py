"""Keywords without labels: a reader learned over several taxonomies, and the bundle that is guessed with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ray_app.data import taxonomy as taxonomies
from ray_app.errors import UserError
from ray_app.inference import bundle as bundles
from ray_app.inference.analyzer import Analyzer
from ray_app.training import train
from ray_app.training.unlabeled.aspects import AspectsConfig, train_aspects
from ray_app.training.unlabeled.first_guess import GuessConfig, guess_bundle
from tests.support.bundles import make_bundle

GOOD, BAD = ("정말 좋아요", "예뻐요", "만족해요", "최고예요"), ("별로예요", "실망했어요", "나빠요", "아쉬워요")
TAXONOMY = """
name: 옷
scores: [-1, 0, 1]
keywords:
- {name: 배송, cues: [택배]}
- {name: 색상, belongs: 옷의 색, cues: [색감]}
- {name: 두께, cues: [도톰]}
"""


HOTEL = """
name: 호텔
scores: [-1, 0, 1]
keywords:
- {name: 서비스, belongs: 직원의 응대, cues: [직원, 친절]}
- {name: 객실, belongs: 방과 침대, cues: [방, 침대]}
- {name: 위치, belongs: 교통과 주변, cues: [지하철, 위치]}
- {name: 식사, belongs: 조식과 음식, cues: [조식, 아침]}
"""
STAYS = (
    "직원이 {good}",
    "직원들이 {bad} 그래도 방은 {good}",
    "방이 {bad}",
    "침대가 {good}",
    "지하철에서 가까워서 {good}",
    "위치는 {bad} 하지만 조식은 {good}",
    "조식이 {bad}",
    "아침이 {good} 그리고 위치도 {good}",
    "친절해서 {good}",
    "방은 {good} 직원은 {bad}",
    "그냥 {good}",
    "다시는 안 가요 {bad}",
)


def labeled(path: Path, names: list[str], count: int = 48) -> str:
    """Reviews that praise one keyword and blame the next."""
    rows = []
    for i in range(count):
        first, second = names[i % len(names)], names[(i + 1) % len(names)]
        text = f"{first} {GOOD[i % 4]} 근데 {second} {BAD[(i // 2) % 4]}"
        labels: list[dict[str, Any]] = [
            {"keyword": first, "score": 1, "highlights": [first], "opinions": [GOOD[i % 4]]},
            {"keyword": second, "score": -1, "highlights": [second], "opinions": [BAD[(i // 2) % 4]]},
        ]
        rows.append({"review_id": str(i), "text": text, "labels": labels})
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


def texts(count: int = 60) -> list[str]:
    words = ("배송", "택배", "색상", "색감", "두께", "도톰", "신축성")
    return [
        f"{words[i % 7]} {GOOD[i % 4]} 그리고 {words[(i * 3 + 1) % 7]} {BAD[(i // 3) % 4]} {i}" for i in range(count)
    ]


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny bundle with a reader that learned over two taxonomies."""
    folder = tmp_path_factory.mktemp("reading")
    make_bundle(folder / "base", score_form="joint")
    sets = (
        labeled(folder / "a.jsonl", ["소재", "가격", "핏"]),
        labeled(folder / "b.jsonl", ["사이즈", "길이", "품질", "디자인"]),
    )
    output = str(folder / "reader")
    given: dict[str, Any] = {"bundle": str(folder / "base"), "output": output, "epochs": 2, "device": "cpu"}
    train_aspects(AspectsConfig(labels=sets, track="tensorboard", **given))
    return output


@pytest.fixture(scope="module")
def taxonomy(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("taxonomy") / "bags.yaml"
    path.write_text(TAXONOMY, encoding="utf-8")
    return str(path)


def guessed(reading: str, taxonomy: str, output: Path, **options: Any) -> str:
    given = {"epochs": 30, "device": "cpu", **options}
    return guess_bundle(GuessConfig(taxonomy=taxonomy, bundle=reading, output=str(output), **given), texts())


def test_the_reader_leaves_the_bundle_as_it_was(reading: str) -> None:
    before, after = bundles.load(str(Path(reading).parent / "base")), bundles.load(reading)
    assert (after.path / bundles.READER).is_file()
    assert before.meta == after.meta
    for part in ("joint/head.safetensors", "joint/model.safetensors"):
        assert (before.path / part).read_bytes() == (after.path / part).read_bytes()


def test_its_training_is_tracked(reading: str) -> None:
    files = [path for path in Path(f"{reading}.training/tensorboard/run").iterdir() if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert all(text in content for text in (b"reader/select", bundles.load(reading).id.encode()))
    assert not Path(f"{reading}.training/_lease").exists()


def test_ready_guesses_keywords_that_it_was_not_trained_on(tmp_path: Path) -> None:
    """By words that say them, also where no cue word does; and how the customer feels about each."""
    path = tmp_path / "hotel.yaml"
    path.write_text(HOTEL, encoding="utf-8")
    guess = GuessConfig(taxonomy=str(path), output=str(tmp_path / "guess"), device="cpu")
    guess_bundle(guess, [one.format(good=good, bad=bad) for one in STAYS for good, bad in zip(GOOD, BAD, strict=True)])
    bundle = bundles.load(str(tmp_path / "guess"))
    assert bundle.meta.taxonomy == taxonomies.load(path)
    assert bundle.meta.provenance["labels"] == "none: a first guess"
    analyze = Analyzer(str(tmp_path / "guess"), device="cpu")
    findings = [
        {one["keyword"]: (one["score"], one["highlight"] and one["highlight"]["word"]) for one in analysis["findings"]}
        for analysis in analyze(
            ["직원분들이 정말 친절했지만 방은 더러웠어요", "아침이 맛있었어요 근데 지하철에서 너무 멀어요"]
        )
    ]
    assert findings[0] == {"서비스": (1, "직원분들이"), "객실": (-1, "방은")}
    assert findings[1] == {"식사": (1, "아침이"), "위치": (-1, "지하철에서")}


def test_a_guess_is_the_same_every_time(reading: str, taxonomy: str, tmp_path: Path) -> None:
    ids = {guessed(reading, taxonomy, tmp_path / name, epochs=1) for name in "ab"}
    assert len(ids) == 1


def test_a_keyword_about_the_whole_of_a_review_is_on_every_one(reading: str, tmp_path: Path) -> None:
    """Also on those in which none of its words stands."""
    path = tmp_path / "overall.yaml"
    path.write_text(f"{TAXONOMY}- {{name: 만족도, cues: [만족]}}\noverall: 만족도\n", encoding="utf-8")
    guessed(reading, str(path), tmp_path / "guess", epochs=2)
    analyses = Analyzer(str(tmp_path / "guess"), device="cpu", opinions=False)(texts(8))
    assert all("만족도" in {one["keyword"] for one in analysis["findings"]} for analysis in analyses)


def test_a_keyword_that_nobody_speaks_of_is_told(
    reading: str, taxonomy: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = tmp_path / "more.yaml"
    more.write_text(f"{TAXONOMY}- {{name: 향기}}\n", encoding="utf-8")
    guessed(reading, str(more), tmp_path / "guess", epochs=1)
    assert "keyword 향기: none of its words occurs in 60 reviews; add cue words" in caplog.text


@pytest.mark.parametrize(
    ("scores", "count", "words"),
    [
        ("[1, 2, 3, 4, 5]", 60, r"scores \[1, 2, 3, 4, 5\]; without labels they must lie within -2..2"),
        ("[-1, 0, 1]", 3, "3 reviews to learn it from"),
    ],
)
def test_what_cannot_be_guessed_is_refused(reading: str, tmp_path: Path, scores: str, count: int, words: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(TAXONOMY.replace("[-1, 0, 1]", scores), encoding="utf-8")
    with pytest.raises(UserError, match=words):
        guess_bundle(GuessConfig(taxonomy=str(path), bundle=reading, output=str(tmp_path / "g")), texts(count))
    assert not (tmp_path / "g").exists()


def test_a_bundle_without_a_reader_says_what_reads(reading: str, taxonomy: str, tmp_path: Path) -> None:
    base = str(Path(reading).parent / "base")
    with pytest.raises(UserError, match="knows its own keywords only; write --bundle ready"):
        guessed(base, taxonomy, tmp_path / "guess")


def test_a_reader_needs_a_joint_bundle_and_a_scale_that_it_knows(reading: str, tmp_path: Path) -> None:
    make_bundle(tmp_path / "prompt")
    with pytest.raises(UserError, match="a bundle of the form prompt"):
        train_aspects(AspectsConfig(bundle=str(tmp_path / "prompt"), output=str(tmp_path / "out")))
    stars = tmp_path / "stars.csv"
    stars.write_text("text,Completion\n" + "\n".join(f"배송 {i},배송 {i % 4 + 2}" for i in range(9)), "utf-8")
    base = str(Path(reading).parent / "base")
    with pytest.raises(UserError, match=r"a reader knows those within -2\.\.2"):
        train_aspects(AspectsConfig(labels=(str(stars),), bundle=base, output=str(tmp_path / "out")))


def test_a_guess_is_trained_further_on_labels(reading: str, taxonomy: str, tmp_path: Path) -> None:
    """With its own keywords a bundle goes on as it is; with others its reader makes the head."""
    guessed(reading, taxonomy, tmp_path / "guess", epochs=1)
    labels = labeled(tmp_path / "labels.jsonl", ["배송", "색상", "두께"])
    for base in (str(tmp_path / "guess"), reading):
        output = str(tmp_path / f"trained-{Path(base).name}")
        train.run(
            train.Config(
                labels=labels, taxonomy=taxonomy, base_model=base, output=output, epochs=1, workers=0, device="cpu"
            )
        )
        assert bundles.load(output).meta.taxonomy.names == ("배송", "색상", "두께")
