"""What would go wrong on this machine, on the cluster a job would join, and with its data, before anything runs.

In: environment (RAY_ADDRESS and RAY_API_SERVER_ADDRESS name a cluster), and whichever of input, bundle and output are
given. Out: a line a check with what to do about it, and exit code 1 where one fails. No check takes longer than
`--seconds`, and none prints a credential or a review.
"""

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ray_app.catalog import node_checks
from ray_app.cli import FAILED
from ray_app.errors import UserError, check, first_line
from ray_app.options import Options, option

GB = 1e9
CVE = "whoever reaches it runs code here (CVE-2023-48022); start Ray with RAY_AUTH_MODE=token, as cluster.yaml does"
REFUSED = (401, 403)


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.analyze doctor`."""

    input: str = option("", "reviews that a job is to read", "Data")
    columns: str = option("", "column names where they are not found: review_id=NAME,text=NAME", "Data")
    keep: tuple[str, ...] = option((), "columns that pass through", "Data")
    bundle: str = option("", "bundle that a job is to use", "Data")
    output: str = option("", "folder that a job is to write", "Data")
    dashboard: str = option(
        "", "URL of Ray's dashboard; default: RAY_API_SERVER_ADDRESS, or port 8265 of this machine", "Cluster"
    )
    seconds: float = option(20.0, "the longest that one check may take", "Cluster", above=0)


@dataclass(frozen=True)
class CheckResult:
    """What a check found; `level` is ok, warn or fail."""

    level: str
    said: str


Check = Callable[[Config], Iterator[CheckResult]]


def run(config: Config) -> int:
    """Prints a line a finding; 1 where one failed."""
    worst = 0
    for name, examine in CHECKS.items():
        for finding in _bounded(examine, config):
            worst |= finding.level == "fail"
            print(f"{finding.level:<5} {name:<10} {finding.said}", flush=True)
    return FAILED if worst else 0


def _bounded(examine: Check, config: Config) -> list[CheckResult]:
    """A check's findings; what it raises, or that it did not end in time, is one too."""
    found: list[CheckResult] = []

    def work() -> None:
        try:
            found.extend(examine(config))
        except UserError as error:
            found.append(CheckResult("fail", str(error)))
        except Exception as error:  # whatever breaks a check is what the user asked to hear of
            found.append(CheckResult("fail", f"{type(error).__name__}: {first_line(error)}"))

    thread = threading.Thread(target=work, daemon=True)  # one that hangs does not hold up the exit
    thread.start()
    thread.join(config.seconds)
    return [*found, CheckResult("fail", f"no answer in {config.seconds:g} s")] if thread.is_alive() else found


def _machine(config: Config) -> Iterator[CheckResult]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield _judged(memory >= 4 * GB, f"{cores} CPUs, {memory / GB:.0f} GB of memory", "a worker needs 1 to 4 GB")
    if Path("/dev/shm").is_dir():
        shared = shutil.disk_usage("/dev/shm").total
        remedy = "Ray's object store will lie on disk; docker run --shm-size, or an emptyDir with medium: Memory"
        yield _judged(shared >= 0.25 * min(memory, 8 * GB), f"/dev/shm {shared / GB:.1f} GB", remedy)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    yield _judged(free >= 5 * GB, f"{tempfile.gettempdir()}: {free / GB:.0f} GB free", "Ray spills objects there")


def _token(config: Config) -> Iterator[CheckResult]:
    """How a client here would identify itself. Ray looks at the variable, the file it may name, the default file."""
    mode, named = os.environ.get("RAY_AUTH_MODE", ""), os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    remote = _remote()
    if remote and mode != "token":
        yield CheckResult("fail", f"RAY_AUTH_MODE is {mode or 'not set'}, with {remote}; export RAY_AUTH_MODE=token")
    elif mode == "disabled":
        yield CheckResult("warn", "RAY_AUTH_MODE=disabled: a Ray started here is open; leave it unset or write token")
    else:
        yield CheckResult(
            "ok", f"RAY_AUTH_MODE={mode}" if mode else "RAY_AUTH_MODE is not set: on for a Ray of one process"
        )
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    if not path.is_file():
        level = "fail" if mode == "token" else "ok"
        yield CheckResult(level, f"no token in {path}; ray get-auth-token --generate, or the cluster's own token there")
    elif path.stat().st_mode & 0o077:
        yield CheckResult("warn", f"{path} can be read by other users; chmod 600 {path}")


def _dashboard(config: Config) -> Iterator[CheckResult]:
    """Whether the job API runs a stranger's code: what it says to a request without a token."""
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
            "warn", f"it listens at {address} too; ray start --dashboard-host=127.0.0.1 and an SSH tunnel"
        )


def _cluster(config: Config) -> Iterator[CheckResult]:
    """Joins the cluster that RAY_ADDRESS names, and asks each node."""
    if not os.environ.get("RAY_ADDRESS") or _remote().startswith("http"):
        yield CheckResult("ok", "RAY_ADDRESS names none: a job would start a Ray of its own here")
        return
    import ray

    from ray_app import cluster

    cluster.start()
    total = ray.cluster_resources()
    memory, objects = (total.get(name, 0) / GB for name in ("memory", "object_store_memory"))
    counts = f"{len(node_checks.alive())} nodes, {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"
    yield CheckResult("ok", f"{counts}, {memory:.0f} GB of memory, {objects:.1f} GB object store")
    if not total.get("CPU"):
        yield CheckResult("warn", "no CPU for tasks now: well if the cluster grows, else give nodes CPUs")
    if not total.get("GPU"):
        yield CheckResult("warn", "no GPU now: --device auto takes CPUs, --device cuda waits until GPU nodes are there")
    yield from _differences([uri for uri in (config.input, config.bundle, config.output) if uri.startswith("s3://")])


def _differences(uris: list[str]) -> Iterator[CheckResult]:
    """Versions must be those of this process on all nodes, and credentials must reach them."""
    own = node_checks.node_report([])[0]
    for address, (versions, refused) in node_checks.everywhere(uris).items():
        other = [f"{name} {versions[name]} (here {own[name]})" for name in own if versions[name] != own[name]]
        if other:
            yield CheckResult(
                "fail", f"node {address}: {', '.join(other)}; install deploy/requirements.lock everywhere"
            )
        yield from (CheckResult("fail", f"node {address}: {line}") for line in refused)
    yield CheckResult("ok", ", ".join(f"{name} {version}" for name, version in own.items()))


def _buckets(config: Config) -> Iterator[CheckResult]:
    """Credentials are there if a bucket can be listed; which they are is nobody's business."""
    from ray_app import storage

    for bucket in sorted({"/".join(uri.split("/")[:3]) for uri in (config.input, config.bundle, config.output)}):
        if bucket.startswith("s3://"):
            storage.exists(bucket)
            yield CheckResult("ok", f"{bucket} can be listed")


def _input(config: Config) -> Iterator[CheckResult]:
    if not config.input:
        return
    import pyarrow.parquet as pq

    from ray_app import storage
    from ray_app.data import reviews
    from ray_app.data.columns import find_columns

    files = storage.list_files(reviews.resolve_input(config.input), ".parquet")
    check(files, f"{config.input}: no Parquet files there")
    filesystem, path = storage.resolve(files[0].uri)
    with filesystem.open_input_file(path) as source:
        parquet = pq.ParquetFile(source)
        columns = find_columns(parquet.schema_arrow, config.columns, config.keep, files[0].uri)
    size = sum(file.size for file in files) / GB
    yield CheckResult(
        "ok", f"{len(files):,} files, {size:.2f} GB; the first: review_id={columns.review_id} text={columns.text}"
    )


def _bundle(config: Config) -> Iterator[CheckResult]:
    if not config.bundle:
        return
    from ray_app.inference import bundle

    model = bundle.load(config.bundle)
    yield CheckResult("ok", f"{config.bundle}: {model.id}, {len(model.meta.thresholds)} keywords, every hash right")


def _output(config: Config) -> Iterator[CheckResult]:
    """Writes an object where the output will be, and removes it; on disk in the nearest folder that is there."""
    if not config.output:
        return
    from ray_app import storage

    place = config.output
    if "://" not in place:
        here = Path(storage.absolute(place))
        place = str(next(folder for folder in (here, *here.parents) if folder.exists()))
    probe = storage.join(place, f".nunchi-doctor-{uuid.uuid4().hex}")
    storage.write_bytes(probe, b"")
    storage.remove(probe)
    if "://" in place:
        yield CheckResult("ok", f"{place}: can be written")
        return
    free = shutil.disk_usage(place).free
    yield _judged(free >= 10 * GB, f"{place}: can be written, {free / GB:.0f} GB free", "analyses take 1 kB a review")


def _judged(well: bool, said: str, remedy: str) -> CheckResult:
    return CheckResult("ok", said) if well else CheckResult("warn", f"{said}; {remedy}")


def _remote() -> str:
    """The cluster that the environment names, if any."""
    return os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_API_SERVER_ADDRESS") or ""


def _dashboard_url(config: Config) -> str:
    named = [config.dashboard, os.environ.get("RAY_API_SERVER_ADDRESS", ""), _remote()]
    url = next((name for name in named if name.startswith("http")), "http://127.0.0.1:8265")
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
