"""Checks of a cluster for `doctor`: what its dashboard answers without a token, and what each node has.

In: the dashboard's URL; URIs that nodes must reach. Out: an HTTP status, addresses, versions and refusals per node.
"""

import socket
from collections.abc import Iterator
from typing import TypedDict
from urllib.parse import urlsplit

from ray_app.errors import UserError

VERSIONS = ("ray", "torch", "transformers", "pyarrow")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RayNode(TypedDict):
    """A node as `ray.nodes()` lists it; the keys that are used here."""

    NodeID: str
    NodeManagerAddress: str
    NodeManagerPort: int
    Alive: bool


def status(url: str) -> int:
    """HTTP status of the job API without a token, through no proxy and with no credentials; 0 for no answer."""
    import requests

    session = requests.Session()
    session.trust_env = False
    try:
        return int(session.get(f"{url}/api/jobs/", timeout=5, allow_redirects=False).status_code)
    except requests.RequestException:
        return 0


def elsewhere(url: str) -> Iterator[str]:
    """Addresses of this machine other than loopback at which the URL's port answers."""
    import ray.util

    parts = urlsplit(url)
    own = ray.util.get_node_ip_address()
    if parts.hostname not in LOOPBACK:
        yield str(parts.hostname)
    elif not own.startswith("127."):
        try:
            socket.create_connection((own, parts.port or 80), timeout=2).close()
        except OSError:
            return
        yield own


def alive() -> list[RayNode]:
    """The nodes of the joined cluster that are alive."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def everywhere(uris: list[str]) -> dict[str, tuple[dict[str, str], list[str]]]:
    """HOST:PORT of every node of the joined cluster -> its `node_report`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0)(node_report)
    reports = {}
    for node in alive():
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        address = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        reports[address] = task.options(scheduling_strategy=strategy).remote(uris)
    return {address: ray.get(report) for address, report in reports.items()}


def node_report(uris: list[str]) -> tuple[dict[str, str], list[str]]:
    """This node's versions that results depend on, and a line for each of `uris` that cannot be listed from it."""
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
