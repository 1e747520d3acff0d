"""Checks this machine, the cluster that a job would join, and the job's data, before anything runs.

In: environment (RAY_ADDRESS and RAY_API_SERVER_ADDRESS name a cluster), and whichever of input, bundle and output are
given. Out: one line per finding with its remedy, and exit code 1 where a check fails. No check takes longer than
`--seconds`, and none prints a credential; of reviews only the first letters of three, where a column is in doubt.
"""

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ray_app.catalog import node_checks
from ray_app.cli import FAILED
from ray_app.errors import UserError, first_line
from ray_app.options import Options, option

GB = 1e9
CVE = (
    "anyone who reaches it can run code here (CVE-2023-48022); start Ray with RAY_AUTH_MODE=token, as cluster.yaml does"
)
REFUSED = (401, 403)
UNIT_ROWS = 2_000


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.analyze doctor`."""

    input: str = option("", "reviews that the job will read", "Data")
    columns: str = option("", "column names, where they are not recognized: review_id=NAME,text=NAME", "Data")
    keep: tuple[str, ...] = option((), "columns that pass through", "Data")
    bundle: str = option("", "bundle that the job will use", "Data")
    output: str = option("", "folder that the job will write", "Data")
    dashboard: str = option(
        "", "URL of Ray's dashboard; default: RAY_API_SERVER_ADDRESS, or port 8265 of this machine", "Cluster"
    )
    seconds: float = option(20.0, "most seconds per check", "Cluster", above=0)


@dataclass(frozen=True)
class CheckResult:
    """One finding of a check."""

    level: Literal["ok", "warn", "fail"]
    message: str


Check = Callable[[Config], Iterator[CheckResult]]


def run(config: Config) -> int:
    """Prints one line per finding; returns 1 where one failed."""
    failed = False
    for name, examine in CHECKS.items():
        for result in _bounded(examine, config):
            failed |= result.level == "fail"
            print(f"{result.level:<5} {name:<10} {result.message}", flush=True)
    return FAILED if failed else 0


def _bounded(examine: Check, config: Config) -> list[CheckResult]:
    """A check's findings; an exception, or no end within `config.seconds`, is one too."""
    results: list[CheckResult] = []

    def work() -> None:
        try:
            results.extend(examine(config))
        except UserError as error:
            results.append(CheckResult("fail", str(error)))
        except Exception as error:  # whatever breaks a check is what the user wants to know
            results.append(CheckResult("fail", f"{type(error).__name__}: {first_line(error)}"))

    thread = threading.Thread(target=work, daemon=True)  # one that hangs does not hold up the exit
    thread.start()
    thread.join(config.seconds)
    return [*results, CheckResult("fail", f"no answer in {config.seconds:g} s")] if thread.is_alive() else results


def _machine(config: Config) -> Iterator[CheckResult]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield _warn_unless(memory >= 4 * GB, f"{cores} CPUs, {memory / GB:.0f} GB of memory", "a worker needs 1 to 4 GB")
    if Path("/dev/shm").is_dir():
        shared = shutil.disk_usage("/dev/shm").total
        remedy = "Ray's object store will be on disk; docker run --shm-size, or an emptyDir with medium: Memory"
        yield _warn_unless(shared >= 0.25 * min(memory, 8 * GB), f"/dev/shm {shared / GB:.1f} GB", remedy)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    yield _warn_unless(free >= 5 * GB, f"{tempfile.gettempdir()}: {free / GB:.0f} GB free", "Ray spills objects there")


def _token(config: Config) -> Iterator[CheckResult]:
    """How a client here would identify itself. Ray reads RAY_AUTH_TOKEN, then the file of RAY_AUTH_TOKEN_PATH, then
    the default file."""
    mode, token_path = os.environ.get("RAY_AUTH_MODE", ""), os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(token_path) if token_path else Path.home() / ".ray" / "auth_token"
    cluster = _cluster_address()
    if cluster and mode != "token":
        yield CheckResult("fail", f"RAY_AUTH_MODE is {mode or 'not set'}, with {cluster}; export RAY_AUTH_MODE=token")
    else:
        said = f"RAY_AUTH_MODE={mode}" if mode else "RAY_AUTH_MODE is not set"
        yield CheckResult("ok", f"{said}; a Ray that a job starts here has a random token of its own")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    if not path.is_file():
        yield CheckResult(
            "fail" if mode == "token" else "ok",
            f"no token in {path}; ray get-auth-token --generate, or put the cluster's own token there",
        )
    elif path.stat().st_mode & 0o077:
        yield CheckResult("warn", f"{path} can be read by other users; chmod 600 {path}")


def _dashboard(config: Config) -> Iterator[CheckResult]:
    """Whether the job API would run a stranger's code: what it answers to a request without a token."""
    url = _dashboard_url(config)
    status = node_checks.status(url)
    if status == 0:
        yield CheckResult("fail" if config.dashboard else "ok", f"nothing answers at {url}")
        return
    if status in REFUSED:
        yield CheckResult("ok", f"{url} refuses a request without a token ({status})")
    else:
        yield CheckResult("fail", f"{url} answers a request without a token ({status}): {CVE}")
    for address in node_checks.elsewhere(url):
        yield CheckResult(
            "warn", f"it also listens at {address}; ray start --dashboard-host=127.0.0.1 and an SSH tunnel"
        )


def _cluster(config: Config) -> Iterator[CheckResult]:
    """Joins the cluster that RAY_ADDRESS names, counts what it has, and compares its nodes with this process."""
    if not os.environ.get("RAY_ADDRESS") or _cluster_address().startswith("http"):
        yield CheckResult("ok", "RAY_ADDRESS names none: a job would start its own Ray here")
        return
    import ray

    from ray_app import cluster

    cluster.start()
    address = cluster.address()
    if cluster.answers_strangers(address):
        yield CheckResult("warn", f"{address} asks for no token: {cluster.OPEN}")
    total = ray.cluster_resources()
    memory, objects = (total.get(name, 0) / GB for name in ("memory", "object_store_memory"))
    counts = f"{len(node_checks.alive())} nodes, {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"
    yield CheckResult("ok", f"{counts}, {memory:.0f} GB of memory, {objects:.1f} GB object store")
    if not total.get("CPU"):
        yield CheckResult("warn", "no CPU for tasks now: fine if the cluster grows, else give its nodes CPUs")
    if not total.get("GPU"):
        yield CheckResult("warn", "no GPU now: --device auto takes CPUs, --device cuda waits for GPU nodes")
    yield from _differences([uri for uri in (config.input, config.bundle, config.output) if uri.startswith("s3://")])


def _differences(uris: list[str]) -> Iterator[CheckResult]:
    """Nodes whose versions are not those of this process, or from which one of `uris` cannot be listed."""
    own = node_checks.node_report([])[0]
    for address, (versions, refused) in node_checks.everywhere(uris).items():
        differing = [f"{name} {versions[name]} (here {own[name]})" for name in own if versions[name] != own[name]]
        if differing:
            yield CheckResult(
                "fail", f"node {address}: {', '.join(differing)}; install deploy/requirements.lock everywhere"
            )
        yield from (CheckResult("fail", f"node {address}: {line}") for line in refused)
    yield CheckResult("ok", ", ".join(f"{name} {version}" for name, version in own.items()))


def _buckets(config: Config) -> Iterator[CheckResult]:
    """Credentials work if a bucket can be listed; what they are is not looked at."""
    from ray_app import storage

    for bucket in sorted({"/".join(uri.split("/")[:3]) for uri in (config.input, config.bundle, config.output)}):
        if bucket.startswith("s3://"):
            storage.exists(bucket)
            yield CheckResult("ok", f"{bucket} can be listed")


def _input(config: Config) -> Iterator[CheckResult]:
    if not config.input:
        return
    from ray_app.data import reviews

    plan = reviews.plan(reviews.resolve_input(config.input), config.columns, config.keep, UNIT_ROWS, "")
    columns = plan.columns
    yield CheckResult("ok", f"{plan.rows:,} rows; review_id={columns.review_id} text={columns.text}")
    for note in plan.notes:
        yield CheckResult("warn" if note.startswith("left out") else "ok", note)
    yield from (CheckResult("warn", f"{source.file}: {source.reason}") for source in plan.unreadable)


def _bundle(config: Config) -> Iterator[CheckResult]:
    if not config.bundle:
        return
    from ray_app.inference import bundle

    model = bundle.load(config.bundle)
    yield CheckResult("ok", f"{config.bundle}: {model.id}, {len(model.meta.thresholds)} keywords, every hash right")


def _output(config: Config) -> Iterator[CheckResult]:
    """Writes an object where the output will be, and removes it; on disk in the nearest folder that exists."""
    if not config.output:
        return
    from ray_app import storage

    folder = config.output
    if "://" not in folder:
        path = Path(storage.absolute(folder))
        folder = str(next(parent for parent in (path, *path.parents) if parent.exists()))
    probe = storage.join(folder, f".nunchi-doctor-{uuid.uuid4().hex}")
    storage.write_bytes(probe, b"")
    storage.remove(probe)
    if "://" in folder:
        yield CheckResult("ok", f"{folder}: can be written")
        return
    free = shutil.disk_usage(folder).free
    message = f"{folder}: can be written, {free / GB:.0f} GB free"
    yield _warn_unless(free >= 10 * GB, message, "analyses take about 1 kB per review")


def _warn_unless(condition: bool, message: str, remedy: str) -> CheckResult:
    return CheckResult("ok", message) if condition else CheckResult("warn", f"{message}; {remedy}")


def _cluster_address() -> str:
    """The cluster that the environment names; empty where it names none."""
    return os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_API_SERVER_ADDRESS") or ""


def _dashboard_url(config: Config) -> str:
    candidates = [config.dashboard, os.environ.get("RAY_API_SERVER_ADDRESS", ""), _cluster_address()]
    url = next((url for url in candidates if url.startswith("http")), "http://127.0.0.1:8265")
    return url.rstrip("/")


CHECKS: dict[str, Check] = {
    "machine": _machine,
    "token": _token,
    "dashboard": _dashboard,
    "cluster": _cluster,
    "buckets": _buckets,
    "bundle": _bundle,
    "input": _input,
    "output": _output,
}
