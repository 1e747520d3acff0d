"""Objects on S3: whole or not at all, read at one version, through faults. The same calls as `files`.

In: `s3://bucket/key`. Out: bytes, `File`s. Raises MissingError, ChangedError or UnavailableError (see `aws`).
"""

import io
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa

from ray_app.errors import UserError, check
from ray_app.storage.local import ChangedError, FileInfo, MissingError
from ray_app.storage.s3_client import UnavailableError, request, split

TAIL = 1 << 16  # bytes read when an object is opened: its Parquet footer, as a rule
CHUNK = 1 << 20
ONE_PUT = 64 << 20  # bytes: a larger object is written in parts, four at a time
PART = 16 << 20
AT_ONCE = 1000  # keys a request removes, S3's limit


def read(uri: str) -> bytes:
    return Reader(uri).read()


@contextmanager
def open_input(uri: str, version: str = "") -> Iterator[pa.NativeFile]:
    """Raises ChangedError, now or while reading, where the object is not of this version (default: the one opened)."""
    with pa.PythonFile(Reader(uri, version), mode="r") as source:
        yield source


def write(uri: str, data: bytes) -> None:
    """One PUT, or parts that become visible together."""
    if len(data) <= ONE_PUT:
        request(uri, lambda client: client.put_object(**split(uri), Body=data))
    else:
        _write_parts(uri, data)


def create(uri: str, data: bytes) -> bool:
    """One conditional PUT. Where its answer was lost and the repeat finds an object, a mark on it says whose it is."""
    mark = uuid.uuid4().hex
    try:
        request(uri, lambda c: c.put_object(**split(uri), Body=data, IfNoneMatch="*", Metadata={"writer": mark}))
    except ChangedError:
        return _written_by(uri, mark)
    return True


def stat(uri: str) -> FileInfo:
    answer = request(uri, lambda client: client.head_object(**split(uri)))
    return _file(uri, {**answer, "Size": answer["ContentLength"]})


def exists(uri: str) -> bool:
    return bool(_objects(uri, limit=1)) or _is_object(uri)


def is_empty(uri: str) -> bool:
    """An empty object that ends in `/` stands for a folder and is nothing in it."""
    return all(item["Key"] == _folder(uri) for item in _objects(uri, limit=2)) and not _is_object(uri)


def listing(uri: str, start: str = "") -> list[tuple[str, FileInfo]]:
    """All below a folder that begins with `start` as (name relative to it, file), or the object itself with no name."""
    found = _objects(uri, start)
    if not found and _is_object(uri):
        return [("", stat(uri))]
    if not found and not exists(uri) and _folder(uri):
        raise MissingError(f"{uri}: no such file or folder")
    names = [(item["Key"][len(_folder(uri)) :], item) for item in found]
    return [(name, _file(f"{uri.rstrip('/')}/{name}", item)) for name, item in names if name and name[-1] != "/"]


def remove(uri: str) -> None:
    """An object and all below it; what is not there is no error."""
    keys = [{"Key": item["Key"]} for item in _objects(uri)]
    for first in range(0, len(keys), AT_ONCE):
        _remove(uri, keys[first : first + AT_ONCE])
    if _is_object(uri):
        request(uri, lambda client: client.delete_object(**split(uri)))


