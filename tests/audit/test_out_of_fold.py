"""views: a TF-IDF model and a bundle say the same kind of thing of reviews they did not learn from."""

from pathlib import Path

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

FOUND = reader.read_labels(str(sample.FOLDER / "reviews.jsonl"))
TRAIN, HELD = FOUND.split("train").slice(0, 500), FOUND.split("test").slice(0, 60)


@pytest.fixture(scope="module")
def linear() -> OutOfFold:
    return out_of_fold.of_baseline(TfidfBaseline(TRAIN, None, FOUND.taxonomy), HELD)


def check_shapes(view: OutOfFold) -> None:
    named, (review, _, given) = keyword_matrix(HELD, FOUND.taxonomy), score_pairs(HELD, FOUND.taxonomy)
    assert view.keywords.shape == view.words.shape == named.shape
    assert view.scores.shape == (len(review), len(FOUND.taxonomy.scores))
    assert view.scores.sum(1) == pytest.approx(np.ones(len(review)), abs=1e-3)
    doubted = np.abs(named - view.keywords) >= DOUBT
    unsure = 1 - view.scores[np.arange(len(given)), given] >= 0.5
    doubted[review[unsure], score_pairs(HELD, FOUND.taxonomy)[1][unsure]] = True
    assert not (view.words != "")[~doubted].any()
    for i, text in enumerate(HELD["text"].to_pylist()):
        assert all(word in text.split() for word in view.words[i] if word)


def test_a_linear_models_view_has_a_row_a_review_and_words_of_it(linear: OutOfFold) -> None:
    check_shapes(linear)
    assert (linear.words != "").any()


def test_a_bundles_view_has_the_same_form(bundle_folder: str) -> None:
    runtime = BundleRuntime(bundle_folder, "cpu")
    assert runtime.meta.taxonomy.names == FOUND.taxonomy.names
    check_shapes(out_of_fold.of_bundle(runtime, HELD))


def test_evidence_is_the_word_without_which_the_keyword_goes() -> None:
    rows = [
        {
            "review_id": "1",
            "text": "옷은 예쁜데 배송은 너무 느려요",
            "labels": [{"keyword": "만족도", "score": 0}],
            "split": None,
        }
    ]
    held = pa.Table.from_pylist(rows, schema=HELD.schema)
    view = out_of_fold.of_baseline(TfidfBaseline(FOUND.split("train"), None, FOUND.taxonomy), held)
    at = FOUND.taxonomy.index["배송"]
    assert view.keywords[0, at] > 0.5
    assert view.words[0, at] == "배송은"


def test_views_of_folds_join_in_the_order_of_the_rows(linear: OutOfFold) -> None:
    fold = np.arange(len(HELD)) % 3
    review, _, _ = score_pairs(HELD, FOUND.taxonomy)
    model = TfidfBaseline(TRAIN, None, FOUND.taxonomy)
    parts = [out_of_fold.of_baseline(model, HELD.take(pa.array(np.flatnonzero(fold == number)))) for number in range(3)]
    joined = out_of_fold.join(parts, fold, review)
    assert joined.keywords == pytest.approx(linear.keywords, abs=1e-6)
    assert joined.scores == pytest.approx(linear.scores, abs=1e-6)
    assert (joined.words == linear.words).all()


def test_a_view_survives_being_kept(linear: OutOfFold, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "view.npz", **out_of_fold.to_arrays(linear))
    again = out_of_fold.from_arrays(np.load(tmp_path / "view.npz", allow_pickle=False))
    assert (again.words == linear.words).all()
    assert (again.keywords == linear.keywords).all()


def test_a_keyword_that_training_held_not_once_has_no_known_score() -> None:
    review, keyword, _ = score_pairs(TRAIN, FOUND.taxonomy)
    at = FOUND.taxonomy.index["배송"]
    without = TRAIN.take(pa.array(np.setdiff1d(np.arange(len(TRAIN)), review[keyword == at])))
    model = TfidfBaseline(without, None, FOUND.taxonomy)
    found = model.score_probabilities(["배송이 빨라요", "색이 고와요"], np.array([0, 1]), np.array([at, 0]))
    assert found[0] == pytest.approx([0.2] * 5)
    assert found[1].sum() == pytest.approx(1)
    assert (model.thresholds == 0.5).all()
