"""cluster.yaml against Ray's own schema, and the promises its comments make."""

from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parents[1] / "cluster.yaml"


def content() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    return loaded


def test_ray_accepts_it() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(content()))


def test_the_head_does_no_work_and_workers_start_at_none() -> None:
    types = content()["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert all(kind["min_workers"] == 0 for kind in types.values())


def test_every_node_starts_with_token_authentication_and_a_closed_dashboard() -> None:
    config = content()
    starts = [line for key in ("head_start_ray_commands", "worker_start_ray_commands") for line in config[key]]
    starts = [line for line in starts if "ray start" in line]
    assert len(starts) == 2
    assert all(line.startswith("RAY_AUTH_MODE=token ") for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
