"""A bundle: the folder that holds all that inference needs, checked by hashes before anything is loaded.

    bundle.json            what wrote it, taxonomy, thresholds, prompt, lengths, metrics, provenance, hashes
    tokenizer/             one fast tokenizer for all its models
    keywords/ scores/      encoder config.json and model.safetensors, head.safetensors; of the joint form `joint/` alone

In: a folder with models and a BundleMeta, or the URI of a bundle. Out: its id, or a Bundle. Only JSON and safetensors
are read: loading a bundle runs no code from it.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from ray_app import __version__, storage
from ray_app.arrays import Floats
from ray_app.data.taxonomy import Taxonomy, from_dict
from ray_app.errors import UserError, check, first_line
from ray_app.inference.bundle_files import check_inert, check_sizes, check_values
from ray_app.inference.bundle_names import INDEX, located, location, text_of
from ray_app.storage import hub, node_cache

FORMATS = (1, 2, 3, 4, 5)  # 2: a joint model or int8 weights, 3: not run as usual, 4: has a prefix, 5: int4 weights
SCORE_PROMPT = "###입력: {review} \n###키워드: {keyword}"
READER = "reader.safetensors"  # beside a joint model: reads keywords that it was not trained on, see first_guess.py
CARD = "README.md"  # a bundle may say what it is


@dataclass(frozen=True)
class BundleSummary:
    """A bundle's taxonomy, [keywords] the threshold of each, and how its scores and highlights are found."""

    taxonomy: Taxonomy
    thresholds: Floats
    score_form: str = "prompt"
    highlights: str = "occlusion"


@dataclass(frozen=True, kw_only=True)
class BundleMeta:
    """`bundle.json` without the file hashes."""

    taxonomy: Taxonomy
    thresholds: tuple[float, ...]
    max_length: int = 256
    score_prompt: str = SCORE_PROMPT
    pooling: str = "first"
    score_form: str = "prompt"  # or attention, or joint: `engine/keyword_attention.py`
    highlights: str = "occlusion"  # how the words that name a keyword are found, or attention where it learned them
    opinions: str = "occlusion"  # the same for the words that say the feeling
    batching: str = "auto"  # how its models may be run, found out when it was sealed: `engine/agreement.py`
    backend: str = "auto"  # arithmetic the classifiers run in: auto is what suits the device best
    metrics: dict[str, object] = field(default_factory=dict)
    support: dict[str, int] = field(default_factory=dict)
    provenance: dict[str, object] = field(default_factory=dict)

    @property
    def attends(self) -> bool:
        """Whether its keywords attend over the review."""
        return self.score_form != "prompt"


def models_of(score_form: str) -> tuple[str, ...]:
    """The folders of a bundle's models: the keyword and the score classifier, or one model that is both."""
    return ("joint",) if score_form == "joint" else ("keywords", "scores")


def check_attends(bundle: "Bundle", what: str, remedy: str) -> None:
    """Raises UserError where a bundle's keywords do not attend and `what` asks them to."""
    check(
        bundle.meta.attends,
        f"{what}: bundle {bundle.path} has scores of the prompt form, which have no attention; {remedy}",
    )


def check_joint(bundle: "Bundle", flag: str) -> None:
    """Raises UserError naming the flag where a bundle is not of the joint form."""
    form = bundle.meta.score_form
    check(
        form == "joint",
        f"{flag} {bundle.path}: a bundle of the form {form}; only one that was trained with --score-form joint will do",
    )


def resolved_mode(highlights: str, meta: BundleMeta | BundleSummary) -> str:
    """What `auto` stands for with a bundle; any other mode as it is. Where attention was taught by words, it names an
    accepted word at least as often as exact masking does (docs/benchmarks.md)."""
    by_default = "attention" if meta.highlights == "attention" else "exact"
    return by_default if highlights == "auto" else highlights


@dataclass(frozen=True)
class Bundle:
    """A checked bundle on local disk; its id is a hash over all its files."""

    path: Path
    id: str
    meta: BundleMeta


class _Content(TypedDict):
    """What `_verify` reads of bundle.json: its id, the sha256 of every file by its path in the bundle, and the form."""

    id: str
    files: dict[str, str]
    score_form: NotRequired[str]


def read_summary(uri: str | os.PathLike[str]) -> BundleSummary:
    """Reads a bundle's JSON and none of its weights. Raises UserError where it lacks what a summary needs."""
    content = storage.read_json(storage.join(location(uri), INDEX))
    check({"taxonomy", "thresholds"} <= set(content), f"bundle {uri}: bundle.json is damaged")
    taxonomy = from_dict(content["taxonomy"], f"bundle {uri}")
    form, highlights = content.get("score_form", "prompt"), content.get("highlights", "occlusion")
    return BundleSummary(taxonomy, np.asarray(content["thresholds"], np.float32), form, highlights)


