"""In front of the endpoint's routes: hosts, the token, what a body may be; and the count of every response.

In: ASGI. Out: the routes' answers, or one line of JSON why not.
"""

import hashlib
import hmac
import time

from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ray_app.serving.hosts import NOT_SERVED, AllowedHosts
from ray_app.serving.prometheus import EndpointMetrics

HEALTH, READY = "/health", "/ready"
OPEN = (HEALTH, READY)  # probes have no token


def error(status: int, line: str, field: str | None = None, headers: dict[str, str] | None = None) -> Response:
    """A response as `protocol.Error`."""
    return JSONResponse({"error": line, "field": field}, status, headers)


class Guard:
    """Checks host, token, and the body's coding and size, before a route sees the request.

    Args:
        routes: paths that are counted by their names.
        token_hash: `http_app.hashed(token)`; "" leaves the routes open.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: set[str],
        body_bytes: int,
        token_hash: str,
        counters: EndpointMetrics,
        hosts: AllowedHosts,
    ) -> None:
        self.app, self.routes, self.body_bytes, self.token_hash = app, routes, body_bytes, token_hash
        self.counters, self.hosts = counters, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # there are none: an HTTP 403
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._answer(scope, receive, send_and_note)
        finally:
            route = scope["path"] if scope["path"] in self.routes else "other"
            self.counters.answered(route, status, time.monotonic() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refused := self._refused(scope):
            await refused(scope, receive, send)
            return
        body = await self._body(dict(scope["headers"]), receive)
        if body is None:
            large = error(413, f"the body is over the limit of {self.body_bytes:,} bytes; send fewer reviews")
            await large(scope, receive, send)
            return
        await self.app(scope, Replay(body, receive), send)

    def _refused(self, scope: Scope) -> Response | None:
        """What a request's headers are refused with; nothing of its body is read."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts, tokens, codings = (_values(headers, name) for name in (b"host", b"authorization", b"content-encoding"))
        if len(hosts) > 1 or not all(self.hosts.admits(host.decode("latin-1")) for host in hosts):
            return error(421, NOT_SERVED)
        if len(tokens) > 1:
            return error(400, "two Authorization headers: send one")
        if self.token_hash and scope["path"] not in OPEN and not self._admits(tokens):
            return error(401, "a token is needed: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
        if any(coding.strip().lower() not in (b"", b"identity") for coding in codings):
            shown = b", ".join(codings)[:40].decode("latin-1")
            return error(415, f"Content-Encoding: {shown}: send the body as it is, not compressed")
        return None

    def _admits(self, authorization: list[bytes]) -> bool:
        kind, _, token = (authorization or [b""])[0].partition(b" ")
        token_hash = hashlib.sha256(token.strip()).hexdigest()
        return hmac.compare_digest(token_hash, self.token_hash) and kind.lower() == b"bearer"

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body, or None as soon as it is over the limit."""
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:18]) > self.body_bytes:
            return None
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.body_bytes:
                return None
        return bytes(body)


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


class Replay:
    """`receive` for a body that was already read; afterwards it waits for the client to disconnect."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Message:
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}
