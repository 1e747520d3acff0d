"""Evaluates a causal language model on a task: it generates from each prompt, and its texts are compared to references.

In: a model folder or name, rows with references (their test rows where they name any). Out: `report.json`, `report.md`
(with the best and worst rows), `rows/*.parquet` (every row's reference, generated text and metrics). Reviews are judged
by the classifiers' own measures too, and with `--bundle` beside the classifiers themselves.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_app.errors import check
from ray_app.lm.executors import run_in_process, run_on_ray
from ray_app.options import REQUIRED, SEEDS, Options, as_dict, option
from ray_app.progress import Pace

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.data.taxonomy import Taxonomy
    from ray_app.labels.rows import Row
    from ray_app.lm.causal_lm import TaskMeta
    from ray_app.lm.dataset import PromptRows
    from ray_app.lm.evaluator import EvaluationPlan
    from ray_app.lm.report import LMReport, ModelReport, Provenance
    from ray_app.lm.results import ResultSums
    from ray_app.lm.templates import Parsed, Template

log = logging.getLogger(__name__)
PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.evaluate_lm`."""

    model: str = option(REQUIRED, "causal LM: a folder that jobs.train_lm wrote, any other folder, or a name", "Model")
    task: str = option("", "entry of the templates; default: the one the model was trained on", "Data", common=True)
    labels: str = option(
        "sample",
        "labeled reviews, or rows of another task, as for training; their test rows where they name any",
        "Data",
        common=True,
        formerly=("data",),
    )
    output: str = option("runs/lm_evaluation", "folder for report.json, report.md and rows/", "Data", common=True)
    templates: str = option("", "YAML file of templates; default: the shipped ones", "Data")
    columns: str = option("", "FIELD=COLUMN,… where columns have other names than the template's fields", "Data")
    taxonomy: str = option("", "of labeled reviews: default, labels or a YAML file; by default the model's own", "Data")
    on_bad_row: str = option("fail", "stop at a bad row, or drop it and report it", "Data", ("fail", "drop"))
    limit: int = option(0, "evaluate this many rows only, drawn by the seed; 0 for all", "Data", least=0, common=True)
    shots: int = option(
        0, "solved examples in each prompt, drawn from the training rows by the seed", "Writing", least=0, common=True
    )
    decoding: str = option(
        "auto",
        "constrained allows only keywords and scores of the taxonomy; auto is constrained for reviews",
        "Writing",
        ("auto", "free", "constrained"),
    )
    max_new_tokens: int = option(
        0, "most tokens of an answer, 0 for half of the training's --max-length", "Writing", least=0
    )
    temperature: float = option(0.0, "0 takes the likeliest token, above 0 samples one", "Writing", least=0)
    top_p: float = option(
        1.0, "sample among the likeliest tokens that add up to this probability", "Writing", above=0, most=1
    )
    seed: int = option(0, "seed of rows, examples, sampling and shuffled references", "Writing", least=0, below=SEEDS)
    unit: str = option("char", "what BLEU and ROUGE count", "Judging", ("char", "word", "kiwi"))
    bertscore_model: str = option("starter", "encoder for BERTScore: starter, a name, a folder, or none", "Judging")
    bundle: str = option("", "bundle of classifiers to compare with on the same reviews", "Judging", common=True)
    benchmark: int = option(
        0, "also generate this many rows batched and one by one, and compare the speed", "Judging", least=0
    )
    workers: int = option(
        1, "processes that hold the model; 0 runs in this process, without Ray", "Cluster", least=0, common=True
    )
    cpus_per_worker: float = option(
        0.0, "CPUs a worker reserves and uses as threads, 0 for an equal share", "Cluster", least=0
    )
    device: str = option("auto", "where the model runs", "Cluster", ("auto", "cpu", "cuda"), common=True)
    bf16: bool = option(False, "half the memory; where two tokens tie, a batch may differ from one by one", "Cluster")
    batch_tokens: int = option(0, "tokens per batch, 0 for what suits the device", "Cluster", least=0)
    unit_rows: int = option(512, "rows that a worker takes at a time", "Cluster", least=1)


