"""The head of an HTTP/1.1 request, read strictly: what two readers could take for different lengths is refused.

In: the bytes up to the empty line. Out: method, path, host, and how the body is framed; or the answer that refuses it.
"""

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
RETRY_SECONDS = 1


class BadRequestError(Exception):
    """The status and the line that a request is refused with."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


@dataclass(frozen=True, kw_only=True)
class Head:
    """What is needed of a head to pass it on; `raw` ends with the empty line."""

    raw: bytes
    method: str
    path: str
    host: str
    origin: str
    length: int  # of the body, -1 where it comes in chunks
    upgrade: bool  # a websocket: what follows is no HTTP


def parse(raw: bytes) -> Head:
    """Raises BadRequestError where the head is none, or ambiguous."""
    lines = raw[:-4].split(b"\r\n")
    line = LINE.fullmatch(lines[0])
    if not line:
        raise BadRequestError(400, "not an HTTP/1.1 request")
    fields: dict[bytes, list[bytes]] = {}
    for text in lines[1:]:
        field = FIELD.fullmatch(text)
        if not field:
            raise BadRequestError(400, "a header line is malformed")
        fields.setdefault(field[1].lower(), []).append(field[2])
    hosts = fields.get(b"host", [])
    if len(hosts) > 1 or (line[3] == b"1" and not hosts):
        raise BadRequestError(400, "one Host header is needed")
    if len(fields.get(b"origin", [])) > 1:
        raise BadRequestError(400, "two Origin headers: send one")
    return Head(
        raw=raw,
        method=line[1].decode("ascii"),
        path=unquote(line[2].decode("ascii").partition("?")[0]),
        host=(hosts or [b"localhost"])[0].decode("latin-1"),
        origin=b"".join(fields.get(b"origin", [])).decode("latin-1"),
        length=_length(fields, old=line[3] == b"0"),
        upgrade=any(b"websocket" in value.lower() for value in fields.get(b"upgrade", [])),
    )


def chunk_size(line: bytes) -> int:
    """The size that a chunk's first line names. Raises BadRequestError."""
    size = CHUNK.fullmatch(line)
    if not size:
        raise BadRequestError(400, "a chunk of the body is malformed")
    return int(size[1], 16)


def refusal(problem: BadRequestError, head: Head | None) -> bytes:
    """The answer to a request that is refused, as the endpoint's own are; the connection ends with it."""
    status, line = problem.status, problem.line
    body = json.dumps({"status": line} if status == 200 else {"error": line, "field": None}).encode()
    wait = f"Retry-After: {RETRY_SECONDS}\r\n" if status == 503 else ""
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{wait}Connection: close\r\n\r\n".encode()
        + (b"" if head and head.method == "HEAD" else body)
    )


def _length(fields: dict[bytes, list[bytes]], old: bool) -> int:
    """Of the body; `old`: HTTP/1.0, which knows no chunks."""
    codings, lengths = fields.get(b"transfer-encoding", []), fields.get(b"content-length", [])
    if codings:
        if old or lengths or [coding.lower() for coding in codings] != [b"chunked"]:
            raise BadRequestError(400, "the body's length is ambiguous")
        return -1
    if len(lengths) > 1 or not all(re.fullmatch(rb"[0-9]{1,18}", length) for length in lengths):
        raise BadRequestError(400, "the body's length is ambiguous")
    return int(lengths[0]) if lengths else 0
