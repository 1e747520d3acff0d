"""Files of a model hub, read at one commit: `hf://OWNER/NAME[@REVISION]/FILE`. The same calls as `local`, to read.

In: such URIs; HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE as every Hugging Face tool reads them. Out: bytes, `FileInfo`s.
Raises MissingError, UnavailableError (no answer, or offline: it says nothing about the file), or UserError: no such
repository or revision, or no access. Plain requests, because huggingface_hub reads its endpoint once, when it is
imported, and keeps files behind links, which no bundle may have; error lines never contain the token.
"""

import io
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

import pyarrow as pa

from ray_app.errors import UserError, check
from ray_app.storage.local import FileInfo, MissingError
from ray_app.storage.s3_client import UnavailableError

if TYPE_CHECKING:
    from requests import Response, Session

SCHEME = "hf://"
ENDPOINT = "https://huggingface.co"
PLACE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@(refs/(?:pr|convert)/[^/@]+|[^/@]+))?(?:/(.*))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
ATTEMPTS = 4
FIRST_WAIT = 0.3  # seconds, doubled per attempt
TIMEOUT = (3.0, 20.0)  # seconds to connect, and without a byte
CHUNK = 1 << 20
BUSY = (429, 500, 502, 503, 504)
WRITE = "write hf://OWNER/NAME, or hf://OWNER/NAME@REVISION"
READ_ONLY = "a hub is written by python -m jobs.publish; name a folder or an s3:// address"


class Place(NamedTuple):
    """A repository, a branch, tag or commit of it, and a path inside, "" for all of it."""

    repository: str
    revision: str
    path: str


def parse(uri: str) -> Place:
    """The parts of a URI; without a revision it is `main`. A branch's slash is written %2F. Raises UserError."""
    found = PLACE.fullmatch(uri)
    if found is None or found[1].split("/")[0] in ("datasets", "spaces") or ".." in (found[3] or "").split("/"):
        raise UserError(f"{uri}: no model of a hub; {WRITE}")
    return Place(found[1], unquote(found[2] or "main"), (found[3] or "").strip("/"))


def pinned(uri: str) -> str:
    """The URI at the commit that its revision is now."""
    place = parse(uri)
    commit = place.revision if COMMIT.fullmatch(place.revision) else str(_info(uri)["sha"])
    return f"{SCHEME}{place.repository}@{commit}" + (f"/{place.path}" if place.path else "")


def is_pinned(uri: str) -> bool:
    """Whether the URI names a commit, so that it stands for the same bytes forever."""
    return bool(COMMIT.fullmatch(parse(uri).revision))


