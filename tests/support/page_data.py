"""Small real things for tests of the page: analyses as Parquet, an evaluation, an endpoint without Ray."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pyarrow as pa

from ray_app import storage
from ray_app.data.rows import FindingRow
from ray_app.data.schema import ANALYSIS
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.occlusion import Explanation
from ray_app.serving import http_app
from ray_app.serving.batcher import BatchResult
from ray_app.serving.http_app import Limits
from tests.serving.test_client import served
from tests.serving.test_http_app import STATS

EVIL = '<script>document.title="taken"</script><img src="http://example.com/x.png" onerror="document.title=\'taken\'">'
MARKDOWN = "a![](//e.co/x)z"  # short, so that it stands in a label in full
KEPT = {
    "text": pa.string(),
    "product": pa.string(),
    "mall": pa.string(),
    "category": pa.string(),
    "rating": pa.int8(),
    "created_at": pa.timestamp("us"),
}
MALLS = ("두루마당", "온결스토어", EVIL)
SAYINGS = (
    ("배송 빨라요!!", [("배송", 2, "빨라요!!"), ("만족도", 1, "빨라요!!")]),
    ("배송 늦어요", [("배송", -2, "늦어요"), ("만족도", -1, "배송")]),
    ("색이 예뻐요 그냥", [("색상", 1, "예뻐요"), ("만족도", 0, "그냥")]),
    (f"핏 좋아요 {EVIL}", [("핏", 1, EVIL.split()[0])]),
    (f"가격 {MARKDOWN} 싸요", [("가격", 2, MARKDOWN), ("만족도", 1, "싸요")]),
)


def finding(text: str, keyword: str, score: int, word: str, drop: float = 0.5) -> FindingRow:
    """A finding whose highlight is the first place of `word`."""
    start = text.index(word)
    probabilities = [0.1] * 5
    probabilities[score + 2] = 0.6
    return {
        "keyword": keyword,
        "probability": 0.9,
        "score": score,
        "score_probabilities": probabilities,
        "highlight": {"word": word, "start": start, "end": start + len(word), "drop": drop},
    }


def rows(count: int) -> list[dict[str, Any]]:
    """Reviews that differ in all that can be filtered; their findings are in SAYINGS."""
    made = []
    for i in range(count):
        text, said = SAYINGS[i % len(SAYINGS)]
        made.append(
            {
                "review_id": f"r{i:05d}",
                "text": text,
                "product": f"바지 {i % 7}",
                "mall": MALLS[i % len(MALLS)],
                "category": ("상의", "하의")[i % 2],
                "rating": i % 5 + 1,
                "created_at": datetime(2025, i % 12 + 1, i % 28 + 1),
                "keyword_probabilities": [0.9, 0.1],
                "findings": [finding(text, *one) for one in said],
                "truncated": i % 50 == 0,
            }
        )
    return made


def write_analyses(
    uri: str, made: Sequence[dict[str, Any]], keep: Sequence[str] = tuple(KEPT), unit: int = 100
) -> list[dict[str, Any]]:
    """OUT of jobs.analyze; returns the rows in the order of the files."""
    schema = pa.schema([("review_id", pa.string()), *((name, KEPT[name]) for name in keep), *ANALYSIS])
    for number, start in enumerate(range(0, len(made), unit)):
        table = pa.Table.from_pylist(list(made[start : start + unit]), schema)
        storage.write_parquet(storage.join(uri, "data", f"{number:04x}.parquet"), table)
    storage.write_json(storage.join(uri, "_run.json"), {"analysed": len(made), "rejected": 3, "bundle": "abc123"})
    return list(made)


def write_evaluation(folder: str) -> str:
    """report.json and predictions.parquet of two keywords over four reviews."""
    per = {"precision": 1.0, "recall": 0.5, "f1": 0.6667, "support": 2, "support_train": 20, "share": 0.1}
    average = {"precision": 1.0, "recall": 0.5, "f1": 0.6667, "support": 4}
    report = {
        "bundle": "abc123",
        "reviews": 4,
        "keywords": {"per_keyword": {"배송": per, "색상": per}, "micro_varying": average},
        "scores": {
            "accuracy": 0.75,
            "accuracy_shuffled_keywords": 0.4,
            "confusion": [[1, 1], [0, 2]],
            "mixed": {"n": 4, "sign_accuracy": 0.5, "copy_overall": 0.45, "shuffled": 0.2},
        },
        "tuples": {"micro": average, "micro_sign": average},
        "highlights": {"hit_rate": 0.9, "random": {"hit_rate": 0.2}},
        "opinions": {"hit_rate": 0.8, "random": 0.1, "highlight": 0.3, "support": 4},
        "baseline": None,
        "thresholds": {"배송": 0.7, "색상": 0.5},
        "scale": [-1, 1],
    }
    predictions = pa.table(
        {
            "review_id": ["1", "2", "3", "4"],
            "keyword_probabilities": pa.array([[0.9, 0.1], [0.6, 0.2], [0.4, 0.8], [0.1, 0.9]], pa.list_(pa.float32())),
            "keywords": [["배송"], ["배송"], ["색상"], ["색상"]],
        }
    )
    storage.write_parquet(storage.join(folder, "predictions.parquet"), predictions)
    storage.write_json(storage.join(folder, "report.json"), report)
    return storage.join(folder, "report.json")


class _Here:
    """The endpoint's service over an Analyzer in this process."""

    def __init__(self, bundle: str) -> None:
        self.analyzer = Analyzer(bundle, "cpu")

    async def analyze(self, table: pa.Table, deadline: float) -> BatchResult:
        return BatchResult(table=self.analyzer.table(table), stats=STATS)

    async def explain(self, text: str, deadline: float) -> Explanation:
        return self.analyzer.explain(text)

    async def info(self) -> dict[str, Any]:
        return {"version": {"bundle": "abc123"}, "taxonomy": self.analyzer.runtime.meta.taxonomy.to_dict()}


@contextmanager
def endpoint(bundle: str, token: str) -> Iterator[str]:
    """The URL of the endpoint's own HTTP side."""
    with served(http_app.build_app(_Here(bundle), Limits(), http_app.hashed(token))) as url:
        yield url
