"""The port that clients reach, in front of a server that listens on loopback: Serve's proxy, or the page.

What a proxy of Serve's cannot: it answers 503 with Retry-After from the first moment to the last (before the models are
loaded and while they stop), knows its own host names, on websockets too, and keeps slow clients from using up what
others need. Bodies pass through unread. In: a port and what it leads to. Out: the bytes of that server's answers.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from ray_app.serving.door.bodies import PIECE, pass_body
from ray_app.serving.door.http_head import BadRequestError, Head, parse, refusal
from ray_app.serving.door.open_files import allow_files
from ray_app.serving.door.upstreams import Upstream, Upstreams
from ray_app.serving.hosts import NOT_SERVED, AllowedHosts

HEAD_BYTES = 64_000
LINGER_SECONDS = 0.5
SETTLE_SECONDS = 0.2  # for the rest of an answer that has begun
GONE = "the server behind is gone, or starts again"
HEALTH = "/health"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DoorLimits:
    """What one client may take up."""

    head_seconds: float = 10.0  # for the head of a request, from its connection or its first byte
    idle_seconds: float = 60.0  # between two requests of a connection
    body_seconds: float = 20.0  # between two pieces of a body or of an answer
    body_total_seconds: float = 60.0  # for a whole body: a byte a second is no client
    connections: int = 1_024  # per address; one that has sent no whole request gives way to a new one


@dataclass(eq=False)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    waiting: bool = True  # for the head of a request: nothing of it is under way
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # something of the last answer was passed back
    moved: float = float("-inf")  # when something of an answer was passed back last, by the loop's clock
    sending: bool = False  # the client sends a body
    upstream: Upstream | None = None
    pump: "asyncio.Task[None] | None" = None
    head: Head | None = None  # of the last request that was passed on

    @property
    def pending(self) -> bool:
        """Whether nothing of the answer to the last request was passed back yet."""
        return self.upstream is not None and not self.answered.is_set()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self.waiting and not self.pending

    async def in_turn(self) -> bool:
        """Waits until the answer to the request before has begun; whether there was something to wait for."""
        return self.pending and await self.answered.wait()


@dataclass(kw_only=True)
class Door:
    """Listens at host:port in a thread of its own from `open` to `close`; `ready` lets requests through.

    Args:
        upstream: (host, port) of the server behind it.
        sockets: folder of the sockets of replicas, which are asked before that server.
        headers: lines added to every answer, each ending in CRLF; with any, a connection carries one request.
    """

    host: str
    port: int
    upstream: tuple[str, int]
    hosts: AllowedHosts
    limits: DoorLimits = field(default_factory=DoorLimits)
    headers: bytes = b""
    ready: bool = False
    sockets: Path | None = None

    def __post_init__(self) -> None:
        self.upstreams = Upstreams(self.upstream, self.sockets)
        self.loop = uvloop.new_event_loop()
        self.open_by_address: dict[str, dict[_Connection, None]] = defaultdict(dict)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def open(self) -> None:
        """Returns when it listens. Raises OSError where it cannot."""
        allow_files()
        started = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, self.host, self.port, limit=HEAD_BYTES, backlog=1024), self.loop
        )
        self.thread.start()
        self.server = started.result()

    def close(self) -> None:
        """Listens no more; connections end."""
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    def settle(self, seconds: float) -> None:
        """Waits until the answers to all requests that were let through have been passed back, so long at most."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not asyncio.run_coroutine_threadsafe(self._settled(), self.loop).result():
            time.sleep(SETTLE_SECONDS)

    async def _settled(self) -> bool:
        now = self.loop.time()
        every = [each for own in self.open_by_address.values() for each in own]
        return all(each.idle and now - each.moved > SETTLE_SECONDS for each in every)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer)
        address = str((writer.get_extra_info("peername") or ("",))[0])
        own = self.open_by_address[address]
        own[connection] = None
        try:
            if len(own) > self.limits.connections:
                oldest = next(one for one in own if one.idle)  # or, of all in use, the new one
                oldest.writer.transport.abort()
            await self._requests(connection)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # the client is gone, or too slow: there is nobody to answer
        finally:
            own.pop(connection, None)
            if not own:
                self.open_by_address.pop(address, None)
            self._end(connection)

    async def _requests(self, connection: _Connection) -> None:
        """The requests of a connection, one after the other."""
        seconds = self.limits.head_seconds
        while True:
            connection.waiting, head, early = True, None, False
            try:
                head = await self._head(connection, seconds)
                early = await connection.in_turn()
                self._check(head)
                if not self.ready:
                    alive = head.path == HEALTH
                    raise BadRequestError(200 if alive else 503, "alive" if alive else "not ready yet, or stopping")
                connection.waiting = False
                connection.answered.clear()
                await self._pass_on(connection, head)
            except BadRequestError as problem:
                # the answer before may still be on its way, and a second one would be taken for its end
                if early or (connection.waiting and await connection.in_turn()):
                    await _linger(connection.reader)
                elif connection.waiting or not connection.answered.is_set():
                    await _refuse(connection, problem, head)
                return
            if head.upgrade or self.headers:
                await _both_ways(connection, self.limits)
                return
            seconds = self.limits.idle_seconds

    async def _first_byte(self, connection: _Connection, seconds: float) -> bytes:
        """Waits for the next request, while an answer is on its way for as long as that takes."""
        while True:
            try:
                async with asyncio.timeout(seconds):
                    return await connection.reader.readexactly(1)
            except TimeoutError:
                if not connection.pending and self.loop.time() - connection.moved >= seconds:
                    raise

    async def _head(self, connection: _Connection, seconds: float) -> Head:
        first = await self._first_byte(connection, seconds)
        try:
            async with asyncio.timeout(self.limits.head_seconds):
                return parse(first + await connection.reader.readuntil(b"\r\n\r\n"))
        except TimeoutError:
            raise BadRequestError(408, f"the head of the request took over {self.limits.head_seconds:g} s") from None
        except asyncio.LimitOverrunError:
            raise BadRequestError(431, f"the head of the request is over {HEAD_BYTES:,} bytes") from None

    def _check(self, head: Head) -> None:
        """Raises BadRequest for a host, an origin or a path that is not served."""
        if not self.hosts.admits(head.host):
            raise BadRequestError(421, NOT_SERVED)
        if head.upgrade and head.origin and not self.hosts.admits_origin(head.origin):
            raise BadRequestError(403, "a page of another site may not connect")
        if head.upgrade and not self.headers:  # after an upgrade nothing is checked, and the endpoint has none
            raise BadRequestError(403, "there are no websockets here")
        if head.path.startswith("/-/") or not head.path.startswith("/"):
            raise BadRequestError(404, "Not Found")  # Serve's own /-/routes and /-/healthz, which ask for no token

    async def _pass_on(self, connection: _Connection, head: Head) -> None:
        """Sends a request to the server behind; its answers are passed back by a task of the connection's."""
        if connection.upstream is None:
            try:
                connection.upstream = await self.upstreams.connect(connection.answered)
            except OSError:
                raise BadRequestError(503, GONE) from None
            connection.pump = asyncio.create_task(self._answers(connection.upstream, connection))
        raw = head.raw
        if self.headers and not head.upgrade:  # so that the first head of the answers is the only one
            raw = raw[:-2] + b"Connection: close\r\n\r\n"
        connection.sending = True
        connection.head = head
        connection.upstream.writer.write(raw)
        try:
            async with asyncio.timeout(self.limits.body_total_seconds):
                await pass_body(connection.reader, connection.upstream.writer, head.length, self.limits.body_seconds)
        except TimeoutError:
            raise BadRequestError(408, "the body of the request came too slowly") from None
        except OSError:  # the server answered before the end of the body, and closed: too large, say
            if connection.pump:
                await asyncio.wait([connection.pump], timeout=self.limits.body_seconds)
            await _linger(connection.reader)
            raise
        connection.sending = False
        if connection.pump and connection.pump.done():
            await _linger(connection.reader)
            raise OSError

    async def _answers(self, upstream: Upstream, connection: _Connection) -> None:
        """Passes back what the server answers, until it closes; then the client's connection ends too. A request that
        it left unanswered, since it died, is answered here: it may be sent again."""
        try:
            if self.headers:
                head = await upstream.reader.readuntil(b"\r\n\r\n")
                connection.writer.write(head[:-2] + self.headers + b"\r\n")
            while piece := await self._piece(upstream):
                connection.answered.set()
                connection.moved = self.loop.time()
                connection.writer.write(piece)
                async with asyncio.timeout(self.limits.body_seconds):
                    await connection.writer.drain()
            if connection.pending:
                connection.writer.write(refusal(BadRequestError(503, GONE), connection.head))
            if connection.sending:  # the rest of the body is read first: see `_pass_on`
                connection.writer.write_eof()
            else:
                connection.writer.close()
        except (TimeoutError, OSError, RuntimeError, asyncio.IncompleteReadError):
            connection.writer.transport.abort()
        connection.answered.set()

    async def _piece(self, upstream: Upstream) -> bytes:
        """The next piece of an answer, empty at the end, whichever way the server came to it."""
        try:
            return await upstream.reader.read(PIECE)
        except ConnectionError:
            return b""

    def _end(self, connection: _Connection) -> None:
        if connection.upstream is not None:
            self.upstreams.close(connection.upstream)
        with contextlib.suppress(OSError):
            connection.writer.close()
        if connection.pump:
            connection.pump.cancel()


async def _both_ways(connection: _Connection, limits: DoorLimits) -> None:
    """What follows an upgrade is passed on as it comes, or the answer of a last request is waited for."""
    assert connection.upstream is not None
    while piece := await connection.reader.read(PIECE):
        connection.upstream.writer.write(piece)
        async with asyncio.timeout(limits.body_seconds):
            await connection.upstream.writer.drain()
    if connection.pump:
        connection.upstream.writer.write_eof()
        await connection.pump


async def _refuse(connection: _Connection, problem: BadRequestError, head: Head | None) -> None:
    """An answer of the door's own; the connection ends with it."""
    connection.writer.write(refusal(problem, head))
    await connection.writer.drain()
    connection.writer.write_eof()
    await _linger(connection.reader)


async def _linger(reader: asyncio.StreamReader) -> None:
    """Reads what the client still sends, for a moment: where that lies unread it would see a reset, not the answer."""
    with contextlib.suppress(TimeoutError, OSError, RuntimeError):
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(PIECE):
                pass
