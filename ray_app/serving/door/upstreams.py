"""What the door leads to: replicas of this machine at Unix sockets of their own, or a server at an address.

Serve's proxy between costs several times what the door and the routes cost together (docs/benchmarks.md). In: a folder
that replicas put their sockets into. Out: connections, to the replica with the least to do.
"""

import asyncio
import atexit
import os
import shutil
import socket
import tempfile
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

LONGEST = 90  # bytes of a folder's name: a socket's path has 107 at most
KEEP_SECONDS = 90  # an idle connection; longer than the door keeps its clients'
STARTING = ".starting"


@dataclass(eq=False)
class Upstream:
    """A connection to the server behind."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answered: asyncio.Event  # something of the answer to the last request has come
    name: str = ""  # of its socket, "" for the server at the address


@dataclass
class Upstreams:
    """Where requests can go to.

    Args:
        address: (host, port) of a server.
        sockets: folder of the sockets of replicas; none where it is empty or None.
    """

    address: tuple[str, int]
    sockets: Path | None = None
    opened: dict[str, set[Upstream]] = field(default_factory=lambda: defaultdict(set))  # by the name of the socket

    async def connect(self, answered: asyncio.Event) -> Upstream:
        """Connects to the replica with the fewest requests under way, of those to the one with the fewest connections.

        `answered` says whether one is. Sockets of processes that are gone are removed; without any the address is
        asked. Raises OSError.
        """
        for path in sorted(self._paths(), key=self._load):
            try:
                made = Upstream(*await asyncio.open_unix_connection(str(path)), answered, path.name)
            except OSError:
                path.unlink(missing_ok=True)
                continue
            self.opened[path.name].add(made)
            return made
        return Upstream(*await asyncio.open_connection(*self.address), answered)

    def close(self, upstream: Upstream) -> None:
        """Ends a connection."""
        with suppress(OSError):
            upstream.writer.close()
        self.opened[upstream.name].discard(upstream)

    def _load(self, path: Path) -> tuple[int, int]:
        own = self.opened[path.name]
        return sum(not each.answered.is_set() for each in own), len(own)

    def _paths(self) -> list[Path]:
        try:
            return [path for path in self.sockets.iterdir() if path.suffix != STARTING] if self.sockets else []
        except OSError:  # somebody cleaned up the temporary files
            return []


def sockets_folder() -> Path | None:
    """A new folder that only this user can look into, gone with this process; None where its name would be too long
    for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="nunchi-serve-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if len(os.fsencode(folder)) <= LONGEST:
        return folder
    return None


async def listen(app: "ASGIApp", folder: str) -> "asyncio.Task[None]":
    """Answers HTTP on this loop, at a socket in the folder named by this process, for as long as the task is kept."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> "Iterator[None]":
            yield  # they are Ray's

    path = Path(folder, str(os.getpid()))
    starting = path.with_suffix(STARTING)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(starting))
    listener.listen(1024)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=KEEP_SECONDS, server_header=False
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            await task
    starting.rename(path)
    return task
