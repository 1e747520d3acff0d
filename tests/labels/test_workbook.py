"""Sheets as xlsx: what goes out comes back, and Excel finds in them what people need."""

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.data.taxonomy import Keyword, Taxonomy, load
from ray_app.errors import UserError
from ray_app.labels import decisions, labeling_tools, merge, spreadsheet, workbook
from ray_app.labels.reader import read_labels

openpyxl = pytest.importorskip("openpyxl")
TAXONOMY = load()
ODD = [
    "_x0041_",
    "=1+1",
    "0012",
    "010-1234-5678",
    "'=a",
    "''-1",
    "#N/A",
    "a\r\nb",
    "😀",
    "1.0",
    "-",
    "12345678901234567890",
]


def batch(texts: dict[str, str]) -> pa.Table:
    return pa.table({"review_id": list(texts), "text": list(texts.values())})


def exported(folder: Path, texts: dict[str, str], taxonomy: Taxonomy = TAXONOMY, form: str = "auto") -> Path:
    [uri] = labeling_tools.export(batch(texts), str(folder), taxonomy, ["xlsx"], form)
    return Path(uri)


def fill(path: Path, row: int, **scores: object) -> None:
    """A person types into a row."""
    book = openpyxl.load_workbook(path)
    header = [cell.value for cell in book.active[1]]
    for name, score in scores.items():
        book.active.cell(row, header.index(name) + 1).value = score
    book.save(path)


def test_a_sheet_has_a_frozen_header_a_drop_down_and_the_guideline_per_keyword(tmp_path: Path) -> None:
    sheet = openpyxl.load_workbook(exported(tmp_path, {"1": "굿", "2": "네"})).active
    header = [cell.value for cell in sheet[1]]
    assert header == ["review_id", "text", *TAXONOMY.names, "Model"]
    assert sheet.freeze_panes == "C2"
    at = header.index("배송")
    note = sheet.cell(1, at + 1).comment.text
    assert TAXONOMY.keywords[TAXONOMY.index["배송"]].belongs in note
    letter = openpyxl.utils.get_column_letter(at + 1)
    rules = {str(rule.sqref): rule.formula1 for rule in sheet.data_validations.dataValidation}
    assert rules[f"{letter}2:{letter}3"] == '"-2,-1,0,1,2"'
    assert sheet["A2"].number_format == "@"


def test_cells_come_back_as_they_went_out(tmp_path: Path) -> None:
    columns = [workbook.Column(name="review_id"), workbook.Column(name="text")]
    (tmp_path / "a.xlsx").write_bytes(workbook.to_xlsx(columns, [(cell, cell) for cell in ODD], "a"))
    _, rows = spreadsheet.read_cells(str(tmp_path / "a.xlsx"))
    assert [cells for _, cells, _ in rows] == [[cell] * 2 for cell in ODD]


def test_what_a_person_fills_in_comes_back(tmp_path: Path) -> None:
    texts = {cell: f"{cell} 굿" for cell in ODD if cell not in ("-", "1.0")} | {
        "x\x01": "배송\x02 굿",
        "long": "가" * 40_000,
    }
    path = exported(tmp_path, texts)
    for row in range(2, 2 + len(texts)):
        fill(path, row, 만족도=1, 배송="−2")
    found = labeling_tools.read_annotations(str(path), TAXONOMY, "drop", batch(texts))
    assert {row["review_id"]: row["text"] for row in found.table.to_pylist()} == {
        review_id: text for review_id, text in texts.items() if review_id != "x\x01"
    }
    assert len(found.dropped) == 1, "an id that no workbook can hold is named"
    assert all(
        [(label["keyword"], label["score"]) for label in row["labels"]] == [("만족도", 1), ("배송", -2)]
        for row in found.table.to_pylist()
    )


def test_what_nobody_filled_in_is_unfinished(tmp_path: Path) -> None:
    path = exported(tmp_path, {"1": "굿", "2": "네"})
    fill(path, 2, 만족도=1)
    found = labeling_tools.read_annotations(str(path), TAXONOMY)
    assert (len(found.table), found.skipped) == (1, {"unfinished": 1})


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize("form", ["completion", "keywords"])
def test_either_form_is_written_in_either_format(tmp_path: Path, kind: str, form: str) -> None:
    taxonomy = Taxonomy(name="셋", keywords=tuple(Keyword(name=name) for name in ("-가격", "Model", "text 길이")))
    [uri] = labeling_tools.export(batch({"1": "굿"}), str(tmp_path), taxonomy, [kind], form)
    names, [(_, cells, _)] = spreadsheet.read_cells(uri)
    own = ["Completion"] if form == "completion" else list(taxonomy.names)
    assert names == ["review_id", "text", *own, "Model says"]
    assert cells[:2] == ["1", "굿"]
    assert labeling_tools.read_annotations(uri, taxonomy).skipped == {"unfinished": 1}


def test_a_long_scale_is_a_rule_and_not_a_list(tmp_path: Path) -> None:
    taxonomy = Taxonomy(name="하나", keywords=(Keyword(name="맛"),), scores=tuple(range(-100, 101)))
    sheet = openpyxl.load_workbook(exported(tmp_path, {"1": "굿"}, taxonomy)).active
    [rule] = sheet.data_validations.dataValidation
    assert (rule.type, rule.formula1, rule.formula2) == ("whole", "-100", "100")


