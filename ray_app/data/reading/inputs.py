"""Which files an input stands for, and which of those are left out, each with the reason.

In: `--input`: a file, folder or glob, or several with commas between them. Out: the files with their kinds, by name.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ray_app import storage
from ray_app.data.reading import table_formats
from ray_app.data.reading.kinds import HEAD, Kind, kind_of
from ray_app.data.reading.streams import head
from ray_app.errors import UserError, check
from ray_app.storage import globs

THREADS = 16  # files looked into at once: a request to an object store takes tens of milliseconds, mostly of waiting
LISTED = 20  # files that are left out and listed; the others are counted
HIDDEN = "hidden: its name, or a folder's, begins with . or _"


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file that is read, by the reader of its kind."""

    info: storage.FileInfo
    kind: str


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file that lies in the input and is not read, and why."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """The files of an input in order, those left out, and the folder that holds all of them."""

    files: tuple[InputFile, ...]
    left_out: tuple[LeftOut, ...]
    root: str

    def describe(self) -> Iterator[str]:
        """One line with counts, then a line per file that is left out, at most LISTED."""
        kinds = Counter(file.kind for file in self.files)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        more = f"; {len(self.left_out):,} left out" if self.left_out else ""
        files = "1 file" if len(self.files) == 1 else f"{len(self.files):,} files"
        yield f"{files} ({counts or 'none'}){more}"
        yield from (f"left out {one.file}: {one.reason}" for one in self.left_out[:LISTED])
        if len(self.left_out) > LISTED:
            reasons = Counter(one.reason.partition(";")[0] for one in self.left_out[LISTED:])
            yield f"and {len(self.left_out) - LISTED:,} more: " + ", ".join(
                f"{n:,} {why}" for why, n in reasons.items()
            )


def split(uri: str) -> list[str]:
    """The paths of `--input`, absolute; a path that exists with its commas is one path."""
    uri = uri if "," not in uri or storage.exists(uri) else uri.strip(", ")
    parts = [uri] if "," not in uri or storage.exists(uri) else uri.split(",")
    return [storage.absolute(part.strip()) for part in parts if part.strip()]


def folders(uri: str) -> list[str]:
    """The paths of an input without their patterns: what releases with other rules for globs read lies there too."""
    return [path if storage.exists(path) else globs.split(path)[0] for path in split(uri)]


def find(uri: str) -> Found:
    """Lists an input. Raises UserError where a path does not exist, or where no file can be read."""
    files: list[InputFile] = []
    left_out: list[LeftOut] = []
    seen: dict[str, str] = {}  # a file by its real place -> its name
    paths = split(uri)
    for path in paths:
        walked = storage.walk(path)
        table_formats.check_whole(path)
        tables = table_formats.roots(file.uri for _, file in walked)
        listed: list[storage.FileInfo] = []
        for root, read in tables.items():
            listed += read(root)
        for name, file in walked:
            if any(file.uri.startswith(f"{root}/") for root in tables):
                continue
            real = file.uri if "://" in file.uri else os.path.realpath(file.uri)
            if name and globs.hidden(path, name):
                left_out.append(LeftOut(file=file.uri, reason=HIDDEN))
            elif file.size == storage.NOTHING:
                left_out.append(LeftOut(file=file.uri, reason="a link to a file that does not exist"))
            elif file.size == storage.SPECIAL:
                left_out.append(LeftOut(file=file.uri, reason="no file: a pipe, socket or device"))
            elif real in seen:
                left_out.append(LeftOut(file=file.uri, reason=f"the same file as {seen[real]}"))
            else:
                seen[real] = file.uri
                listed.append(file)
        named = len(walked) == 1 and not walked[0][0]
        for file, kind in _kinds(listed, named):
            if kind.name:
                files.append(InputFile(info=file, kind=kind.name))
            else:
                check(not named, f"{file.uri}: {kind.reason}")
                left_out.append(LeftOut(file=file.uri, reason=kind.reason))
    if not files:
        raise UserError(f"{uri}: no reviews there{_reasons(left_out)}")
    return Found(files=tuple(files), left_out=tuple(left_out), root=_root([file.info.uri for file in files]))


def holds(uri: str, out: str) -> str | None:
    """The path of an input that a file in the folder `out` would be a part of; None where there is none."""
    probe = f"{_real(storage.absolute(out))}/data/part-000000.parquet"
    for path in split(uri):
        folder, pattern = globs.split(path)
        if pattern and storage.exists(path):
            folder, pattern = path, ""
        folder = _real(folder).rstrip("/") + "/"
        if not probe.startswith(folder):
            continue
        name = probe.removeprefix(folder)
        there = [name for name, _ in storage.walk(folder)] if pattern and storage.exists(folder) else []
        if not pattern or name in globs.select([*there, name], pattern):
            return path
    return None


def _real(path: str) -> str:
    return path if "://" in path else os.path.realpath(path)


def _kinds(files: Sequence[storage.FileInfo], named: bool) -> Iterator[tuple[storage.FileInfo, Kind]]:
    """Every file with its kind; those whose names end in `.parquet` are taken at their word."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield from zip(files, pool.map(lambda file: _kind(file, named), files), strict=True)


def _kind(file: storage.FileInfo, named: bool) -> Kind:
    if file.uri.endswith(".parquet"):
        return Kind("parquet")
    return kind_of(file.uri, head(file, HEAD), named)


def _root(uris: Sequence[str]) -> str:
    """The folder that holds all the files."""
    folders = [uri.split("/")[:-1] for uri in (min(uris), max(uris))]  # what these share, all share
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*folders, strict=False))
    return "/".join(part for part, _ in same)


def _reasons(left_out: Sequence[LeftOut]) -> str:
    return "".join(f"; {one.file.rpartition('/')[2]}: {one.reason}" for one in left_out[:3])
