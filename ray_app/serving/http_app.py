"""The endpoint's HTTP side: routes, limits, the token, errors, metrics. No Ray here.

In: a Service that analyzes tables. Out: an ASGI application. Errors are one line of JSON that names the field; they
show no path, no traceback and no text of a review.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pydantic_core
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from ray_app import __version__
from ray_app.data.text import is_blank
from ray_app.serving import protocol
from ray_app.serving.batcher import BatchResult
from ray_app.serving.guard import HEALTH, READY, Guard, error
from ray_app.serving.hosts import AllowedHosts
from ray_app.serving.plain_requests import INTERNAL, Answer, PlainRequests
from ray_app.serving.prometheus import EndpointMetrics

FIELD_CHARACTERS = 200  # of a field's name that are shown: the client may have chosen it
ANALYSIS_ERRORS = (400, 401, 408, 413, 415, 421, 422, 503)
NO_TIME = "X-Timeout-Seconds: write a number above 0"
NO_OBJECT = "the body must be a JSON object in UTF-8, sent with Content-Type: application/json"


class Service(Protocol):
    """What answers behind the routes. Deadlines are seconds since the epoch."""

    async def analyze(self, table: pa.Table, deadline: float) -> BatchResult:
        """The rows of `table` (`protocol.ROW`) with the analysis columns, or a refusal."""

    async def explain(self, text: str, deadline: float) -> Mapping[str, object] | BatchResult:
        """What `Occlusion.explain` returns for the text, or a refusal."""

    async def info(self) -> dict[str, dict[str, object]]:
        """`version` and `taxonomy`: the responses of the routes of these names."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may ask for, and how long routes wait for the models to load."""

    reviews: int = 256
    body_bytes: int = 8_000_000
    deadline_seconds: float = 30.0
    ready_seconds: float = 5.0
    hosts: AllowedHosts = field(default_factory=AllowedHosts)


def build_app(service: Service, limits: Limits, token_hash: str = "") -> ASGIApp:
    """The ASGI application. `token_hash` is `hashed(token)`; "" leaves the routes open."""
    counters = EndpointMetrics()
    app = FastAPIOffline(
        title="Nunchi",
        version=__version__,
        description="Which keywords a review speaks of, how the customer feels about each, and which words say so.",
        redoc_url=None,  # its script asks another host for a logo
    )
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    _add_analyze(app, service, limits, counters)
    _add_explain(app, service, limits)
    _add_information(app, service, limits, counters)
    app.openapi()["components"]["schemas"]["AnalyzeRequest"]["properties"]["reviews"]["maxItems"] = limits.reviews
    plain = PlainRequests(app, _plain_answer(service, limits, counters), limits.reviews)
    routes = {str(getattr(route, "path", "")) for route in app.routes}
    return Guard(plain, routes, limits.body_bytes, token_hash, counters, limits.hosts)


def _plain_answer(service: Service, limits: Limits, counters: EndpointMetrics) -> Answer:
    async def answer(accepted: protocol.Accepted, timeout: str) -> Response:
        seconds = _seconds(timeout, limits)
        if seconds is None:
            return error(422, NO_TIME)
        return await _analyzed(service, counters, accepted, time.time() + seconds)

    return answer


async def _analyzed(
    service: Service, counters: EndpointMetrics, accepted: protocol.Accepted, deadline: float
) -> Response:
    result = await service.analyze(accepted.table, deadline)
    counters.batch(result.stats)
    if result.refused:
        return refusal(result, accepted.table["text"].to_pylist(), accepted.index)
    content = protocol.build_response(accepted, result.table, result.failed)
    counters.reviews.labels("analysed").inc(len(content["analyses"]))
    counters.reviews.labels("rejected").inc(len(content["rejected"]))
    return Response(pydantic_core.to_json(content), media_type="application/json")


def hashed(token: str) -> str:
    """The only form in which a token is sent inside the cluster."""
    return hashlib.sha256(token.encode()).hexdigest()


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    descriptions = {
        400: "two Authorization headers",
        401: "no token, or a wrong one",
        408: "the deadline passed before this request's turn",
        413: "the body is too large, or the reviews for the deadline",
        415: "the body is compressed",
        421: "this host name is not served here",
        422: "a field is invalid",
        503: "too much is waiting, or the models are not ready; see Retry-After",
    }
    return {status: {"model": protocol.Error, "description": descriptions[status]} for status in statuses}


def _add_analyze(app: FastAPI, service: Service, limits: Limits, counters: EndpointMetrics) -> None:
    @app.post("/analyze", response_model=protocol.AnalyzeResponse, responses=_errors(*ANALYSIS_ERRORS))
    async def analyze(request: Request, body: protocol.AnalyzeRequest) -> Response:
        """Analyses of the reviews, in their order; reviews that cannot be analyzed are listed with the reason."""
        if len(body.reviews) > limits.reviews:
            return error(422, f"{len(body.reviews)} reviews, over the limit of {limits.reviews} per request", "reviews")
        deadline = _deadline(request, limits)
        return await _analyzed(service, counters, protocol.parse_request(body), deadline)


