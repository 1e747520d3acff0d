"""Label files as exports, spreadsheets and hands leave them: read rightly, or refused in one line that says what to do.

Each case is one file: its name, its bytes, and what must come of it: (id, text, labels) of every row, or words of the
error.
"""

import codecs
import gzip
import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.data.taxonomy import load
from ray_app.errors import UserError
from ray_app.labels import labeling_tools, reader
from tests.data.reading.test_text_files import workbook

TWO = [("1", "옷이 좋아요", {"디자인": 1}), ("2", "배송 늦음", {"배송": -1})]
ROWS = ("1,옷이 좋아요,디자인 1", "2,배송 늦음,배송 -1")
NFD = unicodedata.normalize("NFD", "배송")


def lines(*rows: str, mark: str = ",", end: str = "\n", header: str = "review_id,text,Completion") -> str:
    return "".join(row.replace(",", mark) + end for row in (header, *rows))


def jsonl(*rows: Any) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)


def labeled(review_id: object, text: object, **scores: object) -> dict[str, Any]:
    labels = [{"keyword": keyword, "score": score} for keyword, score in scores.items()]
    return {"review_id": review_id, "text": text, "labels": labels}


READ: dict[str, tuple[str, str | bytes, list[tuple[str, str, dict[str, int]]]]] = {
    "excel's sep= line": ("a.csv", "sep=,\n" + lines(*ROWS), TWO),
    "sep= for semicolons, a BOM before it": ("a.csv", "\ufeffsep=;\r\n" + lines(*ROWS, mark=";", end="\r\n"), TWO),
    "semicolons": ("a.csv", lines(*ROWS, mark=";"), TWO),
    "pipes": ("a.csv", lines(*ROWS, mark="|"), TWO),
    "tabs in a .csv": ("a.csv", lines(*ROWS, mark="\t"), TWO),
    "tabs in a .txt": ("a.txt", lines(*ROWS, mark="\t"), TWO),
    "ids that became floats": ("a.csv", lines("1.0,옷이 좋아요,디자인 1", "2.0,배송 늦음,배송 -1"), TWO),
    "UTF-16 with a mark": ("a.tsv", codecs.BOM_UTF16_LE + lines(*ROWS, mark="\t").encode("utf-16-le"), TWO),
    "UTF-16, big end first": ("a.tsv", codecs.BOM_UTF16_BE + lines(*ROWS, mark="\t").encode("utf-16-be"), TWO),
    "cp949": ("a.csv", lines(*ROWS).encode("cp949"), TWO),
    "packed": ("a.csv.gz", gzip.compress(lines(*ROWS).encode(), mtime=0), TWO),
    "old Mac line ends": ("a.csv", lines(*ROWS, end="\r"), TWO),
    "titles above the header": ("a.csv", "라벨링 결과,,\n2026-11-28,,\n" + lines(*ROWS), TWO),
    "an index that pandas wrote": ("a.csv", lines("0,1,옷이 좋아요,디자인 1", header=",id,text,Completion"), TWO[:1]),
    "a stray quote": (
        "a.tsv",
        lines('1,"좋아요 라고 말함,디자인 1', "2,보통,배송 -1", '3,그냥 "좋음",가격 1', mark="\t"),
        [("1", '"좋아요 라고 말함', {"디자인": 1}), ("2", "보통", {"배송": -1}), ("3", '그냥 "좋음"', {"가격": 1})],
    ),
    "a text of two lines": ("a.csv", lines('1,"좋아요\n굿",디자인 1'), [("1", "좋아요\n굿", {"디자인": 1})]),
    "decomposed letters": (
        "a.jsonl",
        jsonl(labeled("0", "굿", 배송=-1), labeled("1", "네", **{NFD: 1}), labeled("2", "음", **{" 배송 ": 0})),
        [("0", "굿", {"배송": -1}), ("1", "네", {"배송": 1}), ("2", "음", {"배송": 0})],
    ),
    "decomposed header": (
        "a.csv",
        unicodedata.normalize("NFD", lines("1,굿,1", header="리뷰번호,리뷰내용,배송")),
        [("1", "굿", {"배송": 1})],
    ),
    "what Korean keyboards type": (
        "a.tsv",
        lines("1|굿|배송 －１，핏 ＋2； 가격　0", header="번호|후기|정답", mark=",").replace("|", "\t"),
        [("1", "굿", {"배송": -1, "핏": 2, "가격": 0})],
    ),
    "special tokens are text": ("a.csv", lines("1,<s> [MASK] <pad>,핏 1"), [("1", "<s> [MASK] <pad>", {"핏": 1})]),
    "numbers that are texts": (
        "a.csv",
        lines("0012,010-1234-5678,배송 1", "0013,12345,핏 -1"),
        [("0012", "010-1234-5678", {"배송": 1}), ("0013", "12345", {"핏": -1})],
    ),
    "columns in another order, some empty": (
        "a.csv",
        lines("배송 1,,굿,x1", header="Completion,메모,내용,리뷰번호"),
        [("x1", "굿", {"배송": 1})],
    ),
    "CRLF in JSON lines, a BOM": (
        "a.jsonl",
        "\ufeff" + jsonl(labeled(7, "굿", 배송=1)) + "\r\n",
        [("7", "굿", {"배송": 1})],
    ),
    "whole floats in JSON": ("a.jsonl", jsonl(labeled("1", "굿", 배송=1.0)), [("1", "굿", {"배송": 1})]),
    "a zero-width mark in a name": ("a.csv", lines("1,굿,1", header="id,text,\u200b배송"), [("1", "굿", {"배송": 1})]),
}