def run(config: Config) -> "LMReport":
    """Evaluates, prints, writes; returns the report. Raises UserError, for mistakes in the options before long work."""
    from ray_app import storage
    from ray_app.lm import causal_lm, dataset, evaluator
    from ray_app.lm.report import markdown

    meta = causal_lm.read_meta(config.model)
    template = _template(config, meta)
    taxonomy = config.taxonomy or (meta.taxonomy if meta else None) or "default"
    data = dataset.read(config.labels, template, taxonomy, config.columns, config.on_bad_row)
    for line in data.dropped:
        log.info("dropped: %s", line)
    rows, examples = draw_rows(data, config)
    plan = _plan(config, meta, template, data.taxonomy)
    provenance = _provenance(config, plan, meta)
    _check_bundle(config, plan)
    source = f"{len(rows):,} rows of {config.labels}, {config.shots} shots"
    log.info("%s: %s, %s, %s decoding", config.model, template.name, source, provenance["decoding"])
    inputs = evaluator.make_inputs(template, rows, examples, config.seed)
    results, parsed = _evaluate(config, plan, inputs)
    scores = _scores(config, plan, meta, rows, results, parsed)
    if config.benchmark:
        scores["generation"]["benchmark"] = evaluator.benchmark(plan, inputs.slice(0, config.benchmark))
    report: LMReport = {**scores, **provenance}
    text = markdown(report, results)
    print(text.partition("\n## Worst")[0])
    storage.write_json(storage.join(config.output, "report.json"), report)
    storage.write_bytes(storage.join(config.output, "report.md"), text.encode())
    print(_summary(config, report))
    return report


def _template(config: Config, meta: "TaskMeta | None") -> "Template":
    """The template that the model was trained with, unless the options name another."""
    from ray_app.lm import templates

    task = config.task or (meta.template.name if meta else "")
    check(task, f"--model {config.model}: it has no nunchi_lm.json that names its task; write --task NAME")
    if meta and task == meta.template.name and not config.templates:
        return meta.template
    return templates.load(task, config.templates or templates.DEFAULT)


def draw_rows(data: "PromptRows", config: Config) -> tuple[list["Row"], list["Row"]]:
    """The rows to evaluate on (test rows, or all where none is named) and the solved examples that each prompt shows.

    Both are drawn by the seed. Raises UserError where there are fewer training rows than examples.
    """
    import numpy as np

    from ray_app.labels.hold_out import draw

    test = data.split("test")
    candidates = test or list(data.rows)
    judged = set(map(_question, test))
    training = [row for row in data.split("train", None if test else "train") if _question(row) not in judged]
    check(
        len(training) >= config.shots,
        f"--shots {config.shots}: {config.labels} names only {len(training)} training rows; give it a `split` column",
    )
    shown = [training[i] for i in np.random.default_rng(config.seed).permutation(len(training))[: config.shots]]
    solved = set(map(_question, shown))
    candidates = [row for row in candidates if _question(row) not in solved]
    check(candidates, f"--shots {config.shots}: every row of {config.labels} is shown as an example; none is left")
    return [candidates[i] for i in draw(len(candidates), config.limit, config.seed)], shown


def _question(row: "Row") -> str:
    """What a row asks, whatever its answer and id: no row is judged whose answer an example shows."""
    others = sorted((name, str(value)) for name, value in row.items() if name not in ("id", "review_id", "split"))
    return str(row.get("text") or others)


