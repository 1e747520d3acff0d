"""What a cluster says for itself: its dashboard to a stranger, its nodes to a job. Called by `doctor`."""

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from ray_app.errors import UserError

VERSIONS = ("ray", "torch", "transformers", "pyarrow")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def status(url: str) -> int:
    """HTTP status of the job API without a token; 0 where nothing answers. No proxy, no credentials of any file."""
    import requests

    session = requests.Session()
    session.trust_env = False
    try:
        return int(session.get(f"{url}/api/jobs/", timeout=5, allow_redirects=False).status_code)
    except requests.RequestException:
        return 0


def elsewhere(url: str) -> Iterator[str]:
    """Addresses of this machine, beside loopback, where the same port answers."""
    import ray.util

    place = urlsplit(url)
    own = ray.util.get_node_ip_address()
    if place.hostname not in LOOPBACK:
        yield str(place.hostname)
    elif not own.startswith("127."):
        try:
            socket.create_connection((own, place.port or 80), timeout=2).close()
        except OSError:
            return
        yield own


def alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def everywhere(uris: list[str]) -> dict[str, tuple[dict[str, str], list[str]]]:
    """What `look` finds on every node of the cluster that was joined, by the node's address."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0)(node_report)
    answers = {}
    for node in alive():
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answers[f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"] = ask.options(
            scheduling_strategy=place
        ).remote(uris)
    return {address: ray.get(answer) for address, answer in answers.items()}


def node_report(uris: list[str]) -> tuple[dict[str, str], list[str]]:
    """On a node: versions that results depend on, and the places that cannot be listed from there."""
    import platform
    from importlib.metadata import version

    from ray_app import __version__, storage

    refused = []
    for uri in uris:
        try:
            storage.exists(uri)
        except UserError as error:
            refused.append(str(error))
    packages = {name: version(name) for name in VERSIONS}
    return {"nunchi": __version__, "Python": platform.python_version(), **packages}, refused
