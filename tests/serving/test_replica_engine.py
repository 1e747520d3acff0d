"""One replica's engine behind a batcher and the HTTP side, against the graph in process."""

import asyncio
import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from ray_app.errors import UserError
from ray_app.inference import bundle
from ray_app.inference.analyzer import Analyzer
from ray_app.serving import http_app, protocol
from ray_app.serving.batcher import BatchResult
from ray_app.serving.http_app import Limits
from ray_app.serving.protocol import AnalyzeRequest
from ray_app.serving.replica_engine import BATCH_SECONDS, ReplicaEngine, ReplicaOptions, stage_groups
from tests.inference.test_stages import assert_same
from tests.support import bundles

TEXTS = [*bundles.sample_texts(100), *bundles.ODD_TEXTS]
POISON = "독이 든 후기"
ALL = stage_groups("exact", fused=True)[0]


class Local:
    """`http_app.Service` over one engine in this process."""

    def __init__(self, engine: ReplicaEngine, thread: Executor) -> None:
        self.engine, self.batcher = engine, engine.batcher(thread)

    async def analyze(self, table: pa.Table, deadline: float) -> BatchResult:
        return await self.batcher(table, deadline)

    async def explain(self, text: str, deadline: float) -> Mapping[str, object]:
        *_, explanation = self.engine.explaining(text, 40)
        assert explanation is not None
        return explanation

    async def info(self) -> dict[str, dict[str, object]]:
        return self.engine.info()


@contextmanager
def endpoint(engine: ReplicaEngine) -> Iterator[TestClient]:
    with ThreadPoolExecutor(1) as thread, TestClient(http_app.build_app(Local(engine, thread), Limits())) as client:
        yield client


def breaks(table: pa.Table) -> pa.Table:
    """A stage that fails where POISON is."""
    if any(POISON in text for text in table["text"].to_pylist()):
        raise RuntimeError(f"cannot read {POISON}")
    return table


@pytest.fixture(scope="module")
def engine(bundle_folder: str) -> ReplicaEngine:
    return ReplicaEngine(bundle_folder, ReplicaOptions(stages=ALL, last=True, batch_tokens=5_000))


@pytest.fixture(scope="module")
def client(engine: ReplicaEngine) -> Iterator[TestClient]:
    with endpoint(engine) as made:
        yield made


def analyses(client: TestClient, texts: Sequence[str], **options: Any) -> list[dict[str, Any]]:
    answer = client.post("/analyze", json={"reviews": list(texts), "options": options})
    assert answer.status_code == 200, answer.text
    assert answer.json()["rejected"] == []
    rows: list[dict[str, Any]] = answer.json()["analyses"]
    return rows


def table_of(texts: Sequence[str], **options: Any) -> pa.Table:
    return protocol.parse_request(AnalyzeRequest.model_validate({"reviews": list(texts), "options": options})).table


def test_the_endpoint_finds_what_the_graph_finds_in_process_whatever_shares_its_batches(
    client: TestClient, bundle_folder: str
) -> None:
    expected = Analyzer(bundle_folder)(TEXTS)
    parts = [range(i, len(TEXTS), 7) for i in range(7)]
    with ThreadPoolExecutor(7) as callers:
        found = list(callers.map(lambda part: analyses(client, [TEXTS[i] for i in part]), parts))
    for part, rows in zip(parts, found, strict=True):
        assert_same(rows, [expected[i] for i in part])
    assert sum(len(row["findings"]) for row in expected) > 200


def test_requests_with_options_of_their_own_share_batches(client: TestClient) -> None:
    texts = bundles.sample_texts(12)
    requests: list[dict[str, Any]] = [{}, {"top_k": 1}, {"threshold": 0.0}, {"highlights": False}, {"threshold": 1.0}]
    alone = [analyses(client, texts, **options) for options in requests]
    with ThreadPoolExecutor(5) as callers:
        together = list(callers.map(lambda options: analyses(client, texts, **options), requests))
    for rows, expected in zip(together, alone, strict=True):
        assert_same(rows, expected)
    plain, best, every, bare, none = ([row["findings"] for row in rows] for rows in alone)
    assert all(len(row) == 1 for row in best)
    assert all(len(row) == 15 for row in every)
    assert none == [[]] * 12
    assert {finding["highlight"] is None for row in bare for finding in row} == {True}
    assert {finding["highlight"] is None for row in plain for finding in row} == {False}
    assert [[finding["keyword"] for finding in row] for row in bare] == [[f["keyword"] for f in row] for row in plain]


def test_a_review_that_makes_a_stage_fail_is_rejected_alone(bundle_folder: str, engine: ReplicaEngine) -> None:
    broken = ReplicaEngine(bundle_folder, ReplicaOptions(stages=ALL, last=True))
    broken.stages.insert(2, breaks)
    texts = bundles.sample_texts(9)
    with endpoint(broken) as poisoned, endpoint(engine) as healthy, ThreadPoolExecutor(3) as callers:
        beside = [callers.submit(analyses, poisoned, texts) for _ in range(2)]
        answer = poisoned.post("/analyze", json={"reviews": [*texts[:4], {"text": POISON, "review_id": 7}, *texts[4:]]})
        expected = analyses(healthy, texts)
        for rows in (answer.json()["analyses"], *(one.result() for one in beside)):
            assert_same(rows, expected)
    assert answer.json()["rejected"] == [{"index": 4, "review_id": "7", "reason": "analysis failed"}]


