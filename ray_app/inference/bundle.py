"""A bundle: the folder that holds all that inference needs, checked by hashes before anything is loaded.

    bundle.json            what wrote it, taxonomy, thresholds, prompt, lengths, metrics, provenance, hashes
    tokenizer/             one fast tokenizer for both classifiers
    keywords/ scores/      encoder config.json and model.safetensors, head.safetensors

Only JSON and safetensors are read: loading a bundle executes nothing of it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ray_app import __version__, storage
from ray_app.arrays import Floats
from ray_app.data.taxonomy import Taxonomy, from_dict
from ray_app.errors import UserError, check, first_line
from ray_app.storage import node_cache


@dataclass(frozen=True)
class BundleSummary:
    """What a bundle says of itself: its taxonomy, and [keywords] the threshold of each."""

    taxonomy: Taxonomy
    thresholds: Floats


def read_summary(place: str) -> BundleSummary:
    """Reads the JSON of a bundle, and none of its weights."""
    content = storage.read_json(storage.join(place, "bundle.json"))
    check({"taxonomy", "thresholds"} <= set(content), f"bundle {place}: bundle.json is damaged")
    taxonomy = from_dict(content["taxonomy"], f"bundle {place}")
    return BundleSummary(taxonomy, np.asarray(content["thresholds"], np.float32))


FORMAT = 1
SCORE_PROMPT = "###입력: {review} \n###키워드: {keyword}"
MODELS = ("keywords", "scores")
SUFFIXES = (".json", ".safetensors", ".txt", ".model")  # everything else, a pickle above all, is refused


@dataclass(frozen=True, kw_only=True)
class BundleMeta:
    """bundle.json without the file hashes."""

    taxonomy: Taxonomy
    thresholds: tuple[float, ...]
    max_length: int = 256
    score_prompt: str = SCORE_PROMPT
    pooling: str = "first"
    backend: str = "auto"  # arithmetic the classifiers were judged with: auto is what the device does best
    metrics: dict[str, Any] = field(default_factory=dict)
    support: dict[str, int] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: its id (sha256 over all its files), what it says of itself, and its parts on disk."""

    path: Path
    id: str
    meta: BundleMeta


def seal(folder: Path, meta: BundleMeta) -> str:
    """Writes bundle.json over the files already in `folder`, with their hashes. Returns the bundle id."""
    files = {name: _sha256(folder / name) for name in _names(folder)}
    content = {
        "format": FORMAT,
        "nunchi": __version__,
        **asdict(replace(meta, taxonomy=None)),  # type: ignore[arg-type]
        "taxonomy": meta.taxonomy.to_dict(),
        "files": files,
    }
    content = json.loads(json.dumps(content))  # as it will be read: tuples are lists, keys are strings
    content["id"] = _id(content)
    (folder / "bundle.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return str(content["id"])


def load(uri: str) -> Bundle:
    """Checks that a bundle is complete, unchanged and of a known format. A remote one is copied once for all processes
    of this node. Raises UserError naming what is wrong."""
    if "://" not in uri:
        return _load(Path(uri).expanduser(), uri)
    copy = node_cache.path_of(_key(uri))
    seen = node_cache.fingerprint(copy)
    try:
        return _load(copy, uri)
    except UserError:  # not there yet, or damaged since
        node_cache.fetch(uri, copy, seen)
    return _load(copy, f"{uri} (kept in {copy})")


def _key(uri: str) -> str:
    """The same for the same content: bundle.json holds the hashes of all files."""
    index = storage.join(uri, "bundle.json")
    try:
        return hashlib.sha256(storage.read_bytes(index)).hexdigest()[:32]
    except storage.MissingError:
        raise UserError(f"bundle {uri}: no bundle.json there; make one with python -m jobs.train") from None


def _load(folder: Path, uri: str) -> Bundle:
    check((folder / "bundle.json").is_file(), f"bundle {uri}: no bundle.json there; make one with python -m jobs.train")
    try:
        content = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        check(
            content["format"] == FORMAT,
            f"bundle {uri}: format {content['format']}, written by nunchi "
            f"{content['nunchi']}; this is nunchi {__version__}, which reads format {FORMAT}",
        )
        _verify(folder, content, uri)
        taxonomy = from_dict(content["taxonomy"], f"bundle {uri}")
        meta = BundleMeta(
            taxonomy=taxonomy,
            thresholds=tuple(content["thresholds"]),
            max_length=content["max_length"],
            score_prompt=content["score_prompt"],
            pooling=content["pooling"],
            backend=content["backend"],
            metrics=content["metrics"],
            support=content["support"],
            provenance=content["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"bundle {uri}: bundle.json is damaged ({first_line(error)})") from None
    check(
        len(meta.thresholds) == len(taxonomy.keywords),
        f"bundle {uri}: {len(meta.thresholds)} thresholds for {len(taxonomy.keywords)} keywords",
    )
    return Bundle(folder, content["id"], meta)


def _verify(folder: Path, content: dict[str, Any], uri: str) -> None:
    check(content["id"] == _id(content), f"bundle {uri}: bundle.json was changed after it was written")
    for path in folder.rglob("*"):
        check(_inside(path, folder), f"bundle {uri}: {path.relative_to(folder)} is a link out of it; copy the file in")
    present = set(_names(folder))
    for name, digest in content["files"].items():
        check(name in present, f"bundle {uri}: {name} is missing; copy the bundle again")  # `../x` is in no folder
        check(_sha256(folder / name) == digest, f"bundle {uri}: {name} was changed or cut short; copy the bundle again")
    extra = sorted(present - set(content["files"]))
    check(not extra, f"bundle {uri}: {extra[:1]} is not part of it; remove it")
    for name in sorted(present):
        check(name.endswith(SUFFIXES), f"bundle {uri}: {name} may hold code; only {', '.join(SUFFIXES)} are loaded")
    for model in MODELS:
        check(f"{model}/head.safetensors" in present, f"bundle {uri}: {model}/head.safetensors is missing")


def _inside(path: Path, folder: Path) -> bool:
    return not path.is_symlink() or path.resolve().is_relative_to(folder.resolve())


def _names(folder: Path) -> list[str]:
    index = folder / "bundle.json"
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p != index)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _id(content: dict[str, Any]) -> str:
    """Twelve hexadecimal digits over everything but the id itself."""
    rest = {key: value for key, value in content.items() if key != "id"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]
