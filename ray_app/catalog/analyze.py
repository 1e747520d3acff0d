"""The catalog job: every review of a catalog through the graph, on Ray Data, exactly once whatever dies.

    plan -> read and validate -> stages in actor pools -> commit -> publish

In: Parquet reviews and a bundle. Out: OUT/data, OUT/rejected and OUT/_run.json, and beside them what resuming after any
death needs (`commit.py`, `manifest.py`, `compaction.py`). `planning.py` says what is analyzed, `pipeline.py` has the
steps of a unit, `executors.py` says where they run, `catalog_run.py` is one run from its plan to its last file.
"""

from dataclasses import replace

from ray_app.catalog.options import Config

__all__ = ["Config", "run"]
REJECTS_EXIT = 3  # the job is complete, but some files could not be read, or every row was rejected


def run(config: Config) -> int:
    """Analyzes the catalog, or what is left of it, and returns the exit code. Raises UserError."""
    from ray_app import storage
    from ray_app.catalog import guess, planning

    out = storage.absolute(config.output)
    planning.check_place(config, out)
    config = planning.followed(config, out)
    if not config.dry_run:
        planning.check_output(config, out)
    named, config = config.bundle, planning.pinned(config, out)
    if not config.taxonomy:
        return _analyze(config, out, named)
    with guess.bundle_for(config, out) as bundle:
        code = _analyze(replace(config, bundle=bundle), out, named)
    if bundle != config.bundle and not config.dry_run:
        print(guess.remark(config, bundle))
    return code


def _analyze(config: Config, out: str, named: str) -> int:
    from ray_app.catalog import planning, preflight
    from ray_app.catalog.catalog_run import CatalogRun
    from ray_app.inference import bundle as bundles
    from ray_app.inference import thresholds
    from ray_app.storage.iceberg import open_catalog
    from ray_app.storage.lease import Lease

    bundle = bundles.load(config.bundle)
    thresholds.applied(bundle, config.thresholds)  # an error names the file
    config = replace(config, thresholds=thresholds.content(config.thresholds))  # workers have no file
    settings = planning.settings_of(config, bundle)
    if config.dry_run:
        plan = planning.plan_input(config, settings)
        print(planning.describe(plan, bundle), flush=True)
        preflight.dry_run(config, plan)
        return 0
    if config.sink:
        open_catalog(config.table)  # not after hours of work
    with Lease(out) as lease:
        catalog_run = CatalogRun(config, bundle, settings, out, named)
        code = catalog_run.complete(lease)
        return code or (REJECTS_EXIT if catalog_run.unreadable or catalog_run.all_rejected else 0)
