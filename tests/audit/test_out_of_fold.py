"""out_of_fold: predictions of a TF-IDF model and of a bundle have the same form and the same kind of evidence."""

import numpy as np
import pyarrow as pa
import pytest

from ray_app import sample
from ray_app.audit import out_of_fold
from ray_app.audit.out_of_fold import DOUBT, OutOfFold
from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.inference.runtime import BundleRuntime
from ray_app.labels import reader
from ray_app.labels.matrices import keyword_matrix, score_pairs

LABELS = reader.read_labels(str(sample.FOLDER / "reviews.jsonl"))
TRAIN, HELD_OUT = LABELS.split("train").slice(0, 500), LABELS.split("test").slice(0, 60)


@pytest.fixture(scope="module")
def linear() -> OutOfFold:
    return out_of_fold.from_baseline(TfidfBaseline(TRAIN, None, LABELS.taxonomy), HELD_OUT)


def check_shapes(predictions: OutOfFold) -> None:
    labeled = keyword_matrix(HELD_OUT, LABELS.taxonomy)
    review, keyword, given = score_pairs(HELD_OUT, LABELS.taxonomy)
    assert predictions.keywords.shape == predictions.words.shape == labeled.shape
    assert predictions.scores.shape == (len(review), len(LABELS.taxonomy.scores))
    assert predictions.scores.sum(1) == pytest.approx(np.ones(len(review)), abs=1e-3)
    doubted = np.abs(labeled - predictions.keywords) >= DOUBT
    unsure = 1 - predictions.scores[np.arange(len(given)), given] >= 0.5
    doubted[review[unsure], keyword[unsure]] = True
    assert not (predictions.words != "")[~doubted].any()
    for i, text in enumerate(HELD_OUT["text"].to_pylist()):
        assert all(word in text.split() for word in predictions.words[i] if word)


def test_a_linear_models_predictions_have_one_row_per_review_and_words_of_it(linear: OutOfFold) -> None:
    check_shapes(linear)
    assert (linear.words != "").any()


def test_a_bundles_predictions_have_the_same_form(bundle_folder: str) -> None:
    runtime = BundleRuntime(bundle_folder, "cpu")
    assert runtime.meta.taxonomy.names == LABELS.taxonomy.names
    check_shapes(out_of_fold.from_bundle(runtime, HELD_OUT))


def test_evidence_is_the_word_without_which_the_keyword_goes() -> None:
    rows = [
        {
            "review_id": "1",
            "text": "옷은 예쁜데 배송은 너무 느려요",
            "labels": [{"keyword": "만족도", "score": 0}],
            "split": None,
        }
    ]
    held = pa.Table.from_pylist(rows, schema=HELD_OUT.schema)
    predictions = out_of_fold.from_baseline(TfidfBaseline(LABELS.split("train"), None, LABELS.taxonomy), held)
    at = LABELS.taxonomy.index["배송"]
    assert predictions.keywords[0, at] > 0.5
    assert predictions.words[0, at] == "배송은"


def test_predictions_of_folds_join_in_the_order_of_the_rows(linear: OutOfFold) -> None:
    fold = np.arange(len(HELD_OUT)) % 3
    review, _, _ = score_pairs(HELD_OUT, LABELS.taxonomy)
    model = TfidfBaseline(TRAIN, None, LABELS.taxonomy)
    folds = [
        out_of_fold.from_baseline(model, HELD_OUT.take(pa.array(np.flatnonzero(fold == number)))) for number in range(3)
    ]
    joined = out_of_fold.join(folds, fold, review)
    assert joined.keywords == pytest.approx(linear.keywords, abs=1e-6)
    assert joined.scores == pytest.approx(linear.scores, abs=1e-6)
    assert (joined.words == linear.words).all()


def test_predictions_survive_being_kept(linear: OutOfFold) -> None:
    again = out_of_fold.from_bytes(out_of_fold.to_bytes(linear))
    assert (again.words == linear.words).all()
    assert (again.keywords == linear.keywords).all()
    assert (again.scores == linear.scores).all()


def test_a_keyword_that_training_never_held_has_no_known_score() -> None:
    review, keyword, _ = score_pairs(TRAIN, LABELS.taxonomy)
    at = LABELS.taxonomy.index["배송"]
    without = TRAIN.take(pa.array(np.setdiff1d(np.arange(len(TRAIN)), review[keyword == at])))
    model = TfidfBaseline(without, None, LABELS.taxonomy)
    scores = model.score_probabilities(["배송이 빨라요", "색이 고와요"], np.array([0, 1]), np.array([at, 0]))
    assert scores[0] == pytest.approx([0.2] * 5)
    assert scores[1].sum() == pytest.approx(1)
    assert (model.thresholds == 0.5).all()