def seal(folder: Path, meta: BundleMeta) -> str:
    """Writes bundle.json over the files already in `folder`, with their hashes. Returns the bundle id."""
    files = {name: _sha256(folder / name) for name in _names(folder)}
    content = {
        "format": _format(meta, files),
        "nunchi": __version__,
        **asdict(replace(meta, taxonomy=None)),  # type: ignore[arg-type]
        "taxonomy": meta.taxonomy.to_dict(),
        "files": files,
    }
    content = json.loads(json.dumps(content))  # as it will be read back: tuples are lists, keys are strings
    content["id"] = _id(content)
    (folder / "bundle.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return str(content["id"])


def _format(meta: BundleMeta, files: Mapping[str, str]) -> int:
    """The first that can be read by a release that reads this bundle."""
    if any(name.endswith("/int4.safetensors") for name in files):
        return 5
    if any(name.endswith("/prefix.safetensors") for name in files):
        return 4
    if meta.batching != "auto":
        return 3
    return 2 if meta.score_form == "joint" or any(name.endswith("int8.safetensors") for name in files) else 1


def load(uri: str | os.PathLike[str]) -> Bundle:
    """Loads a bundle after checking that it is complete, unchanged and of a known format. `ready` is the shipped one.

    A remote one is copied once for all processes of this node. Raises UserError naming what is wrong.
    """
    name = text_of(uri)
    uri, copy = located(name)
    if "://" not in uri:
        return _load(copy, name)
    fingerprint = node_cache.fingerprint(copy)
    try:
        return _load(copy, uri)
    except UserError:  # not copied yet, or damaged since
        node_cache.fetch(uri, copy, fingerprint, _named_files(uri))
    return _load(copy, f"{uri} (kept in {copy})")


def _named_files(uri: str) -> Set[str] | None:
    """What a hub's repository has of a bundle: what its bundle.json names, and that. None: all that is there."""
    if not uri.startswith(hub.SCHEME):
        return None
    index = storage.join(uri, INDEX)
    check(storage.exists(index), f"bundle {uri}: no bundle.json there; is it the name of a base model?")
    content = storage.read_json(index)
    files = content.get("files") if isinstance(content, dict) else None
    check(isinstance(files, dict), f"bundle {uri}: bundle.json is damaged (it names no files)")
    return {INDEX, *map(str, files or ())}


def _load(folder: Path, uri: str) -> Bundle:
    check((folder / "bundle.json").is_file(), f"bundle {uri}: no bundle.json there; make one with python -m jobs.train")
    try:
        content = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        check(
            content["format"] in FORMATS,
            f"bundle {uri}: format {str(content['format'])[:20]}, written by nunchi {str(content['nunchi'])[:20]}; "
            f"this is nunchi {__version__}, which reads formats up to {FORMATS[-1]}",
        )
        check(content["id"] == _id(content), f"bundle {uri}: bundle.json was changed after it was written")
        check_values(content, f"bundle {uri}: bundle.json")
        _verify(folder, content, uri)
        taxonomy = from_dict(content["taxonomy"], f"bundle {uri}")
        meta = BundleMeta(
            taxonomy=taxonomy,
            thresholds=tuple(content["thresholds"]),
            max_length=content["max_length"],
            score_prompt=content["score_prompt"],
            pooling=content["pooling"],
            score_form=content.get("score_form", "prompt"),
            highlights=content.get("highlights", "occlusion"),
            opinions=content.get("opinions", "occlusion"),
            batching=content.get("batching", "auto"),
            backend=content["backend"],
            metrics=content["metrics"],
            support=content["support"],
            provenance=content["provenance"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"bundle {uri}: bundle.json is damaged ({first_line(error)})") from None
    check(
        len(meta.thresholds) == len(taxonomy.keywords),
        f"bundle {uri}: {len(meta.thresholds)} thresholds for {len(taxonomy.keywords)} keywords",
    )
    return Bundle(folder, content["id"], meta)


def _verify(folder: Path, content: _Content, uri: str) -> None:
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        check(name.isprintable(), f"bundle {uri}: {name!a} is no name for a file of a bundle; remove it")
        check(_inside(path, folder), f"bundle {uri}: {name} links out of the bundle; copy the file in")
        check(path.is_file() or path.is_dir(), f"bundle {uri}: {name} is neither a file nor a folder; remove it")
    present = set(_names(folder))
    for file, digest in content["files"].items():
        check(file in present, f"bundle {uri}: {file} is missing; copy the bundle again")  # so is any `../x`
        check(_sha256(folder / file) == digest, f"bundle {uri}: {file} was changed or cut short; copy the bundle again")
    extra = sorted(present - set(content["files"]))
    check(not extra, f"bundle {uri}: {extra[:1]} is not part of it; remove it")
    check_inert(folder, present, uri)
    for model in models_of(content.get("score_form", "prompt")):
        check(f"{model}/head.safetensors" in present, f"bundle {uri}: {model}/head.safetensors is missing")
        check_sizes(folder / model, f"bundle {uri}: {model}")


def _inside(path: Path, folder: Path) -> bool:
    try:
        return not path.is_symlink() or path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a circle of links
        return False


def _names(folder: Path) -> list[str]:
    index = folder / "bundle.json"
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p not in (index, folder / CARD)
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _id(content: Mapping[str, object]) -> str:
    """Twelve hexadecimal digits over everything but the id itself."""
    rest = {key: value for key, value in content.items() if key != "id"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]
