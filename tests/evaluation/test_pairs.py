"""Sentence pairs that negate one another are judged together."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.errors import UserError
from ray_app.evaluation.pairs import PairsConfig, evaluate_pairs
from ray_app.inference.analyzer import Analyzer

TEXTS = ["배송이 빨라요", "색이 예뻐요", "옷이 커요", "재질이 좋아요"]
TURNED = ["배송이 느려요", "색이 안 예뻐요", "옷이 작아요", "재질이 별로예요"]


def overall(bundle: str, texts: list[str]) -> list[int]:
    """The score of 만족도 that an analysis gives, found or not."""
    runtime = Analyzer(bundle).runtime
    rows = runtime.tokenizer(texts).sequences
    keyword = runtime.meta.taxonomy.index["만족도"]
    given = [int(runtime.score_probabilities(rows, [i], [keyword]).argmax()) for i in range(len(texts))]  # type: ignore[arg-type]
    return [runtime.meta.taxonomy.scores[g] for g in given]


def test_both_must_be_right(bundle_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = overall(bundle_folder, TEXTS), overall(bundle_folder, TURNED)
    wrong = [-1 if score > 0 else 1 for score in second]
    table = pa.table(
        {
            "text_origin": TEXTS,
            "score_origin": first,
            "text": TURNED,
            "score": [second[0], wrong[1], second[2], wrong[3]],
            "category": [1, 1, 2, 2],
        }
    )
    pq.write_table(table, tmp_path / "pairs.parquet")
    config = PairsConfig(
        pairs=f"{tmp_path}/pairs.parquet",
        bundle=bundle_folder,
        output=f"{tmp_path}/out",
        keyword="만족도",
        device="cpu",
    )
    report = evaluate_pairs(config)
    assert (report["origin"], report["turned"], report["both"]) == (1.0, 0.5, 0.5)
    assert report["by_category"] == {"1": 0.5, "2": 0.5}
    assert storage.read_json(f"{tmp_path}/out/pairs.json")["pairs"] == 4
    assert "4 pairs, sign of 만족도: both right 0.500" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"text": ["a"], "score": [1]}, {}, "no column 'text_origin'"),
        ({"text_origin": [], "score_origin": [], "text": [], "score": []}, {}, "no pairs there"),
        (
            {"text_origin": ["a"], "score_origin": [1], "text": ["b"], "score": [-1]},
            {"keyword": "배숑"},
            "--keyword 배숑: unknown; did you mean '배송'",
        ),
    ],
)
def test_what_is_missing_is_named(
    bundle_folder: str, tmp_path: Path, columns: dict[str, list[object]], options: dict[str, str], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    with pytest.raises(UserError, match=message):
        evaluate_pairs(PairsConfig(pairs=f"{tmp_path}/pairs.parquet", bundle=bundle_folder, device="cpu", **options))
