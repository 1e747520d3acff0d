"""The records of commits, gathered a thousand to a file: the next driver opens a few of these and not every marker.

    OUT/_log/000000.json    the records of 1,000 markers of OUT/_units, as one JSON list

A marker alone decides that its unit counts: a record whose marker is not there is left out, and markers that no file of
the log knows are read themselves. In: records as they come. Out: the records of all markers.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ray_app import storage
from ray_app.data.reviews import THREADS

if TYPE_CHECKING:
    from ray_app.catalog.commit import CommitRecord

RECORDS = 1_000  # per file; fewer stay in their markers


class CommitLog:
    """Gathers the records that a run counts. For one driver at a time."""

    def __init__(self, out: str) -> None:
        self.folder = storage.join(out, "_log")
        self.number = len(storage.list_files(self.folder)) if storage.exists(self.folder) else 0
        self.waiting: list[CommitRecord] = []

    def add(self, record: "CommitRecord") -> None:
        """Takes a record that no file of the log has; writes a file once there are enough."""
        self.waiting.append(record)
        if len(self.waiting) >= RECORDS:
            data = json.dumps(self.waiting, ensure_ascii=False).encode()
            storage.create(storage.join(self.folder, f"{self.number:06d}.json"), data)  # a marker remains in any case
            self.waiting, self.number = [], self.number + 1


def committed(out: str) -> Iterator[tuple["CommitRecord", bool]]:
    """The record of every commit marker, and whether the log has it."""
    units, log = storage.join(out, "_units"), storage.join(out, "_log")
    files = storage.list_files(units) if storage.exists(units) else []
    left = {file.uri.rpartition("/")[2].removesuffix(".json"): file.uri for file in files if file.uri.endswith(".json")}
    logged = [file.uri for file in storage.list_files(log)] if storage.exists(log) else []
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(logged), THREADS):  # a few at a time: each holds a megabyte
            for records in pool.map(_records, logged[first : first + THREADS]):
                yield from ((record, True) for record in records if left.pop(record["id"], None))
        yield from ((record, False) for record in pool.map(storage.read_json, left.values()))


def _records(uri: str) -> list["CommitRecord"]:
    records: list[CommitRecord] = storage.read_json(uri)
    return records
