"""agreement: kappa by Cohen's formula, alpha as Krippendorff published it, and the report of a table."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.labels import agreement

TAXONOMY = Taxonomy(name="t", keywords=(Keyword(name="만족도"), Keyword(name="배송")))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_kappa_is_agreement_beyond_chance(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    kappa = agreement.cohen_kappa(first, second)
    if len(set(first + second)) < 2:
        assert kappa is None
        return
    observed, yes, other_yes = np.mean([a == b for a, b in pairs]), np.mean(first), np.mean(second)
    expected = yes * other_yes + (1 - yes) * (1 - other_yes)
    assert kappa == pytest.approx((observed - expected) / (1 - expected), abs=1e-12)


# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", example C: 4 observers, 12 units, values 1 to 5.
EXAMPLE = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]


def test_alpha_is_that_of_the_published_example() -> None:
    assert agreement.krippendorff_alpha(np.array(EXAMPLE) - 1, range(1, 6)) == pytest.approx(0.815, abs=5e-4)


def test_alpha_knows_order_but_not_distance() -> None:
    near, far = np.array([[0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 1]]), np.array([[0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 4]])
    first, second = (agreement.krippendorff_alpha(values, range(-2, 3)) for values in (near, far))
    assert first is not None
    assert second is not None
    assert first > second
    assert agreement.krippendorff_alpha(near, (-50, -1, 0, 1, 99)) == first


@pytest.mark.parametrize("values", [[[2, 2], [2, 2]], [[1, -1], [-1, 2]], [[1, 2, 3]], [[], []]])
def test_alpha_is_nothing_where_nothing_can_vary(values: list[list[int]]) -> None:
    assert agreement.krippendorff_alpha(np.array(values, int), range(5)) is None


def row(review_id: str, labeller: str, **scores: int) -> dict[str, Any]:
    labels = [{"keyword": keyword, "score": score, "highlights": None} for keyword, score in scores.items()]
    return {"review_id": review_id, "labeller": labeller, "labels": labels}


def test_report_is_over_the_reviews_that_two_labelers_share() -> None:
    rows = [
        *(row("1", who, 만족도=1, 배송=-1) for who in ("kim", "lee")),
        *(row("2", who, 만족도=-2) for who in ("kim", "lee")),
        row("3", "kim", 만족도=2, 배송=2),
        row("3", "lee", 만족도=1),
        row("4", "park", 배송=0),
    ]
    found = agreement.report(pa.Table.from_pylist(rows), TAXONOMY)
    assert (found["labellers"], found["shared"]) == (["kim", "lee", "park"], 3)
    assert found["per_keyword"]["만족도"]["kappa"] is None
    assert found["per_keyword"]["배송"]["kappa"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9), abs=1e-4)
    assert found["per_keyword"]["배송"]["alpha"] is None
    alpha, overall = found["per_keyword"]["만족도"]["alpha"], found["alpha"]
    assert alpha is not None
    assert overall is not None
    assert 0 < alpha < overall + 1 < 2
    assert "3 reviews were labeled by two or more of kim, lee, park" in agreement.markdown(found)


def test_report_of_one_labeler_says_that_nothing_is_known() -> None:
    for rows in ([row("1", "kim", 배송=1)], []):
        schema = pa.Table.from_pylist([row("1", "kim", 배송=1)]).schema
        found = agreement.report(pa.Table.from_pylist(rows, schema=schema), TAXONOMY)
        assert (found["shared"], found["alpha"]) == (0, None)
        assert "nothing is known" in agreement.markdown(found)
