"""A missing, empty or wrong text is the same wherever it is given."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ray_app.data import columns, given_texts
from ray_app.data.halving import isolate
from ray_app.errors import UserError
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.bundle import read_summary
from ray_app.serving.protocol import AnalyzeRequest, parse_request
from ray_app.training import train

GIVEN: list[tuple[Any, str | None]] = [
    ("옷이 좋아요", None),
    (None, "null text"),
    (float("nan"), "null text"),
    (pd.NA, "null text"),
    ("", "empty text"),
    (" \u3164 ", "empty text"),
    (5, "text is int, not a string"),
    ("옷\ud83d", "text has half a character (a lone surrogate)"),
    ("가" * 20_001, "text has 20001 characters, over the limit of 20000"),
    ("배송이 늦어요", None),
]


def test_every_text_is_analyzed_or_says_why_not(bundle_folder: str) -> None:
    analyze = Analyzer(Path(bundle_folder), "cpu", highlights="off")
    found = analyze([text for text, _ in GIVEN])
    assert [row.get("rejected") for row in found] == [why for _, why in GIVEN]
    good = analyze(["옷이 좋아요", "배송이 늦어요"])
    assert [found[0], found[-1]] == good
    assert found[1]["findings"] == []
    assert analyze([]) == []


def test_a_series_with_gaps_and_an_array_are_lists(bundle_folder: str) -> None:
    analyze = Analyzer(bundle_folder, "cpu", highlights="off")
    series = pd.Series(["옷이 좋아요", None, "배송이 늦어요"], index=[7, 8, 9])
    found = analyze(series)
    assert [row.get("rejected") for row in found] == [None, "null text", None]
    assert analyze(np.array(["옷이 좋아요"], object)) == found[:1]


@pytest.mark.parametrize("given", ["옷이 좋아요", b"a", None, 3, {"text": "a"}])
def test_what_is_no_list_is_refused(given: Any, bundle_folder: str) -> None:
    with pytest.raises(UserError, match="write a list, also for one text"):
        Analyzer(bundle_folder, "cpu", highlights="off")(given)


def test_the_endpoint_and_the_catalog_give_the_same_reasons() -> None:
    texts = [
        text
        for text, _ in GIVEN
        if text is None or (isinstance(text, str) and len(text) < 100 and "\ud83d" not in text)
    ]
    wanted = [given_texts.reason(text) for text in texts]
    request = AnalyzeRequest.model_validate({"reviews": [*texts, {"text": None, "review_id": "7"}]})
    rejected = {row["index"]: row["reason"] for row in parse_request(request).rejected}
    assert [rejected.get(i) for i in range(len(texts))] == wanted
    assert rejected[len(texts)] == "null text"
    seen: set[str] = set()
    assert [columns._reason(str(i), text, seen) for i, text in enumerate(texts)] == wanted


def test_paths_are_as_good_as_their_names(bundle_folder: str) -> None:
    assert read_summary(Path(bundle_folder)).taxonomy.names
    config = train.Config(labels=Path("labels.csv"), also=(Path("b.csv"),), output=Path("out"))  # type: ignore[arg-type]
    assert (config.labels, config.also, config.output) == ("labels.csv", ("b.csv",), "out")


def test_a_panic_is_a_rows_failure_and_an_interrupt_is_none() -> None:
    import pyarrow as pa

    class Panic(BaseException):
        pass

    def run(table: pa.Table) -> pa.Table:
        texts = table["text"].to_pylist()
        if "독" in texts:
            raise Panic("독")
        if "멈춤" in texts:
            raise KeyboardInterrupt
        return table

    pieces, bad = isolate(run, pa.table({"text": ["굿", "독", "별로"]}), lambda row, error: f"{error} {len(row)}")
    assert pa.concat_tables(pieces)["text"].to_pylist() == ["굿", "별로"]
    assert bad == {1: "독 1"}
    with pytest.raises(KeyboardInterrupt):
        isolate(run, pa.table({"text": ["굿", "멈춤"]}), lambda *_: "")


def test_arrow_arrays_are_lists_and_a_set_is_none() -> None:
    assert given_texts.listed(pa.array(["굿", None])) == ["굿", None]
    with pytest.raises(UserError, match="texts: write a list, also for one text; this is set"):
        given_texts.listed({"굿"})
