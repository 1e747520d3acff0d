"""Columns of real exports are found by name, type and values; where those leave a doubt the user is asked."""

import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.errors import UserError
from tests.support.small_catalogs import TEXTS, planned

IDS, NAMES, NUMBERS = ["a", "b", "c", "d", "e", "f"], ["u1", "u1", "u1", "u2", "u2", "u2"], [5, 4, 3, 5, 4, 3]
LONG = [f"{text}, 아주 만족해요" for text in (*TEXTS, *TEXTS)]


def nfd(name: str) -> str:
    """As file systems of macOS write Hangul."""
    return unicodedata.normalize("NFD", name)


def columns_of(folder: Path, table: dict[str, Any], mapping: str = "") -> tuple[str, str]:
    pq.write_table(pa.table(table), folder / "r.parquet")
    columns = planned(folder / "r.parquet", mapping=mapping).columns
    return columns.review_id, columns.text


@pytest.mark.parametrize(
    ("table", "review_id", "text"),
    [
        (
            {
                "리뷰글번호": IDS,
                "상품번호": NUMBERS,
                "구매자평점": NUMBERS,
                "리뷰상세내용": LONG,
                "등록자": NAMES,
                "리뷰등록일": IDS,
            },
            "리뷰글번호",
            "리뷰상세내용",
        ),
        (
            {"번호": [5, 9, 8, 7, 6, 1], "제목": NAMES, "내용": LONG, "작성자": NAMES, "작성일": IDS},
            "번호",
            "내용",
        ),
        (
            {"Review ID": IDS, "Review Title": NAMES, "Review Content": LONG, "Review Score": NUMBERS},
            "Review ID",
            "Review Content",
        ),
        (
            {
                "review_id": IDS,
                "product_id": NAMES,
                "star_rating": NUMBERS,
                "review_headline": NAMES,
                "review_body": LONG,
            },
            "review_id",
            "review_body",
        ),
        (
            {
                "review_id": IDS,
                "order_id": IDS,
                "review_score": NUMBERS,
                "review_comment_title": NAMES,
                "review_comment_message": LONG,
            },
            "review_id",
            "review_comment_message",
        ),
        (
            {"recommendationid": IDS, "author.steamid": NAMES, "review": LONG, "voted_up": [True] * 6},
            "recommendationid",
            "review",
        ),
        ({"reviewNo": [5, 9, 8, 7, 6, 1], "id": NAMES, "content": LONG}, "reviewNo", "content"),
        ({"id": NAMES, "번호": [1, 2, 3, 4, 5, 6], "후기": LONG}, "번호", "후기"),
        ({"review_id": IDS, "review": NUMBERS, "review_text": LONG}, "review_id", "review_text"),
        ({"review_id": IDS, "text": NUMBERS, "리뷰": LONG}, "review_id", "리뷰"),
        ({"id": IDS, "review": ["good", "bad"] * 3, "content": LONG}, "id", "content"),
        ({"\ufeffreview_id": IDS, "review.text": LONG}, "\ufeffreview_id", "review.text"),
        (
            {unicodedata.normalize("NFD", "리뷰번호"): IDS, unicodedata.normalize("NFD", "리뷰내용"): LONG},
            unicodedata.normalize("NFD", "리뷰번호"),
            unicodedata.normalize("NFD", "리뷰내용"),
        ),
        ({"리뷰 번호 ": IDS, "REVIEW\nTEXT": LONG}, "리뷰 번호 ", "REVIEW\nTEXT"),
        (
            {"review_id": IDS, "text": LONG, "findings ": NUMBERS, "Review_ID": NUMBERS, "": NUMBERS},
            "review_id",
            "text",
        ),
    ],
)
def test_the_columns_of_an_export_are_found(tmp_path: Path, table: dict[str, Any], review_id: str, text: str) -> None:
    assert columns_of(tmp_path, table) == (review_id, text)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"id": NAMES, "content": LONG},
            r"ids repeat in id \(u1, u1, u1\); name .*--columns review_id=NAME.*review_id=#",
        ),
        (
            {"id": IDS, "content": LONG, "comment": LONG},
            r"the text is in one of content \(배송이 빨라요, .*\), comment \(.*--columns text=NAME",
        ),
        ({"id": IDS, "review": NUMBERS}, "no text column among id, review"),
        ({"작성자": IDS, "내용": LONG}, "no review_id column among 작성자, 내용"),
    ],
)
def test_a_doubt_is_refused_with_the_candidates(tmp_path: Path, table: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        columns_of(tmp_path, table)


def test_what_the_user_names_needs_no_proof_but_a_type(tmp_path: Path) -> None:
    assert columns_of(tmp_path, {"id": NAMES, "content": LONG}, "review_id=ID,text=content") == ("id", "content")
    with pytest.raises(UserError, match="column 'review' is int64: not a text"):
        columns_of(tmp_path, {"id": IDS, "review": NUMBERS, "content": LONG}, "text=review")
    with pytest.raises(UserError, match=r"column 'tags' is list<.*not an id"):
        columns_of(tmp_path, {"tags": [["a"]] * 6, "content": LONG}, "review_id=tags")
