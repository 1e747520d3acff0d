"""A text file's bytes as a stream that any part can be read from: unpacked, and in an encoding that extends ASCII.

In: a file's URI, version and Dialect. Out: a `records.Source`. Offsets are those of the unpacked, recoded stream.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from ray_app import storage
from ray_app.data.columns import Dialect
from ray_app.data.reading.records import CHUNK, Source

GZIP = b"\x1f\x8b"
UTF16 = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


class UnreadableError(Exception):
    """A file's content is not what its kind demands; the message says why, in one line."""


@contextmanager
def opened(file: str, version: str, dialect: Dialect, start: int = 0) -> Iterator[Source]:
    """The stream from `start` on. Raises UnreadableError where it is damaged, and what `storage.open_input` raises."""
    with storage.open_input(file, version) as raw:
        sequential = dialect.packed or dialect.encoding in UTF16
        if not sequential:
            raw.seek(start)
        source: Source = _Unpacked(raw) if dialect.packed else raw
        source = _Recoded(source, dialect.encoding) if dialect.encoding in UTF16 else source
        left = start if sequential else 0
        while left:
            left -= len(source.read(min(left, CHUNK))) or left
        yield source


def line_encoding(dialect: Dialect) -> str:
    """The encoding of the stream's lines."""
    return "utf-8" if dialect.encoding in UTF16 else dialect.encoding


def head(file: storage.FileInfo, size: int) -> bytes:
    """A file's first bytes, as they are."""
    with storage.open_input(file.uri, file.version) as raw:
        return bytes(raw.read(size))


def unpacked(data: bytes) -> bytes:
    """What the beginning of a gzip file holds; as much as can be told."""
    return zlib.decompressobj(wbits=31).decompress(data, 1 << 16)


def encoding_of(data: bytes) -> str:
    """utf-16-le or utf-16-be where the bytes have its mark, or its zeros; else utf-8, which a scan may correct."""
    for encoding, mark in UTF16.items():
        if data.startswith(mark):
            return encoding
    for encoding, zeros in (("utf-16-le", data[1::2]), ("utf-16-be", data[0::2])):
        if zeros.count(0) > 0.2 * len(zeros) and _legible(data[: len(data) // 2 * 2].decode(encoding, "replace")):
            return encoding
    return "utf-8"


def _legible(text: str) -> bool:
    """Whether text looks like a table's: line ends, and nothing that cannot be shown."""
    return "\n" in text and all(ch.isprintable() or ch in "\r\n\t" for ch in text[:-1])


class _Unpacked:
    """The content of a gzip file."""

    def __init__(self, raw: pa.NativeFile) -> None:
        self.file = gzip.GzipFile(fileobj=raw)

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`."""
        try:
            return self.file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UnreadableError(f"damaged gzip: {error}") from None


class _Recoded:
    """UTF-16 as UTF-8, without its mark."""

    def __init__(self, source: Source, encoding: str) -> None:
        self.source, self.first, self.ready = source, True, b""
        self.decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        while len(self.ready) < size:
            data = self.source.read(CHUNK)
            try:
                text = self.decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise UnreadableError(f"damaged UTF-16: {error.reason}") from None
            if self.first and text:
                text, self.first = text.removeprefix("\ufeff"), False
            self.ready += text.encode("utf-8", "surrogatepass")
            if not data:
                break
        result, self.ready = self.ready[:size], self.ready[size:]
        return result
