"""near_duplicates: they are found whatever their spelling, other texts are let through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.data.near_duplicates import NearDuplicateFilter, jaccard, trigrams
from ray_app.sample import written_reviews

TEXTS = [row["text"] for row in written_reviews()]
LONG = "배송은 빨랐는데 단추 하나가 덜렁거려서 아쉬웠고 원단은 도톰하니 마음에 들어요"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG, LONG),
        (LONG, LONG.replace(" ", "")),
        (LONG, LONG + "!!! ♥"),
        (LONG, LONG.replace("들어요", "들어용")),
        ("굿", "굿!"),
        ("Good Fit", "good  fit."),
        ("👍", "👍"),
        ("색상이 예뻐요", "색상이 예뻐요~~"),
    ],
)
def test_near_duplicates_are_refused(one: str, other: str) -> None:
    seen = NearDuplicateFilter(0.8)
    assert [seen.add(one), seen.add(other)] == [True, False]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("배송이 빨라요", "배송이 느려요"),
        ("굿", "꿋"),
        ("👍", "👎"),
        ("핏이 예뻐요", "색이 예뻐요"),
        (LONG, LONG.replace("빨랐는데", "늦었는데").replace("도톰하니", "얇아서").replace("마음에 들어요", "별로예요")),
    ],
)
def test_other_texts_are_let_through(one: str, other: str) -> None:
    seen = NearDuplicateFilter(0.8)
    assert [seen.add(one), seen.add(other)] == [True, True]


def test_what_is_kept_is_pairwise_different_and_little_is_missed() -> None:
    seen = NearDuplicateFilter(0.8)
    texts = TEXTS[::4]  # pairs are compared one by one
    kept = [text for text in texts if seen.add(text)]
    grams = [trigrams(text) for text in kept]
    close = sum(jaccard(grams[i], grams[j]) >= 0.8 for i in range(len(grams)) for j in range(i))
    assert close <= len(texts) * 0.003  # MinHash may miss a pair in 300
    assert len(kept) > 0.9 * len(texts)


@given(st.text(max_size=30))
def test_any_text_equals_itself(text: str) -> None:
    seen = NearDuplicateFilter(1.0)
    assert [seen.add(text), seen.add(text)] == [True, False]
    assert jaccard(trigrams(text), trigrams(text)) == 1


def test_above_one_nothing_is_a_duplicate() -> None:
    seen = NearDuplicateFilter(1.01)
    assert [seen.add("굿"), seen.add("굿")] == [True, True]
