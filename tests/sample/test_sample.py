"""The shipped labeled reviews: complete, reproducible, and test texts never among the training texts."""

import json
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from ray_app.audit.guideline_rules import required_keywords
from ray_app.data.taxonomy import load
from ray_app.labels.reader import read_labels
from ray_app.sample import (
    GeneratedReview,
    mixed_test_reviews,
    unlabeled_texts,
    written_reviews,
)
from ray_app.sample.generate import OVERALL, generate_reviews

GENERATED = 2_000


@pytest.fixture(scope="module")
def generated() -> list[GeneratedReview]:
    return generate_reviews(GENERATED, seed=0)


@pytest.fixture(scope="module", params=["written", "mixed", "generated"])
def reviews(request: pytest.FixtureRequest, generated: list[GeneratedReview]) -> Sequence[GeneratedReview]:
    if request.param == "generated":
        return generated
    return written_reviews() if request.param == "written" else mixed_test_reviews()


def test_the_shipped_reviews_are_as_many_as_promised() -> None:
    splits = Counter(row["split"] for row in written_reviews())
    assert splits["test"] == 200
    assert splits.total() >= 4_000
    assert set(splits) == {"train", "validation", "test"}
    assert Counter(row["split"] for row in mixed_test_reviews()) == {"test": 200}
    assert read_labels("test-mixed").table.num_rows == 200


def signs(row: GeneratedReview) -> set[int]:
    """Of the scores of all keywords but the overall one."""
    return {(s > 0) - (s < 0) for s in (label["score"] for label in row["labels"] if label["keyword"] != OVERALL)}


def test_a_third_of_what_is_learned_from_is_mixed_and_all_of_the_mixed_test() -> None:
    learned = [row for row in written_reviews() if row["split"] == "train"]
    assert 0.28 < sum(signs(row) >= {-1, 1} for row in learned) / len(learned) < 0.45
    assert all(signs(row) >= {-1, 1} for row in mixed_test_reviews())


def test_every_keyword_is_learned_with_every_score() -> None:
    learned = Counter(
        (label["keyword"], label["score"])
        for row in written_reviews()
        if row["split"] == "train"
        for label in row["labels"]
    )
    for keyword in load().names:
        assert sum(learned[keyword, score] for score in load().scores) >= 250, keyword
        assert min(learned[keyword, score] for score in load().scores) >= 8, keyword
        for sign in (1, -1):
            assert learned[keyword, sign] + learned[keyword, 2 * sign] >= 80, (keyword, sign)


@pytest.mark.parametrize("reviews", [written_reviews(), mixed_test_reviews()], ids=["written", "mixed"])
def test_the_guidelines_rules_are_followed(reviews: Sequence[GeneratedReview]) -> None:
    rules = load().rules
    broken = [
        (row["review_id"], keyword, word)
        for row in reviews
        for rule in rules
        for keyword, word in required_keywords(row["text"].split(), rule).items()
        if keyword not in {label["keyword"] for label in row["labels"]}
    ]
    assert len(broken) <= len(reviews) // 500, broken


def test_every_review_is_complete_and_distinct(reviews: Sequence[GeneratedReview]) -> None:
    assert len({row["review_id"] for row in reviews}) == len(reviews)
    assert len({row["text"] for row in reviews}) == len(reviews)
    assert all(row["text"].strip() == row["text"] != "" for row in reviews)


def test_every_review_has_one_overall_score_and_no_keyword_twice(reviews: Sequence[GeneratedReview]) -> None:
    for row in reviews:
        names = [label["keyword"] for label in row["labels"]]
        assert names.count(OVERALL) == 1
        assert len(set(names)) == len(names)


def test_no_keyword_or_score_is_unknown(reviews: Sequence[GeneratedReview]) -> None:
    labels = [label for row in reviews for label in row["labels"]]
    assert {label["keyword"] for label in labels} == set(load().names)
    assert {label["score"] for label in labels} == set(load().scores)


def test_the_test_split_alone_has_every_keyword_and_score() -> None:
    labels = [label for row in written_reviews() if row["split"] == "test" for label in row["labels"]]
    assert {label["keyword"] for label in labels} == set(load().names)
    assert {label["score"] for label in labels} == set(load().scores)


def test_highlights_and_opinions_are_words_of_their_text(reviews: Sequence[GeneratedReview]) -> None:
    for row in reviews:
        words = row["text"].split()
        for label in row["labels"]:
            for word in (*label.get("highlights", ()), *label.get("opinions", ())):
                assert word in words if len(words) > 1 else word in row["text"], row


def test_every_keyword_but_the_overall_one_has_words(reviews: Sequence[GeneratedReview]) -> None:
    written = reviews is written_reviews() or reviews is mixed_test_reviews()
    for row in reviews:
        for label in row["labels"]:
            particular = label["keyword"] != OVERALL
            assert bool(label.get("highlights")) == particular, row
            assert bool(label.get("opinions")) == (particular and written), row


def test_no_test_or_validation_text_is_trained_on() -> None:
    held_out = {"".join(row["text"].split()) for row in written_reviews() if row["split"] != "train"}
    held_out |= {"".join(row["text"].split()) for row in mixed_test_reviews()}
    learned = [row["text"] for row in written_reviews() if row["split"] == "train"] + unlabeled_texts(3_000)
    assert not held_out & {"".join(text.split()) for text in learned}


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
