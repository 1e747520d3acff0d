"""What a file is, by its first bytes; its name decides only between kinds of text.

In: a name and the first bytes. Out: the kind that reads it, or why it is no input and what makes it one.
"""

import codecs
import re
from typing import NamedTuple

from ray_app.data.reading.streams import GZIP, UTF16, encoding_of, unpacked
from ray_app.data.reading.text_files import MARK

HEAD = 4_096
SPOILED = 0.1  # share of zero bytes that a table of text may have
TEXTS = {
    "csv": ("csv", "tsv", "tab", "txt", "psv"),
    "jsonl": ("jsonl", "ndjson", "json"),
}
READ = "Parquet, CSV, TSV, JSON lines and xlsx are read"
TO_PARQUET = "convert it: python -c \"import pandas; pandas.{call}('{name}').to_parquet('{stem}.parquet')\""
ZIPPED = {  # endings of zip archives that are documents
    "ods": "an OpenDocument sheet; save it as xlsx or CSV",
    "xlsb": "a binary workbook; save it as xlsx or CSV",
    "numbers": "a sheet of Apple's Numbers; export it as xlsx or CSV",
    **dict.fromkeys(("docx", "pptx", "hwpx", "odt"), f"a document without a table of reviews; {READ}"),
}
OLE = b"\xd0\xcf\x11\xe0"
OTHERS = (  # first bytes, what has them, pandas' reader
    (b"ARROW1", "a Feather (Arrow IPC) file", "read_feather"),
    (b"\x80\x02", "a pickle, which can run code", "read_pickle"),
    (b"\x80\x03", "a pickle, which can run code", "read_pickle"),
    (b"\x80\x04", "a pickle, which can run code", "read_pickle"),
    (b"\x80\x05", "a pickle, which can run code", "read_pickle"),
    (b"ORC", "an ORC file", "read_orc"),
    (OLE, "a workbook of old Excel (.xls)", "read_excel"),
    (b"\x89HDF", "an HDF5 file", "read_hdf"),
    (b"Obj\x01", "an Avro file", ""),
    (b"SQLite format 3", "an SQLite database", ""),
    (b"BZh", "packed with bzip2; unpack it", ""),
    (b"\xfd7zXZ", "packed with xz; unpack it", ""),
    (b"\x28\xb5\x2f\xfd", "packed with zstd; unpack it", ""),
    (b"PARE", "encrypted Parquet; decrypt it", ""),
    (b"%PDF", "a PDF", ""),
    (b"Rar!", "packed with rar; unpack it", ""),
)


_JSON = re.compile(r"\{|\[\s*[{\[]")


class Kind(NamedTuple):
    """What reads a file, `parquet`, `csv`, `jsonl` or `xlsx`; "" and the reason where nothing does."""

    name: str
    reason: str = ""


def kind_of(uri: str, data: bytes, chosen: bool) -> Kind:
    """The kind of a file with these first bytes. `chosen`: the user named this file, so text is taken for a table."""
    name = uri.rpartition("/")[2]
    if data.startswith(b"PAR1"):
        return Kind("parquet")
    if data.startswith(OLE) and name.lower().endswith(("xlsx", "xlsm")):
        return Kind("", "a workbook with a password, or one of old Excel; save it as .xlsx without a password")
    for mark, what, call in OTHERS:
        if data.startswith(mark):
            stem = name.rpartition(".")[0] or name
            remedy = TO_PARQUET.format(call=call, name=name, stem=stem) if call else READ
            return Kind("", f"{what}; {remedy}")
    ending = name.lower().rpartition(".")[2]
    if data.startswith(b"PK\x03\x04") and ending in ZIPPED:
        return Kind("", ZIPPED[ending])
    if data.startswith(b"PK\x03\x04"):
        sheet = name.lower().endswith((".xlsx", ".xlsm")) or b"[Content_Types]" in data or b"xl/" in data
        return Kind("xlsx") if sheet else Kind("", f"a zip archive; unpack it, {READ}")
    if data.startswith(GZIP):
        return _packed(uri, data, chosen)
    return _text(name, data, chosen)


def _packed(uri: str, data: bytes, chosen: bool) -> Kind:
    try:
        inner = unpacked(data)
    except Exception:  # zlib's own error, of a file that is damaged from its beginning
        return Kind("", "damaged gzip")
    stem = uri[:-3] if uri.lower().endswith(".gz") else uri
    kind = kind_of(stem, inner, chosen)
    return kind if kind.name in ("csv", "jsonl", "") else Kind("", f"{kind.name} packed with gzip; gunzip it")


def _text(name: str, data: bytes, chosen: bool) -> Kind:
    ending = name.lower().rpartition(".")[2] if "." in name else ""
    encoding = encoding_of(data)
    text = data.decode(encoding, "replace") if encoding in UTF16 else data.decode("latin-1")
    text = text.removeprefix(MARK).removeprefix(codecs.BOM_UTF8.decode("latin-1")).lstrip()
    if not text:
        return Kind("", "empty")
    known = ending in TEXTS["csv"] or ending in TEXTS["jsonl"]
    if text.count("\0") > (SPOILED * len(text) if known else 0):
        return Kind("", f"neither a table nor text; {READ}")
    if text[0] == "<":
        return Kind("", "an HTML or XML page; open it in a spreadsheet and save it as xlsx or CSV")
    if ending in TEXTS["jsonl"] or (_JSON.match(text) and ending not in TEXTS["csv"]):
        return _json(text)
    table = any(mark in text.splitlines()[0] for mark in "\t,;|\x01")
    if ending in ("csv", "tsv", "tab", "psv") or chosen or (table and ending in ("", "txt")):
        return Kind("csv")
    return Kind("", f"text without columns; {READ}")


def _json(text: str) -> Kind:
    if text[0] == "{":
        return Kind("jsonl")
    return Kind("", "one JSON document; write one object per line, as `jq -c '.[]'` does")
