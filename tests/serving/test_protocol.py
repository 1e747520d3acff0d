"""JSON to tables and back."""

import json
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from ray_app.data.schema import ANALYSIS, FINDING, HIGHLIGHT
from ray_app.serving import protocol

FOUND = {
    "keyword": "배송",
    "probability": 0.1,
    "score": -1,
    "score_probabilities": [0.2, 0.7, 0.1],
    "highlight": {"word": "배송은", "start": 8, "end": 11, "drop": 0.3333},
    "opinion": {"word": "늦어요", "start": 12, "end": 15, "drop": 0.25},
}


def accepted(*reviews: Any, **options: Any) -> protocol.Accepted:
    return protocol.parse_request(protocol.AnalyzeRequest.model_validate({"reviews": reviews, "options": options}))


def analyses(request: protocol.Accepted, rows: list[int]) -> pa.Table:
    """What a batcher returns for some of a request's rows."""
    table = request.table.select(["review_id"]).take(pa.array(rows, pa.int64()))
    values: dict[str, Any] = {"keyword_probabilities": [0.1, 0.9999], "findings": [FOUND], "truncated": False}
    for name, kind in ANALYSIS:
        table = table.append_column(name, pa.array([values[name]] * len(rows), kind))
    return table


def test_texts_and_objects_become_rows_in_their_order() -> None:
    request = accepted("a", {"text": "b"}, {"text": "c", "review_id": 7}, {"text": "d", "review_id": " x "})
    assert request.table.schema == protocol.ROW
    assert request.table["text"].to_pylist() == ["a", "b", "c", "d"]
    assert request.table["review_id"].to_pylist() == [None, None, "7", "x"]
    assert (request.index, request.rejected) == ([0, 1, 2, 3], [])


def test_texts_stay_as_they_are_given() -> None:
    texts = ["  앞뒤 \n", "😀👍🏽", "e\u0301", "가\u00a0나", "\ufeff굿"]
    assert accepted(*texts).table["text"].to_pylist() == texts


@pytest.mark.parametrize("blank", ["", "  \n\t", "\u200b", "\u0000"])
def test_blank_texts_are_rejected_at_their_place(blank: str) -> None:
    request = accepted("a", {"text": blank, "review_id": "7"}, "b")
    assert request.index == [0, 2]
    assert request.rejected == [{"index": 1, "review_id": "7", "reason": "empty text"}]


def test_an_id_that_comes_again_is_rejected_and_no_id_may_come_often() -> None:
    ids: list[Any] = [1.0, "1", " 1 ", None, None, " ", "", "2"]
    request = accepted(*({"text": "a", "review_id": given} for given in ids))
    assert request.index == [0, 3, 4, 5, 6, 7]
    assert request.table["review_id"].to_pylist() == ["1", None, None, None, None, "2"]
    assert {(row["index"], row["reason"]) for row in request.rejected} == {
        (1, "id already seen"),
        (2, "id already seen"),
    }


def test_options_become_columns_of_every_row() -> None:
    columns = ["_threshold", "_top_k", "_highlights"]
    plain, own = accepted("a", "b"), accepted("a", "b", threshold=0.25, top_k=3, highlights=False)
    assert plain.table.select(columns).to_pylist() == [{"_threshold": None, "_top_k": None, "_highlights": True}] * 2
    assert own.table.select(columns).to_pylist() == [{"_threshold": 0.25, "_top_k": 3, "_highlights": False}] * 2


def test_no_reviews_are_an_empty_table() -> None:
    request = accepted()
    assert request.table.schema == protocol.ROW
    assert protocol.build_response(request, request.table, ()) == {"analyses": [], "rejected": []}


def test_an_answer_names_what_failed_by_its_place_in_the_request() -> None:
    request = accepted("a", " ", {"text": "c", "review_id": 5}, "", "e")
    content = protocol.build_response(request, analyses(request, [0, 2]), (1,))
    assert [row["review_id"] for row in content["analyses"]] == [None, None]
    assert content["rejected"] == [
        {"index": 1, "review_id": None, "reason": "empty text"},
        {"index": 2, "review_id": "5", "reason": protocol.FAILED},
        {"index": 3, "review_id": None, "reason": "empty text"},
    ]
    lost = protocol.build_response(request, None, (0, 1, 2))
    assert (lost["analyses"], [row["index"] for row in lost["rejected"]]) == ([], [0, 1, 2, 3, 4])


def test_an_answer_has_the_fields_of_the_analyses_table_and_short_numbers() -> None:
    request = accepted({"text": "옷은 예쁘지만 배송은 늦어요", "review_id": "r"})
    content = protocol.build_response(request, analyses(request, [0]), ())
    (row,) = content["analyses"]
    assert list(row) == ["review_id", *(name for name, _ in ANALYSIS)]
    assert row["findings"] == [FOUND]  # float32 0.1 is 0.10000000149011612
    assert row["keyword_probabilities"] == [0.1, 0.9999]
    assert protocol.AnalyzeResponse.model_validate_json(json.dumps(content)).model_dump() == content


def test_the_models_declare_the_columns_of_the_schema() -> None:
    assert list(protocol.Analysis.model_fields) == ["review_id", *(name for name, _ in ANALYSIS)]
    assert list(protocol.Finding.model_fields) == [field.name for field in FINDING]
    assert list(protocol.Highlight.model_fields) == [field.name for field in HIGHLIGHT]


def test_plain_rounds_numbers_and_nothing_else() -> None:
    given = {"a": 0.123456, "b": [1, True, None, "1.23456", 1e-9], "c": {"d": -0.00004}}
    assert protocol.round_floats(given) == {"a": 0.1235, "b": [1, True, None, "1.23456", 0.0], "c": {"d": 0.0}}
    assert protocol.round_floats(True) is True


@pytest.mark.parametrize(
    "body",
    [
        {"reviews": [5] * 100_000},
        {"reviews": ["a"], **{f"x{i}": 1 for i in range(100_000)}},
        {"reviews": [{"text": "a", **{f"x{i}": 1 for i in range(100_000)}}]},
        {"reviews": ["a"], "options": {f"x{i}": 1 for i in range(100_000)}},
    ],
)
def test_a_body_full_of_mistakes_is_not_examined_to_its_end(body: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        protocol.AnalyzeRequest.model_validate(body)
    assert raised.value.error_count() < 5