def written(folder: Path, name: str, data: str | bytes) -> str:
    (folder / name).write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    return str(folder / name)


def content(labels: reader.Labels) -> list[tuple[str, str, dict[str, int]]]:
    return [
        (row["review_id"], row["text"], {label["keyword"]: label["score"] for label in row["labels"]})
        for row in labels.table.to_pylist()
    ]


@pytest.mark.parametrize("case", READ)
def test_an_odd_file_is_read_as_a_person_reads_it(tmp_path: Path, case: str) -> None:
    name, data, expected = READ[case]
    assert content(reader.read_labels(written(tmp_path, name, data))) == expected


HALF = r'{"review_id": "1", "text": "옷\ud83d", "labels": [{"keyword": "배송", "score": 1}]}'
REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "stray quotes in a CSV": (
        "a.csv",
        lines('1,"좋아요 라고 말함,디자인 1', '2,5" 짧아요,길이 -1'),
        "a stray quote: write",
    ),
    "half a character": (
        "a.jsonl",
        jsonl(
            '{"review_id":"1","text":"옷\\ud83d","labels":[{"keyword":"배송","score":1}]}', labeled("2", "굿", 배송=1)
        ),
        "row 1: half a character in it; write the whole, or leave it out (or --on-bad-label drop)",
    ),
    "Label Studio's tasks as lines": (
        "ls.jsonl",
        jsonl({"id": 1, "data": {"review_id": "r1", "text": "굿"}, "annotations": []}),
        "Label Studio's tasks, saved line by line: export them as JSON (.json), then python -m jobs.acquire merge",
    ),
    "Label Studio's export": ("ls.json", "[]", "python -m jobs.acquire merge --answers"),
    "a web page": ("a.csv", "<html><body>로그인</body></html>", "an HTML or XML page"),
    "an old workbook": ("a.csv", b"\xd0\xcf\x11\xe0" + bytes(100), "a workbook of old Excel (.xls)"),
    "a pickle": ("a.csv", b"\x80\x04" + bytes(100), "a pickle, which can run code"),
    "an empty file": ("a.csv", "", "empty"),
    "a list of Python's": (
        "a.csv",
        lines("""1,굿,"[{'keyword': '배송', 'score': 1}]\""""),
        "row 2: \"[{'keyword': '배송'\" is not a keyword and a score such as '배송 -1'",
    ),
    "labels of sentiment alone": (
        "a.tsv",
        lines("1,굿,1", header="id,document,label", mark="\t"),
        "'1' is not a keyword",
    ),
    "a score typed as a word": ("a.csv", lines("1,굿,배송 좋음"), "'배송 좋음' is not a keyword and a score"),
    "a header twice": ("a.csv", lines(*ROWS, *lines(*ROWS).splitlines()), "row 4: the header again"),
    "a comma too many": (
        "a.csv",
        lines("1,옷이, 좋아요,디자인 1"),
        "4 cells under 3 names; quote cells with delimiters",
    ),
    "an id twice": ("a.csv", lines("1,굿,배송 1", "1,네,핏 1"), "row 3: review_id '1' was seen at"),
    "one JSON document": ("a.jsonl", "[" + jsonl(labeled("1", "굿", 배송=1)) + "]", "row 1: not a JSON object"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_holds_no_labels_is_refused_with_the_remedy(tmp_path: Path, case: str) -> None:
    name, data, words = REFUSED[case]
    with pytest.raises(UserError) as caught:
        reader.read_labels(written(tmp_path, name, data))
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_decomposed_keywords_are_one_keyword_of_a_taxonomy_taken_from_labels(tmp_path: Path) -> None:
    uri = written(tmp_path, "a.jsonl", jsonl(labeled("0", "굿", 배송=-1), labeled("1", "네", **{NFD: 1})))
    assert reader.read_labels(uri, "labels").taxonomy.names == ("배송",)


def test_half_a_character_costs_its_row_alone(tmp_path: Path) -> None:
    name, data, _ = REFUSED["half a character"]
    labels = reader.read_labels(written(tmp_path, name, data), on_bad_label="drop")
    assert (content(labels), len(labels.dropped)) == ([("2", "굿", {"배송": 1})], 1)


SPANS = [
    ([[0, 2, "배송"]], "배송"),
    ([[0, 99, "배송"]], "the span 0-99 is outside the text of"),
    ([[-1, 2, "배송"]], "the span -1-2 is outside the text of"),
    ([[2, 2, "배송"]], "the span 2-2 is outside the text of"),
    ([["0", 2, "배송"]], "the span 0-2 is outside the text of"),
    ([[0, 2, "배숑"]], "unknown keyword '배숑'; did you mean '배송'?"),
]


@pytest.mark.parametrize(("entities", "words"), SPANS)
def test_spans_beside_the_text_are_named_by_row(tmp_path: Path, entities: list[Any], words: str) -> None:
    row = {"id": 1, "review_id": "r1", "text": "배송 빨라요", "cats": ["배송 1"], "entities": entities}
    uri = written(tmp_path, "kim.jsonl", jsonl(row))
    found = labeling_tools.read_annotations(uri, load(), "drop")
    if words == "배송":
        assert found.table.to_pylist()[0]["labels"][0]["highlights"] == ["배송"]
    else:
        assert words in found.dropped[0]
        assert found.dropped[0].startswith(f"{uri} row 1: ")


def test_a_second_sheet_with_other_columns_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    workbook(tmp_path / "a.xlsx", [["id", "text", "배송"], [1, "굿", 1]])
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    for row in [["id", "text", "배송", "핏"], [2, "네", 1, 1]]:
        (book["더"] if "더" in book.sheetnames else book.create_sheet("더")).append(row)
    book.save(tmp_path / "a.xlsx")
    with caplog.at_level(logging.WARNING):
        assert len(reader.read_labels(f"{tmp_path}/a.xlsx").table) == 1
    assert "is read, not 더" in caplog.text


@pytest.mark.parametrize("kind", [pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_of_any_arrow_type_are_texts(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(["옷이 좋아요", "배송 늦음"]).cast(pa.string())
    texts = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    table = pa.table({"review_id": ["1", "2"], "text": texts, "Completion": ["디자인 1", "배송 -1"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert content(reader.read_labels(f"{tmp_path}/a.parquet")) == TWO
