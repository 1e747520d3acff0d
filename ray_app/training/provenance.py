"""What a training can be told apart by, later: its data, its base, its tokenizer, the libraries that ran it.

In: tables, names, a folder. Out: hashes and versions, as plain values of `provenance` in bundle.json; and hashes by
which a resumed run sees that it reads what it was begun with.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from ray_app.data.taxonomy import Taxonomy
    from ray_app.training.classifier_options import Config

MODEL_FILES = (".safetensors", ".bin", ".json", ".txt", ".model", ".bpe")
PIECE, PIECES = 1 << 16, 256  # bytes of a piece of a large file, and how many of them are read
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


def inputs_of(config: "Config", taxonomy: "Taxonomy", *tables: pa.Table) -> dict[str, str]:
    """By flag, what tells apart what the options of a training name; `tables`: what it reads of the labels."""
    from ray_app import storage

    adapters = [
        (name, hashlib.sha256(storage.read_bytes(storage.join(folder, name))).hexdigest())
        for folder in config.adapter
        for name, _ in storage.walk(folder)
    ]
    return {
        "--labels": hash_of(*tables),
        "--taxonomy": told_apart(taxonomy.to_dict()),
        "--base-model": model_behind(config.base_model),
        "--adapter": told_apart(*adapters),
    }


def told_apart(*values: object) -> str:
    """SHA-256 over plain values, in their order."""
    return hashlib.sha256(json.dumps(values, ensure_ascii=False, default=str).encode(errors="replace")).hexdigest()


def model_behind(name: str) -> str:
    """What tells apart what lies behind a base model's name now: a bundle's id, a folder's content, the commit of a
    hub's model that this machine has; "" where that cannot be told."""
    from ray_app.engine.base_model import commit_behind
    from ray_app.engine.encoder import STARTER
    from ray_app.inference import bundle, bundle_names

    if name == "starter":
        return _folder(STARTER)
    if bundle_names.is_bundle(name):
        return bundle.load(name).id
    if Path(name).is_dir():
        return _folder(Path(name))
    return "" if name == "scratch" else commit_behind(name)


def _folder(folder: Path) -> str:
    """SHA-256 over the files of a model's folder, but notes; of a large one over its size and pieces of it."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in MODEL_FILES):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\0".encode())
        with path.open("rb") as file:
            for at in range(0, size, max(PIECE, size // PIECES)):
                file.seek(at)
                digest.update(file.read(PIECE))
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
