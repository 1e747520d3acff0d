"""Options of the endpoint, as `jobs.serve` takes them and `args` of a serve.yaml."""

from dataclasses import dataclass

from ray_app.errors import check
from ray_app.options import Options, option


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.serve`."""

    bundle: str = option("ready", "bundle that jobs.train wrote; ready is the shipped one", "Endpoint", common=True)
    host: str = option("127.0.0.1", "address to listen at; any but loopback needs a token", "Endpoint", common=True)
    port: int = option(8000, "port to listen at", "Endpoint", least=1, most=65_535, common=True)
    token_file: str = option("", "file with the token requests must carry; or NUNCHI_TOKEN", "Endpoint", common=True)
    allowed_hosts: tuple[str, ...] = option(
        (), "names it is reached by besides localhost: shop.example, .shop.example for all below, * for any", "Endpoint"
    )
    insecure: bool = option(False, "listen at any address without a token", "Endpoint")
    page: bool = option(False, "also serve the page, at 127.0.0.1", "Page", common=True)
    page_port: int = option(8501, "port of the page", "Page", least=1, most=65_535)
    analyses: str = option("runs/quickstart/analyses", "folder of analyses that the page shows", "Page", common=True)
    decisions: str = option("runs/decisions", "where the page saves corrections and thresholds", "Page", common=True)
    report: str = option(
        "runs/quickstart/evaluation/report.json", "evaluation report that the page shows", "Page", common=True
    )
    highlights: str = option(
        "auto",
        "the word behind each keyword, by exact masking or attention; auto is attention where the bundle learned it",
        "Analysis",
        ("auto", "exact", "attention", "off"),
        common=True,
    )
    thresholds: str = option(
        "",
        "JSON file of thresholds in place of the bundle's own, or the same as text",
        "Analysis",
    )
    opinions: bool = option(True, "beside every highlight, the word that says the feeling", "Analysis")
    words: str = option("space", "what separates words: spaces, or Kiwi's spacing", "Analysis", ("space", "kiwi"))
    max_reviews: int = option(256, "reviews per request", "Limits", above=0)
    max_body_bytes: int = option(8_000_000, "bytes per request", "Limits", above=0)
    deadline_seconds: float = option(30.0, "seconds after which a waiting request gets 408", "Limits", above=0)
    queue_seconds: float = option(5.0, "seconds of work that may wait; beyond it requests get 503", "Limits", above=0)
    queue_rows: int = option(10_000, "reviews that may wait per replica", "Limits", above=0)
    batch_tokens: int = option(0, "tokens per batch, with masked variants; 0 for half a second's", "Limits", least=0)
    placement: str = option(
        "whole",
        "HTTP and stages in one process (whole), a gateway in front of all stages (fused) or of one pool each (pools)",
        "Cluster",
        ("whole", "fused", "pools"),
    )
    replicas: int = option(0, "replicas, 0 for one per GPU or CPU, four at most", "Cluster", least=0, common=True)
    max_replicas: int = option(0, "replicas under load, 0 for no autoscaling", "Cluster", least=0, common=True)
    cpus_per_replica: float = option(0.0, "CPUs reserved and used as threads, 0 to share evenly", "Cluster", least=0)
    gpus_per_replica: float = option(0.0, "GPUs, or a share of one, reserved; 0 to share evenly", "Cluster", least=0)
    device: str = option("auto", "where the classifiers run", "Cluster", ("auto", "cpu", "cuda"))
    drain_seconds: float = option(30.0, "seconds for requests under way to finish at a stop", "Cluster", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            not self.max_replicas or self.max_replicas >= self.replicas,
            f"--max-replicas {self.max_replicas}: at least --replicas {self.replicas}",
        )
