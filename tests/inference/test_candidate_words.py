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
from ray_app.engine.keyword_attention import FEELS, NAMES
from ray_app.errors import UserError
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.candidate_words import WordFinder, attended
from ray_app.inference.occlusion import Occlusion, recheck_agreement
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import SentimentStage
from tests.support import bundles

TEXTS = [*bundles.sample_texts(25), *bundles.ODD_TEXTS]


@pytest.fixture(scope="module", params=["bert", "roberta"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("attends") / "bundle"
    bundles.make_bundle(folder, request.param, score_form="attention", opinions="attention", max_length=128)
    return str(folder)


@pytest.mark.parametrize("flat", [True, False])
def test_a_word_has_the_attention_of_its_tokens_as_the_stock_forward_gives_it(bundle: str, flat: bool) -> None:
    runtime = BundleRuntime(bundle, "cpu")
    if not flat:
        runtime.scores.stock, runtime.scores.flat = load_keyword_scorer(Path(bundle) / "scores").eval(), None
    finder = WordFinder(runtime)
    found = finder(TEXTS)
    read = runtime.attention(found.tokens)
    grid, shares = read.scores, attended(found, read.weights)
    stock, front = load_keyword_scorer(Path(bundle) / "scores").eval(), len(runtime.tokenizer.prefix)
    for i, text in enumerate(TEXTS):
        rows = runtime.tokenizer.with_special_tokens(found.tokens.take(np.array([i])), 128)
        ids = torch.from_numpy(rows.ids)[None]
        with torch.inference_mode():
            logits, weights = stock(ids, torch.ones_like(ids), attention=True)
        np.testing.assert_allclose(grid[i], logits.view(15, 5).softmax(-1), atol=1.5e-4)
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
    assert checked > 100


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
    assert (share, findings > 100) == (1.0, True)
    fewer, _ = recheck_agreement(runtime, TEXTS, "space", 1, "attention")
    assert 0 < fewer < 1, "random attention does not know the exact word"


def test_recheck_masks_only_what_attention_names(bundle: str) -> None:
    runtime = BundleRuntime(bundle, "cpu")
    text = "옷은 예쁘지만 배송은 늦어요 그래도 또 사요"
    before = runtime.probabilities(runtime.tokenize([text])[0].sequences)
    runtime.work.clear()
    Occlusion(runtime, mode="recheck", shortlisted=2)([text], before, np.zeros(1, np.int64), np.zeros(1, np.int64))
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
