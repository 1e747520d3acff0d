"""Objects on S3: whole or not at all, read at one version, through faults. The same calls as `local`.

In: `s3://bucket/key`. Out: bytes, `FileInfo`s. Raises MissingError, ChangedError or UnavailableError (see `s3_client`).
"""

import io
import itertools
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

import pyarrow as pa

from ray_app.errors import UserError, check
from ray_app.storage.local import ChangedError, FileInfo, MissingError
from ray_app.storage.s3_client import UnavailableError, request, split

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from botocore.client import BaseClient

TAIL = 1 << 16  # bytes read when an object is opened; usually they hold its Parquet footer
CHUNK = 1 << 20
ONE_PUT = 64 << 20  # bytes; a larger object is written in parts, UPLOADS at a time
PART = 16 << 20
UPLOADS = 4
KEYS_PER_DELETE = 1000  # S3's limit


class ObjectRow(TypedDict):
    """What S3 lists of an object."""

    Key: str
    Size: int
    LastModified: datetime
    ETag: str


def read(uri: str) -> bytes:
    """An object's content. Raises MissingError."""
    return Reader(uri).read()


@contextmanager
def open_input(uri: str, version: str = "") -> Iterator[pa.NativeFile]:
    """A seekable file of one version, by default the current one. Raises ChangedError, now or while reading, where the
    object has another version.
    """
    with pa.PythonFile(Reader(uri, version), mode="r") as source:
        yield source


def write(uri: str, data: bytes) -> None:
    """Writes an object in one PUT, or in parts that become visible together."""
    if len(data) <= ONE_PUT:
        request(uri, lambda client: client.put_object(**split(uri), Body=data))
    else:
        _write_parts(uri, data)


def create(uri: str, data: bytes) -> bool:
    """Writes an object with one conditional PUT; returns whether it was written.

    Where the response was lost and the retry finds an object, its `writer` tag tells whether this call wrote it.
    """
    writer = uuid.uuid4().hex
    try:
        request(uri, lambda c: c.put_object(**split(uri), Body=data, IfNoneMatch="*", Metadata={"writer": writer}))
    except ChangedError:
        return _written_by(uri, writer)
    return True


def swap(uri: str, before: bytes, after: bytes) -> bool:
    """Replaces an object where it is still `before`, with one PUT on condition of its ETag; returns whether it did.

    Where the response was lost and the retry finds another object, its `writer` tag tells whether this call wrote it.
    """
    reader, writer = Reader(uri), uuid.uuid4().hex
    if reader.read() != before:
        return False
    try:
        request(uri, lambda c: c.put_object(**split(uri), Body=after, **reader.match, Metadata={"writer": writer}))
    except ChangedError:
        return _written_by(uri, writer)
    return True


def stat(uri: str) -> FileInfo:
    """One object's size and version. Raises MissingError."""
    head = request(uri, lambda client: client.head_object(**split(uri)))
    return _file_info(uri, head["ContentLength"], head["LastModified"], head["ETag"])


def exists(uri: str) -> bool:
    """Whether the object, or any object below the folder, exists."""
    return bool(_objects(uri, limit=1)) or _is_object(uri)


def is_file(uri: str) -> bool:
    """Whether an object has exactly this key."""
    return _is_object(uri)


def is_empty(uri: str) -> bool:
    """Whether neither the object nor any below the folder exists; the empty object `folder/` does not count."""
    return all(item["Key"] == _folder(uri) for item in _objects(uri, limit=2)) and not _is_object(uri)


def listing(uri: str, start: str = "") -> list[tuple[str, FileInfo]]:
    """(name relative to the folder, file) of every object below it whose name begins with `start`, or ("", file) for
    an object. Raises MissingError where neither exists.
    """
    items = _objects(uri, start)
    if not items and _is_object(uri):
        return [("", stat(uri))]
    if not items and not exists(uri) and _folder(uri):
        raise MissingError(f"{uri}: no such file or folder")
    named = [(item["Key"][len(_folder(uri)) :], item) for item in items]
    return [
        (name, _file_info(f"{uri.rstrip('/')}/{name}", item["Size"], item["LastModified"], item["ETag"]))
        for name, item in named
        if name and name[-1] != "/"
    ]


def remove(uri: str) -> None:
    """Removes an object and everything below it; a missing path is no error."""
    keys = [{"Key": item["Key"]} for item in _objects(uri)]
    for first in range(0, len(keys), KEYS_PER_DELETE):
        _remove(uri, keys[first : first + KEYS_PER_DELETE])
    if _is_object(uri):
        request(uri, lambda client: client.delete_object(**split(uri)))


def remove_files(uris: Sequence[str]) -> None:
    """Removes objects, up to KEYS_PER_DELETE of one bucket per request; missing ones are no error."""
    if len(uris) == 1:
        request(uris[0], lambda client: client.delete_object(**split(uris[0])))
        return
    for bucket, some in itertools.groupby(uris, key=lambda uri: split(uri)["Bucket"]):
        keys = [{"Key": split(uri)["Key"]} for uri in some]
        for first in range(0, len(keys), KEYS_PER_DELETE):
            _remove(f"s3://{bucket}", keys[first : first + KEYS_PER_DELETE])


