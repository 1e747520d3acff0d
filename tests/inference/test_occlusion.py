"""Highlights against masking words one by one with transformers; recheck against exact."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ray_app.arrays import Floats, Ints
from ray_app.data.schema import HIGHLIGHT
from ray_app.data.taxonomy import load
from ray_app.data.text import Span, words
from ray_app.engine.encoder import STARTER, load_model
from ray_app.engine.linear import has_int8, has_onednn
from ray_app.errors import UserError
from ray_app.inference.bundle import Bundle, BundleMeta
from ray_app.inference.occlusion import Occlusion, recheck_agreement
from ray_app.inference.runtime import BundleRuntime
from ray_app.sample import written_reviews
from tests.support import bundles
from tests.support.paths import ROOT

KIND = "electra"  # of the fakes, the one whose int8 differs most from its fp32
TEXTS = [*bundles.sample_texts(25), *bundles.ODD_TEXTS]
SHARED = ROOT.parent / "shared"
E5, NSMC = SHARED / "models" / "e5-small-ko", SHARED / "data" / "nsmc"
needs_int8 = pytest.mark.skipif(not has_int8(), reason="this torch has no int8 product")
MODES = ["exact", pytest.param("recheck", marks=needs_int8)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("occlusion") / "bundle"
    bundles.make_bundle(folder, KIND, max_length=128)
    return str(folder)


@pytest.fixture
def runtime(bundle: str) -> BundleRuntime:
    return BundleRuntime(bundle, "cpu")


def pairs(runtime: BundleRuntime, texts: list[str], share: float = 0.4) -> tuple[Floats, Ints, Ints]:
    """Probabilities of the whole texts; some pairs of reviews and keywords, every fifth review without one."""
    before = runtime.probabilities(runtime.tokenize(texts)[0].sequences)
    chosen = np.random.default_rng(0).random(before.shape) < share
    chosen[::5] = False
    review, keyword = np.nonzero(chosen)
    return before, review, keyword


def distinct(text: str) -> list[Span]:
    """The first place of each distinct word, in the order of the text."""
    first: dict[str, Span] = {}
    for start, end in words([text])[0]:
        first.setdefault(text[start:end], (start, end))
    return list(first.values())


def masked(text: str, word: str, mask: str) -> str:
    """`word` replaced in all its places."""
    for start, end in reversed(words([text])[0]):
        text = text[:start] + mask + text[end:] if text[start:end] == word else text
    return text


@torch.inference_mode()
def by_hand(bundle: str, texts: list[str]) -> list[Floats]:
    """[words, keywords] drops of each text by transformers' forward, a masked text at a time."""
    model, hf = load_model(Path(bundle) / "keywords", "first").eval(), bundles.hf_tokenizer(KIND)

    def run(text: str) -> Any:
        ids = torch.tensor([hf(text)["input_ids"]])
        return model(ids, torch.ones_like(ids))[0].sigmoid().numpy()

    return [np.stack([run(text) - run(masked(text, text[s:e], "[MASK]")) for s, e in distinct(text)]) for text in texts]


def test_exact_highlights_equal_masking_words_one_by_one_by_hand(bundle: str, runtime: BundleRuntime) -> None:
    """Where two words drop a keyword alike within two roundings, either may be named."""
    before, review, keyword = pairs(runtime, TEXTS)
    drops = by_hand(bundle, TEXTS)
    highlights = Occlusion(runtime)(TEXTS, before, review, keyword).to_pylist()
    assert len(highlights) == len(review) > 100
    for highlight, i, k in zip(highlights, review, keyword, strict=True):
        span = (highlight["start"], highlight["end"])
        drop = drops[i][distinct(TEXTS[i]).index(span), k]
        assert highlight["word"] == TEXTS[i][slice(*span)]
        assert highlight["drop"] == pytest.approx(drop, abs=1.5e-4)
        assert drop >= drops[i][:, k].max() - 2e-4


