"""What a run is to analyze: the plan of its input, and the run that an output folder holds, new, resumed or added to.

In: a run's Config and its bundle. Out: a manifest.Run, written to the output; UserError where the two do not fit.
"""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ray_app import sample, storage
from ray_app.catalog import executors, manifest, preflight
from ray_app.catalog.manifest import Settings
from ray_app.catalog.output import partitions
from ray_app.catalog.preflight import RecheckAgreement
from ray_app.data import reviews
from ray_app.data.reading import inputs
from ray_app.data.reviews import Plan
from ray_app.errors import check
from ray_app.inference import bundle_names, thresholds
from ray_app.inference.bundle import Bundle, check_attends, resolved_mode

if TYPE_CHECKING:
    from ray_app.catalog.options import Config

log = logging.getLogger(__name__)
LISTED = 10  # files that cannot be read and are listed


def settings_of(config: "Config", bundle: Bundle) -> Settings:
    """What decides an output's rows, by the flag that sets it: the same for all runs on one output."""
    return {
        "--input": reviews.resolve_input(config.input),
        "--bundle": bundle.id,
        "--columns": config.columns,
        "--keep": ",".join(config.keep),
        "--partition-by": config.partition_by,
        "--limit": config.limit,
        "--highlights": _mode(config, bundle),
        "--opinions": config.opinions,
        "--words": config.words,
        "--thresholds": thresholds.identity(bundle, config.thresholds),
        "--embeddings": config.embeddings,
        "--unit-rows": config.unit_rows,
        "--text": config.text or "text" in config.keep,
        "--source": config.source,
        "--findings-table": config.findings_table,
    }


def _mode(config: "Config", bundle: Bundle) -> str:
    """`--highlights` with all that decides its words. Raises UserError where the bundle's keywords do not attend and
    are to."""
    if config.highlights != "recheck":
        if config.highlights == "attention":
            check_attends(bundle, "--highlights attention", "write --highlights exact")
        return resolved_mode(config.highlights, bundle.meta)
    if config.recheck_by != "attention":
        return f"recheck {config.recheck_words}"
    check_attends(bundle, "--recheck-by attention", "write --recheck-by int8")
    return f"recheck {config.recheck_words} attention"


def followed(config: "Config", out: str) -> "Config":
    """The config with what an unfinished run of an earlier release does, where it knew no option for it."""
    return replace(config, **manifest.earlier_options(out))


def pinned(config: "Config", out: str) -> "Config":
    """The config with the bundle that its name stands for now, for all of the run on all nodes; of a run that `out`
    holds already the one that it was begun with."""
    begun = "" if config.taxonomy else manifest.bundle_of(out)
    return replace(config, bundle=bundle_names.kept_or_pinned(config.bundle, begun, "--bundle"))


def check_place(config: "Config", out: str) -> None:
    """Raises UserError where nothing can be written to the output, or where it lies in the input: the next run would
    read it as reviews."""
    uri = str(sample.CATALOG) if config.input == "sample" else config.input
    inside = inputs.holds(uri, out) if config.incremental or not manifest.begun(out) else None
    obstacle = storage.obstacle(out)
    check(not obstacle, f"--output {config.output}: {obstacle}; name a folder that can be written")
    check(
        not inside,
        f"--output {config.output}: inside --input {inside}, whose next run would read it as reviews; name a folder "
        "beside it",
    )


def plan_input(config: "Config", settings: Settings, before: manifest.Run | None = None) -> Plan:
    """The plan of the input; with an earlier run, of the files that it did not plan."""
    plan = reviews.plan(
        settings["--input"],
        config.columns,
        config.keep,
        config.unit_rows,
        _identity(settings),
        config.limit,
        before.columns if before else None,
        frozenset(source.file for source in before.sources) if before else frozenset(),
    )
    if config.partition_by and plan.columns.types is not None:
        partitions.check_partition(config.partition_by, plan.columns.types.field(config.partition_by).type)
    return plan


def _identity(settings: Settings) -> str:
    """What decides a unit's results: a part of its name."""
    moved = f"|{settings['--thresholds']}" if settings["--thresholds"] else ""
    named = f"{settings['--bundle']}|{settings['--highlights']}|{settings['--words']}|{settings['--embeddings']}"
    return named + moved


def describe(plan: Plan, bundle: Bundle) -> str:
    """What is read and what is left out, the columns with a line per coercion, and the files that cannot be read."""
    columns = plan.columns
    line = (
        f"{plan.rows:,} rows in {len(plan.units):,} units; review_id={columns.review_id} text={columns.text} "
        f"keep={','.join(columns.keep) or 'nothing'}; bundle {bundle.id}, {len(bundle.meta.thresholds)} keywords"
    )
    unreadable = [f"rejected {source.file}: {source.reason}" for source in plan.unreadable[:LISTED]]
    if plan.unreadable:
        unreadable.insert(
            0, f"{len(plan.unreadable)} of {len(plan.sources):,} files cannot be read: they become rejects"
        )
    return "\n".join([*plan.notes, line, *unreadable])


def check_output(config: "Config", out: str) -> None:
    """Raises UserError where `out` holds anything but a run, or a run that is not to be resumed."""
    if manifest.begun(out):
        check(
            config.resume or config.incremental,
            f"--output {config.output}: holds a run; drop --no-resume to resume it, or name another folder",
        )
        return
    visible = storage.exists(out) and storage.list_files(out)
    check(not visible, f"--output {config.output}: not empty; remove it or name another folder")


def begin_or_resume(
    config: "Config", bundle: Bundle, settings: Settings, out: str
) -> tuple[manifest.Run, RecheckAgreement | None]:
    """The run that `out` holds, with new files added where --incremental asks for them, or else a new run.

    Where something is planned for `--highlights recheck` its agreement comes too, measured before anything is written.
    Raises UserError where the settings are not those of the run, or recheck agrees too seldom.
    """
    run = manifest.load(out)
    agreement: RecheckAgreement | None = None
    if run is not None:
        manifest.agree(out, run.settings, settings)
    if run is None or config.incremental:
        plan = plan_input(config, settings, run)
        log.info("%s", describe(plan, bundle))
        if config.opinions and config.highlights != "off" and not bundle.meta.attends:
            log.warning(
                "--opinions: this bundle's scores are of the prompt form, which reads masked reviews once per found "
                "keyword, several times the work; --no-opinions leaves it out, --score-form joint needs none"
            )
        if config.highlights == "recheck" and plan.units:
            agreement = preflight.recheck_agreement(executors.placed(config, plan.rows), plan.units, plan.columns)
        if run is None or plan.sources:
            manifest.add(out, len(run.plans) if run else 0, plan, settings, config.bundle)
        run = manifest.load(out)
    assert run is not None
    return run, agreement
