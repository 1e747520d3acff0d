"""Decisions of an audit -> a new version of the labels."""

from dataclasses import dataclass
from typing import Any

from ray_app.options import Options, option


@dataclass(frozen=True, kw_only=True)
class ApplyConfig(Options):
    """Options of `jobs.audit apply`."""

    labels: str = option("sample", "the labels that were audited", "Data")
    decisions: str = option("runs/audit/decisions.csv", "decisions: keep, fix or drop under action", "Data")
    output: str = option("runs/labels", "folder for the new version; must be empty", "Data")
    taxonomy: str = option("default", "default, labels or a YAML file", "Data")


def apply(config: ApplyConfig) -> dict[str, Any]:
    """Writes the labels as people decided, as a new version with its history."""
    from ray_app.labels import decisions, reader

    known = reader.read_labels(config.labels, config.taxonomy).taxonomy
    done = decisions.run(config.labels, config.decisions, config.output, known)
    print(", ".join(f"{name} {value}" for name, value in done.items()))
    return done
