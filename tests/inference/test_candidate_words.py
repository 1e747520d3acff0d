"""Words by attention: the word on which a keyword's attention lies most, at no masked pass, batch or alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_app.data.rows import FindingRow
from ray_app.data.text import words
from ray_app.engine.encoder import load_keyword_scorer
from ray_app.engine.keyword_attention import FEELS, NAMES, KeywordScorer
from ray_app.errors import UserError
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.candidate_words import WordFinder, attended
from ray_app.inference.occlusion import Occlusion, recheck_agreement
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import SentimentStage, assemble_findings, build_stages
from tests.support import bundles

TEXTS = [*bundles.sample_texts(25), *bundles.ODD_TEXTS]


@pytest.fixture(scope="module", params=[("bert", "attention"), ("roberta", "attention"), ("electra", "joint")])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("attends") / "bundle"
    kind, form = request.param
    bundles.make_bundle(folder, kind, score_form=form, opinions="attention", max_length=128)
    return str(folder)


def stock_of(bundle: str) -> KeywordScorer:
    """The bundle's model whose keywords attend, run by transformers."""
    joint = Path(bundle) / "joint"
    return load_keyword_scorer(joint if joint.is_dir() else Path(bundle) / "scores").eval()


@pytest.mark.parametrize("flat", [True, False])
def test_a_word_has_the_attention_of_its_tokens_as_the_stock_forward_gives_it(bundle: str, flat: bool) -> None:
    runtime = BundleRuntime(bundle, "cpu")
    if not flat:
        runtime.scores.stock, runtime.scores.flat = stock_of(bundle), None
    finder = WordFinder(runtime)
    found = finder(TEXTS)
    read = runtime.attention(found.tokens)
    grid, shares = read.scores, attended(found, read.weights)
    stock, front = stock_of(bundle), len(runtime.tokenizer.prefix)
    for i, text in enumerate(TEXTS):
        rows = runtime.tokenizer.with_special_tokens(found.tokens.take(np.array([i])), 128)
        ids = torch.from_numpy(rows.ids)[None]
        with torch.inference_mode():
            logits, weights = stock(ids, torch.ones_like(ids), attention=True)
        np.testing.assert_allclose(grid[i], logits.view(15, -1)[:, :5].softmax(-1), atol=1.5e-4)
        if read.found is not None:
            np.testing.assert_allclose(read.found[i], logits.view(15, -1)[:, 5].sigmoid(), atol=1.5e-4)
        own = shares.review == i
        tokens = slice(*found.tokens.offsets[i : i + 2])
        for share, candidate in zip(shares.share[own], shares.candidate[own], strict=True):
            at = np.flatnonzero(found.candidate[tokens] == candidate) + front
            np.testing.assert_allclose(share, weights[0, :, :, at].exp().sum(-1), atol=1.5e-4)
        assert len(set(shares.candidate[own].tolist())) <= len({text[a:b] for a, b in words([text])[0]})


def test_the_words_found_are_those_with_the_largest_share(bundle: str) -> None:
    analyze = Analyzer(bundle, highlights="attention")
    assert [type(stage).__name__ for stage in analyze.stages] == ["KeywordStage", "SentimentStage"]
    runtime, rows = analyze.runtime, analyze(TEXTS)
    found = WordFinder(runtime)(TEXTS)
    shares = attended(found, runtime.attention(found.tokens).weights)
    checked = 0
    for i, row in enumerate(rows):
        own = np.flatnonzero(shares.review == i)
        for finding in row["findings"]:
            k = runtime.meta.taxonomy.index[finding["keyword"]]
            for name, query in (("highlight", NAMES), ("opinion", FEELS)):
                word = finding[name]  # type: ignore[literal-required]
                if not len(own):
                    assert word is None
                    continue
                best = own[int(np.argmax(shares.share[own, k, query]))]
                start, end = found.firsts[i][shares.candidate[best]]
                assert (word["word"], word["start"], word["end"]) == (TEXTS[i][start:end], start, end)
                assert word["drop"] == pytest.approx(float(shares.share[best, k, query]))
                checked += 1
    assert checked > 30


def test_words_by_attention_do_not_depend_on_the_other_reviews(bundle: str) -> None:
    analyze = Analyzer(bundle, highlights="attention")
    together, alone = analyze(TEXTS), [analyze([text])[0] for text in TEXTS]

    def found(findings: list[FindingRow]) -> list[object]:
        return [
            (f["keyword"], f["score"], *(w and w["word"] for w in (f["highlight"], f["opinion"]))) for f in findings
        ]

    assert [found(row["findings"]) for row in together] == [found(row["findings"]) for row in alone]


