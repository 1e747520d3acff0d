"""How good a causal language model is at a task: it generates from the prompt, and what it writes is judged.

In: a model folder or name, rows with references (their test rows where they name any). Out: `report.json`, `report.md`
(with the best and worst rows), `rows/*.parquet` (every row's reference, generated text and metrics). Reviews are judged
by the classifiers' own measures too, and with `--bundle` beside the classifiers themselves.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

from ray_app.errors import check
from ray_app.lm.executors import run_here, run_on_ray
from ray_app.options import REQUIRED, Options, as_dict, option

PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.evaluate_lm`."""

    model: str = option(REQUIRED, "causal LM: a folder that jobs.train_lm wrote, any other folder, or a name", "Model")
    task: str = option("", "entry of the templates; default: the one the model was taught", "Data", common=True)
    labels: str = option(
        "sample",
        "labeled reviews, or rows of another task, as for training; their test rows where they name any",
        "Data",
        common=True,
        formerly=("data",),
    )
    output: str = option("runs/lm_evaluation", "folder for report.json, report.md and rows/", "Data", common=True)
    templates: str = option("", "YAML file of templates; default: the shipped ones", "Data")
    columns: str = option("", "FIELD=COLUMN,… where rows name their columns otherwise than the template", "Data")
    taxonomy: str = option("", "of labeled reviews: default, labels or a YAML file; else the model's own", "Data")
    on_bad_row: str = option("fail", "stop at a bad row, or drop it and say so", "Data", ("fail", "drop"))
    limit: int = option(0, "judge this many rows only, drawn by the seed; 0 for all", "Data", least=0, common=True)
    shots: int = option(
        0, "solved examples in each prompt, drawn from the training rows by the seed", "Writing", least=0, common=True
    )
    decoding: str = option(
        "auto",
        "constrained lets a model write nothing but keywords and scores of the taxonomy; auto does so for reviews",
        "Writing",
        ("auto", "free", "constrained"),
    )
    max_new_tokens: int = option(
        0, "tokens of an answer at most, 0 for half of what the model learned to read", "Writing", least=0
    )
    temperature: float = option(0.0, "0 takes the likeliest token, above 0 draws one", "Writing", least=0)
    top_p: float = option(
        1.0, "draw among the likeliest tokens that hold this probability together", "Writing", above=0, most=1
    )
    seed: int = option(0, "seed of rows, examples, draws and shuffled references", "Writing")
    unit: str = option("char", "what BLEU and ROUGE count", "Judging", ("char", "word", "kiwi"))
    bertscore_model: str = option("starter", "encoder for BERTScore: starter, a name, a folder, or none", "Judging")
    bundle: str = option(
        "", "bundle of classifiers to judge on the same reviews and set beside", "Judging", common=True
    )
    benchmark: int = option(
        0, "generate this many rows batched and one by one too, and compare the speed", "Judging", least=0
    )
    workers: int = option(
        1, "processes that hold the model; 0 works in this process, without Ray", "Cluster", least=0, common=True
    )
    cpus_per_worker: float = option(
        0.0, "CPUs a worker reserves and uses as threads, 0 for an equal share", "Cluster", least=0
    )
    device: str = option("auto", "where the model runs", "Cluster", ("auto", "cpu", "cuda"), common=True)
    bf16: bool = option(
        False, "half the memory; a batch may then differ from one by one where two tokens tie", "Cluster"
    )
    batch_tokens: int = option(0, "tokens generated and read together, 0 for what suits the device", "Cluster", least=0)
    unit_rows: int = option(512, "rows that a worker takes at a time", "Cluster", least=1)


def run(config: Config) -> dict[str, Any]:
    """Evaluates, prints, writes; returns the report."""
    from ray_app import storage
    from ray_app.lm import evaluator
    from ray_app.lm import report as lm_judge

    exam, rows, shown = _prepare(config)
    papers = evaluator.papers(exam.template, rows, shown, config.seed)
    labeled = exam.template.reads == "labels"
    provenance = _provenance(config, exam)
    _check_bundle(config, exam)
    print(
        f"{config.model}: {exam.template.name}, {len(rows):,} rows of {config.labels}, {config.shots} shots, "
        f"{'constrained' if exam.constrained else 'free'} decoding",
        flush=True,
    )
    folder = storage.join(config.output, "rows")
    storage.remove(folder)
    marks, progress = lm_judge.ResultSums(), _Progress(len(rows))
    parsed: dict[int, Any] = {}
    for table in (run_on_ray if config.workers else run_here)(config, exam, papers):
        first = table["row"][0].as_py()
        if labeled:
            texts = zip(table["row"].to_pylist(), table["completion_generated"].to_pylist(), strict=True)
            parsed |= {row: exam.template.parse(text, exam.taxonomy) for row, text in texts}
        storage.write_parquet(storage.join(folder, f"{first:09d}.parquet"), marks.add(table))
        progress(marks.rows)
    check(marks.rows == len(rows), f"{len(rows) - marks.rows} of {len(rows)} rows did not come back")
    report = {"model": config.model, "task": exam.template.name, **marks.report()}
    if labeled:
        report |= _reviews(config, exam, rows, [parsed[i] for i in range(len(rows))])
    if config.benchmark:
        report["generation"]["benchmark"] = evaluator.benchmark(exam, papers.slice(0, config.benchmark))
    report |= provenance
    text = lm_judge.markdown(report, marks)
    print(text.partition("\n## Worst")[0])
    storage.write_json(storage.join(config.output, "report.json"), report)
    storage.write_bytes(storage.join(config.output, "report.md"), text.encode())
    return report


