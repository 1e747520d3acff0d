"""Names of a hub through Ray's workers: each node fetches the bundle itself, at the commit that the driver saw."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ray_app import storage
from ray_app.inference import bundle
from tests.support.agreeing_labels import write_labels
from tests.support.bundles import make_bundle, sample_texts
from tests.support.fake_hub import FakeHub
from tests.support.paths import ROOT

pytestmark = pytest.mark.ray

DRIVER = """
import sys
from ray_app.catalog import analyze
from ray_app.training import train

folder, name = sys.argv[1:]
given = {"bundle": name, "output": f"{folder}/out", "placement": "fused", "highlights": "off"}
analyze.run(analyze.Config(input=f"{folder}/reviews.jsonl", device="cpu", **given))
given = {"base_model": name, "output": f"{folder}/tuned", "epochs": 1, "tune": "head", "workers": 1}
train.run(train.Config(labels=f"{folder}/labels.jsonl", device="cpu", **given))
"""


def test_a_catalog_and_a_training_read_a_hub_through_workers(ray_cluster: Any, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", score_form="joint")
    write_labels(tmp_path / "bundle", tmp_path / "labels.jsonl", count=12)
    rows = ({"id": str(number), "text": text} for number, text in enumerate(sample_texts(12)))
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "reviews.jsonl").write_text("\n".join(lines), encoding="utf-8")
    files = {path for path in (tmp_path / "bundle").rglob("*") if path.is_file()}
    with FakeHub() as hub:
        commit = hub.commit("shop/reviews", {str(p.relative_to(tmp_path / "bundle")): p.read_bytes() for p in files})
        own = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0"}
        workers = {"env_vars": {**own, "NUNCHI_CACHE": str(tmp_path / "node"), "PYTHONPATH": str(ROOT)}}
        told = {
            **own,
            "NUNCHI_CACHE": str(tmp_path / "driver"),
            "RAY_ADDRESS": ray_cluster.get_runtime_context().gcs_address,
            "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": workers}),
        }
        command = [sys.executable, "-c", DRIVER, str(tmp_path), "hf://shop/reviews"]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **told}, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    name = f"hf://shop/reviews@{commit}"
    run = storage.read_json(str(tmp_path / "out" / "_run.json"))
    assert (run["config"]["bundle"], run["bundle"]) == (name, bundle.load(str(tmp_path / "bundle")).id)
    assert len(storage.read_parquet(str(tmp_path / "out" / "data"))) == 12
    assert bundle.load(str(tmp_path / "tuned")).meta.provenance["config"]["base_model"] == name  # type: ignore[index]
    for cache in ("driver", "node"):
        assert list((tmp_path / cache).rglob("bundle.json")), f"no copy of the bundle in the cache of the {cache}"