def _add_explain(app: FastAPI, service: Service, limits: Limits) -> None:
    @app.post("/explain", response_model=protocol.ExplainResponse, responses=_errors(*ANALYSIS_ERRORS))
    async def explain(request: Request, body: protocol.ExplainRequest) -> Response:
        """How much each word of one review contributes to each of its keywords: the drop when the word is masked."""
        if is_blank(body.text):
            return error(422, "empty text", "text")
        explanation = await service.explain(body.text, _deadline(request, limits))
        if isinstance(explanation, BatchResult):
            return refusal(explanation, [body.text])
        return JSONResponse(protocol.round_floats(explanation))


def _add_information(app: FastAPI, service: Service, limits: Limits, counters: EndpointMetrics) -> None:
    @app.get("/taxonomy", response_model=dict[str, Any], responses=_errors(401, 503))
    async def taxonomy() -> Response:
        """Keywords with their guidelines, and the scale of scores."""
        return JSONResponse((await _info(service, limits, counters))["taxonomy"])

    @app.get("/version", response_model=dict[str, Any], responses=_errors(401, 503))
    async def version() -> Response:
        """The bundle behind the answers: its id, file hashes and metrics; `update` says failed where another one was
        asked for, by the name `wanted`, and could not be loaded."""
        return JSONResponse((await _info(service, limits, counters))["version"])

    @app.head(HEALTH, include_in_schema=False)
    @app.get(HEALTH, response_model=dict[str, str])
    async def health() -> Response:
        """200 while this process runs."""
        return JSONResponse({"status": "alive"})

    @app.head(READY, include_in_schema=False)
    @app.get(READY, response_model=dict[str, str], responses=_errors(503))
    async def ready() -> Response:
        """200 when the models are loaded and have answered."""
        await _info(service, limits, counters)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=Response, responses={**_errors(401), 200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Prometheus: requests, latency, batches, queue, rejected reviews, tokens, the bundle in use."""
        with suppress(Exception):  # whatever the replicas do; the gauges stay as they were
            await _info(service, limits, counters)
        return Response(counters.text(), media_type="text/plain; version=0.0.4")


async def _info(service: Service, limits: Limits, counters: EndpointMetrics) -> dict[str, dict[str, object]]:
    try:
        info = await asyncio.wait_for(service.info(), limits.ready_seconds)
    except TimeoutError:
        raise HTTPException(503, "the models are not loaded yet", {"Retry-After": "1"}) from None
    counters.serves(info["version"])
    return info


def _deadline(request: Request, limits: Limits) -> float:
    """Seconds since the epoch. Raises HTTPException."""
    seconds = _seconds(request.headers.get("x-timeout-seconds", ""), limits)
    if seconds is None:
        raise HTTPException(422, NO_TIME)
    return time.time() + seconds


def _seconds(header: str, limits: Limits) -> float | None:
    """How long a request may take: the limit, or a shorter time by `X-Timeout-Seconds`; None where that is no time."""
    try:
        seconds = float(header) if header else limits.deadline_seconds
    except ValueError:
        return None
    return min(seconds, limits.deadline_seconds) if 0 < seconds < float("inf") else None


def refusal(result: BatchResult, texts: Sequence[str], index: Sequence[int] = ()) -> Response:
    """503, 408, 413 or 422 for a request that was not run: its texts, and where each was in the request."""
    if result.refused == "unable":
        return error(422, "nothing can be explained: the tokenizer of this bundle has no mask token", "text")
    if result.refused == "late":
        return error(408, "the deadline passed before this request's turn; try again or send fewer reviews")
    if result.refused == "large":
        reviews, characters = max(1, int(len(texts) * result.share)), int(sum(map(len, texts)) * result.share)
        most = f"{reviews:,} such reviews, {characters:,} characters in all"
        return error(413, f"more work than its deadline allows: send at most {most}")
    if result.refused == "long":
        row = result.failed[0]
        place = f"reviews[{index[row]}]" if index else "text"
        most = f"{int(len(texts[row]) * result.share):,} characters"
        return error(413, f"it would hold up all other requests: at most {most}, or highlights: false", place)
    wait = str(result.retry_after)
    return error(503, f"too much is waiting; try again in {wait} s", headers={"Retry-After": wait})


async def _unprocessable(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    deepest = max(problem.errors(), key=lambda mistake: len(_path(mistake["loc"])))  # inside an object, not the object
    path = _path(deepest["loc"])
    field = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
    if deepest["type"] == "json_invalid" or not field:
        return error(422, NO_OBJECT)
    return error(422, deepest["msg"], "".join(ch if ch.isprintable() else "?" for ch in field[:FIELD_CHARACTERS]))


def _path(location: tuple[str | int, ...]) -> list[str | int]:
    """Keys and indices into the body, out of pydantic's `body, reviews, 3, TYPE, review_id, TYPE`."""
    return [key for depth, key in enumerate(location[1:]) if depth not in (2, 4)]


async def _http_error(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    if problem.status_code == 400:  # FastAPI's, for a body its JSON parser breaks on: bytes, depth, digits
        return error(422, NO_OBJECT)
    return error(problem.status_code, str(problem.detail), headers=dict(problem.headers or {}))


async def _unexpected(_: Request, problem: Exception) -> Response:
    return error(500, INTERNAL)