@needs_int8
def test_recheck_with_room_for_every_word_equals_exact(runtime: BundleRuntime) -> None:
    before, review, keyword = pairs(runtime, TEXTS)
    most = max(len(distinct(text)) for text in TEXTS)
    exact = Occlusion(runtime)(TEXTS, before, review, keyword)
    assert Occlusion(runtime, mode="recheck", shortlisted=most)(TEXTS, before, review, keyword).equals(exact)
    assert exact.type == HIGHLIGHT
    assert exact.null_count == 0


@needs_int8
@pytest.mark.parametrize("shortlisted", [1, 2])
def test_a_rechecked_word_is_the_best_that_int8_named_for_its_review_with_its_exact_drop(
    runtime: BundleRuntime, shortlisted: int
) -> None:
    texts = bundles.sample_texts(120)
    before, review, keyword = pairs(runtime, texts, share=0.2)
    occlusion = Occlusion(runtime, mode="recheck", shortlisted=shortlisted)
    _, variants = occlusion.mask(texts)
    drops, rough = occlusion.drops(variants, before), runtime.probabilities(variants.sequences, runtime.keywords_int8)
    missed = 0
    for highlight, i, k in zip(occlusion(texts, before, review, keyword).to_pylist(), review, keyword, strict=True):
        drop, low = drops[variants.review == i], rough[variants.review == i]
        ranked = np.argsort(low[:, keyword[review == i]], axis=0, kind="stable")
        named = sorted(set(ranked[:shortlisted].ravel().tolist()))
        at = distinct(texts[i]).index((highlight["start"], highlight["end"]))
        assert at in named
        assert highlight["drop"] == drop[at, k] == drop[named, k].max()
        missed += drop[at, k] < drop[:, k].max()
    assert missed < 0.1 * len(review)
    assert missed or shortlisted > 1  # these weights do tell int8 from fp32


@pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("mode", MODES)
def test_highlights_do_not_depend_on_token_budgets(runtime: BundleRuntime, mode: str) -> None:
    """To the last bit. One keyword a review and one word named: what int8 says first comes out. Budget 1: each sequence
    alone.
    """
    texts = bundles.sample_texts(80)
    before = runtime.probabilities(runtime.tokenize(texts)[0].sequences)
    review = np.arange(len(texts))
    occlusion = Occlusion(runtime, mode=mode, shortlisted=1)
    found = []
    for budget in (1, 256, 1_024, 8_192):
        for classifier in (runtime.keywords, *([runtime.keywords_int8] if mode == "recheck" else [])):
            classifier.device = replace(classifier.device, token_budget=budget)
        found.append(occlusion(texts, before, review, review % before.shape[1]))
    assert all(highlights.equals(found[0]) for highlights in found[1:])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("texts", [[" ", "굿", "", "\u200b", "굿 \u200b"], [" ", ""], []])
def test_a_review_that_shows_no_word_has_no_highlight(runtime: BundleRuntime, mode: str, texts: list[str]) -> None:
    """No word at all, or only one that the tokenizer drops (WordPiece and a zero-width space)."""
    before = runtime.probabilities(runtime.tokenize(texts)[0].sequences)
    review, keyword = np.nonzero(before >= 0)
    highlights = Occlusion(runtime, mode=mode)(texts, before, review, keyword)
    assert highlights.type == HIGHLIGHT
    shown = [None if highlight is None else highlight["word"] for highlight in highlights.to_pylist()]
    assert shown == ["굿" if "굿" in texts[i] else None for i in review]


@needs_int8
def test_agreement_is_the_share_of_found_keywords_that_get_the_same_word(runtime: BundleRuntime) -> None:
    texts = bundles.sample_texts(100)
    before = runtime.probabilities(runtime.tokenize(texts)[0].sequences)
    review, keyword = np.nonzero(before >= 0.5)
    assert recheck_agreement(runtime, texts, "space", 100) == (1.0, len(review))
    exact, recheck = (
        Occlusion(runtime, mode=mode, shortlisted=1)(texts, before, review, keyword).to_pylist()
        for mode in ("exact", "recheck")
    )
    same = sum(one["word"] == other["word"] for one, other in zip(exact, recheck, strict=True))
    assert recheck_agreement(runtime, texts, "space", 1) == (same / len(review), len(review))
    assert 0.9 * len(review) < same < len(review)