class Reader(io.RawIOBase):
    """A seekable file over ranged GETs of one version of an object. Opening it is one request, which reads the tail."""

    def __init__(self, uri: str, version: str = "") -> None:
        super().__init__()
        self.uri, self.position = uri, 0
        match = {"IfMatch": f'"{version}"'} if version else {}
        self.length, version, self.tail = _tail(uri, match)
        self.match = {"IfMatch": version}

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to an offset in bytes and returns the new position."""
        self.position = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.length}[whence])
        return self.position

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, fewer at the end; all that remain by default."""
        stop = self.length if size is None or size < 0 else min(self.length, self.position + size)
        start, tail_start = min(self.position, stop), self.length - len(self.tail)
        data = self._fetch(start, min(stop, tail_start)) if start < tail_start else b""
        self.position = max(self.position, stop)
        return data + self.tail[max(start - tail_start, 0) : max(stop - tail_start, 0)]

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Reads into a buffer; returns how many bytes."""
        target = memoryview(buffer).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def _fetch(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop). A response that breaks off is continued where it broke."""
        data = bytearray()

        def fetch_rest(client: "BaseClient") -> None:
            if start + len(data) < stop:
                rest = f"bytes={start + len(data)}-{stop - 1}"
                for chunk in client.get_object(**split(self.uri), Range=rest, **self.match)["Body"].iter_chunks(CHUNK):
                    data.extend(chunk)

        request(self.uri, fetch_rest)
        return bytes(data)


def _tail(uri: str, match: dict[str, str]) -> tuple[int, str, bytes]:
    """An object's size, its ETag, and its last bytes."""

    def fetch(client: "BaseClient") -> tuple[int, str, bytes]:
        response = client.get_object(**split(uri), Range=f"bytes=-{TAIL}", **match)
        data = response["Body"].read()
        return int(response.get("ContentRange", f"/{len(data)}").rpartition("/")[2]), response["ETag"], data

    try:
        return request(uri, fetch)
    except UnavailableError as error:
        if error.code != "InvalidRange":  # an empty object has no range
            raise
    return 0, request(uri, lambda client: client.head_object(**split(uri), **match))["ETag"], b""


def _folder(uri: str) -> str:
    """The prefix of all keys below a URI: `a/b` -> `a/b/`, empty for a whole bucket."""
    key = split(uri)["Key"].rstrip("/")
    return f"{key}/" if key else ""


def _objects(uri: str, start: str = "", limit: int = 0) -> list[ObjectRow]:
    """All objects below a folder, ordered by name, or at most `limit` of them."""
    query = {"Bucket": split(uri)["Bucket"], "Prefix": _folder(uri) + start, **({"MaxKeys": limit} if limit else {})}
    items: list[ObjectRow] = []
    more = True
    while more and not (limit and items):
        page = request(uri, lambda client: client.list_objects_v2(**query))
        items += page.get("Contents", [])
        if more := "NextContinuationToken" in page:
            query["ContinuationToken"] = page["NextContinuationToken"]
    return items


def _is_object(uri: str) -> bool:
    """Whether an object has exactly this key."""
    if not split(uri)["Key"] or uri.endswith("/"):
        return False
    with suppress(MissingError):
        return bool(stat(uri))
    return False


def _remove(uri: str, keys: list[dict[str, str]]) -> None:
    """Removes at most KEYS_PER_DELETE objects. Raises UserError where one was not removed."""
    query = {"Bucket": split(uri)["Bucket"], "Delete": {"Objects": keys, "Quiet": True}}
    errors = request(uri, lambda client: client.delete_objects(**query)).get("Errors", [])
    check(not errors, f"{uri}: {len(errors)} objects were not removed ({[error['Code'] for error in errors[:1]]})")


def _file_info(uri: str, size: int, modified: datetime, etag: str) -> FileInfo:
    return FileInfo(uri=uri, size=size, modified=int(modified.timestamp() * 1e9), version=etag.strip('"'))


def _written_by(uri: str, writer: str) -> bool:
    """Whether the object carries this `writer` tag; False where it was removed since."""
    with suppress(MissingError):
        return bool(request(uri, lambda client: client.head_object(**split(uri)))["Metadata"].get("writer") == writer)
    return False


def _write_parts(uri: str, data: bytes) -> None:
    """Writes an object as a multipart upload, aborted where it fails."""
    writer = uuid.uuid4().hex
    upload = {**split(uri)}
    started = request(uri, lambda client: client.create_multipart_upload(**upload, Metadata={"writer": writer}))
    upload["UploadId"] = started["UploadId"]

    def put(number: int) -> dict[str, int | str]:
        body = data[(number - 1) * PART : number * PART]
        response = request(uri, lambda client: client.upload_part(**upload, PartNumber=number, Body=body))
        return {"PartNumber": number, "ETag": response["ETag"]}

    try:
        with ThreadPoolExecutor(UPLOADS) as pool:
            parts = list(pool.map(put, range(1, -(-len(data) // PART) + 1)))
        request(uri, lambda client: client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}))
    except UserError as error:
        completed = getattr(error, "code", "") == "NoSuchUpload" and _written_by(uri, writer)
        if completed:  # the upload was completed, but the response was lost
            return
        with suppress(UserError):
            request(uri, lambda client: client.abort_multipart_upload(**upload))
        raise
