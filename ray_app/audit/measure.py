"""How many planted errors an audit finds."""

from dataclasses import dataclass
from typing import Any

from ray_app.audit.audit import Config, out_of_fold_view, read_audited
from ray_app.options import as_dict, option


@dataclass(frozen=True, kw_only=True)
class MeasureConfig(Config):
    """Options of `jobs.audit measure`: those of an audit, and what is planted."""

    share: float = option(
        0.04, "of the keyword labels, and of the scores, that are made wrong", "Planting", above=0, below=0.5
    )
    how: str = option(
        "labels",
        "wrong are labels of each keyword, as many lost as added, or any cells",
        "Planting",
        ("labels", "cells"),
    )


def measure(config: MeasureConfig) -> dict[str, Any]:
    """Plants errors in labels, audits them, and says how many it finds; writes measure.md and measure.json."""
    from ray_app import storage
    from ray_app.audit import planted_errors
    from ray_app.audit.planted_errors import plant
    from ray_app.audit.suspects import find_suspects

    found, table, test = read_audited(config)
    planted = plant(table, found.taxonomy, config.share, config.seed, config.how)
    view = out_of_fold_view(config, planted.table, found.taxonomy)
    audited = find_suspects(planted.table, found.taxonomy, view, test)
    report = planted_errors.report(planted, audited, found.taxonomy)
    text = planted_errors.markdown(report, f"{config.share:.0%} of {config.how} of {config.labels}, {config.model}")
    print(text)
    storage.write_bytes(storage.join(config.output, "measure.md"), text.encode())
    storage.write_json(storage.join(config.output, "measure.json"), report | {"config": as_dict(config)})
    storage.remove(storage.join(config.output, "folds"))
    return report
