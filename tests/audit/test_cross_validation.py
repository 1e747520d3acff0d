"""assign_folds: near-identical texts share a fold, whatever the seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app.audit.cross_validation import assign_folds
from ray_app.data.near_duplicates import group_near_duplicates
from ray_app.errors import UserError

TEXTS = [
    "배송이 빨라서 좋아요 다음에도 여기서 주문할게요",
    "배송이 빨라서 좋아요! 다음에도 여기서 주문할게요~~",
    "색상이 화면과 달라서 반품했어요",
    "허리가 편하고 잘 늘어나요",
    "배송이빨라서 좋아요 다음에도 여기서 주문할께요",
    "실밥이 많이 나와 있어서 아쉬워요",
]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text("가나다라마바사", min_size=8, max_size=20), min_size=3, max_size=30),
    st.integers(2, 3),
    st.integers(0, 5),
)
def test_every_text_has_a_fold_and_copies_share_it(texts: list[str], count: int, seed: int) -> None:
    doubled = texts + [f"{text}!!" for text in texts]
    if len(np.unique(group_near_duplicates(doubled))) < count:
        with pytest.raises(UserError, match="different texts"):
            assign_folds(doubled, count, seed)
        return
    fold = assign_folds(doubled, count, seed)
    assert set(fold) == set(range(count))
    assert (fold[: len(texts)] == fold[len(texts) :]).all()
    assert (fold == assign_folds(doubled, count, seed)).all()


def test_folds_are_of_about_equal_size_and_random() -> None:
    texts = [f"리뷰 {i * 7919} 번입니다 {i * 104729}" for i in range(100)]
    assert set(np.bincount(assign_folds(texts, 4, 0))) <= {24, 25, 26}
    assert (assign_folds(texts, 4, 0) != assign_folds(texts, 4, 1)).any()


@pytest.mark.parametrize(
    ("texts", "count", "message"), [(TEXTS, 1, "at least 2"), (TEXTS, 5, "4 different texts"), ([], 2, "0")]
)
def test_too_few_texts_or_folds_are_refused(texts: list[str], count: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign_folds(texts, count, 0)
