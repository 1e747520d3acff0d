"""What a user may write where a bundle is asked for, and where it is then: the one place that knows.

    ready                      the shipped bundle
    runs/bundle  s3://…        a folder
    hf://OWNER/NAME[@REVISION] a repository of a model hub
    s3://shop/models/current   a pointer to one of these, see `bundle_pointer.py`

In: such a name. Out: where to read; pinned, a name that stands for the same bundle from now on, for every process of
a run on every node.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray_app import storage
from ray_app.errors import UserError, check
from ray_app.inference import bundle_pointer
from ray_app.storage import hub, local, node_cache

READY = Path(__file__).parent / "ready"  # the shipped bundle, by the name `ready`; README.md there is its model card
INDEX = "bundle.json"
log = logging.getLogger(__name__)


def text_of(uri: object) -> str:
    """The name as text. Raises UserError where it can be none."""
    if not isinstance(uri, (str, os.PathLike)):
        raise UserError(f"bundle: write a folder, an s3:// or hf:// address or ready; this is {uri!r}")
    return os.fspath(uri)


def location(uri: str | os.PathLike[str]) -> str:
    """The folder or URI of a bundle that a user names; of a hub's, the copy on this node if there is one."""
    uri = os.fspath(uri)
    if uri != READY.name:
        uri = _followed(uri)  # which may be at it
    if uri == READY.name:
        return str(READY)
    if not uri.startswith(hub.SCHEME):
        return uri
    uri = _pinned_on_hub(uri)
    copy = copy_of(uri)
    return str(copy) if (copy / INDEX).is_file() else uri


def found_at(uri: str, asked: bool) -> str:
    """The folder or URI of this bundle; "" where none is. Where nobody asked for it, only something named it once,
    nothing that is wrong with the name is an error."""
    try:
        place = location(uri) if uri else ""
        return place if place and storage.exists(storage.join(place, INDEX)) else ""
    except UserError:
        if asked:
            raise
        return ""


def named_by(facts: Mapping[str, Any], given: str) -> str:
    """The bundle `given`, else the one that analyses name (`facts`: their `_run.json`); "" where they name none."""
    return given or str(facts.get("config", {}).get("bundle", ""))


def maker_of(facts: Mapping[str, Any], given: str) -> str:
    """Where that bundle is, if it is still there and made the analyses; else "".

    Raises UserError where `given` is not there, or not the one that made them.
    """
    place = found_at(named_by(facts, given), asked=bool(given))
    check(place or not given, f"--bundle {given}: no bundle there")
    made_by = facts.get("bundle")
    if place and made_by not in (None, storage.read_json(storage.join(place, INDEX)).get("id")):
        check(not given, f"--bundle {given}: the analyses were made by {made_by}")
        return ""
    return place


def absolute(uri: str) -> str:
    """The name, whatever the working folder; `ready` is found by its name on every machine."""
    return uri if uri == READY.name else storage.absolute(uri)


def pinned(uri: str) -> str:
    """The name of the bundle that this one stands for now: a pointer's bundle, a hub's commit. Raises UserError where a
    pointer's bundle is no longer the one that it was moved to."""
    if uri == READY.name:
        return uri
    uri = _followed(absolute(uri))
    return _pinned_on_hub(uri) if uri.startswith(hub.SCHEME) else uri


def moves(uri: str) -> bool:
    """Whether the name may stand for another bundle later: a pointer, a branch of a hub."""
    if uri.startswith(hub.SCHEME):
        return not hub.is_pinned(uri)
    return uri != READY.name and _pointer(absolute(uri)) is not None


def stood_for(uri: str, bundle: str) -> bool:
    """Whether this name, which moves, stood for that bundle (a pinned name) at some time."""
    if uri.startswith(hub.SCHEME):
        asked = hub.parse(uri)
        return bundle.startswith(hub.SCHEME) and hub.parse(bundle)[::2] == asked[::2]
    pointer = _pointer(absolute(uri))
    return pointer is not None and bundle in [move["bundle"] for move in pointer["moves"]]


def kept_or_pinned(uri: str, begun: str, what: str) -> str:
    """`pinned`, but of a run that was begun with the pinned name `begun` ("" for a new run) that one, though the name
    has moved since: said in a line. Another name is pinned as it is, for the caller to compare.

    Args:
        what: the flag that names the bundle, for that line.
    """
    if not begun or not moves(uri) or not stood_for(uri, begun):
        return pinned(uri)
    try:
        now = pinned(uri)
    except UserError as error:  # what was begun may still be read
        now = str(error)
    if now != begun:
        log.warning("%s %s: now %s; this run goes on with %s, as it was begun", what, uri, now, begun)
    return begun