def test_disputes_of_workbooks_are_a_workbook(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    for who, score in (("kim", 1), ("lee", -1)):
        path = exported(tmp_path / who, {"1": "굿"})
        fill(path, 2, 만족도=score)
        path.rename(tmp_path / "answers" / f"{who}.xlsx")
    report = merge.run("", f"{tmp_path}/answers", f"{tmp_path}/v1", TAXONOMY, "1")
    assert report["disputed"] == 1
    path = tmp_path / "v1" / "disputed.xlsx"
    fill(path, 2, Completion="만족도 0")
    report = merge.run("", str(path), f"{tmp_path}/v2", TAXONOMY, "2")
    assert report["new"] == 1
    assert storage.read_parquet(report["labels"]).to_pylist()[0]["labels"][0]["score"] == 0


def test_decisions_are_chosen_from_lists(tmp_path: Path) -> None:
    line = ["0012", "배송", "", "1", "", "", "score", "배송 -1", "배송 1", "0.90", "=굿", "why"]
    (tmp_path / "d.xlsx").write_bytes(decisions.sheet("xlsx", [line], TAXONOMY))
    sheet = openpyxl.load_workbook(tmp_path / "d.xlsx").active
    rules = {str(rule.sqref): rule.formula1 for rule in sheet.data_validations.dataValidation}
    assert rules == {"C2:C2": '"keep,fix,drop"', "D2:D2": '"-2,-1,0,1,2"'} or rules == {
        "C2": '"keep,fix,drop"',
        "D2": '"-2,-1,0,1,2"',
    }
    fill(tmp_path / "d.xlsx", 2, action="Fix", score=2)
    table, undecided = decisions.read(str(tmp_path / "d.xlsx"), TAXONOMY)
    assert undecided == 0
    assert {**table.to_pylist()[0], "place": ""} == {
        "review_id": "0012",
        "keyword": "배송",
        "action": "fix",
        "score": 2,
        "who": None,
        "when": None,
        "place": "",
        "labels": None,
    }


COLUMNS = [
    ("review_id,keyword,action,scroe\n1,배송,fix,1\n", "unknown column 'scroe'; did you mean 'score'"),
    ("review_id,keyword,action,결정\n1,배송,fix,keep\n", "columns 'action' and '결정' are both action; remove one"),
    ("review_id,keyword,action,판단\n1,배송,,drop\n", "unknown column '판단'; known: review_id"),
]


@pytest.mark.parametrize(("text", "words"), COLUMNS)
def test_a_column_of_decisions_that_nobody_knows_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "d.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        decisions.read(f"{tmp_path}/d.csv", TAXONOMY)


def test_decisions_have_korean_names_too_and_notes(tmp_path: Path) -> None:
    text = "리뷰번호,키워드,결정,점수,비고\n1,배송,fix,−1,음\n2,핏,keep,,\n"
    (tmp_path / "d.csv").write_text(text, encoding="utf-8")
    table, _ = decisions.read(f"{tmp_path}/d.csv", TAXONOMY)
    assert [(row["review_id"], row["action"], row["score"]) for row in table.to_pylist()] == [
        ("1", "fix", -1),
        ("2", "keep", None),
    ]


def test_all_bad_decisions_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("review_id,keyword,action\n1,배숑,keep\n2,핏,kepe\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        decisions.read(f"{tmp_path}/d.csv", TAXONOMY)
    assert "all 2 bad rows:" in str(caught.value)
    assert "row 3: action 'kepe' is none of keep, fix, drop" in str(caught.value)


def test_without_openpyxl_xlsx_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"--formats xlsx: needs openpyxl: .*\[xlsx\]"):
        labeling_tools.export(batch({"1": "굿"}), str(tmp_path), TAXONOMY, ["csv", "xlsx"])
    assert not any(tmp_path.iterdir())


def test_a_number_of_16_digits_is_no_id_and_a_text_of_them_is(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (("review_id", "text", "만족도"), ("1234567890123456", "굿", 1), (1234567890123456, "핏", 1)):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(UserError, match=r"^[^\n]*row 3: review_id .* lost digits in a spreadsheet[^\n]*$"):
        read_labels(str(tmp_path / "a.xlsx"))


@pytest.mark.parametrize(("above", "between"), [([], []), ([["9월 리뷰"]], []), ([[], ["9월"], []], [[], []])])
@pytest.mark.parametrize("kind", ["xlsx", "csv", "tsv"])
def test_a_bad_row_has_the_number_that_a_spreadsheet_shows(
    kind: str, above: list[list[str]], between: list[list[str]], tmp_path: Path
) -> None:
    """Whatever stands above the header and between the rows."""
    path = tmp_path / f"a.{kind}"
    rows = [*above, ["review_id", "text", "Completion"], ["1", "굿", "만족도 1"], *between, ["2", "별로", "만족 9"]]
    if kind == "xlsx":
        book = openpyxl.Workbook()
        for number, row in enumerate(rows, 1):
            for column, cell in enumerate(row, 1):
                book.active.cell(number, column).value = cell
        book.save(path)
    else:
        path.write_text("".join(("," if kind == "csv" else "\t").join(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UserError, match=rf"a\.{kind} row {len(rows)}: unknown keyword"):
        read_labels(str(path))


def test_rows_of_two_sheets_have_numbers_of_their_own(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for sheet, text in ((book.active, "굿"), (book.create_sheet("둘"), "별로")):
        sheet.append(["text", "Completion"])
        sheet.append([text, "만족도 1"])
    book.save(tmp_path / "a.xlsx")
    assert read_labels(str(tmp_path / "a.xlsx")).table["review_id"].to_pylist() == ["a.xlsx-2", "a.xlsx-4"]
