"""An autoscaling cluster on one machine, whose nodes are processes; and, as a script, a burst of work and its nodes.

run: python -m tests.support.autoscaling_nodes --plot nodes.svg

Node types and their bounds are those of cluster.yaml, with two CPUs a worker and an idle time of seconds. Ray's
`AutoscalingCluster` is not used: it ends every Ray of the machine.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT
from tests.support.ray_head import Head, free_port, head

HEAD_NODE_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # what the provider calls the head
CPUS = 2
NOTHING: dict[str, Any] = {  # what the autoscaler wants to be there, of nodes that are reached by SSH
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "rsync_exclude": [],
    "rsync_filter": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}


@contextlib.contextmanager
def fake_nodes(idle_seconds: float, max_workers: int) -> Iterator[Head]:
    """A head without CPUs that starts a node, a process of this machine, whenever work asks for one."""
    shipped, port = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8")), free_port()
    types = {
        name: {**kind, "node_config": {}, "resources": {**kind["resources"], "CPU": CPUS}}
        for name, kind in shipped["available_node_types"].items()
        if name != "head"
    }
    fake_head = {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0}
    config = {
        **NOTHING,
        "cluster_name": "fake",
        "max_workers": max_workers,
        "upscaling_speed": shipped["upscaling_speed"],
        "idle_timeout_minutes": idle_seconds / 60,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": f"127.0.0.1:{port}",
            "head_node_id": HEAD_NODE_ID,
            "use_node_id_as_ip": True,  # all nodes have one address
            "disable_node_updaters": True,  # nothing to install by SSH
            "disable_launch_config_check": True,
        },
        "available_node_types": {"ray.head.default": fake_head, **types},
        "head_node_type": "ray.head.default",
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "autoscaling.yaml")
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        own = {"RAY_FAKE_CLUSTER": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_NODE_ID}
        faster = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_ENABLE_CLUSTER_STATUS_LOG": "0"}
        with head(0, [f"--autoscaling-config={file}"], port, **own, **faster) as started:
            yield started


class Unit:
    """A stage that takes a second for a unit of work, as an actor of a pool."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(1)
        return batch


def burst(units: int, workers: int, gpus: float = 0) -> None:
    """Units of work through a pool that may grow to `workers` actors of one CPU (and a share of a GPU) each."""
    import ray.data

    share = {"num_gpus": gpus} if gpus else {}
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
    rows = ray.data.range(units, override_num_blocks=units)
    rows = rows.map_batches(Unit, batch_size=1, num_cpus=1, compute=pool, **share)
    assert rows.count() == units


def measure(units: int, workers: int, gpus: float = 0) -> dict[str, Any]:
    """Runs a burst on the cluster of RAY_ADDRESS; nodes by time until none is left."""
    import ray

    ray.init(log_to_driver=False, logging_level="ERROR")
    began, series, stop = time.monotonic(), [(0.0, 0, 0)], threading.Event()

    def record() -> None:
        while not stop.wait(0.25):
            alive = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != HEAD_NODE_ID]
            with_gpu = sum("GPU" in node["Resources"] for node in alive)
            series.append((round(time.monotonic() - began, 2), len(alive), with_gpu))

    thread = threading.Thread(target=record)
    thread.start()
    try:
        burst(units, workers, gpus)
        done = time.monotonic() - began
        while series[-1][1] and time.monotonic() - began < done + 90:
            time.sleep(0.25)
    finally:
        stop.set()
        thread.join()
    peak = max(nodes for _, nodes, _ in series)
    return {
        "units": units,
        "peak_nodes": peak,
        "peak_gpu_nodes": max(with_gpu for _, _, with_gpu in series),
        "seconds_to_first_node": next((at for at, nodes, _ in series if nodes), None),
        "seconds_to_peak": next(at for at, nodes, _ in series if nodes == peak),
        "seconds_of_work": round(done, 1),
        "seconds_to_none": series[-1][0] if not series[-1][1] else None,
        "series": series,
    }


def plot(found: dict[str, Any], path: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3))
    at, nodes, _ = zip(*found["series"], strict=True)
    axes.step(at, nodes, where="post")
    axes.axvline(found["seconds_of_work"], color="grey", linestyle=":", label="work done")
    axes.set(xlabel="seconds", ylabel="worker nodes", title=f"{found['units']} units of a second each")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=120)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--gpus", type=float, default=0)
    parser.add_argument("--max-nodes", type=int, default=3)
    parser.add_argument("--idle-seconds", type=float, default=6)
    parser.add_argument("--plot", default="")
    wanted = parser.parse_args()
    if "RAY_ADDRESS" in os.environ:
        print(json.dumps(measure(wanted.units, wanted.workers, wanted.gpus)))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the nodes are ended then too
    with fake_nodes(wanted.idle_seconds, wanted.max_nodes) as cluster:
        driver = (
            "python",
            "-m",
            "tests.support.autoscaling_nodes",
            *sys.argv[1:],
        )  # its death leaves the cluster to be ended here
        done = cluster.run(*driver, seconds=600, RAY_ADDRESS=cluster.gcs, PYTHONPATH=str(ROOT))
    if done.returncode:
        sys.exit(done.stderr)
    if wanted.plot:
        plot(json.loads(done.stdout), wanted.plot)
    print(done.stdout.strip())


if __name__ == "__main__":
    main()