class Reader(io.RawIOBase):
    """A seekable file over ranged GETs of one version of an object. Opening is one request and brings the tail."""

    def __init__(self, uri: str, version: str = "") -> None:
        super().__init__()
        self.uri, self.place = uri, 0
        match = {"IfMatch": f'"{version}"'} if version else {}
        self.length, version, self.tail = _tail(uri, match)
        self.match = {"IfMatch": version}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.length}[whence])
        return self.place

    def read(self, size: int | None = -1) -> bytes:
        stop = self.length if size is None or size < 0 else min(self.length, self.place + size)
        start, known = min(self.place, stop), self.length - len(self.tail)
        data = self._fetch(start, min(stop, known)) if start < known else b""
        self.place = max(self.place, stop)
        return data + self.tail[max(start - known, 0) : max(stop - known, 0)]

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _fetch(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop). A broken answer goes on where it broke."""
        data = bytearray()

        def more(client: Any) -> None:
            if start + len(data) < stop:
                place = f"bytes={start + len(data)}-{stop - 1}"
                for chunk in client.get_object(**split(self.uri), Range=place, **self.match)["Body"].iter_chunks(CHUNK):
                    data.extend(chunk)

        request(self.uri, more)
        return bytes(data)


def _tail(uri: str, match: dict[str, str]) -> tuple[int, str, bytes]:
    """An object's size, its ETag, and its last bytes."""

    def last(client: Any) -> tuple[int, str, bytes]:
        answer = client.get_object(**split(uri), Range=f"bytes=-{TAIL}", **match)
        data = answer["Body"].read()
        return int(answer.get("ContentRange", f"/{len(data)}").rpartition("/")[2]), answer["ETag"], data

    try:
        return request(uri, last)
    except UnavailableError as error:
        if error.code != "InvalidRange":  # an empty object has no range
            raise
    return 0, request(uri, lambda client: client.head_object(**split(uri), **match))["ETag"], b""


def _folder(uri: str) -> str:
    key = split(uri)["Key"].rstrip("/")
    return f"{key}/" if key else ""


def _objects(uri: str, start: str = "", limit: int = 0) -> list[dict[str, Any]]:
    """All objects below a folder in the order of their names, or the first `limit`."""
    order = {"Bucket": split(uri)["Bucket"], "Prefix": _folder(uri) + start, **({"MaxKeys": limit} if limit else {})}
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"NextContinuationToken": ""}
    while "NextContinuationToken" in page and not (limit and found):
        if page["NextContinuationToken"]:
            order["ContinuationToken"] = page["NextContinuationToken"]
        page = request(uri, lambda client: client.list_objects_v2(**order))
        found += page.get("Contents", [])
    return found


def _is_object(uri: str) -> bool:
    if not split(uri)["Key"] or uri.endswith("/"):
        return False
    with suppress(MissingError):
        return bool(stat(uri))
    return False


def _remove(uri: str, keys: list[dict[str, str]]) -> None:
    order = {"Bucket": split(uri)["Bucket"], "Delete": {"Objects": keys, "Quiet": True}}
    errors = request(uri, lambda client: client.delete_objects(**order)).get("Errors", [])
    check(not errors, f"{uri}: {len(errors)} objects were not removed ({[error['Code'] for error in errors[:1]]})")


def _file(uri: str, item: dict[str, Any]) -> FileInfo:
    return FileInfo(
        uri=uri,
        size=item["Size"],
        modified=int(item["LastModified"].timestamp() * 1e9),
        version=item["ETag"].strip('"'),
    )


def _written_by(uri: str, mark: str) -> bool:
    """Whether the object there is the one with this mark. Removed again since then, it is nobody's."""
    with suppress(MissingError):
        return bool(request(uri, lambda client: client.head_object(**split(uri)))["Metadata"].get("writer") == mark)
    return False


def _write_parts(uri: str, data: bytes) -> None:
    mark = uuid.uuid4().hex
    upload = {**split(uri)}
    started = request(uri, lambda client: client.create_multipart_upload(**upload, Metadata={"writer": mark}))
    upload["UploadId"] = started["UploadId"]

    def put(number: int) -> dict[str, Any]:
        body = data[(number - 1) * PART : number * PART]
        answer = request(uri, lambda client: client.upload_part(**upload, PartNumber=number, Body=body))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(put, range(1, -(-len(data) // PART) + 1)))
        request(uri, lambda client: client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}))
    except UserError as error:
        if getattr(error, "code", "") == "NoSuchUpload" and _written_by(uri, mark):  # done, but the answer was lost
            return
        with suppress(UserError):
            request(uri, lambda client: client.abort_multipart_upload(**upload))
        raise
