"""evaluate_lm in this process: what is evaluated, on which rows, and what the report holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from ray_app import storage
from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.errors import UserError
from ray_app.lm import dataset, evaluate_lm, templates
from ray_app.lm.evaluate_lm import Config
from tests.support.bundles import make_bundle
from tests.support.language_models import lm_tokenizer, make_lm, tiny_lm

TEXT_KEYS = {"bleu", "rouge1", "rouge2", "rougeL", "bertscore"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_lm(tmp_path_factory.mktemp("lm") / "review")


@pytest.fixture(scope="module")
def interviewer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_lm(tmp_path_factory.mktemp("lm") / "interview", "interview")


def evaluate(model: str, output: Path, **options: Any) -> Any:
    settings = {"workers": 0, "limit": 6, "max_new_tokens": 48, "device": "cpu", **options}
    return evaluate_lm.run(Config(model=model, output=str(output), **settings))


def test_a_random_model_writes_reviews_that_parse_beside_the_classifiers(
    model: str,
    bundle_folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "ray_app")
    report = evaluate(model, tmp_path / "out", bundle=bundle_folder, benchmark=3)
    assert storage.read_json(str(tmp_path / "out" / "report.json")) == report
    assert report["parsed"] == {"rows": 6, "share": 1.0, "bad_parts": 0, "nothing_said": 0}
    assert {"loss", "perplexity", *TEXT_KEYS, "keywords", "scores", "tuples", "cost"} <= report.keys()
    assert {"keywords", "scores", "tuples", "cost", "bundle"} <= report["classifiers"].keys()
    assert report["keywords"]["micro"].keys() == report["classifiers"]["keywords"]["micro"].keys()
    assert report["keywords"]["micro"]["support"] == report["classifiers"]["keywords"]["micro"]["support"] > 6
    assert report["keywords"]["per_keyword"]["배송"]["support_train"] == 7
    assert report["generation"]["benchmark"]["equal"] == 1
    assert report["calibration"]["reference"]["bleu"] == report["calibration"]["reference"]["rougeL"] == 1
    kept = storage.read_parquet(str(tmp_path / "out" / "rows"))
    assert len(kept) == 6
    assert {"id", "prompt", "completion", "reference", "generated", "rougeL", "bertscore_f1"} <= set(kept.column_names)
    printed = capsys.readouterr().out
    assert "| tuples F1, exact score |" in printed
    assert "## Worst" not in printed
    assert f"rows/ in {tmp_path}/out: tuples F1 {report['tuples']['micro']['f1']:.3f} on 6 rows\nNext: " in printed
    assert "review, 6 rows of sample, 0 shots, constrained decoding" in caplog.text
    assert "6/6 rows" in caplog.text
    assert "## Worst by ROUGE-L" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_limit_draws_test_rows_by_the_seed() -> None:
    data = dataset.read("sample", templates.load("review"))
    tested = [row["id"] for row in data.split("test")]
    drawn = []
    for seed in (0, 0, 1):
        rows, _ = evaluate_lm.draw_rows(data, Config(model="m", limit=20, seed=seed))
        drawn.append([row["id"] for row in rows])
        assert len(rows) == 20
        assert drawn[-1] == [name for name in tested if name in drawn[-1]]
        assert drawn[-1] != tested[:20]
    assert drawn[0] == drawn[1] != drawn[2]
    everything, _ = evaluate_lm.draw_rows(data, Config(model="m", seed=1))
    assert [row["id"] for row in everything] == tested


def test_free_decoding_counts_what_cannot_be_read(model: str, tmp_path: Path) -> None:
    report = evaluate(model, tmp_path / "out", decoding="free", bertscore_model="none")
    assert report["parsed"]["rows"] < 6
    assert report["tuples"]["micro"]["f1"] < 0.2
    assert report["bertscore"] is None


def test_a_plain_folder_answers_with_solved_examples(tmp_path: Path) -> None:
    """Neither the task nor the taxonomy is known of it; the prompts are longer, the rest is the same."""
    for part in (tiny_lm("byte-level", "gpt2", positions=640), lm_tokenizer("byte-level")):
        part.save_pretrained(tmp_path / "plain")
    model = str(tmp_path / "plain")
    with pytest.raises(UserError, match=r"no nunchi_lm\.json that names its task; write --task NAME"):
        evaluate(model, tmp_path / "out")
    none = evaluate(model, tmp_path / "out", task="review", limit=3)
    two = evaluate(model, tmp_path / "out", task="review", limit=3, shots=2)
    prompts = storage.read_parquet(str(tmp_path / "out" / "rows"))["prompt"].to_pylist()
    assert none["parsed"]["share"] == two["parsed"]["share"] == 1
    assert all(prompt.count("###출력:") == 3 and prompt.endswith("###출력:") for prompt in prompts)
    assert len({prompt.rpartition("\n\n")[0] for prompt in prompts}) == 1


def test_examples_are_never_rows_that_are_judged(model: str, tmp_path: Path) -> None:
    source = tmp_path / "few.csv"
    source.write_text("text,Completion,split\n굿,만족도 1,\n별로,만족도 -1,\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"--shots 1: .*few.csv names only 0 training rows"):
        evaluate(model, tmp_path / "out", labels=str(source), shots=1)


def test_interviews_with_other_column_names(interviewer: str, tmp_path: Path) -> None:
    rows = [
        {
            "질문": f"지원 동기가 무엇인가요 {i}?",
            "experience": "신입",
            "occupation": "IT",
            "answer": f"음 저는 {i}번입니다",
        }
        for i in range(5)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    with pytest.raises(UserError, match=r"rows.jsonl row 1: no column 'question'.*--columns question=COLUMN"):
        evaluate(interviewer, tmp_path / "out", labels=str(source))
    report = evaluate(
        interviewer, tmp_path / "out", labels=str(source), columns="question=질문", temperature=0.8, seed=2
    )
    assert report["rows"] == 5
    assert report["decoding"] == "free"
    assert "keywords" not in report
    assert report == {**report, **{key: report[key] for key in TEXT_KEYS}}
    again = evaluate(
        interviewer, tmp_path / "out", labels=str(source), columns="question=질문", temperature=0.8, seed=2
    )
    assert again["bleu"] == report["bleu"]
    assert again["bertscore"] == report["bertscore"]


def test_mistakes_are_named(model: str, interviewer: str, bundle_folder: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"empty.jsonl: no labeled reviews"):
        evaluate(model, tmp_path / "out", labels=str(empty))
    with pytest.raises(UserError, match=r"empty.jsonl: no rows"):
        evaluate(interviewer, tmp_path / "out", labels=str(empty))
    with pytest.raises(UserError, match="--decoding constrained: interview does not write labels"):
        evaluate(interviewer, tmp_path / "out", decoding="constrained")
    with pytest.raises(UserError, match="--bundle: classifiers cannot do interview"):
        evaluate(interviewer, tmp_path / "out", bundle=bundle_folder)
    make_bundle(tmp_path / "shop", taxonomy=Taxonomy(name="shop", keywords=(Keyword(name="맛"),)))
    with pytest.raises(UserError, match="shop: its keywords are not those"):
        evaluate(model, tmp_path / "out", bundle=str(tmp_path / "shop"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no such folder"):
        evaluate(str(tmp_path / "nowhere"), tmp_path / "out", task="review")
    for options in ({"top_p": 0.0}, {"shots": -1}, {"unit_rows": 0}):
        with pytest.raises(UserError, match=f"--{next(iter(options)).replace('_', '-')}"):
            Config(model=model, **options)


def test_a_task_of_ones_own_is_an_entry_in_a_file(model: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "short:\n  reads: labels\n  prompt: '{review} =>'\n  completion: ' {labels}'\n  label: '{keyword}={score}'\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="would not be read back"):
        evaluate(model, tmp_path / "out", task="short", templates=str(file))
    file.write_text(file.read_text(encoding="utf-8").replace("}={", "} {"), encoding="utf-8")
    report = evaluate(model, tmp_path / "out", task="short", templates=str(file), limit=3)
    assert report["parsed"]["share"] == 1
    assert report["template"]["name"] == "short" != templates.load("review").name


def test_no_example_that_is_shown_is_judged() -> None:
    row = {"review_id": "1", "text": "굿", "labels": [], "split": "train"}
    rows: list[dict[str, Any]] = [{**row, "review_id": str(i), "text": f"{i % 6}번째 리뷰"} for i in range(12)]
    for split in (None, "test"):
        given = [{**r, "split": split if split and i > 7 else "train"} for i, r in enumerate(rows)]
        data = dataset.PromptRows(rows=tuple(given), taxonomy=None, dropped=())
        for seed in range(5):
            config = Config(model="m", shots=2, seed=seed)
            judged, shown = evaluate_lm.draw_rows(data, config)
            assert len(shown) == 2
            assert judged
            assert not {r["text"] for r in judged} & {r["text"] for r in shown}
