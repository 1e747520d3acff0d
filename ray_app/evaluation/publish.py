"""A bundle and its card go to a model hub, in one commit.

In: a bundle and `hf://OWNER/NAME[@BRANCH]`; HF_TOKEN. Out: the commit, printed as a name that every job takes.
"""

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_app.errors import check
from ray_app.options import REQUIRED, Options, option

if TYPE_CHECKING:
    from ray_app.evaluation.report import EvaluationReport
    from ray_app.inference.bundle import Bundle

log = logging.getLogger(__name__)
OWN_PATH = re.compile(r'"((?:/|file:)[^"]*/[^"]+)"')  # a machine's own


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.publish`."""

    bundle: str = option(REQUIRED, "bundle to publish: a folder, s3://, hf://, a pointer, or ready", "Data")
    to: str = option(REQUIRED, "hf://OWNER/NAME, or hf://OWNER/NAME@BRANCH; it is made where it does not exist", "Data")
    report: str = option("", "report.json of jobs.evaluate on this bundle, for the card", "Card")
    license: str = option("", "license of the weights for the card, such as apache-2.0", "Card")
    message: str = option("", "message of the commit; default: the bundle's id", "Hub")
    private: bool = option(False, "make a new repository private; one that exists stays as it is", "Hub")
    dry_run: bool = option(False, "print the card and the files, and send nothing", "Hub")
    timeout: float = option(1800.0, "seconds after which the upload is given up", "Hub", above=0)


def run(config: Config) -> str:
    """Publishes, prints the pinned name and returns it; "" for a dry run. Raises UserError."""
    from ray_app.cli import next_command
    from ray_app.evaluation import hub_upload, model_card
    from ray_app.inference import bundle as bundles
    from ray_app.storage import hub

    place = hub.parse(config.to)
    check(not place.path, f"--to {config.to}: a bundle is a whole repository; {hub.WRITE}")
    check(not hub.is_pinned(config.to), f"--to {config.to}: a commit is never written again; name a branch, or none")
    bundle = bundles.load(config.bundle)
    text = model_card.card(bundle, config.to, config.license, _report(config, bundle))
    files = sorted(str(path.relative_to(bundle.path)) for path in bundle.path.rglob("*") if path.is_file())
    files = [name for name in files if name != bundles.CARD]
    _warn_of_paths(bundle)
    if config.dry_run:
        print(text)
        size = sum((bundle.path / name).stat().st_size for name in files)
        print(f"bundle {bundle.id}, {len(files)} files, {size / 1e6:.1f} MB, would go to {config.to}; nothing was sent")
        return ""
    upload = hub_upload.Upload(
        uri=config.to,
        folder=str(bundle.path),
        files=tuple(files),
        card=text,
        private=config.private,
        message=config.message or f"Bundle {bundle.id}",
    )
    name = f"{hub.SCHEME}{place.repository}@{hub_upload.push(upload, config.timeout)}"
    print(f"bundle {bundle.id} is at {name}")
    print(f"Next: {next_command('analyze', input='YOUR_REVIEWS.parquet', bundle=name, output='runs/analyses')}")
    return name


def _report(config: Config, bundle: "Bundle") -> "EvaluationReport | None":
    """The report for the card. Raises UserError where it is of another bundle."""
    from ray_app import storage

    if not config.report:
        log.info("the card has validation figures only; --report runs/evaluation/report.json brings each keyword's")
        return None
    report: EvaluationReport = storage.read_json(config.report)
    judged = isinstance(report, dict) and "keywords" in report and "bundle" in report
    check(judged, f"--report {config.report}: not a report of jobs.evaluate")
    check(
        report["bundle"] == bundle.id,
        f"--report {config.report}: of bundle {report['bundle']}, not of {bundle.id}; evaluate the one to be published",
    )
    return report


def _warn_of_paths(bundle: "Bundle") -> None:
    """Says which paths of this machine bundle.json names: its hashes hold them, so they go along."""
    found = sorted(set(OWN_PATH.findall((bundle.path / "bundle.json").read_text(encoding="utf-8"))))
    if found:
        log.warning("bundle.json names paths of the machine that trained it, and they are published: %s", found[:3])
