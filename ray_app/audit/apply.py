"""People's decisions on suspects -> a new version of the labels. No label changes without a decision."""

from dataclasses import dataclass

from ray_app.cli import next_command
from ray_app.options import Options, option


@dataclass(frozen=True, kw_only=True)
class ApplyConfig(Options):
    """Options of `jobs.audit apply`."""

    labels: str = option("sample", "the labels that were audited", "Data")
    decisions: str = option("runs/audit/decisions.csv", "decisions: keep, fix or drop under action", "Data")
    output: str = option("runs/labels", "folder for the new version; must be empty", "Data")
    taxonomy: str = option("default", "default, labels or a YAML file", "Data")


def apply(config: ApplyConfig) -> dict[str, str | int]:
    """Writes the new version and its history; returns its URI under `labels`, and how many decisions of each kind."""
    from ray_app.labels import decisions, reader

    taxonomy = reader.taxonomy_of(config.labels, config.taxonomy)
    applied = decisions.run(config.labels, config.decisions, config.output, taxonomy)
    print(", ".join(f"{name} {value}" for name, value in applied.items()))
    command = next_command("audit compare", before=config.labels, after=applied["labels"], taxonomy=config.taxonomy)
    print(f"Next: {command}")
    return applied
