"""What a training can be told apart by, later: its data, its tokenizer, the libraries that ran it.

In: tables, a folder. Out: hashes and versions, as plain values of `provenance` in bundle.json.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa

LIBRARIES = ("torch", "transformers", "tokenizers", "ray", "numpy", "scikit-learn")


def hash_of(*tables: pa.Table) -> str:
    """SHA-256 over the rows of tables, whatever file they lay in."""
    digest = hashlib.sha256()
    for table in tables:
        for row in table.to_pylist():
            digest.update(json.dumps(row, ensure_ascii=False, sort_keys=True, default=str).encode(errors="replace"))
        digest.update(b"\n")
    return digest.hexdigest()


def hash_of_files(folder: Path) -> str:
    """SHA-256 over the files of a folder, by name."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The version of each of LIBRARIES."""
    return {name: version(name) for name in LIBRARIES}