@needs_int8
def test_agreement_over_nothing_is_complete(runtime: BundleRuntime) -> None:
    assert recheck_agreement(runtime, [], "space") == (1.0, 0)
    none = BundleRuntime(replace(runtime.bundle, meta=replace(runtime.meta, thresholds=(1.1,) * 15)), "cpu")
    assert recheck_agreement(none, TEXTS, "space") == (1.0, 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_bundle_without_a_mask_token_is_refused_in_one_line(tmp_path: Path, mode: str) -> None:
    bundles.make_bundle(tmp_path, mask_token=False)
    with pytest.raises(UserError, match="no mask token; write --highlights off") as raised:
        Occlusion(BundleRuntime(str(tmp_path), "cpu"), mode=mode)
    assert "\n" not in str(raised.value)


def test_identical_texts_and_identical_variants_run_once(runtime: BundleRuntime) -> None:
    """`좋아요` masked leaves two variants, `핏이` or `색상이` masked leave the same one."""
    texts = ["핏이 좋아요", "색상이 좋아요", "핏이 좋아요"]
    before = runtime.probabilities(runtime.tokenize(texts)[0].sequences)
    assert (runtime.work["sequences"], runtime.work["sequences_run"]) == (3, 2)
    runtime.work.clear()
    one, _, other = Occlusion(runtime)(texts, before, np.arange(3), np.zeros(3, np.int64)).to_pylist()
    assert (runtime.work["sequences"], runtime.work["sequences_run"]) == (6, 3)
    assert one == other


@pytest.mark.parametrize("mode", MODES)
def test_reviews_without_a_found_keyword_are_never_masked(runtime: BundleRuntime, mode: str) -> None:
    """Recheck runs each variant once in int8 and here, for one keyword a review, one of each review exactly."""
    before = runtime.probabilities(runtime.tokenize(TEXTS)[0].sequences)
    review = np.array([3, 3, 11])
    variants = len(distinct(TEXTS[3])) + len(distinct(TEXTS[11]))
    runtime.work.clear()
    highlights = Occlusion(runtime, mode=mode, shortlisted=1)(TEXTS, before, review, np.array([4, 4, 0])).to_pylist()
    assert all(h["word"] == TEXTS[i][h["start"] : h["end"]] for h, i in zip(highlights, review, strict=True))
    assert (runtime.work["masked"], runtime.work["words"]) == (2, variants)
    assert runtime.work["sequences"] == variants + (2 if mode == "recheck" else 0)


@pytest.mark.parametrize("mode", MODES)
def test_no_found_keyword_at_all_runs_nothing(runtime: BundleRuntime, mode: str) -> None:
    before = runtime.probabilities(runtime.tokenize(TEXTS)[0].sequences)
    runtime.work.clear()
    nothing = np.zeros(0, np.int64)
    highlights = Occlusion(runtime, mode=mode)(TEXTS, before, nothing, nothing)
    assert (highlights.type, len(highlights)) == (HIGHLIGHT, 0)
    assert runtime.work == {}


def sample_reviews() -> list[str]:
    return [row["text"] for row in written_reviews()]


def movie_reviews() -> list[str]:
    """A few hundred from all over one file, blank ones left out."""
    texts = pq.read_table(NSMC / "part-000.parquet", columns=["text"])["text"].to_pylist()[::30]
    return [text for text in texts if text and text.strip()]


needs_shared = pytest.mark.skipif(not (E5.exists() and NSMC.exists()), reason="no e5-small-ko or NSMC here")


@pytest.mark.parametrize(
    ("tokenizer", "reviews"),
    [
        pytest.param(STARTER, sample_reviews, id="starter-sample"),
        pytest.param(E5, movie_reviews, id="e5-nsmc", marks=needs_shared),
        pytest.param(STARTER, movie_reviews, id="starter-nsmc", marks=needs_shared),
    ],
)
def test_masking_ids_of_real_reviews_equals_tokenizing_the_text_with_the_mask_token_in_the_words_place(
    tokenizer: Path, reviews: Callable[[], list[str]], tmp_path: Path
) -> None:
    """One exception, exactly so: where a mask does not begin the text, the tokenized text has a lone `▁` before it.

    Metaspace makes the space before a word a `▁` of that word, but text is cut at added tokens before that, and the
    space before a mask stays alone; masking ids takes the word with its `▁`. Nothing else differs: none of these
    reviews ends in a space, whose `▁` masking ids would take with the last word.
    """
    (tmp_path / "tokenizer").symlink_to(tokenizer)
    runtime, texts = (
        BundleRuntime(
            Bundle(tmp_path, "", BundleMeta(taxonomy=load(), thresholds=(0.5,) * 15, max_length=10_000)), "cpu"
        ),
        reviews(),
    )
    hf = runtime.tokenizer.hf
    space, mask_id = hf.convert_tokens_to_ids("▁"), hf.mask_token_id
    firsts, variants = Occlusion(runtime).mask(texts)
    assert firsts == [distinct(text) for text in texts]
    assert len(variants.sequences) == sum(map(len, firsts)) > 3_500
    spans = [(texts[i], *firsts[i][c]) for i, c in zip(variants.review, variants.candidate, strict=True)]
    written_out = [masked(text, text[start:end], hf.mask_token) for text, start, end in spans]
    hf.backend_tokenizer.encode_special_tokens = False  # here a mask is one
    for at, encoding in enumerate(hf.backend_tokenizer.encode_batch(written_out, add_special_tokens=False)):
        by_ids: list[int] = []
        for token in variants.sequences.row(at).tolist():
            by_ids += [space, token] if token == mask_id and by_ids else [token]
        assert by_ids == encoding.ids, written_out[at]


def test_an_opinion_is_the_word_whose_masking_lowers_its_feeling_most(runtime: BundleRuntime) -> None:
    """Against masking one word after the other and reading each variant with the score classifier."""
    before, review, keyword = pairs(runtime, TEXTS)
    reviews = runtime.tokenizer(TEXTS).sequences
    scores = runtime.score_probabilities(reviews, review, keyword)
    occlusion = Occlusion(runtime)
    _, opinions = occlusion.words_of(TEXTS, before, review, keyword, scores)
    firsts, variants = occlusion.mask(TEXTS)
    for i, (row, name, opinion) in enumerate(zip(review, keyword, opinions.to_pylist(), strict=True)):
        own = np.flatnonzero(variants.review == row)
        if not len(own):
            assert opinion is None
            continue
        signs = np.sign(runtime.meta.taxonomy.scores)
        same = signs == signs[scores[i].argmax()]
        masked = runtime.score_probabilities(variants.sequences, own, np.full(len(own), name))[:, same].sum(1)
        drop = np.round(scores[i, same].sum() - masked, 4)
        start, end = firsts[row][variants.candidate[own[int(drop.argmax())]]]
        assert (opinion["start"], opinion["end"], opinion["word"]) == (start, end, TEXTS[row][start:end])
        assert opinion["drop"] == pytest.approx(float(drop.max()), abs=1e-6)


def test_without_scores_there_are_no_opinions(runtime: BundleRuntime) -> None:
    before, review, keyword = pairs(runtime, TEXTS)
    highlights, opinions = Occlusion(runtime).words_of(TEXTS, before, review, keyword)
    assert opinions.null_count == len(review)
    assert highlights.equals(Occlusion(runtime)(TEXTS, before, review, keyword))
