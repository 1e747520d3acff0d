"""The endpoint's HTTP side: routes, limits, the token, errors, meters. No Ray in here.

In: a Service that analyses tables. Out: an ASGI application. Errors are one line of JSON that names the field; they
show no path, no traceback and no text of a review.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from ray_app import __version__
from ray_app.data.text import is_blank
from ray_app.serving import protocol
from ray_app.serving.batcher import BatchResult
from ray_app.serving.prometheus import EndpointMetrics

HEALTH = "/health"
READY_SECONDS = 5.0
FIELD = 200  # characters of a field's name that are shown: it may be the client's own
NO_OBJECT = "the body must be a JSON object in UTF-8, sent with Content-Type: application/json"
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Service(Protocol):
    """What stands behind the routes."""

    async def analyze(self, table: pa.Table, deadline: float) -> BatchResult: ...

    async def explain(self, text: str, deadline: float) -> dict[str, Any] | BatchResult: ...

    async def info(self) -> dict[str, Any]:
        """`version` and `taxonomy`, as their routes answer them."""
        ...


@dataclass(frozen=True)
class Limits:
    reviews: int = 256
    body_bytes: int = 8_000_000
    deadline_seconds: float = 30.0


def build_app(service: Service, limits: Limits, token_hash: str = "") -> Callable[..., Awaitable[None]]:
    """The ASGI application. `token_hash` is `hashed(token)`; without one the routes are open."""
    meters = EndpointMetrics()
    app = FastAPIOffline(
        title="Nunchi",
        version=__version__,
        description="Which keywords a review speaks of, how the customer feels about each, and which words say so.",
        redoc_url=None,  # its script asks another host for a logo
    )
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    _add_analyze(app, service, limits, meters)
    _add_explain(app, service, limits)
    _add_information(app, service, meters)
    app.openapi()["components"]["schemas"]["AnalyzeRequest"]["properties"]["reviews"]["maxItems"] = limits.reviews
    return Guard(app, limits, token_hash, meters)


def hashed(token: str) -> str:
    """How a token travels inside the cluster: never in the clear."""
    return hashlib.sha256(token.encode()).hexdigest()


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    said = {
        401: "no token, or not the right one",
        408: "the deadline passed before it was this request's turn",
        413: "the body is too large",
        422: "a field is not as it must be",
        503: "too much is waiting, or models are not ready; see Retry-After",
    }
    return {status: {"model": protocol.Error, "description": said[status]} for status in statuses}


def _add_analyze(app: FastAPI, service: Service, limits: Limits, meters: EndpointMetrics) -> None:
    @app.post("/analyze", response_model=protocol.AnalyzeResponse, responses=_errors(401, 408, 413, 422, 503))
    async def analyze(request: Request, body: protocol.AnalyzeRequest) -> Response:
        """Analyses of the reviews, in their order; those that cannot be analysed are listed with the reason."""
        if len(body.reviews) > limits.reviews:
            return error(422, f"{len(body.reviews)} reviews, over the limit of {limits.reviews} a request", "reviews")
        deadline = _deadline(request, limits)
        accepted = protocol.parse_request(body)
        answer = await service.analyze(accepted.table, deadline)
        meters.batch(answer.stats)
        if answer.refused:
            return refusal(answer)
        content = protocol.build_response(accepted, answer.table, answer.failed)
        meters.reviews.labels("analysed").inc(len(content["analyses"]))
        meters.reviews.labels("rejected").inc(len(content["rejected"]))
        return JSONResponse(content)


def _add_explain(app: FastAPI, service: Service, limits: Limits) -> None:
    @app.post("/explain", response_model=protocol.ExplainResponse, responses=_errors(401, 408, 413, 422, 503))
    async def explain(request: Request, body: protocol.ExplainRequest) -> Response:
        """What every word of one review contributes to each of its keywords: the drop when it is masked."""
        if is_blank(body.text):
            return error(422, "empty text", "text")
        found = await service.explain(body.text, _deadline(request, limits))
        return refusal(found) if isinstance(found, BatchResult) else JSONResponse(protocol.round_floats(found))


def _add_information(app: FastAPI, service: Service, meters: EndpointMetrics) -> None:
    @app.get("/taxonomy", response_model=dict[str, Any], responses=_errors(401, 503))
    async def taxonomy() -> Any:
        """Keywords with their guidelines, and the scale of scores."""
        return JSONResponse((await _info(service))["taxonomy"])

    @app.get("/version", response_model=dict[str, Any], responses=_errors(401, 503))
    async def version() -> Any:
        """The bundle behind the answers: its id, file hashes and metrics."""
        return JSONResponse((await _info(service))["version"])

    @app.get(HEALTH, response_model=dict[str, str])
    async def health() -> Any:
        """200 while this process lives."""
        return JSONResponse({"status": "alive"})

    @app.get("/ready", response_model=dict[str, str], responses=_errors(401, 503))
    async def ready() -> Any:
        """200 when the models are loaded."""
        await _info(service)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=Response, responses={**_errors(401), 200: {"content": {"text/plain": {}}}})
    async def metrics() -> Any:
        """Prometheus: requests, latency, batches, queue, rejected reviews, tokens."""
        return Response(meters.text(), media_type="text/plain; version=0.0.4")


async def _info(service: Service) -> dict[str, Any]:
    try:
        return await asyncio.wait_for(service.info(), READY_SECONDS)
    except TimeoutError:
        raise HTTPException(503, "the models are not loaded yet", {"Retry-After": "1"}) from None


def _deadline(request: Request, limits: Limits) -> float:
    """Seconds since the epoch; a client may ask for less time than the limit by `X-Timeout-Seconds`."""
    asked = request.headers.get("x-timeout-seconds", "")
    try:
        seconds = float(asked) if asked else limits.deadline_seconds
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise HTTPException(422, "X-Timeout-Seconds: write a number above 0")
    return time.time() + min(seconds, limits.deadline_seconds)


def error(status: int, line: str, field: str | None = None, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": line, "field": field}, status, headers)


def refusal(answer: BatchResult) -> Response:
    """503, 408 or 422 for a request that was not run."""
    if answer.refused == "unable":
        return error(422, "nothing can be explained: the tokenizer of this bundle has no mask token", "text")
    if answer.refused == "late":
        return error(408, "the deadline passed before it was this request's turn; ask again or send fewer reviews")
    wait = str(answer.retry_after)
    return error(503, f"too much is waiting; try again in {wait} s", headers={"Retry-After": wait})


async def _unprocessable(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    first = max(problem.errors(), key=lambda found: len(_place(found["loc"])))  # of text or object: what lies inside
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in _place(first["loc"])).lstrip(".")
    if first["type"] == "json_invalid" or not field:
        return error(422, NO_OBJECT)
    return error(422, first["msg"], "".join(ch if ch.isprintable() else "?" for ch in field[:FIELD]))


def _place(location: tuple[str | int, ...]) -> list[str | int]:
    """Where in the body: without the types that were tried, `reviews, 3, TYPE, review_id, TYPE`."""
    return [part for at, part in enumerate(location[1:]) if at not in (2, 4)]


async def _http_error(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    if problem.status_code == 400:  # FastAPI's for a body that breaks its JSON parser: bytes, depth, digits
        return error(422, NO_OBJECT)
    return error(problem.status_code, str(problem.detail), headers=dict(problem.headers or {}))


async def _unexpected(_: Request, problem: Exception) -> Response:
    return error(500, "something went wrong here; the log of the service says what")


class Guard:
    """In front of the routes: the token, the size of the body, and the meters."""

    def __init__(self, app: FastAPI, limits: Limits, token_hash: str, meters: EndpointMetrics) -> None:
        self.app, self.limits, self.token_hash, self.meters = app, limits, token_hash, meters
        self.routes = {str(getattr(route, "path", "")) for route in app.routes}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)  # type: ignore[arg-type]
            return
        began, status = time.monotonic(), 500

        async def noted(message: dict[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._answer(scope, receive, noted)
        finally:
            route = scope["path"] if scope["path"] in self.routes else "other"
            self.meters.answered(route, status, time.monotonic() - began)

    async def _answer(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if self.token_hash and scope["path"] != HEALTH and not self._knows(headers.get(b"authorization", b"")):
            refused = error(401, "a token is needed: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
            await refused(scope, receive, send)  # type: ignore[arg-type]
            return
        body = await self._body(headers, receive)
        if body is None:
            large = error(413, f"the body is over the limit of {self.limits.body_bytes:,} bytes; send fewer reviews")
            await large(scope, receive, send)  # type: ignore[arg-type]
            return
        await self.app(scope, _Replay(body, receive), send)  # type: ignore[arg-type]

    def _knows(self, authorization: bytes) -> bool:
        kind, _, token = authorization.partition(b" ")
        given = hashlib.sha256(token.strip()).hexdigest()
        return hmac.compare_digest(given, self.token_hash) and kind.lower() == b"bearer"

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body, or None as soon as it is over the limit."""
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:18]) > self.limits.body_bytes:
            return None
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.limits.body_bytes:
                return None
        return bytes(body)


class _Replay:
    """`receive` for a body that was read already; afterwards it waits for the client to go."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> dict[str, Any]:
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}