def pinned_base(name: str, begun: str = "") -> str:
    """The same of a base model: a bundle's name as `kept_or_pinned` has it, OWNER/NAME@COMMIT of a hub's encoder."""
    if is_bundle(name):
        return kept_or_pinned(name, begun, "--base-model")
    if not name.startswith(hub.SCHEME):
        return storage.absolute(name) if Path(name).is_dir() else name
    check(not hub.parse(name).path, f"--base-model {name}: neither a bundle nor a whole repository; {hub.WRITE}")
    asked = hub.SCHEME + begun if "@" in begun and "://" not in begun else ""
    return kept_or_pinned(name, asked, "--base-model").removeprefix(hub.SCHEME)


def is_bundle(uri: str) -> bool:
    """Whether a base model's name is that of a bundle."""
    if "://" not in uri:
        return uri == READY.name or any(path.is_file() for path in (Path(uri), Path(uri) / INDEX))
    return storage.exists(storage.join(location(uri), INDEX))


def is_file(uri: str) -> bool:
    """Whether a name is that of a file, so that it can be a pointer, and not of a folder or of nothing."""
    if "://" not in uri or uri.startswith("file:"):
        return local.to_path(uri).is_file()
    if uri.count("/") < 3 or uri.endswith("/"):  # a bucket
        return False
    try:
        return bool(storage.stat(uri))
    except storage.MissingError:
        return False


def copy_of(uri: str) -> Path:
    """Where this node keeps a remote bundle: the same place for the same content. A hub's commit is known by its name,
    another address by its bundle.json, which holds the hashes of all files."""
    if uri.startswith(hub.SCHEME):
        return node_cache.path_of(_digest(f"{hub.endpoint()}|{hub.pinned(uri)}"))
    try:
        return node_cache.path_of(hashlib.sha256(storage.read_bytes(storage.join(uri, INDEX))).hexdigest()[:32])
    except storage.MissingError:
        remedy = "make one with python -m jobs.train"
        raise storage.MissingError(f"bundle {uri}: no bundle.json there; {remedy}") from None


def located(uri: str) -> tuple[str, Path]:
    """A bundle's name, pinned, and its folder: of a remote one its copy on this node, which may be yet to come."""
    if uri.startswith("s3://"):
        with suppress(storage.MissingError):  # one request for a bundle's folder, which it mostly is
            return uri, copy_of(uri)
    uri = pinned(uri)  # a pointer on S3 may be at `ready`
    return uri, copy_of(uri) if "://" in uri else Path(location(uri))


def _followed(uri: str) -> str:
    """A pointer's bundle; any other name as it is."""
    pointer = _pointer(uri)
    if pointer is None:
        return uri
    target = pointer["bundle"]
    index = storage.join(str(READY) if target == READY.name else target, INDEX)
    found = storage.read_json(index).get("id") if storage.exists(index) else None
    check(
        found == pointer["id"],
        f"bundle {uri}: it points to bundle {pointer['id']} in {target}, where {f'{found} is' if found else 'none is'} "
        "now; put it back, or move the pointer with python -m jobs.evaluate compare --promote",
    )
    return target


def _pointer(uri: str) -> bundle_pointer.Pointer | None:
    """The pointer of this name; None where it names no file, or a bundle's folder."""
    if uri.startswith(hub.SCHEME):
        return None
    return bundle_pointer.read(uri) if is_file(uri) else None


def _pinned_on_hub(uri: str) -> str:
    """At the commit of now; where the hub does not answer, at the one that this node saw last, which is said."""
    if hub.is_pinned(uri):
        return hub.pinned(uri)
    seen = node_cache.path_of("hub-" + _digest(f"{hub.endpoint()}|{uri}"))
    try:
        found = hub.pinned(uri)
    except storage.UnavailableError as error:
        if not seen.is_file():
            raise
        found = seen.read_text(encoding="utf-8")
        log.warning("%s; going on with %s, which this node saw last", str(error).partition("; ")[0], found)
        return found
    storage.write_bytes(str(seen), found.encode())
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
