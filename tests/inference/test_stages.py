"""Analyses: one by one, in any batch and by transformers from text, they agree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_app.data import schema
from ray_app.data.schema import ANALYSIS, FINDING
from ray_app.data.taxonomy import load
from ray_app.data.text import kiwi_words
from ray_app.engine.encoder import load_keyword_scorer, load_model
from ray_app.engine.tokenizer import TokenizedReviews, Tokenizer
from ray_app.errors import UserError
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.bundle import SCORE_PROMPT
from ray_app.inference.graph_columns import found_keywords, without_tokens
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import HighlightStage, assemble_findings, build_stages
from tests.support import bundles

TEXTS = [*bundles.sample_texts(25), *bundles.ODD_TEXTS]
Analyses = Sequence[Mapping[str, Any]]
Made = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Bundles by what makes them differ, each written once."""
    known: dict[str, str] = {}

    def make(**options: Any) -> str:
        key = str(sorted(options.items()))
        if key not in known:
            folder = tmp_path_factory.mktemp("bundle")
            bundles.make_bundle(folder, **options)
            known[key] = str(folder)
        return known[key]

    return make


def assert_same(found: Analyses, expected: Analyses) -> None:
    """Same keywords, scores and words; probabilities within 1e-4."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["truncated"] == other["truncated"]
        np.testing.assert_allclose(one["keyword_probabilities"], other["keyword_probabilities"], atol=1.5e-4)
        assert [words_of(f) for f in one["findings"]] == [words_of(f) for f in other["findings"]]
        for a, b in zip(one["findings"], other["findings"], strict=True):
            np.testing.assert_allclose(numbers_of(a), numbers_of(b), atol=2.5e-4)


def words_of(finding: Mapping[str, Any]) -> list[Any]:
    highlight = finding["highlight"] or {}
    return [finding["keyword"], finding["score"], *(highlight.get(name) for name in ("word", "start", "end"))]


def numbers_of(finding: Mapping[str, Any]) -> list[float]:
    return [finding["probability"], *finding["score_probabilities"], (finding["highlight"] or {"drop": 0})["drop"]]


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "first"), ("roberta", "mean"), ("electra", "first")])
def test_a_list_equals_one_by_one(made: Made, kind: str, pooling: str) -> None:
    analyze = Analyzer(made(kind=kind, pooling=pooling))
    together = analyze(TEXTS)
    assert len({finding["keyword"] for row in together for finding in row["findings"]}) > 3
    assert_same(together, [analyze([text])[0] for text in TEXTS])


def test_reviews_without_a_finding_between_others_change_nothing(made: Made) -> None:
    probabilities = [row["keyword_probabilities"] for row in Analyzer(made(kind="bert"), highlights="off")(TEXTS)]
    analyze = Analyzer(made(kind="bert", threshold=float(np.median(np.max(probabilities, 1)))))
    together = analyze(TEXTS)
    assert 5 < sum(not row["findings"] for row in together) < len(TEXTS) - 5
    assert_same(together, [analyze([text])[0] for text in TEXTS])


@pytest.mark.parametrize("budget", [256, 1_024, 8_192])
def test_analyses_do_not_depend_on_token_budget_and_order(made: Made, budget: int) -> None:
    bundle = made(kind="bert")
    order = np.random.default_rng(budget).permutation(len(TEXTS))
    runtime = BundleRuntime(bundle)
    runtime.device = replace(runtime.device, token_budget=budget)
    table = pa.table({"text": [TEXTS[i] for i in order]})
    for _, make in build_stages("exact", "space"):
        table = make(runtime)(table)
    found = assemble_findings(table, runtime.bundle).to_pylist()
    expected = Analyzer(bundle)(TEXTS)
    assert_same(found, [expected[i] for i in order])


@torch.inference_mode()
def by_hand(bundle: str, model: str, prompt: str) -> torch.Tensor:
    """Logits by transformers, from text."""
    classifier = load_model(Path(bundle) / model, "first").eval()
    ids = torch.tensor([bundles.hf_tokenizer("bert")(prompt)["input_ids"]])
    logits: torch.Tensor = classifier(ids, torch.ones_like(ids))[0]
    return logits


@pytest.mark.parametrize(
    "text", ["옷은 예쁘지만 배송은 늦어요", "색상이 별로예요", "핏도 소재도 가격도 만족!", "배송 빨라요"]
)
def test_findings_equal_running_the_models_on_texts_by_hand(made: Made, text: str) -> None:
    bundle, taxonomy = made(kind="bert", max_length=128), load()
    words = text.split()
    before = by_hand(bundle, "keywords", text).sigmoid()
    after = [by_hand(bundle, "keywords", text.replace(word, "[MASK]")).sigmoid() for word in words]
    analysis: Mapping[str, Any] = Analyzer(bundle)([text])[0]
    np.testing.assert_allclose(analysis["keyword_probabilities"], before, atol=1e-4)
    expected = [name for k, name in enumerate(taxonomy.names) if before[k] >= 0.5]
    assert [finding["keyword"] for finding in analysis["findings"]] == expected
    for finding in analysis["findings"]:
        k = taxonomy.index[finding["keyword"]]
        score = by_hand(bundle, "scores", SCORE_PROMPT.format(review=text, keyword=finding["keyword"])).softmax(0)
        np.testing.assert_allclose(finding["score_probabilities"], score, atol=1e-4)
        assert finding["score"] == taxonomy.scores[int(score.argmax())]
        drops = [float(before[k] - masked[k]) for masked in after]
        assert finding["highlight"]["word"] == words[int(np.argmax(drops))]
        assert finding["highlight"]["drop"] == pytest.approx(max(drops), abs=2e-4)


def test_columns_and_types_are_those_of_the_schema(made: Made) -> None:
    reviews = pa.table({"review_id": ["1", "2"], "text": TEXTS[:2], "mall": ["a", "b"]})
    table = Analyzer(made(kind="bert")).table(reviews)
    assert table.column_names == ["review_id", "mall", *(name for name, _ in ANALYSIS)]
    for name, kind in ANALYSIS:
        assert table.schema.field(name).type == kind
        assert table[name].null_count == 0
    table.validate(full=True)
    finding = table["findings"].to_pylist()[0][0]
    assert list(finding) == [field.name for field in FINDING]


def test_embeddings_are_kept_where_they_are_asked_for_and_change_nothing_else(made: Made) -> None:
    runtime = BundleRuntime(made(kind="bert"))
    table = pa.table({"review_id": list("abcde"), "text": TEXTS[:5]})
    whole = []
    for embeddings in (False, True):
        rows = table
        for _, make in build_stages("off", "space", embeddings=embeddings):
            rows = make(runtime)(rows)
        whole.append(assemble_findings(rows, runtime.bundle))
    assert whole[1].schema.field("embedding").type == pa.list_(pa.float16(), 32)
    assert len({tuple(vector) for vector in whole[1]["embedding"].to_pylist()}) == 5
    assert_same(whole[1].drop_columns(["embedding"]).to_pylist(), whole[0].to_pylist())


def test_a_table_in_several_chunks_equals_a_table_in_one(made: Made) -> None:
    analyze = Analyzer(made(kind="bert"))
    pieces = pa.chunked_array([TEXTS[:3], TEXTS[3:4], TEXTS[4:9]], pa.string())
    assert_same(analyze.table(pa.table({"text": pieces})).to_pylist(), analyze(TEXTS[:9]))


@pytest.mark.parametrize("highlights", ["exact", "off"])
def test_an_empty_list_gives_an_empty_list(made: Made, highlights: str) -> None:
    analyze = Analyzer(made(kind="bert"), highlights=highlights)
    assert analyze([]) == []
    empty = analyze.table(pa.table({"text": pa.array([], pa.string())}))
    assert [empty.schema.field(name).type for name, _ in ANALYSIS] == [kind for _, kind in ANALYSIS]


def test_a_text_with_no_found_keyword_has_no_findings(made: Made) -> None:
    rows = Analyzer(made(kind="bert", threshold=1.1))(TEXTS[:3])
    assert [row["findings"] for row in rows] == [[], [], []]
    assert all(len(row["keyword_probabilities"]) == 15 for row in rows)


def test_a_keyword_at_its_threshold_is_found(made: Made) -> None:
    rows = Analyzer(made(kind="bert", spread=0.0, threshold=0.5))(TEXTS[:2])
    for row in rows:
        found = {finding["keyword"] for finding in row["findings"]}
        assert found == {name for name, p in zip(load().names, row["keyword_probabilities"], strict=True) if p >= 0.5}
        assert all(finding["probability"] >= 0.5 for finding in row["findings"])


def test_a_long_text_is_marked_truncated_and_highlights_what_was_read(made: Made) -> None:
    text = " ".join(f"단어{i}" for i in range(40))
    analyze = Analyzer(made(kind="bert", max_length=30, threshold=0.0))
    rows: Analyses = analyze(["옷은 예뻐요", text])
    short, long = rows
    assert not short["truncated"]
    assert long["truncated"]
    read = len(bundles.hf_tokenizer("bert").decode(bundles.hf_tokenizer("bert")(text)["input_ids"][1:29]))
    assert all(finding["highlight"]["start"] < read for finding in long["findings"])
    assert len(long["findings"]) == 15


def test_a_text_without_spaces_is_its_own_highlight_and_kiwi_finds_words_in_it(made: Made) -> None:
    text = "배송빠르고옷도이쁘네요"
    whole: Analyses = Analyzer(made(kind="bert", threshold=0.0))([text])[0]["findings"]
    assert {(f["highlight"]["word"], f["highlight"]["start"], f["highlight"]["end"]) for f in whole} == {(text, 0, 11)}
    findings: Analyses = Analyzer(made(kind="bert", threshold=0.0), words="kiwi")([text])[0]["findings"]
    spans = {(f["highlight"]["start"], f["highlight"]["end"]) for f in findings}
    assert spans <= set(kiwi_words([text])[0])
    assert all(end - start < len(text) for start, end in spans)
    assert all(f["highlight"]["word"] == text[f["highlight"]["start"] : f["highlight"]["end"]] for f in findings)


@pytest.mark.parametrize("text", ["옷은 예쁘지만 배송은 늦어요", "  배송은 늦어요"])
def test_ties_go_to_the_first_word(made: Made, text: str) -> None:
    for finding in Analyzer(made(kind="bert", spread=0.0, threshold=0.0))([text])[0]["findings"]:
        assert finding["highlight"]
        assert finding["highlight"]["word"] == text.split()[0]
        assert finding["highlight"]["drop"] == 0


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_offsets_point_at_the_word_in_the_original_text(made: Made, kind: str) -> None:
    texts = [*bundles.ODD_TEXTS, "😀 굿 😀", "\t핏이\n예뻐요", "가\u00a0나", "ﬁt 이 ①등 좋아요", "  앞뒤   빈칸 👍🏽  "]
    starts = set()
    for text, row in zip(texts, Analyzer(made(kind=kind, threshold=0.0))(texts), strict=True):
        for finding in row["findings"]:
            highlight = finding["highlight"]
            assert highlight
            assert highlight["word"] == text[highlight["start"] : highlight["end"]]
            assert highlight["word"] in text.split()
            starts.add((text, highlight["start"]))
    assert len(starts) > len(texts)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_text_with_nothing_to_mask_has_findings_without_highlight(made: Made, kind: str) -> None:
    rows = Analyzer(made(kind=kind, threshold=0.0)).table(pa.table({"text": [" ", "굿", ""]})).to_pylist()
    assert [{f["highlight"] is None for f in row["findings"]} for row in rows] == [{True}, {False}, {True}]


def test_highlights_can_be_off(made: Made) -> None:
    bundle = made(kind="bert")
    on, off = Analyzer(bundle)(TEXTS), Analyzer(bundle, highlights="off")(TEXTS)
    for row in on:
        for finding in row["findings"]:
            assert finding["highlight"]
            assert finding["opinion"]
            finding["highlight"] = finding["opinion"] = None
    assert on == off


@pytest.mark.parametrize("form", ["prompt", "attention", "joint"])
def test_scores_and_opinions_do_not_depend_on_the_other_reviews(made: Made, form: str) -> None:
    analyze = Analyzer(made(kind="bert", score_form=form))
    together = analyze(TEXTS)
    alone = [analyze([text])[0] for text in TEXTS]
    assert_same(together, alone)
    words, others = (
        [[f["opinion"]["word"] if f["opinion"] else None for f in row["findings"]] for row in rows]
        for rows in (together, alone)
    )
    assert words == others
    assert any(word for row in words for word in row)


def test_a_keyword_that_attends_scores_what_the_stock_forward_scores(made: Made) -> None:
    folder = made(kind="bert", score_form="attention")
    model, hf = load_keyword_scorer(Path(folder) / "scores").eval(), bundles.hf_tokenizer("bert")
    analyze = Analyzer(folder)
    for text, row in zip(TEXTS[:8], analyze(TEXTS[:8]), strict=True):
        ids = torch.tensor([hf(text, truncation=True, max_length=64)["input_ids"]])
        with torch.inference_mode():
            grid = model(ids, torch.ones_like(ids)).view(15, 5).softmax(-1).numpy()
        for finding in row["findings"]:
            expected = grid[analyze.runtime.meta.taxonomy.index[finding["keyword"]]]
            np.testing.assert_allclose(finding["score_probabilities"], expected, atol=1.5e-4)


def test_opinions_can_be_off_alone(made: Made) -> None:
    bundle = made(kind="bert")
    on, off = Analyzer(bundle)(TEXTS), Analyzer(bundle, opinions=False)(TEXTS)
    for row in on:
        for finding in row["findings"]:
            finding["opinion"] = None
    assert on == off


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UserError, match="write auto, exact, recheck, attention, off"):
        build_stages("some", "space")


@pytest.mark.parametrize("between", [" ", "\n"])
def test_a_block_too_large_for_memory_at_once_gives_the_same_highlights(made: Made, between: str) -> None:
    texts = [between.join([f"{word}{i}" for i in range(8)]) for word in ("핏이", "색상은", "배송이", "소재가")]
    analyze = Analyzer(made(kind="bert", max_length=64, threshold=0.0))
    whole = analyze([*texts, "굿"])
    occlusion = Occlusion(analyze.runtime, variant_tokens=400)
    chunks = list(occlusion.chunks(texts))
    assert len(chunks) > 1
    assert all(len(variants.sequences.ids) <= 400 for _, _, variants in chunks)
    highlights = next(stage for stage in analyze.stages if isinstance(stage, HighlightStage))
    highlights.occlusion = occlusion
    assert_same(analyze([*texts, "굿"]), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_outputs": 4}, "scores has 4 outputs where its taxonomy has 5"),
        ({"mask_token": False}, "no mask token; write --highlights off"),
    ],
)
def test_a_bundle_that_cannot_do_the_work_is_refused_in_one_line(made: Made, options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        Analyzer(made(**options))
    assert "\n" not in str(raised.value)


def test_a_taxonomy_of_another_size_is_followed(made: Made) -> None:
    small = replace(load(), keywords=load().keywords[:3], scores=(0, 1), overall=None, rules=())
    row = Analyzer(made(taxonomy=small, threshold=0.0))(["옷은 예뻐요"])[0]
    assert [finding["keyword"] for finding in row["findings"]] == list(small.names)
    assert all(len(f["score_probabilities"]) == 2 and f["score"] in (0, 1) for f in row["findings"])


def test_keywords_of_one_review_have_scores_of_their_own(made: Made) -> None:
    rows = Analyzer(made(kind="bert", threshold=0.0))(TEXTS[:3])
    for row in rows:
        found = [tuple(finding["score_probabilities"]) for finding in row["findings"]]
        assert sum(a != b for a, b in pairwise(found)) == len(found) - 1


OPTIONS: list[tuple[float | None, int | None, bool | None]] = [
    (None, None, None),
    (0.0, None, True),
    (None, 1, False),
    (0.3, 4, None),
    (1.0, None, None),
    (0.0, 15, False),
    (None, 3, True),
    (0.9, 99, None),
]


def table_with(texts: Sequence[str], options: Sequence[tuple[Any, ...]]) -> pa.Table:
    table = pa.table({"text": pa.array(texts, pa.string())})
    for at, (name, kind) in enumerate(schema.ROW_OPTIONS):
        table = table.append_column(name, pa.array([own[at] for own in options], kind))
    return table


def by_options(
    every: Mapping[str, Any], threshold: float | None, top_k: int | None, shown: bool | None
) -> dict[str, Any]:
    """An analysis with every keyword -> what a row with these options gets of it."""
    findings = [f for f in every["findings"] if f["probability"] >= np.float32(0.5 if threshold is None else threshold)]
    best = sorted(findings, key=lambda finding: -finding["probability"])[:top_k]
    kept = [{**f, "highlight": f["highlight"] if shown in (None, True) else None} for f in findings if f in best]
    return {**every, "findings": kept}


def test_rows_get_what_their_options_say_whatever_is_beside_them(made: Made) -> None:
    analyze = Analyzer(made(kind="bert"))
    texts = [text for text in TEXTS for _ in OPTIONS]
    options = OPTIONS * len(TEXTS)
    every = [row for row in Analyzer(made(kind="bert", threshold=0.0))(TEXTS) for _ in OPTIONS]
    together = analyze.table(table_with(texts, options))
    assert together.column_names == [name for name, _ in ANALYSIS]
    assert_same(together.to_pylist(), [by_options(row, *own) for row, own in zip(every, options, strict=True)])
    some = range(0, len(texts), 7)
    alone = [analyze.table(table_with([texts[i]], [options[i]])).to_pylist()[0] for i in some]
    assert_same(alone, [together.to_pylist()[i] for i in some])


def test_null_options_are_no_options(made: Made) -> None:
    analyze = Analyzer(made(kind="bert"))
    assert analyze.table(table_with(TEXTS, [(None, None, None)] * len(TEXTS))).to_pylist() == analyze(TEXTS)
    assert len(analyze.table(table_with([], []))) == 0


def test_options_in_several_chunks_equal_options_in_one(made: Made) -> None:
    analyze = Analyzer(made(kind="bert"))
    whole = table_with(TEXTS[:8], OPTIONS)
    pieces = pa.concat_tables([whole[:3], whole[3:4], whole[4:]])
    assert pieces["_top_k"].num_chunks == 3
    assert_same(analyze.table(pieces).to_pylist(), analyze.table(whole).to_pylist())


def probable(*probabilities: float, **options: Any) -> pa.Table:
    column = pa.array([probabilities], pa.list_(pa.float32()))
    kinds = dict(schema.ROW_OPTIONS)
    return pa.table(
        {"keyword_probabilities": column, **{name: pa.array([value], kinds[name]) for name, value in options.items()}}
    )


def test_a_threshold_is_met_by_the_probability_as_it_is_written() -> None:
    for step in range(0, 10_001, 7):
        value = step / 10_000
        assert len(found_keywords(probable(float(np.round(np.float32(value), 4)), _threshold=value), [0.5])[1]) == 1, (
            value
        )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"_top_k": 1}, [1]),
        ({"_top_k": 2}, [1, 2]),  # of two equals the first in the taxonomy
        ({"_top_k": 3}, [1, 2, 3]),
        ({"_top_k": 2, "_threshold": 0.85}, [1]),
        ({"_top_k": None, "_threshold": 0.4}, [0, 1, 2, 3]),
    ],
)
def test_the_most_probable_keywords_come_in_the_order_of_the_taxonomy(options: Any, expected: list[int]) -> None:
    assert found_keywords(probable(0.4, 0.9, 0.8, 0.8, 0.1, **options), [0.5] * 5)[1].tolist() == expected
    assert found_keywords(probable(*[0.5, 0.6] * 20, _top_k=3), [0.5] * 40)[1].tolist() == [1, 3, 5]


def test_top_k_counts_found_keywords_only() -> None:
    assert found_keywords(probable(0.6, 0.5, 0.3, _top_k=1), [0.7, 0.4, 0.2])[1].tolist() == [1]
    assert found_keywords(probable(0.6, 0.5, 0.3, _top_k=2), [0.7, 0.4, 0.2])[1].tolist() == [1, 2]


def test_an_explanation_holds_the_drop_of_every_word_and_agrees_with_the_highlights(made: Made) -> None:
    analyze = Analyzer(made(kind="bert"))
    for text in TEXTS:
        explained, (row,) = analyze.explain(text), analyze([text])
        assert all(text[word["start"] : word["end"]] == word["word"] for word in explained["words"])
        assert list(explained["drops"]) == [finding["keyword"] for finding in row["findings"]]
        for finding in row["findings"]:
            drops = explained["drops"][finding["keyword"]]
            assert len(drops) == len(explained["words"])
            best, highlight = explained["words"][int(np.argmax(drops))], finding["highlight"]
            assert highlight
            assert best == {"word": highlight["word"], "start": highlight["start"], "end": highlight["end"]}
            assert highlight["drop"] == pytest.approx(max(drops), abs=2e-4)


@pytest.mark.parametrize("text", ["", "  ", "\u200b"])
def test_an_explanation_of_nothing_has_no_words(made: Made, text: str) -> None:
    explained = Analyzer(made(kind="bert", threshold=0.0)).explain(text)
    assert [word["word"] for word in explained["words"]] in ([], [text.strip()])
    assert all(len(drops) == len(explained["words"]) for drops in explained["drops"].values())


def test_an_explanation_names_a_repeated_word_once_and_follows_the_words_of_the_analysis(made: Made) -> None:
    bundle = made(kind="bert", threshold=0.0, max_length=128)
    words = Analyzer(bundle).explain("사이즈가 커요 사이즈가 커요 좋아요")["words"]
    assert [(word["word"], word["start"]) for word in words] == [("사이즈가", 0), ("커요", 5), ("좋아요", 16)]
    finer = Analyzer(bundle, words="kiwi").explain("배송빠르고옷도이쁘네요")["words"]
    assert len(finer) > 1


@pytest.mark.parametrize("mode", ["exact", "recheck", "off"])
def test_a_review_is_tokenized_once_and_its_tokens_are_not_handed_out(
    made: Made, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyze = Analyzer(made(), highlights=mode)
    before = analyze(TEXTS)
    calls: list[int] = []
    tokenize = Tokenizer.__call__

    def counted(self: Tokenizer, texts: Sequence[str]) -> TokenizedReviews:
        calls.append(len(texts))
        return tokenize(self, texts)

    monkeypatch.setattr(Tokenizer, "__call__", counted)
    assert analyze(TEXTS) == before
    assert calls == [len(TEXTS)]


def test_stages_apart_find_the_same_with_tokens_of_any_slice_and_without_them(made: Made) -> None:
    """In pools a table travels, whole or in parts; one whose text was put in later has no tokens."""
    runtime = BundleRuntime(made())
    [first, *rest] = [stage(runtime) for _, stage in build_stages("exact", "space")]
    whole = first(pa.table({"text": TEXTS}))
    parts = [
        whole.slice(3, 9),
        without_tokens(whole.slice(3, 9)),
        pa.concat_tables([whole.slice(3, 4), whole.slice(7, 5)]),
    ]
    found = []
    for table in parts:
        for stage in rest:
            table = stage(table)
        found.append(assemble_findings(table, runtime.bundle).to_pylist())
    assert found[0] == found[1] == found[2]
    assert sum(len(row["findings"]) for row in found[0]) > 5
