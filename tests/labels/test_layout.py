"""layout: whatever columns a table of labels has, in whatever format, its rows say the same."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.data.taxonomy import Keyword, Taxonomy, load
from ray_app.errors import UserError
from ray_app.labels import labeling_tools, reader
from tests.data.reading.test_text_files import workbook

Table = list[list[Any]]  # a header, and rows
WIDE: Table = [
    ["리뷰번호", "리뷰내용", "만족도", "배송", "디자인"],
    ["0012", "배송이 늦어요", -1, -2, None],
    ["0013", "010-1234-5678로 연락 주세요", 1, None, 2],
]
EXPECTED = [
    ("0012", "배송이 늦어요", {"만족도": -1, "배송": -2}),
    ("0013", "010-1234-5678로 연락 주세요", {"만족도": 1, "디자인": 2}),
]


def write_csv(path: Path, table: Table, delimiter: str = ",") -> str:
    path.write_text(
        "\n".join(delimiter.join("" if cell is None else str(cell) for cell in row) for row in table), encoding="utf-8"
    )
    return str(path)


def write_tsv(path: Path, table: Table) -> str:
    return write_csv(path.with_suffix(".tsv"), table, "\t")


def write_xlsx(path: Path, table: Table) -> str:
    path = path.with_suffix(".xlsx")
    workbook(path, table)
    return str(path)


def write_parquet(path: Path, table: Table) -> str:
    header, *rows = table
    columns = {name: [row[at] for row in rows] for at, name in enumerate(header)}
    storage.write_parquet(str(path.with_suffix(".parquet")), pa.table(columns))
    return str(path.with_suffix(".parquet"))


def write_jsonl(path: Path, table: Table) -> str:
    header, *rows = table
    path = path.with_suffix(".jsonl")
    lines = (json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


WRITERS = [write_csv, write_tsv, write_xlsx, write_parquet, write_jsonl]
Writer = Callable[[Path, Table], str]


def content(labels: reader.Labels) -> list[tuple[str, str, dict[str, int]]]:
    return [
        (row["review_id"], row["text"], {label["keyword"]: label["score"] for label in row["labels"]})
        for row in labels.table.to_pylist()
    ]


def read(uri: str, **more: Any) -> list[tuple[str, str, dict[str, int]]]:
    return content(reader.read_labels(uri, **more))


@pytest.mark.parametrize("write", WRITERS)
def test_a_column_per_keyword_is_read_in_every_format(tmp_path: Path, write: Writer) -> None:
    assert read(write(tmp_path / "a.csv", WIDE)) == EXPECTED


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["Completion", "정답", "labels", "라벨"])
def test_labels_in_one_cell_are_read_in_every_format(tmp_path: Path, write: Writer, name: str) -> None:
    table: Table = [["번호", "후기", name], ["0012", "늦어요", "배송 -2"], ["0013", "예뻐요", "디자인 2"]]
    assert read(write(tmp_path / "a.csv", table)) == [
        ("0012", "늦어요", {"배송": -2}),
        ("0013", "예뻐요", {"디자인": 2}),
    ]


@pytest.mark.parametrize("write", [write_parquet, write_jsonl])
def test_korean_names_stand_beside_a_list_of_labels(tmp_path: Path, write: Writer) -> None:
    labels = [{"keyword": "배송", "score": 1}]
    assert read(write(tmp_path / "a", [["리뷰 번호", "본문", "labels"], ["1", "굿", labels]])) == [
        ("1", "굿", {"배송": 1})
    ]


def test_a_mapping_of_keywords_is_a_list_of_labels(tmp_path: Path) -> None:
    table: Table = [
        ["id", "text", "labels"],
        ["1", "굿", {"배송": 1, "핏": None}],
        ["2", "네", {"keyword": "핏", "score": 0}],
    ]
    assert read(write_jsonl(tmp_path / "a", table)) == [("1", "굿", {"배송": 1}), ("2", "네", {"핏": 0})]


def test_a_table_without_ids_is_numbered(tmp_path: Path) -> None:
    for write in WRITERS:
        [(review_id, _, _)] = read(write(tmp_path / "a.csv", [["리뷰", "배송"], ["굿", 1]]))
        assert review_id == f"{Path(write(tmp_path / 'a.csv', [['리뷰', '배송'], ['굿', 1]])).name}-" + (
            "1" if write in (write_parquet, write_jsonl) else "2"
        )


CELLS = [(1, 1), (1.0, 1), ("1.0", 1), ("＋１", 1), ("−2", -2), ("–1", -1), (" 2 ", 2), ("0", 0), ("'-1", -1)]


@pytest.mark.parametrize(("cell", "score"), CELLS)
@pytest.mark.parametrize("write", [write_csv, write_xlsx, write_jsonl])
def test_a_score_is_a_score_however_it_is_typed(tmp_path: Path, write: Writer, cell: object, score: int) -> None:
    assert read(write(tmp_path / "a.csv", [["id", "text", "배송"], ["1", "굿", cell]]))[0][2] == {"배송": score}


@pytest.mark.parametrize("cell", ["1점", "긍정", "1.5", "x", "9", "#N/A"])
@pytest.mark.parametrize("write", WRITERS)
def test_a_cell_that_is_no_score_is_named_with_row_column_and_scale(tmp_path: Path, write: Writer, cell: str) -> None:
    uri = write(tmp_path / "a.csv", [["id", "text", "배송"], ["1", "굿", "1"], ["2", "네", "1"], ["3", "네", cell]])
    row = 3 if write in (write_parquet, write_jsonl) else 4
    shown = cell if cell == "9" else repr(cell)
    with pytest.raises(UserError, match=rf"row {row}: column '배송': {shown} is .*; write -2, -1, 0, 1, 2"):
        read(uri)
    assert len(read(uri, on_bad_label="drop")) == 2


def test_all_bad_cells_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    rows = [[str(i), "굿", "1", "1"] for i in range(40)]
    rows[3][2], rows[3][3], rows[5][3] = "x", "3", "y"
    rows += [[str(i), "굿", "", ""] for i in range(40, 90)]
    with pytest.raises(UserError) as caught:
        read(write_csv(tmp_path / "a.csv", [["id", "text", "배송", "핏"], *rows]))
    first, *others = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path}/a.csv row 5: column '배송': 'x' is no score; column '핏': 3 is out of range")
    assert others[0] == "all 52 bad rows:"
    assert others[2].startswith(f"  {tmp_path}/a.csv row 7: column '핏': 'y'")
    assert others[3] == f"  {tmp_path}/a.csv row 42, 43, 44, 45, 46 and 45 more: no labels"


def test_the_list_of_problems_ends(tmp_path: Path) -> None:
    rows = [[str(i), "굿", f"배송{chr(ord('가') + i)} 1"] for i in range(30)]
    with pytest.raises(UserError) as caught:
        read(write_csv(tmp_path / "a.csv", [["id", "text", "Completion"], *rows]))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 1 + 10 + 1
    assert all("did you mean '배송'?" in line for line in lines[2:12])
    assert lines[-1] == "  and 20 more rows"


HEADERS = [
    (["id", "text", "배송", "배송 "], "two columns are for '배송'; remove or rename one"),
    (["id", "text", "배숑", "만족도"], "column '배숑' has scores, but is no keyword; did you mean '배송'?"),
    (["id", "text", "배송", "포장"], "column '포장' has scores, but is no keyword; known: 스타일"),
    (["id", "text", "text", "배송"], "2 columns are called 'text'; rename one"),
    (["id", "제목", "배송", "핏"], "needs a text column and a Completion column, has id, 제목"),
    (["id", "text", "포장", "접객"], "needs a text column and a Completion column"),
]


@pytest.mark.parametrize(("header", "words"), HEADERS)
def test_a_header_that_would_lose_labels_is_refused(tmp_path: Path, header: Sequence[str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        read(write_csv(tmp_path / "a.csv", [list(header), ["1", "굿", 1, -1], ["2", "네", 2, 1]]))
    assert words in str(caught.value)


def test_columns_of_a_product_are_no_keywords_beside_a_completion(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table: Table = [
        ["id", "text", "Completion", "색상", "가격", "평점"],
        ["1", "굿", "배송 1", "블랙", 12900, 5],
        ["2", "네", "배송 0", "", 9900, 3],
    ]
    with caplog.at_level(logging.WARNING):
        assert read(write_csv(tmp_path / "a.csv", table)) == [("1", "굿", {"배송": 1}), ("2", "네", {"배송": 0})]
    assert "column '색상' has a keyword's name, but its cells are no scores ('블랙'): it is left alone" in caplog.text
    assert "column '가격' has a keyword's name, but its cells are no scores (12900, 9900)" in caplog.text
    without = [[row[0], row[1], row[3]] for row in table]
    with pytest.raises(UserError, match=r"column '색상' has a keyword's name, but its cells are no scores \('블랙'\)"):
        read(write_csv(tmp_path / "b.csv", without))


def test_a_completion_and_columns_must_not_contradict(tmp_path: Path) -> None:
    table: Table = [
        ["id", "text", "Completion", "배송"],
        ["1", "굿", "", 1],
        ["2", "네", "배송 2", ""],
        ["3", "음", "배송 1", 1],
    ]
    assert [labels for _, _, labels in read(write_csv(tmp_path / "a.csv", table))] == [
        {"배송": 1},
        {"배송": 2},
        {"배송": 1},
    ]
    table[3][3] = -1
    with pytest.raises(UserError, match="row 4: Completion says '배송 1', and the keywords' columns something else"):
        read(write_csv(tmp_path / "a.csv", table))


def test_zeros_and_ones_everywhere_are_no_scores(tmp_path: Path) -> None:
    rows = [[str(i), "굿", i % 2, 0, 1] for i in range(8)]
    table: Table = [["id", "text", "배송", "핏", "만족도"], *rows]
    for taxonomy in ("default", "labels"):
        with pytest.raises(UserError, match="every cell of its keywords is 0 or 1"):
            read(write_csv(tmp_path / "a.csv", table), taxonomy=taxonomy)
    table[2][2] = ""
    assert len(read(write_csv(tmp_path / "a.csv", table))) == 8


def test_a_dash_says_that_a_review_speaks_of_nothing(tmp_path: Path) -> None:
    taxonomy = Taxonomy(name="둘", keywords=(Keyword(name="배송"), Keyword(name="맛")))
    table: Table = [["id", "text", "배송", "맛"], ["1", "굿", "-", ""], ["2", "네", 1, "−"], ["3", "음", "", ""]]
    labels = reader.read_labels_with(write_csv(tmp_path / "a.csv", table), taxonomy, "drop")
    assert content(labels) == [("1", "굿", {}), ("2", "네", {"배송": 1})]
    assert labels.dropped[0].endswith("row 4: no labels")


def test_taxonomy_labels_takes_the_columns_that_hold_scores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table: Table = [
        ["", "번호", "리뷰", "평점", "도움수", "포장 (-2~2)", "접객", "비고"],
        [0, "1", "굿", 5, 132, 1, None, "다시 볼 것"],
        [1, "2", "네", 1, 0, -1, 2, None],
    ]
    with caplog.at_level(logging.INFO):
        labels = reader.read_labels(write_csv(tmp_path / "a.csv", table), "labels")
    assert (labels.taxonomy.names, labels.taxonomy.scores) == (("접객", "포장"), (-1, 1, 2))
    assert content(labels)[1] == ("2", "네", {"포장": -1, "접객": 2})
    assert "keywords from its columns: 포장, 접객; left alone: 번호" not in caplog.text
    assert "left alone: 평점, 도움수, 비고" in caplog.text


def test_names_and_notes_of_columns_do_not_matter(tmp_path: Path) -> None:
    taxonomy = Taxonomy(name="둘", keywords=(Keyword(name="-가격"), Keyword(name="맛 평가")))
    table: Table = [["id", "text", "'-가격", "맛평가(점수)"], ["1", "굿", 1, 2]]
    assert content(reader.read_labels_with(write_csv(tmp_path / "a.csv", table), taxonomy)) == [
        ("1", "굿", {"-가격": 1, "맛 평가": 2})
    ]


@pytest.mark.parametrize("value", ["2.02411E+11", "1.2e+16"])
def test_an_id_that_a_spreadsheet_rounded_is_a_bad_row(tmp_path: Path, value: str) -> None:
    uri = write_csv(tmp_path / "a.csv", [["id", "text", "배송"], [value, "굿", 1], ["12.0", "네", 1]])
    with pytest.raises(UserError, match=r"row 2: review_id .* lost digits in a spreadsheet; write ids as text"):
        read(uri)
    assert [row[0] for row in read(uri, on_bad_label="drop")] == ["12"]


def test_an_error_of_a_sheet_is_no_text(tmp_path: Path) -> None:
    uri = write_xlsx(tmp_path / "a", [["id", "text", "배송"], ["1", "#N/A", 1], ["2", "네", 1]])
    with pytest.raises(UserError, match="row 2: text is #N/A, an error of the spreadsheet"):
        read(uri)


def test_nulls_of_pandas_are_blank(tmp_path: Path) -> None:
    table = pa.table(
        {"text": ["굿", "네"], "배송": [1.0, float("nan")], "핏": [float("nan"), 2.0], "split": [None, "test"]}
    )
    storage.write_parquet(f"{tmp_path}/a.parquet", table)
    assert [labels for _, _, labels in read(f"{tmp_path}/a.parquet")] == [{"배송": 1}, {"핏": 2}]


def test_a_missing_overall_keyword_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uri = write_csv(tmp_path / "a.csv", [["id", "text", "만족도", "핏"], ["1", "굿", 1, 1], ["2", "네", "", 1]])
    with caplog.at_level(logging.WARNING):
        reader.read_labels(uri)
    assert "1 of 2 labeled reviews lack 만족도, the taxonomy's overall keyword, which every review has" in caplog.text
    assert f"the first: {uri} row 3" in caplog.text
    caplog.clear()
    reader.read_labels_with(uri, load(), partial=True)
    assert not caplog.text


TOOLS = [
    ({"id": 1, "data": {"text": "굿"}, "annotations": []}, "Label Studio's tasks"),
    ({"text": "굿", "answer": "accept", "_task_hash": 1, "spans": []}, "Prodigy's answers"),
    ({"id": 1, "text": "굿", "cats": [], "entities": []}, "doccano's documents"),
]


@pytest.mark.parametrize(("row", "words"), TOOLS)
def test_answers_of_a_tool_are_no_labels_yet(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    for taxonomy in ("default", "labels"):
        with pytest.raises(UserError, match=rf"{words}.*: .*jobs.acquire merge --answers .*a\.jsonl"):
            read(str(tmp_path / "a.jsonl"), taxonomy=taxonomy)


@pytest.mark.parametrize("write", WRITERS)
def test_answers_come_back_in_any_of_these_forms(tmp_path: Path, write: Writer) -> None:
    (tmp_path / "kim").mkdir()
    found = labeling_tools.read_annotations(write(tmp_path / "kim.csv", WIDE), load())
    assert [(row["review_id"], row["labeller"]) for row in found.table.to_pylist()] == [
        ("0012", "kim"),
        ("0013", "kim"),
    ]
    named = [[*WIDE[0], "작업자", "작업일시"], [*WIDE[1], "이", "2026-11-22 10:00"], [*WIDE[2], "이", None]]
    rows = labeling_tools.read_annotations(write(tmp_path / "b.csv", named), load()).table.to_pylist()
    assert [row["labeller"] for row in rows] == ["이", "이"]
    assert [row["labelled_at"] is None for row in rows] == [False, True]


def test_scores_of_one_value_make_no_scale(tmp_path: Path) -> None:
    uri = write_csv(tmp_path / "a.csv", [["text", "Completion"], ["굿", "배송 1"], ["네", "핏 1"]])
    with pytest.raises(UserError, match="--taxonomy labels: every score is 1, which makes no scale"):
        read(uri, taxonomy="labels")