def _prepare(config: Config) -> tuple[Any, list[Any], list[Any]]:
    """What is asked and how, the rows to answer, and the solved examples that each prompt shows."""
    import numpy as np

    from ray_app import storage
    from ray_app.lm import dataset, templates
    from ray_app.lm.evaluator import EvaluationPlan
    from ray_app.lm.generation import Decoding

    meta = _meta(config.model)
    check(config.task or meta, f"--model {config.model}: it does not say what it was taught; name a --task")
    task = config.task or meta.template.name
    taught = meta and task == meta.template.name and not config.templates
    template = meta.template if taught else templates.load(task, config.templates or templates.DEFAULT)
    taxonomy = config.taxonomy or (meta and meta.taxonomy) or "default"
    found = dataset.read(config.labels, template, taxonomy, config.columns, config.on_bad_row)
    for line in found.dropped:
        print(f"dropped: {line}")
    tested = found.split("test")
    rows = (tested or list(found.rows))[: config.limit or None]
    others = found.split("train", None) if tested else found.split("train")
    check(
        len(others) >= config.shots,
        f"--shots {config.shots}: {config.labels} names only {len(others)} training rows; give it a `split` column",
    )
    picked = np.random.default_rng(config.seed).permutation(len(others))[: config.shots]
    constrained = config.decoding == "constrained" or (config.decoding == "auto" and template.reads == "labels")
    check(
        not constrained or template.reads == "labels",
        f"--decoding constrained: {template.name} does not write labels; write --decoding free",
    )
    learned = meta.max_length if meta else 256
    exam = EvaluationPlan(
        model=storage.absolute(config.model) if _is_folder(config.model) else config.model,
        template=template,
        taxonomy=found.taxonomy,
        decoding=Decoding(
            max_new_tokens=config.max_new_tokens or learned // 2,
            temperature=config.temperature,
            top_p=config.top_p,
            seed=config.seed,
            stop=template.stop,
        ),
        constrained=constrained,
        limit=0 if config.shots or not meta else meta.max_length,
        loss_on=meta.loss_on if meta else "answer",
        unit=config.unit,
        bertscore="" if config.bertscore_model == "none" else config.bertscore_model,
        batch_tokens=config.batch_tokens,
        device=config.device,
        bf16=config.bf16,
    )
    return exam, rows, [others[i] for i in picked]


def _meta(model: str) -> Any:
    """What a model folder of ours says of itself, wherever it lies; None for any other model."""
    from ray_app import storage
    from ray_app.lm import causal_lm

    place = storage.join(model, causal_lm.META)
    return causal_lm.from_dict(storage.read_json(place), place) if storage.exists(place) else None


def _is_folder(model: str) -> bool:
    from ray_app import storage

    return "://" not in model and storage.exists(model)


def _reviews(config: Config, exam: Any, rows: list[Any], parsed: list[Any]) -> dict[str, Any]:
    """The review task's part of the report; with a bundle, the same of the classifiers."""
    import pyarrow as pa

    from ray_app.data.schema import LABELED
    from ray_app.lm.report import review_report

    table, meta = pa.Table.from_pylist(rows, schema=LABELED), _meta(config.model)
    report = review_report(table, parsed, exam.taxonomy, meta.support if meta else {})
    return report | ({"classifiers": _classifiers(config, table)} if config.bundle else {})


def _check_bundle(config: Config, exam: Any) -> None:
    """Before hours of work, not after."""
    from ray_app.inference import bundle

    if not config.bundle:
        return
    check(exam.template.reads == "labels", f"--bundle: classifiers cannot do {exam.template.name}; leave it out")
    check(
        bundle.load(config.bundle).meta.taxonomy.names == exam.taxonomy.names,
        f"--bundle {config.bundle}: its keywords are not those that the language model is asked for",
    )


def _classifiers(config: Config, table: Any) -> dict[str, Any]:
    """The bundle's report and cost on the same reviews, highlights left out: the language model gives none."""
    from ray_app.evaluation import report as judge
    from ray_app.inference.analyzer import Analyzer
    from ray_app.lm.report import cost

    analyzer = Analyzer(config.bundle, config.device, math.ceil(config.cpus_per_worker), highlights="off")
    report = judge.evaluate_bundle(analyzer.runtime, table, judge.predictions(analyzer.runtime, table))
    began, cpu_began = time.perf_counter(), time.process_time()
    analyzer.table(table.select(["review_id", "text"]))
    seconds = time.perf_counter() - began
    return {
        **report,
        "cost": cost(seconds, time.process_time() - cpu_began, len(table)),
        "bundle": analyzer.runtime.bundle.id,
    }


class _Progress:
    """A line every so often."""

    def __init__(self, total: int) -> None:
        self.total, self.began = total, time.monotonic()
        self.told = self.began

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self.told >= PROGRESS_SECONDS or done == self.total:
            self.told = now
            print(f"{done:,}/{self.total:,} rows, {now - self.began:.0f} s", flush=True)


def _provenance(config: Config, exam: Any) -> dict[str, Any]:
    """How the figures came about. Raises UserError where what they need is not installed: before hours of work."""
    from ray_app.evaluation.text_metrics import bleu_signature

    meta = _meta(config.model)
    return {
        "bleu_signature": bleu_signature(config.unit),
        "bertscore_encoder": config.bertscore_model,
        "decoding": "constrained" if exam.constrained else "free",
        "loss_on": exam.loss_on,
        "template": exam.template.to_dict(),
        "training": meta.metrics if meta else None,
        "config": as_dict(config),
    }
