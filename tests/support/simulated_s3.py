"""boto3's client in this process, as far as `storage` calls it, over objects that need not exist: for runs of a size
that no test server holds. It breaks a share of the requests, cuts listings into pages and counts what a run would wait.

with SimulatedS3(busy=0.001) as s3:
    s3.families.append(Family("reviews/", names, body=lambda name: data))
    ...
    print(s3.calls, s3.waited())

Nothing sleeps: a call adds its latency to a sum, apart for the main thread, whose calls come one after the other, and
for pools. Latencies are what S3 takes within a region for small objects (50 to 200 ms at first byte under load).
"""

# ruff: noqa: N803 (boto3 has these names)
import bisect
import datetime
import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self

from botocore.exceptions import ClientError

from ray_app.storage import s3_client

SECONDS = {"list": 0.100, "get": 0.030, "head": 0.020, "put": 0.040, "delete": 0.030, "delete many": 0.150}
PAGE = 1_000  # objects per listing
POOL = 16  # threads of `THREADS`
KEPT = 64 << 20  # bytes of a written object; of a larger one the end is kept, which holds a Parquet file's footer
TAIL = 1 << 16
LATER = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@dataclass
class Family:
    """Objects below a prefix with sorted names; a body is made whenever one is read. Listings say `size`."""

    prefix: str
    names: Sequence[str]
    body: Callable[[str], bytes]
    size: int = 1_000


class Body(BytesIO):
    """A response's body."""

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        """Pieces of at most `size` bytes."""
        while chunk := self.read(size):
            yield chunk


class SimulatedS3:
    """Args:
    busy: the share of requests that S3 answers with 503 SlowDown.
    """

    def __init__(self, busy: float = 0.0, seed: int = 0) -> None:
        self.families: list[Family] = []
        self.objects: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self._waits: dict[bool, float] = {True: 0.0, False: 0.0}
        self._busy, self._random, self._turn = busy, random.Random(seed), threading.Lock()

    def __enter__(self) -> Self:
        self._before = s3_client._connection
        connection = s3_client._Connection(self, 10, answered=True)
        s3_client._connection = lambda *_: connection  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        s3_client._connection = self._before

    def waited(self) -> float:
        """Seconds that a run would have waited for its requests: the main thread's, and the pools' side by side."""
        return self._waits[True] + self._waits[False] / POOL

    def clear(self) -> None:
        """Counts anew."""
        self.calls.clear()
        self._waits = {True: 0.0, False: 0.0}

    def list_objects_v2(
        self, Bucket: str, Prefix: str = "", MaxKeys: int = PAGE, ContinuationToken: str = ""
    ) -> dict[str, Any]:
        """One page."""
        self._answer("list")
        found = list(self._keys(Prefix, ContinuationToken, MaxKeys + 1))
        rows = [
            {"Key": key, "Size": self._size(key), "LastModified": LATER, "ETag": _etag(key)} for key in found[:MaxKeys]
        ]
        more = {"NextContinuationToken": found[MaxKeys - 1]} if len(found) > MaxKeys else {}
        return {**({"Contents": rows} if rows else {}), **more}

    def get_object(self, Bucket: str, Key: str, Range: str = "", IfMatch: str = "") -> dict[str, Any]:
        """A range of an object."""
        self._answer("get")
        data = self._body(Key)
        size = self.sizes.get(Key, len(data))
        if IfMatch and IfMatch != _etag(Key):
            raise _error(412, "PreconditionFailed")
        first, _, last = Range.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, size - int(last or size))
        stop = int(last) + 1 if first and last else size
        offset = size - len(data)  # of the part that is kept
        some = bytes(max(0, min(stop, offset) - start)) + data[max(0, start - offset) : max(0, stop - offset)]
        return {"Body": Body(some), "ETag": _etag(Key), "ContentRange": f"bytes {start}-{stop - 1}/{size}"}

    def head_object(self, Bucket: str, Key: str, IfMatch: str = "") -> dict[str, Any]:
        """What is known of an object."""
        self._answer("head")
        data = self._body(Key)
        size = self.sizes.get(Key, len(data))
        return {"ContentLength": size, "LastModified": LATER, "ETag": _etag(Key), "Metadata": {}}

    def put_object(self, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str = "", **_: object) -> dict[str, Any]:
        """Writes an object."""
        self._answer("put")
        if IfNoneMatch and Key in self.objects:
            raise _error(412, "PreconditionFailed")
        self.sizes[Key] = len(Body)
        self.objects[Key] = bytes(Body) if len(Body) <= KEPT else bytes(Body[-TAIL:])
        return {}

    def delete_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        """Removes an object."""
        self._answer("delete")
        self.objects.pop(Key, None)
        return {}

    def delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        """Removes up to a thousand."""
        self._answer("delete many")
        for item in Delete["Objects"]:
            self.objects.pop(item["Key"], None)
        return {}

    def create_multipart_upload(self, **_: object) -> dict[str, str]:
        """Parts of one upload at a time are enough here."""
        self._answer("put")
        self._parts: dict[int, bytes] = {}
        return {"UploadId": "one"}

    def upload_part(self, PartNumber: int, Body: bytes, **_: object) -> dict[str, str]:
        """One part."""
        self._answer("put")
        self._parts[PartNumber] = bytes(Body)
        return {"ETag": str(PartNumber)}

    def complete_multipart_upload(self, Key: str, **_: object) -> dict[str, str]:
        """The parts become the object."""
        self._answer("put")
        data = b"".join(self._parts[number] for number in sorted(self._parts))
        self.objects[Key], self.sizes[Key] = data[-TAIL:], len(data)
        return {}

    def _answer(self, operation: str) -> None:
        with self._turn:
            self.calls[operation] += 1
            self._waits[threading.current_thread() is threading.main_thread()] += SECONDS[operation]
            busy = self._random.random() < self._busy
            self.calls["503"] += busy
        if busy:
            raise _error(503, "SlowDown")

    def _keys(self, prefix: str, after: str, most: int) -> Iterator[str]:
        found = sorted(key for key in list(self.objects) if key.startswith(prefix) and key > after)[:most]
        for family in self.families:
            if family.prefix.startswith(prefix) or prefix.startswith(family.prefix):
                names, rest = (
                    family.names,
                    prefix.removeprefix(family.prefix) if len(prefix) > len(family.prefix) else "",
                )
                start = bisect.bisect_left(names, rest)
                if after > family.prefix:
                    start = max(start, bisect.bisect_right(names, after.removeprefix(family.prefix)))
                some = names[start : start + most]
                found += [family.prefix + name for name in some if name.startswith(rest)]
        yield from sorted(found)[:most]

    def _family(self, key: str) -> tuple[Family, str] | None:
        for family in self.families:
            if key.startswith(family.prefix):
                name = key.removeprefix(family.prefix)
                at = bisect.bisect_left(family.names, name)
                if at < len(family.names) and family.names[at] == name:
                    return family, name
        return None

    def _body(self, key: str) -> bytes:
        if key in self.objects:
            return self.objects[key]
        found = self._family(key)
        if found is None:
            raise _error(404, "NoSuchKey")
        return found[0].body(found[1])

    def _size(self, key: str) -> int:
        if key in self.sizes:
            return self.sizes[key]
        found = self._family(key)
        return found[0].size if found else 0


def _etag(key: str) -> str:
    return f'"{hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()}"'


def _error(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "simulated")
