"""Where "Try a review" gets its analyses: a running endpoint, or a bundle loaded in this process.

Both answer `analyze(text)` and `explain(text)` alike. Errors are a UserError of one line.
"""

from threading import Lock
from typing import Protocol, TypedDict, cast

from ray_app import storage
from ray_app.data.rows import FindingRow
from ray_app.errors import UserError, check
from ray_app.inference.bundle import load
from ray_app.inference.bundle_names import location
from ray_app.serving.client import Client

PATIENCE = 4.0  # seconds to wait for an endpoint before the page says that it does not answer


class Analysis(TypedDict):
    """The result for one review."""

    keyword_probabilities: list[float]
    findings: list[FindingRow]
    truncated: bool


class MaskedWord(TypedDict):
    """A word of the review and its span in code points."""

    word: str
    start: int
    end: int


class Explanation(TypedDict):
    """`drops` has one number per word for each found keyword: how much its probability falls without the word."""

    words: list[MaskedWord]
    drops: dict[str, list[float]]


class ReviewAnalyzer(Protocol):
    """What analyzes a review."""

    location: str  # an address or a folder
    bundle_id: str
    scores: list[int]  # the bundle's scale, ascending

    def analyze(self, text: str) -> Analysis:
        """Findings of one review."""

    def explain(self, text: str) -> Explanation:
        """What each word contributes to each found keyword."""


class Endpoint:
    """A running `jobs.serve`. Raises UserError where it does not answer, or refuses a review."""

    def __init__(self, url: str, token: str | None) -> None:
        self.location, self.client = url, Client(url, token, patience=PATIENCE)
        version, taxonomy = self.client.version(), self.client.taxonomy()
        check("bundle" in version and "scores" in taxonomy, f"{url}: answers, but is not Nunchi's endpoint")
        self.bundle_id, self.scores = str(version["bundle"]), list(taxonomy["scores"])

    def analyze(self, text: str) -> Analysis:
        """Findings of one review."""
        answer = self.client.request([text])
        reasons = "".join(row["reason"] for row in answer["rejected"])
        check(answer["analyses"], reasons or "no answer")
        return answer["analyses"][0]

    def explain(self, text: str) -> Explanation:
        """What each word contributes to each found keyword."""
        return cast(Explanation, self.client.explain(text))  # JSON has no types


class LocalBundle:
    """A bundle loaded in this process; sessions take turns."""

    def __init__(self, bundle: str, words: str = "space") -> None:
        from ray_app.inference.analyzer import Analyzer  # torch takes seconds: only where there is no endpoint

        self.location, self.bundle_id = bundle, load(bundle).id
        self.analyzer, self.lock = Analyzer(bundle, words=words), Lock()
        self.scores = list(self.analyzer.runtime.meta.taxonomy.scores)

    def analyze(self, text: str) -> Analysis:
        """Findings of one review."""
        with self.lock:
            return self.analyzer([text])[0]

    def explain(self, text: str) -> Explanation:
        """What each word contributes to each found keyword."""
        with self.lock:
            return self.analyzer.explain(text)


def bundle_version(bundle: str) -> str:
    """Size and time of bundle.json: changes when the bundle is replaced, so that the page loads it again. "": none."""
    if bundle.startswith("hf://"):  # the page asks at every click; a hub is asked once
        return bundle
    try:
        info = storage.stat(storage.join(location(bundle), "bundle.json"))
    except UserError:
        return ""
    return f"{info.uri} {info.size} {info.version}"