@pytest.mark.parametrize("highlights", ["exact", "off"])
def test_stages_in_pools_of_their_own_equal_stages_in_one(bundle_folder: str, highlights: str) -> None:
    (fused,), pools = stage_groups(highlights, fused=True), stage_groups(highlights, fused=False)
    assert tuple(name for pool in pools for name in pool) == fused
    texts = table_of(TEXTS[:20], threshold=0.4)
    whole = ReplicaEngine(bundle_folder, ReplicaOptions(stages=fused, last=True, highlights=highlights))(texts)
    table = texts
    for pool in pools:
        options = ReplicaOptions(stages=pool, last=pool == pools[-1], highlights=highlights)
        table = ReplicaEngine(bundle_folder, options)(table)
    assert table.equals(whole)
    assert [len(pool) for pool in pools] == [1] * len(fused)


def test_rows_cost_the_tokens_that_are_read(engine: ReplicaEngine) -> None:
    texts = ["옷은 예뻐요", "굿", "가 나 다 라"]
    alone, masked = engine.cost(table_of(texts, highlights=False)), engine.cost(table_of(texts))
    lengths = [len(bundles.hf_tokenizer("bert")(text)["input_ids"]) for text in texts]
    assert alone.tolist() == lengths
    assert masked.tolist() == [length * (1 + len(text.split())) for length, text in zip(lengths, texts, strict=True)]
    only = ReplicaEngine(str(engine.runtime.bundle.path), ReplicaOptions(stages=("keywords",), last=False))
    assert only.cost(table_of(texts)).tolist() == lengths


def test_a_long_text_costs_what_is_read_of_it_and_not_its_length(engine: ReplicaEngine) -> None:
    long, longer = engine.cost(table_of(["가 " * 200, "가 " * 9_000])).tolist()
    assert long == longer <= 64 * 65


def test_a_batcher_takes_what_the_engine_runs_in_a_while_unless_told_how_much(
    bundle_folder: str, engine: ReplicaEngine
) -> None:
    with ThreadPoolExecutor(1) as thread:
        automatic = ReplicaEngine(bundle_folder, ReplicaOptions(stages=ALL, last=True)).batcher(thread).limits
        assert (automatic.batch_tokens, automatic.batch_seconds) == (engine.runtime.device.token_budget, BATCH_SECONDS)
        given = ReplicaEngine(
            bundle_folder, ReplicaOptions(stages=ALL, last=True, batch_tokens=9, queue_seconds=1.0, queue_rows=2)
        )
        limits = given.batcher(thread).limits
    assert (limits.batch_tokens, limits.batch_seconds, limits.queue_seconds, limits.queue_rows) == (9, 0.0, 1.0, 2)


def test_a_text_is_explained_as_it_is_analyzed(client: TestClient) -> None:
    text = "  옷은 예쁘지만 배송은 늦어요 옷은"
    explanation = client.post("/explain", json={"text": text}).json()
    assert [word["word"] for word in explanation["words"]] == ["옷은", "예쁘지만", "배송은", "늦어요"]
    (row,) = analyses(client, [text])
    assert list(explanation["drops"]) == [finding["keyword"] for finding in row["findings"]]
    for finding in row["findings"]:
        drops = explanation["drops"][finding["keyword"]]
        best = drops.index(max(drops))
        assert finding["highlight"] == {**explanation["words"][best], "drop": pytest.approx(drops[best], abs=2e-4)}


def test_version_and_taxonomy_are_the_bundle_s_even_where_its_folder_was_written_anew(
    bundle_folder: str, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    engine = ReplicaEngine(str(folder), ReplicaOptions(stages=ALL, last=True))
    before = engine.info()
    assert before["version"]["bundle"] == engine.id
    assert {"metrics", "files", "thresholds", "nunchi"} <= set(before["version"])
    taxonomy: dict[str, Any] = before["taxonomy"]
    assert [keyword["name"] for keyword in taxonomy["keywords"]] == list(engine.runtime.meta.taxonomy.names)
    assert str(tmp_path) not in str(before)
    shutil.rmtree(folder)
    assert engine.info() == before


def test_a_bundle_that_is_let_go_leaves_the_memory(bundle_folder: str) -> None:
    async def scenario() -> "weakref.ref[ReplicaEngine]":
        with ThreadPoolExecutor(1) as thread:
            engine = ReplicaEngine(bundle_folder, ReplicaOptions(stages=ALL, last=True))
            batcher = engine.batcher(thread)
            await batcher(table_of(["굿"]), 1e12)
            await asyncio.sleep(0)
            return weakref.ref(engine)

    assert asyncio.run(scenario())() is None


def test_an_explanation_in_steps_is_the_same(engine: ReplicaEngine, bundle_folder: str) -> None:
    text = bundles.ODD_TEXTS[0]
    *before, explanation = engine.explaining(text, 20)
    assert before == [None] * len(before)
    assert len(before) >= 2
    assert explanation == Analyzer(bundle_folder).explain(text)
    assert engine.explain_cost(text) == engine.cost(table_of([text])).tolist()[0]


def test_a_bundle_that_puts_out_no_numbers_is_not_ready(bundle_folder: str, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    head = load_file(folder / "keywords/head.safetensors")
    save_file({name: tensor * float("nan") for name, tensor in head.items()}, folder / "keywords/head.safetensors")
    bundle.seal(folder, bundle.load(bundle_folder).meta)
    broken = ReplicaEngine(str(folder), ReplicaOptions(stages=ALL, last=True))
    with pytest.raises(UserError, match="outputs are not numbers"):
        broken.probe()


def test_the_speed_is_known_before_the_first_request(engine: ReplicaEngine) -> None:
    engine.probe()
    tokens, seconds = engine.measure()
    assert tokens > 0
    assert 0 < seconds < 60
