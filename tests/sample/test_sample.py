"""The shipped labeled reviews: complete, reproducible, and test texts never among the training texts."""

import json
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from ray_app.data.taxonomy import load
from ray_app.sample import TRAINING_ROWS, GeneratedReview, labeled_reviews, unlabeled_texts, written_reviews
from ray_app.sample.generate import OVERALL, generate_reviews

GENERATED = 2_000


@pytest.fixture(scope="module")
def generated() -> list[GeneratedReview]:
    return generate_reviews(GENERATED, seed=0)


@pytest.fixture(scope="module", params=["written", "generated"])
def reviews(request: pytest.FixtureRequest, generated: list[GeneratedReview]) -> Sequence[GeneratedReview]:
    return generated if request.param == "generated" else written_reviews()


def test_the_shipped_reviews_are_as_many_as_promised() -> None:
    splits = Counter(row["split"] for row in written_reviews())
    assert splits["test"] == 200
    assert splits.total() >= 800
    assert set(splits) == {"train", "validation", "test"}


def test_every_review_is_complete_and_distinct(reviews: Sequence[GeneratedReview]) -> None:
    assert len({row["review_id"] for row in reviews}) == len(reviews)
    assert len({row["text"] for row in reviews}) == len(reviews)
    assert all(row["text"].strip() == row["text"] != "" for row in reviews)


def test_every_review_has_one_overall_score_and_no_keyword_twice(reviews: Sequence[GeneratedReview]) -> None:
    for row in reviews:
        names = [label["keyword"] for label in row["labels"]]
        assert names.count(OVERALL) == 1
        assert len(set(names)) == len(names)


def test_every_keyword_and_score_occurs_and_no_other(reviews: Sequence[GeneratedReview]) -> None:
    pairs = Counter((label["keyword"], label["score"]) for row in reviews for label in row["labels"])
    assert {keyword for keyword, _ in pairs} == set(load().names)
    assert {score for _, score in pairs} == set(load().scores)


def test_the_test_split_alone_has_every_keyword_and_score() -> None:
    labels = [label for row in written_reviews() if row["split"] == "test" for label in row["labels"]]
    assert {label["keyword"] for label in labels} == set(load().names)
    assert {label["score"] for label in labels} == set(load().scores)


def test_highlights_are_words_of_their_text(reviews: Sequence[GeneratedReview]) -> None:
    for row in reviews:
        words = row["text"].split()
        for label in row["labels"]:
            for word in label.get("highlights", []):
                assert word in words if len(words) > 1 else word in row["text"], row


def test_every_keyword_but_the_overall_one_has_a_highlight(reviews: Sequence[GeneratedReview]) -> None:
    for row in reviews:
        for label in row["labels"]:
            assert bool(label.get("highlights")) == (label["keyword"] != OVERALL), row


def test_no_test_or_validation_text_is_trained_on() -> None:
    held_out = {"".join(row["text"].split()) for row in written_reviews() if row["split"] != "train"}
    learned = [row["text"] for row in labeled_reviews(3_000) if row["split"] == "train"] + unlabeled_texts(3_000)
    assert not held_out & {"".join(text.split()) for text in learned}


def test_labeled_reviews_have_the_promised_training_rows() -> None:
    rows = list(labeled_reviews())
    assert Counter(row["split"] for row in rows)["train"] == TRAINING_ROWS
    assert len({row["review_id"] for row in rows}) == len(rows)
    assert list(labeled_reviews(0)) == list(written_reviews())


def test_the_same_seed_gives_the_same_reviews(generated: list[GeneratedReview]) -> None:
    assert generate_reviews(300, seed=0) == generated[:300]
    assert json.loads(json.dumps(generated[:50])) == generated[:50]
    others = {row["text"] for row in generate_reviews(300, seed=1)}
    assert len(others & {row["text"] for row in generated}) < 30


def test_generating_leaves_the_global_random_state_alone() -> None:
    random.seed(3)
    before = random.getstate()
    generate_reviews(50, seed=5)
    assert random.getstate() == before
    random.seed(99)
    first = generate_reviews(50, seed=5)
    random.seed(100)
    assert generate_reviews(50, seed=5) == first


def test_some_generated_reviews_have_no_space_and_some_repeat_no_habit(generated: list[GeneratedReview]) -> None:
    unspaced = [row for row in generated if " " not in row["text"] and len(row["text"]) > 15]
    assert 0.01 < len(unspaced) / GENERATED < 0.08
    counts = Counter(len(row["labels"]) for row in generated)
    assert set(counts) >= {1, 2, 3, 4, 5}
