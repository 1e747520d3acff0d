"""The same graph online, on Ray Serve: a gateway in front of the stages, fused in one deployment or one each.

    HTTP -> gateway -> stages (keywords, scores, highlights) -> gateway -> HTTP

In: a bundle. Out: an endpoint. `run` is what `jobs.serve` calls; `app` is what a `serve.yaml` names.
"""

import math
import os
import sys
import time
import uuid
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray_app.errors import UserError, check, closest, first_line
from ray_app.options import Options, option
from ray_app.serving.process import StopSignals, check_port, ended, is_loopback, start_page

APP = "nunchi"
REPLICAS = 4  # at most, where none are asked for: each holds the models
STOP_SECONDS = 20.0  # beside the draining: Serve ends its processes


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.serve`."""

    bundle: str = option("runs/quickstart/bundle", "bundle that jobs.train wrote", "Endpoint", common=True)
    host: str = option(
        "127.0.0.1", "address to listen at; any other than loopback needs a token", "Endpoint", common=True
    )
    port: int = option(8000, "port to listen at", "Endpoint", least=1, most=65_535, common=True)
    token_file: str = option(
        "", "file with the token every request must carry; or NUNCHI_TOKEN", "Endpoint", common=True
    )
    insecure: bool = option(False, "listen at any address without a token", "Endpoint")
    page: bool = option(False, "serve the page too, at 127.0.0.1", "Page", common=True)
    page_port: int = option(8501, "port of the page", "Page", least=1, most=65_535)
    analyses: str = option("runs/quickstart/analyses", "folder of analyses that the page shows", "Page", common=True)
    report: str = option(
        "runs/quickstart/evaluation/report.json", "evaluation report that the page shows", "Page", common=True
    )
    highlights: str = option(
        "exact", "the word behind every keyword, or off", "Analysis", ("exact", "off"), common=True
    )
    words: str = option("space", "what a word is", "Analysis", ("space", "kiwi"))
    max_reviews: int = option(256, "reviews a request may hold", "Limits", above=0)
    max_body_bytes: int = option(8_000_000, "bytes a request may have", "Limits", above=0)
    deadline_seconds: float = option(30.0, "a request that waits longer is dropped with 408", "Limits", above=0)
    queue_seconds: float = option(5.0, "work that may wait; beyond it requests get 503", "Limits", above=0)
    queue_rows: int = option(10_000, "reviews that may wait in a replica", "Limits", above=0)
    batch_tokens: int = option(
        0, "tokens per batch, masked variants included; 0 for half a second's", "Limits", least=0
    )
    placement: str = option(
        "whole",
        "HTTP and all stages in one process (whole), a gateway before all stages (fused), or before one each (pools)",
        "Cluster",
        ("whole", "fused", "pools"),
    )
    replicas: int = option(
        0, "replicas of each deployment, 0 for one per GPU, or per CPU, four at most", "Cluster", least=0, common=True
    )
    max_replicas: int = option(
        0, "replicas it may grow to under load, 0 for no autoscaling", "Cluster", least=0, common=True
    )
    cpus_per_replica: float = option(
        0.0, "CPUs a replica reserves and uses as threads, 0 for an equal share", "Cluster", least=0
    )
    gpus_per_replica: float = option(
        0.0, "GPUs (or a share of one) a replica reserves, 0 for an equal share", "Cluster", least=0
    )
    device: str = option("auto", "where the classifiers run", "Cluster", ("auto", "cpu", "cuda"))
    drain_seconds: float = option(30.0, "time for requests under way when stopping", "Cluster", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            not self.max_replicas or self.max_replicas >= self.replicas,
            f"--max-replicas {self.max_replicas}: at least --replicas {self.replicas}",
        )


def run(config: Config) -> None:
    """Serves until it is told to stop, then lets requests under way finish."""
    from ray_app import cluster

    check_port("--host", config.host, "--port", config.port)
    if config.page:
        check(find_spec("streamlit"), "--page: needs streamlit and duckdb; pip install -e '.[page]'")
        check_port("the page at", "127.0.0.1", "--page-port", config.page_port)
    token = _admit(config)
    cluster.start()  # before our own: Ray has signal handlers of its own, which print a stack and abort
    signals = StopSignals()
    url = _deploy(config, token)
    signals.started = True
    print(f"bundle {config.bundle} at {url}/analyze; docs at {url}/docs; Ctrl-C stops it", flush=True)
    page = start_page(config, url, token) if config.page else None
    while not signals.seen and (page is None or page.poll() is None):
        time.sleep(0.2)
    print("stopping: requests under way finish", flush=True)
    if page is not None:
        page.terminate()
    address = cluster.address()
    if not ended(stop, lambda: cluster.listens(address), config.drain_seconds + STOP_SECONDS):
        print("Ray was gone, or hung: requests under way were cut", file=sys.stderr, flush=True)
        os._exit(1)  # what is left of Ray in this process would wait a minute for it, and print a stack


def start(config: Config) -> str:
    """Deploys the endpoint, or changes one that runs to this config, and returns its URL when it is ready."""
    from ray_app import cluster

    token = _admit(config)
    cluster.start()
    return _deploy(config, token)


def _deploy(config: Config, token: str) -> str:
    """On a Ray that runs; the URL, when the endpoint is ready."""
    from ray import serve

    serve.start(http_options={"host": config.host, "port": config.port}, logging_config=_quiet())
    try:
        serve.run(
            _application(config, token, within=not os.environ.get("RAY_ADDRESS")),
            name=APP,
            route_prefix="/",
            logging_config=_quiet(),
        )
    except RuntimeError as error:
        raise UserError(f"the endpoint did not start: {first_line(error)}") from None
    return f"http://{'127.0.0.1' if config.host in ('0.0.0.0', '::') else config.host}:{config.port}"


def _admit(config: Config) -> str:
    """The token; raises UserError before anything starts."""
    from ray_app.inference import bundle

    token = _token(config)
    check(
        token or config.insecure or is_loopback(config.host),
        f"--host {config.host}: reachable from elsewhere; set NUNCHI_TOKEN or --token-file, or write --insecure",
    )
    bundle.load(config.bundle)
    return token


def stop() -> None:
    """Takes no more requests, lets those under way finish, and ends Serve."""
    from ray import serve

    serve.delete(APP)
    serve.shutdown()


def app(arguments: dict[str, Any]) -> Any:
    """What `import_path: ray_app.serve:app` of a serve.yaml builds; `arguments` are the options of `jobs.serve`."""
    known = [field.name for field in fields(Config)]
    for name in arguments:
        check(name in known, f"args: unknown option {name!r}{closest(name, known)}")
    config = Config(**arguments)
    token = _token(config)
    check(token or config.insecure, "args: set NUNCHI_TOKEN or token_file, or write insecure: true")
    return _application(config, token)  # a cluster may grow


def _application(config: Config, token: str, within: bool = False) -> Any:
    """Deployments of the stages and the gateway in front of them; `within` what CPUs there are now, or refused."""
    from ray import serve

    from ray_app import storage
    from ray_app.serving import http_app
    from ray_app.serving.deployments import Gateway, Replica, SingleProcessReplica
    from ray_app.serving.replica_engine import ReplicaOptions, groups

    config = replace(config, replicas=config.replicas or _replicas(config, within))
    whole = config.placement == "whole"
    limits = asdict(http_app.Limits(config.max_reviews, config.max_body_bytes, config.deadline_seconds))
    secret = http_app.hashed(token) if token else ""
    stages = groups(config.highlights, config.placement != "pools")
    resources = _resources(config, len(stages), within)
    pools = []
    for names in stages:
        ways = ReplicaOptions(
            names=names,
            last=names == stages[-1],
            highlights=config.highlights,
            words=config.words,
            device=config.device,
            threads=math.ceil(resources["num_cpus"]),
            batch_tokens=config.batch_tokens,
            queue_seconds=config.queue_seconds,
            queue_rows=config.queue_rows,
        )
        deployment = serve.deployment(
            serve.ingress()(SingleProcessReplica) if whole else Replica,
            name="whole" if whole else "-".join(names),
            ray_actor_options=resources,
            max_ongoing_requests=config.queue_rows,  # every request that waits is here, where it can be gathered
            user_config={"bundle": storage.absolute(config.bundle)},
            graceful_shutdown_timeout_s=config.drain_seconds,
            health_check_period_s=5,
            **_size(config),
        )
        if whole:
            return deployment.bind(asdict(ways), limits, secret, uuid.uuid4().hex)
        pools.append(deployment.bind(asdict(ways), config.deadline_seconds))
    front = serve.deployment(
        serve.ingress()(Gateway),
        name="gateway",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=2 * config.queue_rows,
        max_queued_requests=config.queue_rows,
        graceful_shutdown_timeout_s=config.drain_seconds,
    )
    return front.bind(pools, limits, secret)


def _replicas(config: Config, within: bool) -> int:
    """One a GPU. On CPUs several with few threads each: a thread that HTTP takes the CPU from holds up the others."""
    import ray

    from ray_app import cluster

    if not within or not ray.is_initialized() or config.max_replicas or config.placement == "pools":
        return 1
    room = cluster.gpus() if cluster.wants_gpu(config.device) else cluster.cpus() / max(1.0, config.cpus_per_replica)
    return max(1, min(REPLICAS, int(room)))


def _resources(config: Config, deployments: int, within: bool) -> dict[str, float]:
    """Each replica's share of the cluster, what is free shared evenly; without one, as for `serve build`, one CPU."""
    import ray

    from ray_app import cluster

    if not ray.is_initialized():
        shares = {"num_cpus": config.cpus_per_replica or 1.0, "num_gpus": config.gpus_per_replica}
        return {name: share for name, share in shares.items() if share}
    gpu = cluster.wants_gpu(config.device)
    count = max(config.replicas, config.max_replicas) * deployments
    cpus = config.cpus_per_replica or (1.0 if gpu else cluster.cpus_for(count, least=0.1))
    if within and not config.max_replicas:
        cluster.check_fits(count, cpus, f"{count} replicas", "--replicas or --cpus-per-replica")
    gpus = config.gpus_per_replica or min(1.0, cluster.gpus() / count)
    return {"num_cpus": cpus, **({"num_gpus": gpus} if gpu else {})}


def _size(config: Config) -> dict[str, Any]:
    if not config.max_replicas:
        return {"num_replicas": config.replicas}
    limits = {"min_replicas": config.replicas, "max_replicas": config.max_replicas}
    return {"autoscaling_config": {**limits, "target_ongoing_requests": 32, "upscale_delay_s": 10.0}}


def _token(config: Config) -> str:
    """The token of --token-file, else of NUNCHI_TOKEN; empty for none."""
    if not config.token_file:
        return os.environ.get("NUNCHI_TOKEN", "").strip()
    try:
        token = Path(config.token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(f"--token-file {config.token_file}: {error.strerror}") from None
    check(token, f"--token-file {config.token_file}: empty")
    return token


def _quiet() -> dict[str, Any]:
    return {"log_level": "WARNING", "enable_access_log": False}
