"""Requests that are read without a model of their fields: the same rows, or left to the routes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.testclient import TestClient

from ray_app.data.schema import MAX_CHARACTERS
from ray_app.serving import http_app
from ray_app.serving.http_app import Limits
from ray_app.serving.plain_requests import SMALL, overfull, read
from ray_app.serving.protocol import AnalyzeRequest, parse_request
from tests.serving.test_http_app import FakeService

TEXTS = st.one_of(st.text(max_size=8), st.none(), st.integers(), st.just("가" * (MAX_CHARACTERS + 1)))
IDS = st.one_of(st.text(max_size=3), st.none(), st.integers(), st.floats(), st.just("x" * 1_001), st.booleans())
REVIEWS = st.one_of(
    TEXTS,
    st.fixed_dictionaries({"text": TEXTS}, optional={"review_id": IDS}),
    st.fixed_dictionaries({"review_id": IDS}),
    st.fixed_dictionaries({"text": TEXTS, "more": TEXTS}),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "highlights": st.one_of(st.booleans(), st.integers(0, 1)),
        "top_k": st.one_of(st.integers(-1, 3), st.none(), st.floats(), st.booleans(), st.just(10_001)),
        "threshold": st.one_of(st.floats(-0.1, 1.1), st.integers(0, 2), st.none(), st.booleans(), st.text(max_size=1)),
        "topk": st.just(1),
    },
)
BODIES = st.fixed_dictionaries(
    {"reviews": st.lists(REVIEWS, max_size=4)},
    optional={"options": st.one_of(OPTIONS, st.none()), "more": st.just(1)},
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(BODIES)
def test_what_is_read_is_what_the_models_read(body: Any) -> None:
    """And what they refuse is not read."""
    rows = read(json.dumps(body).encode(), reviews=4)
    try:
        expected = parse_request(AnalyzeRequest.model_validate(body))
    except ValidationError:
        assert rows is None
        return
    if rows is not None:
        assert rows.table.equals(expected.table)
        assert (rows.index, rows.rejected) == (expected.index, expected.rejected)


@pytest.mark.parametrize("review", ["굿", {"text": "굿"}, {"text": "굿", "review_id": "1"}, None])
@pytest.mark.parametrize("options", [{}, {"highlights": False}, {"top_k": 1, "threshold": 0.5}])
def test_ordinary_requests_are_read(review: Any, options: Any) -> None:
    assert read(json.dumps({"reviews": [review], "options": options}).encode(), reviews=1) is not None
    assert read(json.dumps({"reviews": [review, review]}).encode(), reviews=1) is None


BOMBS = {
    "lists": b'{"reviews":["a"],"x":[' + b"[]," * 30_000 + b"[]]}",
    "dicts": b'{"reviews":[' + b"{}," * 30_000 + b"{}]}",
    "nulls": b'{"reviews":[' + b"null," * 30_000 + b"null]}",
    "keys": b'{"reviews":["a"],' + b",".join(b'"%d":1' % number for number in range(30_000)) + b"}",
    "texts": b'{"reviews":[' + b'"",' * 30_000 + b'""]}',
    "digits": b'{"reviews":["a"],"x":' + b"9" * 90_000 + b"}",
    "depth": b'{"reviews":' + b"[" * 90_000,
    "an end that never comes": b'{"reviews":["a"],"x":[' + b'"a",' * 30_000 + b'"' + b'\\"' * 90_000 + b"\\",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("path", ["/analyze", "/explain"])
def test_a_body_of_more_values_than_a_request_has_is_not_parsed(name: str, path: str) -> None:
    service = FakeService()
    with TestClient(http_app.build_app(service, Limits(reviews=5))) as client:
        response = client.post(path, content=BOMBS[name], headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["field"]) == (422, "reviews")
    assert "more values than 5 reviews can have" in response.json()["error"]
    assert not service.tables


@pytest.mark.parametrize("text", ['"' * 20_000, "[{,:}]" * 3_000, "\\" * 20_000, "가" * 20_000, "\n" * 19_999 + "a"])
def test_no_text_makes_a_body_overfull(text: str) -> None:
    for ascii_only in (True, False):
        body = json.dumps({"reviews": [{"text": text, "review_id": "1"}] * 9}, ensure_ascii=ascii_only, indent=9)
        assert len(body) > SMALL
        assert not overfull(body.encode(), reviews=9)
        assert read(body.encode(), reviews=9) is not None


def test_an_id_has_as_many_digits_as_it_may_have_characters() -> None:
    for digits, status in ((999, 200), (1_001, 422)):
        with TestClient(http_app.build_app(FakeService(), Limits())) as client:
            body = {"reviews": [{"text": "a", "review_id": 10**digits - 1}]}
            response = client.post("/analyze", json=body)
            assert response.status_code == status, response.text
