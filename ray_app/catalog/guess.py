"""The bundle of a run on keywords that nobody labeled: guessed once, from the run's own input, and kept beside it.

In: `--taxonomy`, the input, and a bundle that reads keywords. Out: the guessed bundle's URI; where an earlier run on
the output left one, that.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray_app import storage
from ray_app.cli import next_command
from ray_app.data import taxonomy as taxonomies
from ray_app.errors import check
from ray_app.inference import bundle as bundles

if TYPE_CHECKING:
    from ray_app.catalog.options import Config

log = logging.getLogger(__name__)


@contextmanager
def bundle_for(config: "Config", out: str) -> Iterator[str]:
    """The guessed bundle, or the run's own where it knows the taxonomy; that of a dry run is gone afterwards.

    Raises UserError where one is there that was guessed for another taxonomy, or where none can be made.
    """
    from ray_app.training.unlabeled.first_guess import GuessConfig, guess_bundle

    taxonomy, kept = taxonomies.load(config.taxonomy), out.rstrip("/") + ".bundle"
    check(out.rstrip("/").count("/") > 2 or "://" not in out, f"--output {config.output}: name a folder in the bucket")
    if bundles.read_summary(config.bundle).taxonomy == taxonomy:
        yield config.bundle
        return
    if storage.exists(storage.join(kept, "bundle.json")):
        same = bundles.read_summary(kept).taxonomy == taxonomy
        check(same, f"--taxonomy {config.taxonomy}: {kept} is of another taxonomy; remove it or name another --output")
        log.info("taking the guess in %s; remove it to learn anew", kept)
        yield kept
        return
    with tempfile.TemporaryDirectory() as scratch:
        place = f"{scratch}/bundle" if config.dry_run else kept
        guess_bundle(
            GuessConfig(
                taxonomy=config.taxonomy,
                input=config.input,
                columns=config.columns,
                bundle=config.bundle,
                output=place,
                device=config.device if config.placement == "here" else "auto",
            )
        )
        yield place


def remark(config: "Config", bundle: str) -> str:
    """What the findings are, and what makes them better."""
    command = next_command("acquire", analyses=config.output)
    trained = f"--base-model {bundle} --taxonomy {config.taxonomy}"
    return (
        f"These findings are a first guess, by the words of {config.taxonomy}: nobody labeled a review. Label those "
        f"that teach the most, and train on them with {trained}\nNext: {command}"
    )
