"""reader: every format gives the same table, and every bad label is named with its file and row."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import Keyword, Taxonomy, load
from ray_app.errors import UserError
from ray_app.labels import completions, reader

COMPLETIONS = {"1": "스타일 1, 만족도 2, 신축성 -1", "2": "배송-2,만족도 0"}
TEXTS = {"1": '예쁘고 편해요, "쫀쫀"은 아님', "2": "배송이\n늦어요"}
EXPECTED = [
    ("1", TEXTS["1"], [("스타일", 1), ("만족도", 2), ("신축성", -1)]),
    ("2", TEXTS["2"], [("배송", -2), ("만족도", 0)]),
]


def row(review_id: Any = "x", text: Any = "좋아요", score: Any = 1, **more: Any) -> dict[str, Any]:
    return {"review_id": review_id, "text": text, "labels": [{"keyword": "만족도", "score": score}], **more}


GOOD = [row("1"), row("2", "별로", -1)]


def write_jsonl(path: Path, rows: list[Any]) -> str:
    lines = (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def write_parquet(path: Path, rows: list[Any]) -> str:
    storage.write_parquet(str(path), pa.Table.from_pylist(rows))
    return str(path)


def write_csv(path: Path, rows: list[str], encoding: str = "utf-8") -> str:
    path.write_bytes("\r\n".join(rows).encode(encoding))
    return str(path)


def delimited(separator: str = ",", head: tuple[str, str, str] = ("review_id", "text", "Completion")) -> list[str]:
    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    return [separator.join(head), *(separator.join([i, quoted(TEXTS[i]), quoted(COMPLETIONS[i])]) for i in TEXTS)]


def as_dicts() -> list[dict[str, Any]]:
    return [
        {"review_id": i, "text": text, "labels": [{"keyword": k, "score": s} for k, s in pairs]}
        for i, text, pairs in EXPECTED
    ]


def content(read: reader.Labels) -> list[tuple[str, str, list[tuple[str, int]]]]:
    assert read.table.schema == LABELED
    return [
        (r["review_id"], r["text"], [(label["keyword"], label["score"]) for label in r["labels"]])
        for r in read.table.to_pylist()
    ]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.parquet", lambda path: write_parquet(path, as_dicts())),
        ("a.jsonl", lambda path: write_jsonl(path, ["", *as_dicts(), "  "])),
        ("a.ndjson", lambda path: write_csv(path, [json.dumps(r) for r in as_dicts()])),
        ("a.csv", lambda path: write_csv(path, delimited())),
        ("a.csv", lambda path: write_csv(path, delimited(), "utf-8-sig")),
        ("a.csv", lambda path: write_csv(path, delimited(), "cp949")),
        ("a.CSV", lambda path: write_csv(path, delimited(head=("리뷰번호", " 리뷰 내용", "completion ")), "cp949")),
        ("a.csv", lambda path: write_csv(path, delimited(head=("ID", "Prompt", "Completion")))),
        ("a.tsv", lambda path: write_csv(path, delimited("\t"), "utf-8-sig")),
        ("a.tsv", lambda path: write_csv(path, delimited("\t"), "cp949")),
    ],
)
def test_every_format_gives_the_same_reviews(tmp_path: Path, name: str, write: Callable[[Path], str]) -> None:
    read = reader.read_labels(write(tmp_path / name))
    assert content(read) == EXPECTED
    assert (read.dropped, read.taxonomy) == ((), load())


def test_csv_without_an_id_column_takes_file_and_row(tmp_path: Path) -> None:
    uri = write_csv(tmp_path / "a.csv", ["text,Completion", "굿,만족도2", "", "별로,만족도 -1"])
    assert content(reader.read_labels(uri)) == [
        ("a.csv-2", "굿", [("만족도", 2)]),
        ("a.csv-4", "별로", [("만족도", -1)]),
    ]


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_odd_line_separators_inside_a_jsonl_text_are_text(tmp_path: Path, separator: str) -> None:
    line = json.dumps(row("1"), ensure_ascii=False).replace("좋아요", f"좋아요{separator}굿")
    if separator < " ":
        line = json.dumps(row("1", f"좋아요{separator}굿"))
    assert content(reader.read_labels(write_jsonl(tmp_path / "a.jsonl", [line])))[0][1] == f"좋아요{separator}굿"


def test_folder_of_several_formats_is_read_by_name_and_hidden_files_are_not(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b.jsonl", [row("2")])
    write_parquet(tmp_path / "a.parquet", [row("1")])
    write_jsonl(tmp_path / "_c.jsonl", ["broken"])
    assert reader.read_labels(str(tmp_path)).table["review_id"].to_pylist() == ["1", "2"]
    assert reader.read_labels(f"{tmp_path}/*.jsonl").table["review_id"].to_pylist() == ["2"]


NO_OVERALL = Taxonomy(name="둘", keywords=(Keyword(name="배송"), Keyword(name="맛")), scores=(-1, 0, 1))


def test_a_review_that_speaks_of_nothing_is_a_negative_where_no_keyword_is_on_every_review(tmp_path: Path) -> None:
    rows = [row("1") | {"labels": [{"keyword": "배송", "score": 1}]}, row("2") | {"labels": []}]
    read = reader.read_labels_with(write_jsonl(tmp_path / "a.jsonl", rows), NO_OVERALL)
    assert [len(labels) for labels in read.table["labels"].to_pylist()] == [1, 0]
    lines = write_csv(tmp_path / "b.csv", ["id,text,Completion", "1,좋아요,배송 1", "2,네,-", "3,음,"])
    with pytest.raises(UserError, match="row 4: no labels"):
        reader.read_labels_with(lines, NO_OVERALL)
    read = reader.read_labels_with(lines, NO_OVERALL, "drop")
    assert read.table.select(["review_id", "labels"]).to_pylist()[1] == {"review_id": "2", "labels": []}
    assert [line.rpartition(": ")[2] for line in read.dropped] == ["no labels"]


def test_highlights_splits_and_whole_floats_are_kept(tmp_path: Path) -> None:
    first = row(7, score=2.0, split="test")
    first["labels"][0]["highlights"] = ["좋아요"]
    read = reader.read_labels(write_jsonl(tmp_path / "a.jsonl", [first, row(8), row(9, split="")]))
    assert read.table.to_pylist()[0] == {
        "review_id": "7",
        "text": "좋아요",
        "labels": [{"keyword": "만족도", "score": 2, "highlights": ["좋아요"], "opinions": None}],
        "split": "test",
    }
    assert read.split("test")["review_id"].to_pylist() == ["7"]
    assert read.split("train", None)["review_id"].to_pylist() == ["8", "9"]


def test_sample_holds_every_split_and_every_keyword_of_the_taxonomy() -> None:
    read = reader.read_labels("sample")
    assert set(read.table["split"].to_pylist()) == {"train", "validation", "test"}
    used = {label["keyword"] for each in read.table["labels"].to_pylist() for label in each}
    assert used == set(read.taxonomy.names)
    assert all("만족도" in [label["keyword"] for label in each] for each in read.table["labels"].to_pylist())


def label(keyword: Any = "만족도", score: Any = 1, **more: Any) -> dict[str, Any]:
    return {"keyword": keyword, "score": score, **more}


BAD = [
    (row("3") | {"labels": [label("배숑")]}, ["unknown keyword '배숑'", "did you mean '배송'"]),
    (row("3") | {"labels": [label("zzz")]}, ["unknown keyword 'zzz'", "known: 스타일"]),
    (row("3") | {"labels": [label(["배송"])]}, ["unknown keyword ['배송']"]),
    (row("3") | {"labels": [label(None)]}, ["unknown keyword None"]),
    (row("3", score=3), ["만족도: score 3 is out of range", "-2, -1, 0, 1, 2"]),
    (row("3", score=-3), ["만족도: score -3"]),
    (row("3", score=1.5), ["만족도: score 1.5"]),
    (row("3", score="1"), ["만족도: score '1'"]),
    (row("3", score=True), ["만족도: score True"]),
    (row("3", score=None), ["만족도: score None"]),
    (row("3") | {"labels": [label(), label(score=2)]}, ["duplicate keyword '만족도'"]),
    (row("3") | {"labels": []}, ["no labels: every review has at least 만족도"]),
    (row("3") | {"labels": None}, ["no labels"]),
    (row("3") | {"labels": "만족도 1"}, ["no labels"]),
    ({"review_id": "3", "text": "굿"}, ["no labels"]),
    (row("3") | {"labels": ["만족도"]}, ["label '만족도' is not a keyword and a score"]),
    (row("3") | {"labels": [label(highlights="굿")]}, ["만족도: highlights must be a list of words"]),
    (row("3") | {"labels": [label(highlights=[1])]}, ["만족도: highlights must be a list of words"]),
    (row("3") | {"labels": [label(opinions="굿")]}, ["만족도: opinions must be a list of words"]),
    (row("3", None), ["null or empty text"]),
    (row("3", ""), ["null or empty text"]),
    (row("3", " \u200b\n"), ["null or empty text"]),
    (row("3", 5), ["null or empty text"]),
    (row(None), ["null review_id"]),
    (row(""), ["null review_id"]),
    (row("  "), ["null review_id"]),
    ({"text": "굿", "labels": [label()]}, ["null review_id"]),
    (row("2"), ["review_id '2' was seen at", "row 2 already"]),
    (row(2), ["review_id 2 was seen at", "row 2 already"]),
    (row("3", split="dev"), ["unknown split 'dev'", "train, validation, test"]),
    ('{"review_id": "3", "text"', ["not JSON"]),
    ("[1, 2]", ["not a JSON object"]),
]


@pytest.mark.parametrize(("bad", "words"), BAD)
def test_bad_label_stops_with_file_row_and_remedy_or_is_dropped_by_name(
    tmp_path: Path, bad: Any, words: list[str]
) -> None:
    uri = write_jsonl(tmp_path / "a.jsonl", [*GOOD, bad, row("4")])
    with pytest.raises(UserError) as caught:
        reader.read_labels(uri)
    assert str(caught.value).startswith(f"{uri} row 3: {words[0]}")
    assert all(word in str(caught.value) for word in [*words, "--on-bad-label drop"])
    assert "\n" not in str(caught.value)
    assert ("--taxonomy labels" in str(caught.value)) == words[0].startswith("unknown keyword")
    read = reader.read_labels(uri, on_bad_label="drop")
    assert read.table["review_id"].to_pylist() == ["1", "2", "4"]
    assert len(read.dropped) == 1
    assert read.dropped[0].startswith(f"{uri} row 3: {words[0]}")


@pytest.mark.parametrize(
    ("bad", "words"), [(row("3", score=3), "score 3"), (row(None), "null review_id"), (row("1"), "'1' was seen")]
)
def test_bad_label_in_parquet_is_named_with_file_and_row(tmp_path: Path, bad: Any, words: str) -> None:
    uri = write_parquet(tmp_path / "a.parquet", [*GOOD, bad])
    with pytest.raises(UserError, match=words) as caught:
        reader.read_labels(uri)
    assert str(caught.value).startswith(f"{uri} row 3: ")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("3,굿,만족도", "'만족도' is not a keyword and a score such as '배송 -1'"),
        ("3,굿,만족도 1.5", "'만족도 1.5' is not a keyword and a score"),
        ('3,굿,"배송 1, -1"', "'-1' is not a keyword and a score"),
        ("3,굿,배송 - 1", "'배송 - 1' is not a keyword and a score"),
        ("3,굿,배송 1점", "'배송 1점' is not a keyword and a score"),
        ('3,굿,"배송 1 만족도 2"', "unknown keyword '배송 1 만족도'"),
        ("3,굿,배송 9", "배송: score 9 is out of range"),
        ("3,굿,", "no labels"),
        ("3,굿", "no labels"),
        ("3,,배송 1", "null or empty text"),
        (",굿,배송 1", "null review_id"),
        ("1,굿,배송 1", "review_id '1' was seen at"),
        ("3,굿,배송 1, 만족도 2", "4 cells under 3 names"),
    ],
)
def test_bad_line_of_a_spreadsheet_is_named_with_the_row_it_shows(tmp_path: Path, line: str, words: str) -> None:
    uri = write_csv(tmp_path / "a.csv", ["id,text,Completion", '1,"두\n줄",배송 1', "", line, "5,굿,배송 2"])
    with pytest.raises(UserError) as caught:
        reader.read_labels(uri)
    assert str(caught.value).startswith(f"{uri} row 4: {words}")
    read = reader.read_labels(uri, on_bad_label="drop")
    assert read.table["review_id"].to_pylist() == ["1", "5"]
    assert [dropped.split(": ")[0] for dropped in read.dropped] == [f"{uri} row 4"]


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("스타일1, 만족도 2,신축성 -1", [("스타일", 1), ("만족도", 2), ("신축성", -1)]),
        (" 배송  +2 ,", [("배송", 2)]),
        ("배송-1", [("배송", -1)]),
        ("배송 속도 2", [("배송 속도", 2)]),
        ("4K 화질 2", [("4K 화질", 2)]),
        ("-", []),
    ],
)
def test_completion_needs_no_spaces(completion: str, expected: list[tuple[str, int]]) -> None:
    assert [(each["keyword"], each["score"]) for each in completions.parse_completion(completion) or ()] == expected


@pytest.mark.parametrize("completion", ["", " ", ","])
def test_an_empty_completion_is_not_labeled_yet(completion: str) -> None:
    assert completions.parse_completion(completion) is None


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", "id,text\n1,굿", "needs a text column and a Completion column, has id, text"),
        ("a.csv", "id,Completion\n1,배송 1", "needs a text column"),
        ("a.csv", "", "empty"),
        ("a.csv", "text,Completion\n", "no labeled reviews"),
        ("a.csv", "text,Completion\n" + "가" * 3_000_000, "a line of more than 8 MB"),
        ("a.csv", b"text,Completion\n\xff\xfe\xff", "row 2: bytes that the file's encoding does not know"),
        ("a.jsonl", "\n\n", "no labeled reviews"),
        ("a.orc", "x", "labels are read from .parquet, .jsonl"),
        ("a.xlsx", "PK\3\4", "unreadable xlsx file: not a readable workbook"),
        ("a.parquet", "x", "a.parquet: "),
    ],
    ids=range(10),
)
def test_file_that_holds_no_labels_is_named(tmp_path: Path, name: str, data: str | bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(UserError) as caught:
        reader.read_labels(str(tmp_path / name))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "words"),
    [("text", "no column 'text'"), ("labels", "no column 'labels'"), ("review_id", "no column 'review_id'")],
)
def test_missing_column_of_parquet_is_named(tmp_path: Path, missing: str, words: str) -> None:
    uri = write_parquet(tmp_path / "a.parquet", [{k: v for k, v in each.items() if k != missing} for each in GOOD])
    with pytest.raises(UserError, match=words):
        reader.read_labels(uri, on_bad_label="drop")


def test_taxonomy_of_a_file_replaces_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("keywords: [맛, 양]\nscores: [1, 2, 3]", encoding="utf-8")
    uri = write_jsonl(tmp_path / "a.jsonl", [row("1") | {"labels": [label("맛", 3)]}])
    assert reader.read_labels(uri, str(tmp_path / "t.yaml")).taxonomy.names == ("맛", "양")


def test_taxonomy_labels_takes_keywords_and_scores_from_the_labels(tmp_path: Path) -> None:
    rows = [row("1") | {"labels": [label("맛", 5), label("양", 1)]}, row("2") | {"labels": [label("맛", "x")]}]
    read = reader.read_labels(write_jsonl(tmp_path / "a.jsonl", rows), "labels", "drop")
    assert (read.taxonomy.names, read.taxonomy.scores) == (("맛", "양"), (1, 5))
    assert content(read) == [("1", "좋아요", [("맛", 5), ("양", 1)])]
    assert "score 'x'" in read.dropped[0]


def test_rows_that_are_all_bad_stop_even_when_dropping(tmp_path: Path) -> None:
    uri = write_jsonl(tmp_path / "a.jsonl", [row("1", ""), row("2", "")])
    with pytest.raises(UserError, match=r"every one of 2 rows is bad; the first: .* row 1: null or empty text"):
        reader.read_labels(uri, on_bad_label="drop")


def test_unknown_choice_for_bad_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--on-bad-label keep: write fail or drop"):
        reader.read_labels(write_jsonl(tmp_path / "a.jsonl", GOOD), on_bad_label="keep")


def test_labels_are_read_by_the_taxonomy_at_hand(tmp_path: Path) -> None:
    uri = write_jsonl(tmp_path / "a.jsonl", [*GOOD, row("3") | {"labels": [label("맛", 3)]}])
    read = reader.read_labels_with(uri, Taxonomy(name="food", keywords=(Keyword(name="맛"),), scores=(1, 2, 3)), "drop")
    assert (content(read), len(read.dropped)) == ([("3", "좋아요", [("맛", 3)])], 2)
    with pytest.raises(UserError, match="row 3: unknown keyword '맛'; known: ") as caught:
        reader.read_labels_with(uri, load())
    assert "--taxonomy" not in str(caught.value)


@pytest.mark.parametrize(
    ("completion", "pairs"),
    [
        ("배송 −1，디자인 ２", [("배송", -1), ("디자인", 2)]),
        ("배송 –1、 디자인 +1", [("배송", -1), ("디자인", 1)]),
        ("배송－１; 핏 0；색상\u30001", [("배송", -1), ("핏", 0), ("색상", 1)]),
        (unicodedata.normalize("NFD", "배송 -2"), [("배송", -2)]),
    ],
)
def test_signs_digits_and_separators_as_they_are_typed(completion: str, pairs: list[tuple[str, int]]) -> None:
    found = completions.parse_completion(completion) or []
    assert [(pair["keyword"], pair["score"]) for pair in found] == pairs


def test_a_keyword_is_kept_as_it_is_typed() -> None:
    """Signs and separators are understood around keywords, not in them."""
    found = completions.parse_completion("A–B 1, 크기：세로 −2") or []
    assert [(pair["keyword"], pair["score"]) for pair in found] == [("A–B", 1), ("크기：세로", -2)]


def test_a_taxonomy_in_letters_taken_apart_is_that_of_the_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(unicodedata.normalize("NFD", "name: 옷\nkeywords: [{name: 배송, cues: [택배]}, 색상]"), "utf-8")
    taxonomy = load(path)
    assert taxonomy.names == ("배송", "색상")
    assert taxonomy.keywords[0].cues == ("택배",)


def test_decomposed_labels_are_composed_and_half_characters_are_bad_rows(tmp_path: Path) -> None:
    label = {"keyword": " 배송 ", "score": 1, "highlights": ["배송은"]}
    row = {"review_id": "1", "text": "배송은 빨라요", "labels": [label, {"keyword": "만족도", "score": 1}]}
    path = tmp_path / "nfd.jsonl"
    decomposed = unicodedata.normalize("NFD", json.dumps(row, ensure_ascii=False))
    path.write_text(
        decomposed + "\n" + json.dumps({**row, "review_id": "2", "text": "옷\ud83d"}) + "\n", encoding="utf-8"
    )
    labels = reader.read_labels(str(path), on_bad_label="drop")
    (read,) = labels.table.to_pylist()
    assert read["text"] == "배송은 빨라요"
    assert (read["labels"][0]["keyword"], read["labels"][0]["highlights"]) == ("배송", ["배송은"])
    assert "half a character" in labels.dropped[0]


def test_keywords_in_letters_taken_apart_are_the_same(tmp_path: Path) -> None:
    rows = [
        {
            "review_id": str(i),
            "text": "굿",
            "labels": [{"keyword": form, "score": score}, {"keyword": "만족도", "score": score}],
        }
        for i, (form, score) in enumerate([("배송", 1), (unicodedata.normalize("NFD", "배송"), -1), (" 배송 ", 1)])
    ]
    read = reader.read_labels(write_jsonl(tmp_path / "a.jsonl", rows), "labels")
    assert set(read.taxonomy.names) == {"배송", "만족도"}
    assert [row[0]["keyword"] for row in read.table["labels"].to_pylist()] == ["배송"] * 3


def test_ids_that_pandas_wrote_as_floats_are_those_of_the_catalog(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("review_id,text,Completion\n1.0,굿,만족도 1\n", encoding="utf-8")
    assert reader.read_labels(str(tmp_path / "a.csv")).table["review_id"].to_pylist() == ["1"]
