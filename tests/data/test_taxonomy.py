"""taxonomy: the shipped one, a user's file, and one taken from labels."""

import json
from pathlib import Path
from typing import Any

import pytest

from ray_app.data import taxonomy
from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.errors import UserError


def test_shipped_taxonomy_has_the_fifteen_keywords_each_with_its_guideline() -> None:
    shipped = taxonomy.load()
    expected = "스타일 만족도 신축성 배송 착용감 품질 색상 소재 핏 사이즈 가격 길이 마감처리 디자인 두께"
    assert sorted(shipped.names) == sorted(expected.split())
    assert (shipped.overall, shipped.scores) == ("만족도", (-2, -1, 0, 1, 2))
    assert set(shipped.score_names) == set(shipped.scores)
    assert all(keyword.belongs and keyword.excludes and keyword.cues for keyword in shipped.keywords)


def test_index_is_the_position_of_every_name() -> None:
    shipped = taxonomy.load()
    assert [shipped.index[name] for name in shipped.names] == list(range(len(shipped.names)))


def test_dumped_taxonomy_loads_as_the_same(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_text(taxonomy.dump(taxonomy.load()), encoding="utf-8")
    assert taxonomy.load(path) == taxonomy.load()
    assert "만족도" in path.read_text(encoding="utf-8")


def test_taxonomy_survives_json() -> None:
    shipped = taxonomy.load()
    assert taxonomy.from_dict(json.loads(json.dumps(shipped.to_dict())), "bundle.json") == shipped


def test_a_taxonomy_without_rules_is_kept_as_it_was_before_there_were_any() -> None:
    plain = Taxonomy(name="t", keywords=(Keyword(name="맛"),))
    assert "rules" not in plain.to_dict()
    assert "rules" in taxonomy.load().to_dict()


def test_a_file_may_name_keywords_only(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("keywords: [맛, {name: 양, cues: [푸짐]}]", encoding="utf-8")
    loaded = taxonomy.load(path)
    assert loaded.keywords == (Keyword(name="맛"), Keyword(name="양", cues=("푸짐",)))
    assert (loaded.scores, loaded.overall) == ((-2, -1, 0, 1, 2), None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"keyword": ["맛"]}, ["unknown key 'keyword'", "did you mean 'keywords'"]),
        ({"name": "x"}, ["not a taxonomy", "'keywords'", "taxonomy.yaml"]),
        ({"keywords": []}, ["no keywords"]),
        ({"keywords": "맛"}, ["must be a list"]),
        ({"keywords": 3}, ["not a taxonomy"]),
        ({"keywords": ["맛", "맛"]}, ["named twice"]),
        ({"keywords": [{"name": "맛", "cue": []}]}, ["not a taxonomy", "cue"]),
        ({"keywords": ["맛"], "scores": [1]}, ["scores", "[1]"]),
        ({"keywords": ["맛"], "scores": [2, 1]}, ["scores", "[2, 1]"]),
        ({"keywords": ["맛"], "scores": [1, 1]}, ["scores", "[1, 1]"]),
        ({"keywords": ["맛"], "scores": ["a", "b"]}, ["scores", "'a'"]),
        ({"keywords": ["맛"], "scores": [0, 0.5]}, ["scores", "0.5"]),
        ({"keywords": ["맛"], "scores": [0, 128]}, ["scores", "127"]),
        ({"keywords": ["맛"], "scores": 5}, ["not a taxonomy"]),
        ({"keywords": ["맛"], "score_names": {"good": "좋음"}}, ["not a taxonomy", "good"]),
        ({"keywords": ["맛"], "rules": [{"keyword": "맛"}]}, ["mine.yaml: rule 1: no cues"]),
        ({"keywords": ["맛"], "rules": ["달"]}, ["rule 1: expected a mapping with cues and keyword"]),
        ({"keywords": ["맛"], "rules": [{"cues": "달", "keyword": "맛"}]}, ["rule 1: cues must be a list of words"]),
        ({"keywords": ["맛"], "rules": [{"cues": [""], "keyword": "맛"}]}, ["rule 1: cues must be a list of words"]),
        (
            {"keywords": ["맛"], "rules": [{"cue": ["달"], "keyword": "맛"}]},
            ["unknown key 'cue'; did you mean 'cues'?"],
        ),
        ({"keywords": ["맛"], "rules": [{"cues": ["달"], "keyword": "양"}]}, ["rule 달: unknown keyword '양'"]),
        (
            {
                "keywords": ["맛"],
                "rules": [{"cues": ["달"], "keyword": "맛", "unless": [{"near": ["안"], "within": -1}]}],
            },
            ["rule 1: unless 1: within must be a number of words"],
        ),
        (
            {"keywords": ["맛"], "rules": [{"cues": ["달"], "keyword": "맛", "unless": {"near": ["안"]}}]},
            ["rule 1: unless must be a list"],
        ),
        (
            {
                "keywords": ["맛"],
                "rules": [{"cues": ["달"], "keyword": "맛", "unless": [{"near": ["안"], "keyword": "양"}]}],
            },
            ["rule 달: unknown keyword '양'"],
        ),
        ({"keywords": ["맛"], "overall": "만족도"}, ["overall '만족도' is not a keyword"]),
    ],
)
def test_mistake_in_a_taxonomy_is_named(content: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        taxonomy.from_dict(content, "mine.yaml")
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("content", [b"keywords: [a", b"- a", b"", "keywords: [배송]".encode("cp949"), None])
def test_unreadable_file_is_one_line_that_names_it(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.yaml") as caught:
        taxonomy.load(path)
    assert "\n" not in str(caught.value)


def test_labels_span_a_taxonomy_whatever_their_order() -> None:
    pairs = [("양", 3), ("맛", 1), ("맛", 5), ("양", 3)]
    assert taxonomy.from_labels(pairs) == taxonomy.from_labels(pairs[::-1])
    assert taxonomy.from_labels(pairs) == Taxonomy(
        name="from labels", keywords=(Keyword(name="맛"), Keyword(name="양")), scores=(1, 3, 5)
    )


@pytest.mark.parametrize("pairs", [[], [("맛", 1)], [("맛", 1), ("양", 500)]])
def test_labels_that_span_no_usable_scale_are_refused(pairs: list[tuple[str, int]]) -> None:
    with pytest.raises(UserError):
        taxonomy.from_labels(pairs)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize("field", ["name", "keywords", "overall", "scores", "score_names", "rules"])
def test_aliases_of_aliases_are_refused_before_anything_spells_them_out(field: str, tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_text(f"{BOMB}{field}: *h\n", encoding="utf-8")
    with pytest.raises(UserError, match="more than 100,000 values, aliases spelled out") as raised:
        taxonomy.load(path)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "keywords: " + "[" * 5_000,
        "keywords: [x]\nscores: [1" + "0" * 5_000 + "]\n",
        "keywords: &a [*a]\n",
        "keywords: [[x]]\n",
        "keywords: [{name: [x]}]\n",
        "keywords: [on, off]\n",
        "keywords: [!!binary aGVsbG8=]\n",
        'keywords: ["\\e[2J배송"]\n',
        'keywords: ["배송\\n품질"]\n',
        'keywords: ["\\u202e배송"]\n',
        'keywords: [""]\n',
        "keywords: [" + "가" * 201 + "]\n",
        "keywords: !!python/object/apply:os.system [true]\n",
    ],
)
def test_what_is_no_keyword_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        taxonomy.load(path)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 600