def endpoint() -> str:
    """The hub's address, by HF_ENDPOINT."""
    return (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def offline() -> str:
    """The environment variable that says that the hub is not to be asked; "" where none does."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")), "")


def listing(uri: str, start: str = "") -> list[tuple[str, FileInfo]]:
    """(name relative to the folder, file) of everything below it, or ("", file) for a file."""
    place, info = parse(uri), _info(uri)
    files = [
        FileInfo(uri=f"{SCHEME}{place.repository}@{info['sha']}/{file['rfilename']}", size=size, modified=0)
        for file in info.get("siblings", [])
        for size in [int(file.get("size") or 0)]
    ]
    prefix = f"{SCHEME}{place.repository}@{info['sha']}/"
    for file in files:
        if place.path and file.uri == prefix + place.path:
            return [("", file)]
    below = prefix + (f"{place.path}/" if place.path else "")
    found = [(file.uri[len(below) :], file) for file in files if file.uri.startswith(below + start)]
    if place.path and not found:
        raise MissingError(f"{uri}: no such file or folder")
    return sorted(found, key=lambda item: item[0])


def stat(uri: str) -> FileInfo:
    """One file's size; its version is its commit. Raises MissingError."""
    named = listing(uri)
    if len(named) != 1 or named[0][0]:
        raise MissingError(f"{uri}: no such file")
    return FileInfo(uri=uri, size=named[0][1].size, modified=0, version=parse(named[0][1].uri).revision)


def exists(uri: str) -> bool:
    """Whether a file or folder exists there. Raises UserError where the repository does not."""
    try:
        return bool(listing(uri))
    except MissingError:
        return False


def is_file(uri: str) -> bool:
    """Whether a file exists there."""
    try:
        return bool(stat(uri))
    except MissingError:
        return False


def is_empty(uri: str) -> bool:
    """Whether nothing is there."""
    return not exists(uri)


def read(uri: str) -> bytes:
    """A file's content."""
    return Body(uri).read()


@contextmanager
def open_input(uri: str, version: str = "") -> Iterator[pa.NativeFile]:  # a commit is one version already
    """A file to be read from its beginning to its end, continued where the connection breaks."""
    with pa.PythonFile(Body(uri), mode="r") as source:
        yield source


def write(uri: str, data: bytes) -> None:
    """Refused: a hub is written by `jobs.publish`."""
    raise UserError(f"{uri}: {READ_ONLY}")


def create(uri: str, data: bytes) -> bool:
    """Refused, as `write` is."""
    raise UserError(f"{uri}: {READ_ONLY}")


def swap(uri: str, before: bytes, after: bytes) -> bool:
    """Refused, as `write` is."""
    raise UserError(f"{uri}: {READ_ONLY}")


def remove(uri: str) -> None:
    """Refused, as `write` is."""
    raise UserError(f"{uri}: {READ_ONLY}")


def remove_files(uris: Sequence[str]) -> None:
    """Refused, as `write` is."""
    remove(uris[0])


class Body(io.RawIOBase):
    """A file's bytes in order; a connection that breaks is opened again where it broke."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        place = parse(uri)
        check(place.path, f"{uri}: a repository, not a file")
        self.uri, self.position, self.breaks = uri, 0, 0
        self.url = f"{endpoint()}/{place.repository}/resolve/{quote(place.revision, safe='')}/{quote(place.path)}"
        self.response = _get(self.uri, self.url)
        self.length = int(self.response.headers.get("Content-Length", -1))

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, fewer at the end; all that remain by default."""
        data = bytearray()
        while size is None or size < 0 or len(data) < size:
            most = CHUNK if size is None or size < 0 else min(CHUNK, size - len(data))
            chunk = self._next(most)
            if not chunk:
                break
            data += chunk
        return bytes(data)

    def close(self) -> None:
        """Closes the connection."""
        self.response.close()
        super().close()

    def _next(self, size: int) -> bytes:
        from urllib3.exceptions import HTTPError

        while self.length < 0 or self.position < self.length:
            try:
                chunk = bytes(self.response.raw.read(size))
            except (HTTPError, OSError):
                chunk = b""
            if chunk or self.length < 0:
                self.position += len(chunk)
                return chunk
            self.breaks += 1
            if self.breaks >= ATTEMPTS:
                raise UnavailableError(f"{self.uri}: the hub's answer broke off {ATTEMPTS} times; run again", "broken")
            self.response.close()
            self.response = _get(self.uri, self.url, {"Range": f"bytes={self.position}-"})
            if self.response.status_code != 206:  # it begins anew
                self._skip(self.position)
        return b""

    def _skip(self, size: int) -> None:
        """Reads what was read before."""
        while size > 0 and (chunk := self.response.raw.read(min(CHUNK, size))):
            size -= len(chunk)


def _info(uri: str) -> dict[str, Any]:
    """What the hub says of a repository at a revision: `sha`, the commit, and `siblings`, its files with sizes."""
    place = parse(uri)
    url = f"{endpoint()}/api/models/{place.repository}/revision/{quote(place.revision, safe='')}?blobs=true"
    try:
        info = _get(uri, url).json()
        check(COMMIT.fullmatch(info["sha"]), f"{uri}: the hub names no commit")
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{uri}: {endpoint()} does not answer as a model hub does; check HF_ENDPOINT") from None
    return dict(info)


def _get(uri: str, url: str, headers: dict[str, str] | None = None) -> "Response":
    """The hub's answer, whose body is yet to be read; a busy or unreachable hub is asked again, for seconds."""
    import requests

    if variable := offline():
        raise UnavailableError(f"{uri}: {variable} is set, and this node has no copy; unset it once", "offline")
    token = _token()
    sent = {"Accept-Encoding": "identity", **(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = _session(os.getpid()).get(url, headers=sent, timeout=TIMEOUT, stream=True)
        except (requests.ConnectionError, requests.Timeout):
            problem = "no answer"
        except requests.RequestException:  # a URL that is none
            raise UserError(f"{uri}: {endpoint()} is no address of a hub; check HF_ENDPOINT") from None
        else:
            if response.status_code < 400:
                return response
            problem = f"answer {response.status_code}"
            if response.status_code not in BUSY:
                raise _refusal(uri, response, bool(token))
        if attempt < ATTEMPTS:
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
    raise UnavailableError(f"{uri}: {problem} from {endpoint()}; check the network and HF_ENDPOINT", "unreachable")


def _refusal(uri: str, response: "Response", token: bool) -> UserError:
    """The answer as one line; what the hub writes is not quoted."""
    status, code, place = response.status_code, response.headers.get("X-Error-Code", ""), parse(uri)
    response.close()
    if code == "RevisionNotFound":
        return UserError(f"{uri}: {place.repository} has no branch, tag or commit {place.revision}; check the name")
    if code == "EntryNotFound":
        return MissingError(f"{uri}: no such file")
    if code == "GatedRepo":
        return UserError(f"{uri}: access must be asked for ({status}); do it at {endpoint()}/{place.repository}")
    if status in (401, 403, 404):
        given = "the token of HF_TOKEN may not read it" if token else "it is private: set HF_TOKEN to a token"
        return UserError(f"{uri}: no such repository, or {given} ({status}); check the name and the token")
    return UserError(f"{uri}: the hub answered {status}; check HF_ENDPOINT")


def _token() -> str:
    """HF_TOKEN, else what `hf auth login` left."""
    from huggingface_hub import get_token

    return os.environ.get("HF_TOKEN") or get_token() or ""


@lru_cache(maxsize=1)
def _session(process: int) -> "Session":
    """One per process, because connections do not survive a fork."""
    import requests

    return requests.Session()
