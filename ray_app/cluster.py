"""Joins a Ray cluster or starts one on this machine, shares its CPUs, and turns its failures into one line.

In: the environment (RAY_ADDRESS names a cluster). Out: a process that is connected to Ray. Only executors, deployments
and jobs call this.
"""

import gc
import logging
import os
import re
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from ray_app.errors import UserError, check, no_space

T = TypeVar("T")
RESERVED = 0.5  # CPUs left for reading and writing
CORE_LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"  # of Ray's C++ core
AUTH_MODE, AUTH_TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
ANSWERS = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # a call that changes nothing, refused without a token like the rest
OPEN = "anyone who reaches it can run code there; start it with RAY_AUTH_MODE=token, see SECURITY.md"
log = logging.getLogger(__name__)
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception): ")


def start(**settings: object) -> None:
    """Joins the cluster that RAY_ADDRESS names (as `ray job submit` sets it), else starts one in this process.

    `settings` go to `ray.init` where a cluster is started; a process that is connected already keeps its connection.
    """
    import ray
    import ray.data  # it sets its loggers' levels when it is imported

    if ray.is_initialized():
        return
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # What workers print is mostly Ray's own chatter: it stays in Ray's logs, and the jobs report their own progress.
    quiet: dict[str, object] = {"logging_level": "ERROR", "log_to_driver": False}
    if joined():
        ray.init(**quiet)
        if answers_strangers(address()):
            log.warning("warning: the Ray cluster at %s asks for no token: %s", address(), OPEN)
        return
    # With few CPUs Ray would stop a worker that reads or commits between two units and start another for the next one.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
    _own_token()
    with _quiet_core():
        ray.init("local", include_dashboard=False, **{**quiet, **settings})


def _own_token() -> None:
    """A random token for the Ray that starts here, whatever the environment says: Ray's processes, its job API among
    them, listen at every address of the machine. They inherit it; no file holds it, and no other user can read it.
    """
    from ray import _raylet as core  # there is no public way to change it after Ray's import

    os.environ[AUTH_MODE], os.environ[AUTH_TOKEN] = "token", secrets.token_hex(32)
    core.Config.initialize("")  # type: ignore[attr-defined, unused-ignore]
    core.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined, unused-ignore]


@contextmanager
def silenced() -> Iterator[None]:
    """What is written to stdout and stderr within the block is lost, whoever writes it: for the end of a job."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number, _ in kept:
        os.dup2(nowhere, number)
    try:
        yield
    finally:
        for number, own in kept:
            os.dup2(own, number)
            os.close(own)
        os.close(nowhere)


def leave() -> None:
    """Ends this process's connection, and with it the Ray that it started."""
    import ray

    ray.shutdown()


def without_token(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child that is no process of Ray's: it has no use for the token."""
    return {name: value for name, value in environment.items() if name not in (AUTH_MODE, AUTH_TOKEN)}


def answers_strangers(address: str) -> bool:
    """Whether the control service (GCS) at HOST:PORT answers a call without a token."""
    import grpc

    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(ANSWERS)
        try:
            call(b"", timeout=10)
        except grpc.RpcError:
            return False
    return True


@contextmanager
def _quiet_core() -> Iterator[None]:
    """A driver that connects within the block logs only fatal errors of Ray's C++ core, in its own log and on stderr.

    Ray Data passes every actor two object references, which the core reports as an error in each run
    (github.com/ray-project/ray/issues/57733). The core reads its level from the C environment, once, when the driver
    connects. `os.putenv` leaves `os.environ` alone, which Ray's other processes get: their logs stay complete. Setting
    the level is itself logged before it holds, so that line is taken out of what stderr got meanwhile. Users who set a
    level, or ask for Ray's logs on stderr, get what they ask for.
    """
    if CORE_LOG_LEVEL in os.environ or "RAY_LOG_TO_STDERR" in os.environ:
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    os.putenv(CORE_LOG_LEVEL, "fatal")
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.unsetenv(CORE_LOG_LEVEL)
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            os.write(2, b"".join(line for line in written if CORE_LOG_LEVEL.encode() not in line))


def cpus() -> float:
    """CPUs of the cluster now."""
    import ray

    return float(ray.cluster_resources().get("CPU", 0))


def gpus() -> float:
    """GPUs of the cluster now."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0))


def memory() -> float:
    """Bytes of memory that the cluster now has for tasks and actors."""
    import ray

    return float(ray.cluster_resources().get("memory", 0))


def connected() -> bool:
    """Whether this process is connected to a Ray."""
    if "ray" not in sys.modules:  # importing it takes a second
        return False
    import ray

    return bool(ray.is_initialized())


def joined() -> bool:
    """True where the environment names a cluster instead of this process starting its own; such a cluster may grow."""
    return bool(os.environ.get("RAY_ADDRESS"))


def address() -> str:
    """HOST:PORT of the cluster's control service (GCS), which lives as long as the cluster."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def listens(address: str) -> bool:
    """True where something accepts connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 5).close()
    except OSError:
        return False
    return True


def wants_gpu(device: str) -> bool:
    """True where models run on GPUs: `auto` takes those the cluster has now, `cuda` waits for a cluster that may grow.

    Raises UserError for `cuda` where this process started the cluster and it has no GPU.
    """
    check(device != "cuda" or gpus() or joined(), "--device cuda: there is no GPU here; write --device cpu")
    return device == "cuda" or (device == "auto" and gpus() > 0)


def cpus_for(processes: int, least: float = 0.5) -> float:
    """CPUs for each of `processes`: an equal share of the cluster's, `least` or more, leaving RESERVED for the rest."""
    return max(least, (cpus() - RESERVED) / processes)


def check_fits(processes: int, each: float, what: str, flags: str) -> None:
    """Raises UserError where `processes` of `each` CPUs exceed the cluster: one without its CPUs would wait forever.

    Args:
        what: the processes, as the message names them.
        flags: the flags that lower their number or size.
    """
    spare = cpus() - RESERVED
    check(
        processes * each <= spare + 1e-6,
        f"{what} x {each:g} CPUs are more than the {spare:g} there are to share; lower {flags}",
    )


def check_gpus(processes: int, each: float, what: str, flags: str) -> None:
    """Raises UserError where this process's own cluster, which cannot grow, has fewer GPUs; see `check_fits`."""
    now = gpus()
    check(
        joined() or processes * each <= now + 1e-6,
        f"{what} x {each:g} GPUs are more than the {now:g} there are; lower {flags}",
    )


def stream(rows: Iterable[T], step: str, remedy: str = "") -> Iterator[T]:
    """Yields a Ray Data pipeline's rows. Raises UserError of one line, ending in `remedy`, where the pipeline fails.

    The failed pipeline is kept alive by its exception and by reference cycles; until they are collected its actors hold
    their CPUs, and the next run in this process waits forever. So `rows` must be the only reference to the pipeline.
    """
    from ray.exceptions import RayError

    reason = ""
    try:
        yield from rows
    except RayError as error:
        reason = cause(error)
    if reason:
        del rows
        gc.collect()
        raise UserError(f"{step} failed: {reason}{remedy}")


def cause(error: BaseException) -> str:
    """One line: the last exception named in Ray's message that is not Ray's own, else the message's last line.

    Ray Data ends its messages with advice and names the exception above it.
    """
    if full := no_space(error):
        return full
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if _EXCEPTION.match(line) and not line.startswith("ray.")]
    return (named or lines or [type(error).__name__])[-1][:300]
