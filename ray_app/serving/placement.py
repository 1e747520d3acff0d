"""How many replicas there are and what each reserves. In: options, and the cluster that runs. Out: numbers."""

from ray_app import cluster
from ray_app.errors import check
from ray_app.serving.options import Config

LEAST_GPU = 0.25  # so four replicas per GPU at most, unless told otherwise: each holds the models and its batches
REPLICAS = 4  # at most, by default: each holds the models


def replicas(config: Config, fixed_size: bool) -> int:
    """One per GPU. On CPUs several with few threads each: where HTTP takes a thread's CPU, its whole model waits."""
    if not fixed_size or not cluster.connected() or config.max_replicas or config.placement == "pools":
        return 1
    room = cluster.gpus() if cluster.wants_gpu(config.device) else cluster.cpus() / max(1.0, config.cpus_per_replica)
    return max(1, min(REPLICAS, int(room)))


def resources(config: Config, deployments: int, fixed_size: bool) -> dict[str, float]:
    """Each replica's CPUs and GPUs: an equal share of the cluster's; one CPU where no cluster runs (`serve build`)."""
    if not cluster.connected():
        shares = {"num_cpus": config.cpus_per_replica or 1.0, "num_gpus": config.gpus_per_replica}
        return {name: share for name, share in shares.items() if share}
    gpu = cluster.wants_gpu(config.device)
    count = max(config.replicas, config.max_replicas) * deployments
    cpus = config.cpus_per_replica or (1.0 if gpu else cluster.cpus_for(count, least=0.1))
    if fixed_size and not config.max_replicas:
        cluster.check_fits(count, cpus, f"{count} replicas", "--replicas or --cpus-per-replica")
    return {"num_cpus": cpus, **({"num_gpus": _gpus(config, count, deployments, fixed_size)} if gpu else {})}


def _gpus(config: Config, count: int, deployments: int, fixed_size: bool) -> float:
    """GPUs, or the share of one, of each of `count` replicas. Raises UserError where a fixed cluster lacks them.

    Where none is there yet a whole one is asked for per replica of the graph: less would let several meet on the first
    that comes.
    """
    now = cluster.gpus()
    share = config.gpus_per_replica or max(LEAST_GPU, min(1.0, now / count) if now else 1.0 / deployments)
    check(
        not fixed_size or config.max_replicas or count * share <= now + 1e-6,
        f"{count} replicas x {share:g} GPUs are more than the {now:g} there are; lower --replicas",
    )
    return share
