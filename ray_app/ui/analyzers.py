"""Where "Try a review" gets its analyses: a running endpoint, or a bundle loaded here. Both answer `analyze(text)`
and `explain(text)` alike; their errors are UserError with one line.
"""

from threading import Lock
from typing import Any, Protocol

from ray_app import storage
from ray_app.errors import UserError, check
from ray_app.inference.bundle import load
from ray_app.serving.client import Client

PATIENCE = 4.0  # seconds to wait for an endpoint before the page says that it does not answer


class Source(Protocol):
    """What analyses a review."""

    where: str  # an address or a folder
    bundle: str  # the bundle's id
    scale: list[int]  # its scores, ascending

    def analyze(self, text: str) -> dict[str, Any]:
        """One analysis: keyword_probabilities, findings, truncated."""

    def explain(self, text: str) -> dict[str, Any]:
        """`words` and, per found keyword, the drop of each."""


class Endpoint:
    """A running `jobs.serve`."""

    def __init__(self, url: str, token: str | None) -> None:
        self.where, self.client = url, Client(url, token, patience=PATIENCE)
        version, taxonomy = self.client.version(), self.client.taxonomy()
        check("bundle" in version and "scores" in taxonomy, f"{url}: answers, but is not Nunchi's endpoint")
        self.bundle, self.scale = str(version["bundle"]), list(taxonomy["scores"])

    def analyze(self, text: str) -> dict[str, Any]:
        answer = self.client.request([text])
        check(answer["analyses"], "".join(str(lost["reason"]) for lost in answer["rejected"]) or "no answer")
        analysis: dict[str, Any] = answer["analyses"][0]
        return analysis

    def explain(self, text: str) -> dict[str, Any]:
        return self.client.explain(text)


class Here:
    """A bundle in this process; sessions take turns."""

    def __init__(self, bundle: str, words: str = "space") -> None:
        from ray_app.inference.analyzer import Analyzer  # torch takes seconds: only where there is no endpoint

        self.where, self.bundle = bundle, load(bundle).id
        self.analyzer, self.turn = Analyzer(bundle, words=words), Lock()
        self.scale = list(self.analyzer.runtime.meta.taxonomy.scores)

    def analyze(self, text: str) -> dict[str, Any]:
        with self.turn:
            return self.analyzer([text])[0]

    def explain(self, text: str) -> dict[str, Any]:
        with self.turn:
            return self.analyzer.explain(text)


def stamp(folder: str) -> str:
    """What changes when a bundle is replaced by another, so that the page loads it again."""
    try:
        filesystem, path = storage.resolve(storage.join(folder, "bundle.json"))
        info = filesystem.get_file_info(path)
    except (OSError, UserError):
        return ""
    return f"{info.size} {info.mtime_ns}" if info.is_file else ""
