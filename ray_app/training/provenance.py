"""What a training can be told apart by, later: its data, its tokenizer, the libraries that ran it.

In: tables, a folder. Out: hashes and versions, as plain values of `provenance` in bundle.json.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from ray_app.training.classifier_options import Config

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


def begun_as(config: "Config", scratch: Path) -> list[Path]:
    """Folders that say what the base bundle and every adapter learned from, or do not."""
    from ray_app import storage
    from ray_app.inference import bundle, known_texts

    folders = [bundle.load(config.base_model).path] if config.starts_from_bundle else []
    for number, adapter in enumerate(config.adapter):
        folders.append(scratch / f"adapter-{number}")
        folders[-1].mkdir()
        uri = storage.join(adapter, known_texts.FILE)
        if storage.exists(uri):
            (folders[-1] / known_texts.FILE).write_bytes(storage.read_bytes(uri))
    return folders
