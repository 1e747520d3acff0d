"""A smaller bundle is sealed behind the gate: it carries the table, and one that fails is not sealed unless forced.

In: a folder with models and a BundleMeta, the bundle that it replaces. Out: the sealed bundle under its name.
"""

from dataclasses import replace
from pathlib import Path

from ray_app import storage
from ray_app.cli import next_command
from ray_app.compression.gate import GateOptions, judged, markdown, summary
from ray_app.errors import UserError, check
from ray_app.inference import bundle as bundles
from ray_app.inference import sealing
from ray_app.inference.bundle import Bundle, BundleMeta

UNSEALED = "unsealed.json"  # what would be bundle.json


def check_free(output: str) -> None:
    """Raises UserError where the bundle to write, or a failed one in its place, exists."""
    for folder in (output, failed_of(output)):
        check(storage.is_empty(folder), f"--output {output}: {folder} already exists; remove it or name another")


def failed_of(output: str) -> str:
    """Where a bundle that fails is left."""
    return f"{output.rstrip('/')}.failed"


def seal_behind_gate(folder: Path, meta: BundleMeta, old: Bundle, options: GateOptions, output: str) -> str:
    """Judges the bundle, seals and uploads it; prints the table, returns the id. Raises UserError where it fails and is
    not forced: it lies beside the output then, whole but for the name of its bundle.json."""
    sealing.seal_checked(folder, meta)
    verdict = judged(old, bundles.load(str(folder)), options)
    print(markdown(verdict))
    sealed = replace(bundles.load(str(folder)).meta, metrics={**meta.metrics, "gate": verdict})
    identity = bundles.seal(folder, sealed)
    if not (verdict["passed"] or options.force):
        (folder / "bundle.json").rename(folder / UNSEALED)
        storage.upload(str(folder), failed_of(output), last=UNSEALED)
        raise UserError(
            f"{summary(verdict)}. Nothing was sealed: it lies in {failed_of(output)}; to use it all the same, "
            f"rename {UNSEALED} there to bundle.json, or write --force"
        )
    storage.upload(str(folder), output, last="bundle.json")
    print(
        f"bundle {identity} in {output}\nNext: {next_command('analyze', input='YOUR_REVIEWS.parquet', bundle=output)}"
    )
    return identity