def _plan(
    config: Config, meta: "TaskMeta | None", template: "Template", taxonomy: "Taxonomy | None"
) -> "EvaluationPlan":
    from ray_app import storage
    from ray_app.lm.evaluator import EvaluationPlan
    from ray_app.lm.generation import Decoding

    labels = template.reads == "labels"
    constrained = config.decoding == "constrained" or (config.decoding == "auto" and labels)
    check(
        labels or not constrained,
        f"--decoding constrained: {template.name} does not write labels; write --decoding free",
    )
    local = "://" not in config.model and storage.exists(config.model)
    return EvaluationPlan(
        model=storage.absolute(config.model) if local else config.model,
        template=template,
        taxonomy=taxonomy,
        decoding=Decoding(
            max_new_tokens=config.max_new_tokens or (meta.max_length if meta else 256) // 2,
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


def _evaluate(config: Config, plan: "EvaluationPlan", inputs: "pa.Table") -> tuple["ResultSums", list["Parsed"]]:
    """Results of all inputs, each unit written as it comes; for reviews also what each row's text parses to."""
    from ray_app import storage
    from ray_app.lm.results import ResultSums

    folder = storage.join(config.output, "rows")
    storage.remove(folder)
    units = [inputs.slice(start, config.unit_rows) for start in range(0, len(inputs), config.unit_rows)]
    if config.workers:
        tables = run_on_ray(plan, units, config.workers, config.cpus_per_worker)
    else:
        tables = run_in_process(plan, units, math.ceil(config.cpus_per_worker))
    results, pace = ResultSums(), Pace(PROGRESS_SECONDS)
    parsed: dict[int, Parsed] = {}
    for table in tables:
        first = table["row"][0].as_py()
        if plan.taxonomy:
            for row, text in zip(table["row"].to_pylist(), table["completion_generated"].to_pylist(), strict=True):
                parsed[row] = plan.template.parse(text, plan.taxonomy)
        storage.write_parquet(storage.join(folder, f"{first:09d}.parquet"), results.add(table))
        if pace.due(last=results.rows == len(inputs)):
            log.info("%s/%s rows, %.0f s", f"{results.rows:,}", f"{len(inputs):,}", pace.seconds)
    check(results.rows == len(inputs), f"{len(inputs) - results.rows} of {len(inputs)} rows have no result")
    return results, [parsed[row] for row in sorted(parsed)]


def _scores(
    config: Config,
    plan: "EvaluationPlan",
    meta: "TaskMeta | None",
    rows: list["Row"],
    results: "ResultSums",
    parsed: Sequence["Parsed"],
) -> "ModelReport":
    """The report without its provenance; for reviews with the classifiers' measures, and those of a bundle."""
    import pyarrow as pa

    from ray_app.data.schema import LABELED
    from ray_app.lm.report import classifier_report, review_report

    report: ModelReport = {
        "model": config.model,
        "task": plan.template.name,
        **results.report(),  # type: ignore[typeddict-item]  # mypy: it could hold the optional keys; it does not
    }
    if plan.taxonomy:
        labeled = pa.Table.from_pylist(rows, schema=LABELED)
        report = {**report, **review_report(labeled, parsed, plan.taxonomy, meta.support if meta else {})}
        if config.bundle:
            threads = math.ceil(config.cpus_per_worker)
            report["classifiers"] = classifier_report(config.bundle, labeled, config.device, threads)
    return report


def _check_bundle(config: Config, plan: "EvaluationPlan") -> None:
    """Refuses a bundle that cannot be compared, before hours of work."""
    from ray_app.inference import bundle

    if not config.bundle:
        return
    check(plan.taxonomy, f"--bundle: classifiers cannot do {plan.template.name}; leave it out")
    check(
        plan.taxonomy and bundle.load(config.bundle).meta.taxonomy.names == plan.taxonomy.names,
        f"--bundle {config.bundle}: its keywords are not those of the language model",
    )


def _provenance(config: Config, plan: "EvaluationPlan", meta: "TaskMeta | None") -> "Provenance":
    """How the figures came about. Raises UserError where a package that they need is missing, before hours of work."""
    from ray_app.evaluation.text_metrics import bleu_signature

    return {
        "bleu_signature": bleu_signature(config.unit),
        "bertscore_encoder": config.bertscore_model,
        "decoding": "constrained" if plan.constrained else "free",
        "loss_on": plan.loss_on,
        "template": plan.template.to_dict(),
        "training": meta.metrics if meta else None,
        "config": as_dict(config),
    }


def _summary(config: Config, report: "LMReport") -> str:
    """Where the report lies, one figure of it, and what a user would do next."""
    from ray_app.cli import next_command
    from ray_app.markdown import number

    review = "tuples" in report
    figure = f"tuples F1 {report['tuples']['micro']['f1']:.3f}" if review else f"ROUGE-L {number(report['rougeL'])}"
    given = {name: value for name in ("task", "columns", "templates", "taxonomy") if (value := getattr(config, name))}
    if review and not config.bundle:
        given |= {"labels": config.labels, "output": config.output, "bundle": "YOUR_BUNDLE"}
        command = next_command("evaluate_lm", model=config.model, **given)
    else:
        given |= {"task": report["task"], "labels": "YOUR_LABELS.jsonl", "output": "runs/lm_tuned"}
        command = next_command("train_lm", base_model=config.model, **given)
    return f"report.json, report.md and rows/ in {config.output}: {figure} on {report['rows']:,} rows\nNext: {command}"
