"""The graph online, on Ray Serve: all stages in one process with HTTP, or behind a gateway, together or one each.

    HTTP -> gateway -> stages (keywords, scores, highlights) -> gateway -> HTTP

In: a bundle. Out: an endpoint. `jobs.serve` calls `run`; a `serve.yaml` names `app`.
"""

import logging
import math
import os
import time
import uuid
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_app.errors import UserError, check, closest, pip_install
from ray_app.serving.options import Config
from ray_app.serving.process import StopSignals, check_port, ended, is_loopback, open_door, read_token, start_page

if TYPE_CHECKING:
    from ray.serve import Application, Deployment

    from ray_app.inference.bundle import Bundle
    from ray_app.serving.deployments import Replica
    from ray_app.serving.door import Door
    from ray_app.serving.hosts import AllowedHosts
    from ray_app.serving.replica_engine import ReplicaOptions

__all__ = ["Config", "app", "run", "start", "stop"]
APP = "nunchi"
STOP_SECONDS = 20.0  # after draining, for Serve to end its processes
log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Serves until a signal stops it, then lets requests under way finish."""
    from ray_app import cluster
    from ray_app.cli import next_command

    check_port("--host", config.host, "--port", config.port)
    if config.page:
        check(find_spec("streamlit"), f"--page needs streamlit and duckdb: {pip_install('page')}")
        check_port("the page at", "127.0.0.1", "--page-port", config.page_port)
    token, bundle = _admit(config)
    door = None if cluster.joined() else _front_door(config, token)
    cluster.start()  # before our signal handlers: Ray sets its own, which print a stack and abort
    signals = StopSignals()
    url = _deploy(config, token, door)
    signals.started = True
    size = f"{len(bundle.meta.taxonomy.names)} keywords"
    print(f"bundle {config.bundle} ({size}) at {url}/analyze; docs at {url}/docs; Ctrl-C stops it", flush=True)
    print(f"Next: {next_command('load', url=url, bundle=config.bundle)}", flush=True)
    page = start_page(url, token, config) if config.page else None
    while not signals.received and (page is None or page.poll() is None):
        time.sleep(0.2)
    log.info("stopping: requests under way finish")
    if page is not None:
        page.terminate()
    address = cluster.address()
    with cluster.silenced():  # Serve and Ray tell of every process that ends
        done = ended(
            lambda: stop(door, config.drain_seconds),
            lambda: cluster.listens(address),
            config.drain_seconds + STOP_SECONDS,
        )
        if done:
            cluster.leave()
    if not done:
        log.error("Ray was gone, or hung: requests under way were cut off")
        os._exit(1)  # a normal exit would wait a minute for Ray, and print a stack


def start(config: Config) -> str:
    """Deploys the endpoint, or changes a running one to this config; returns its URL when it is ready.

    Raises UserError where the config or the bundle is wrong, or the endpoint does not start.
    """
    from ray_app import cluster

    token, _ = _admit(config)
    cluster.start()
    return _deploy(config, token)


def _deploy(config: Config, token: str, door: "Door | None" = None) -> str:
    """Deploys on a running Ray, behind the door if there is one; the URL when the endpoint is ready."""
    from ray import serve

    from ray_app import cluster

    host, port = door.upstream if door else (config.host, config.port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # of this process: the lines below are our own
    serve.start(http_options={"host": host, "port": port}, logging_config=_quiet())
    try:
        serve.run(
            _application(config, token, fixed_size=not cluster.joined(), sockets=door.sockets if door else None),
            name=APP,
            route_prefix="/",
            logging_config=_quiet(),
        )
    except RuntimeError as error:
        reason = cluster.cause(error).removeprefix("ray_app.errors.UserError: ")
        raise UserError(f"the endpoint did not start: {reason}") from None
    if door:
        door.ready = True
    return f"http://{'127.0.0.1' if config.host in ('0.0.0.0', '::') else config.host}:{config.port}"


def _front_door(config: Config, token: str) -> "Door":
    """Replicas that answer HTTP themselves are asked without Serve's proxy, but where Serve must see requests to know
    when more replicas are needed."""
    from ray_app.serving.door.upstreams import sockets_folder

    direct = config.placement == "whole" and not config.max_replicas
    sockets = sockets_folder() if direct else None
    return open_door(config.host, config.port, _hosts(config, token), sockets=sockets)


def _hosts(config: Config, token: str) -> "AllowedHosts":
    from ray_app.serving.hosts import allowed_hosts

    return allowed_hosts(config.host, config.allowed_hosts, token=bool(token))


def _admit(config: Config) -> "tuple[str, Bundle]":
    """The token and the bundle. Raises UserError where either, or a threshold, is wrong, before anything starts."""
    from ray_app.inference import bundle as bundles
    from ray_app.inference import thresholds

    token = read_token(config.token_file)
    check(
        token or config.insecure or is_loopback(config.host),
        f"--host {config.host}: reachable from elsewhere; set NUNCHI_TOKEN or --token-file, or write --insecure",
    )
    bundle = bundles.load(config.bundle)
    thresholds.applied(bundle, config.thresholds)
    return token, bundle


def stop(door: "Door | None" = None, drain_seconds: float = 0.0) -> None:
    """Refuses new requests, lets those under way finish, and ends Serve."""
    from ray import serve

    if door:
        door.ready = False
        door.settle(drain_seconds)  # Serve does not know of requests that it has not passed on
    serve.delete(APP)
    serve.shutdown()
    if door:
        door.close()


def app(arguments: dict[str, Any]) -> "Application":
    """Builds the endpoint for `import_path: ray_app.serving.serve:app` of a serve.yaml.

    `arguments` are the options of `jobs.serve`. Raises UserError naming the first wrong one.
    """
    known = [field.name for field in fields(Config)]
    for name in arguments:
        check(name in known, f"args: unknown option {name!r}{closest(name, known)}")
    config = Config(**{"host": "0.0.0.0", **arguments})  # the cluster's own HTTP options say where it listens
    token = read_token(config.token_file)
    check(token or config.insecure, "args: set NUNCHI_TOKEN or token_file, or write insecure: true")
    return _application(config, token)  # a cluster may grow


def _application(config: Config, token: str, fixed_size: bool = False, sockets: Path | None = None) -> "Application":
    """The deployments. With `fixed_size` the cluster cannot grow; in `sockets` replicas listen besides.

    Raises UserError where replicas need more CPUs than a cluster of fixed size has.
    """
    from ray import serve

    from ray_app import cluster
    from ray_app.inference import bundle_names
    from ray_app.inference.bundle import read_summary
    from ray_app.serving import http_app, placement
    from ray_app.serving.deployments import Replica, SingleProcessReplica
    from ray_app.serving.replica_engine import stage_groups

    config = replace(
        config,
        replicas=config.replicas or placement.replicas(config, fixed_size),
        # pinned, so that a replica that starts later serves the same; `serve build` asks no store
        bundle=(bundle_names.pinned if cluster.connected() else bundle_names.absolute)(config.bundle),
    )
    limits = http_app.Limits(
        reviews=config.max_reviews,
        body_bytes=config.max_body_bytes,
        deadline_seconds=config.deadline_seconds,
        hosts=_hosts(config, token),
    )
    token_hash = http_app.hashed(token) if token else ""
    pools = config.placement == "pools"
    groups = stage_groups(config.highlights, not pools, read_summary(config.bundle) if pools else None)
    resources = placement.resources(config, len(groups), fixed_size)
    threads = math.ceil(resources["num_cpus"])
    options = [_replica_options(config, stages, stages == groups[-1], threads) for stages in groups]
    if config.placement == "whole":
        whole = _stage_deployment(config, serve.ingress()(SingleProcessReplica), "whole", resources)
        return whole.bind(options[0], limits, token_hash, uuid.uuid4().hex, str(sockets or ""))
    stages = [
        _stage_deployment(config, Replica, "-".join(each.stages), resources).bind(each, config.deadline_seconds)
        for each in options
    ]
    return _gateway_deployment(config).bind(stages, limits, token_hash)


def _replica_options(config: Config, stages: tuple[str, ...], last: bool, threads: int) -> "ReplicaOptions":
    from ray_app.inference.thresholds import content
    from ray_app.serving.replica_engine import ReplicaOptions

    return ReplicaOptions(
        thresholds=content(config.thresholds),  # as text: others have no such file
        stages=stages,
        last=last,
        highlights=config.highlights,
        opinions=config.opinions,
        words=config.words,
        device=config.device,
        threads=threads,
        batch_tokens=config.batch_tokens,
        queue_seconds=config.queue_seconds,
        queue_rows=config.queue_rows,
    )


def _stage_deployment(config: Config, replica: "type[Replica]", name: str, resources: dict[str, float]) -> "Deployment":
    from ray import serve

    return serve.deployment(
        replica,
        name=name,
        ray_actor_options=resources,
        max_ongoing_requests=config.queue_rows,  # requests wait in the replica, where they can be batched
        user_config={"bundle": config.bundle},  # a file that names its own replaces all of this
        graceful_shutdown_timeout_s=config.drain_seconds,
        health_check_period_s=5,
        **_replica_count(config),
    )


def _gateway_deployment(config: Config) -> "Deployment":
    from ray import serve

    from ray_app.serving.deployments import Gateway

    return serve.deployment(
        serve.ingress()(Gateway),
        name="gateway",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=2 * config.queue_rows,
        max_queued_requests=config.queue_rows,
        graceful_shutdown_timeout_s=config.drain_seconds,
    )


def _replica_count(config: Config) -> dict[str, object]:
    """Fixed, or the bounds of autoscaling, as `serve.deployment` takes them."""
    if not config.max_replicas:
        return {"num_replicas": config.replicas}
    limits = {"min_replicas": config.replicas, "max_replicas": config.max_replicas}
    return {"autoscaling_config": {**limits, "target_ongoing_requests": 32, "upscale_delay_s": 10.0}}


def _quiet() -> dict[str, object]:
    """Serve's logging_config without its INFO lines and access log."""
    return {"log_level": "WARNING", "enable_access_log": False}