def test_opinions_by_attention_cost_no_masked_pass(bundle: str) -> None:
    exact, without = Analyzer(bundle), Analyzer(bundle, opinions=False)
    on, off = exact(TEXTS), without(TEXTS)
    assert exact.runtime.work["sequences"] == without.runtime.work["sequences"]
    by_attention = Analyzer(bundle, highlights="attention")(TEXTS)
    for row, other, attended_row in zip(on, off, by_attention, strict=True):
        for finding, bare, cheap in zip(row["findings"], other["findings"], attended_row["findings"], strict=True):
            assert finding["highlight"] == bare["highlight"]
            assert finding["opinion"] == cheap["opinion"]
            assert bare["opinion"] is None


def test_a_row_that_wants_no_words_has_none(bundle: str) -> None:
    runtime = BundleRuntime(bundle, "cpu")
    stage = SentimentStage(runtime, attended={"highlights": NAMES})
    ones = pa.array([[1.0] * 15] * 2, pa.list_(pa.float32()))
    table = pa.table({"text": TEXTS[:2], "keyword_probabilities": ones, "_highlights": [True, False]})
    first, second = stage(table)["highlights"].to_pylist()
    assert all(first)
    assert second == [None] * 15


def test_recheck_by_attention_with_room_for_every_word_equals_exact(bundle: str) -> None:
    runtime = BundleRuntime(bundle, "cpu")
    share, findings = recheck_agreement(runtime, TEXTS, "space", 500, "attention")
    assert (share, findings > 15) == (1.0, True)
    fewer, _ = recheck_agreement(runtime, TEXTS, "space", 1, "attention")
    assert 0 < fewer < 1, "random attention does not know the exact word"


def test_recheck_masks_only_what_attention_names(bundle: str) -> None:
    runtime = BundleRuntime(bundle, "cpu")
    text = "옷은 예쁘지만 배송은 늦어요 그래도 또 사요"
    before = runtime.probabilities(runtime.tokenize([text])[0].sequences)
    runtime.work.clear()
    Occlusion(runtime, mode="recheck", shortlisted=2, named_by="attention")(
        [text], before, np.zeros(1, np.int64), np.zeros(1, np.int64)
    )
    assert runtime.work["sequences"] == 1 + 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"highlights": "attention"}, "--highlights attention: .* prompt form.*write --highlights exact"),
        ({"highlights": "recheck", "named_by": "attention"}, "--recheck-by attention: .*write --recheck-by int8"),
    ],
)
def test_a_bundle_whose_keywords_do_not_attend_is_named(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    bundles.make_bundle(tmp_path, "bert")
    with pytest.raises(UserError, match=words):
        Analyzer(str(tmp_path), **options)


def test_one_pass_of_a_joint_model_gives_keywords_scores_and_words(tmp_path: Path) -> None:
    bundles.make_bundle(tmp_path, "bert", score_form="joint", opinions="attention", max_length=128)
    analyze = Analyzer(str(tmp_path), highlights="attention")
    analyze.runtime.work.clear()
    rows = analyze(TEXTS)
    assert analyze.runtime.work["sequences"] == len(TEXTS)
    assert sum(len(row["findings"]) for row in rows) > 20
    exact = Analyzer(str(tmp_path))(TEXTS)
    for cheap, masked in zip(rows, exact, strict=True):
        assert cheap["keyword_probabilities"] == masked["keyword_probabilities"]
        assert [(f["keyword"], f["score"], f["opinion"]) for f in cheap["findings"]] == [
            (f["keyword"], f["score"], f["opinion"]) for f in masked["findings"]
        ]


def test_a_joint_model_gives_embeddings_and_the_same_findings_with_them(tmp_path: Path) -> None:
    bundles.make_bundle(tmp_path, "bert", score_form="joint", max_length=128)
    runtime = BundleRuntime(str(tmp_path), "cpu")
    table = pa.table({"text": TEXTS})
    with_vectors, without = table, table
    for _, make in build_stages("exact", "space", embeddings=True):
        with_vectors = make(runtime)(with_vectors)
    for _, make in build_stages("exact", "space"):
        without = make(runtime)(without)
    vectors = np.array(with_vectors["embedding"].to_pylist(), np.float32)
    assert vectors.shape == (len(TEXTS), 32)
    rows = runtime.tokenizer.with_special_tokens(runtime.tokenize(TEXTS)[0].sequences, 128)
    stock = stock_of(str(tmp_path))
    with torch.inference_mode():
        for i in range(len(TEXTS)):
            ids = torch.from_numpy(rows.row(i))[None]
            both = stock(ids, torch.ones_like(ids), vectors=True)
            np.testing.assert_allclose(vectors[i], both[0, 90:], atol=2e-3)
    one, other = (assemble_findings(each, runtime.bundle) for each in (with_vectors, without))
    assert one["findings"].to_pylist() == other["findings"].to_pylist()
