"""Files go to a model hub in one commit, by huggingface_hub in a process of its own.

In: an Upload. Out: the commit. A process of its own, because the library reads its settings once, when it is imported,
and because an upload that hangs (in native code, out of reach of a signal) can be ended. A hub without Xet storage is
asked for it first: with hf-xet installed the library would wait there for minutes.
"""

import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ray_app.errors import UserError, check, first_line
from ray_app.storage import hub

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

REFUSED = (401, 403)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """`files` of a folder and the text of README.md for `uri`, `hf://OWNER/NAME[@BRANCH]`."""

    uri: str
    folder: str
    files: tuple[str, ...]
    card: str
    private: bool
    message: str


def push(upload: Upload, seconds: float) -> str:
    """Sends the files, removes those of the bundle that was there before, and returns the commit.

    Raises UserError, one line, where the hub refuses, does not answer, or takes longer than `seconds`.
    """
    offline = hub.offline()
    check(not offline, f"--to {upload.uri}: {offline} is set; unset it to publish")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, upload), daemon=True)
    child.start()
    theirs.close()
    try:
        check(
            ours.poll(seconds),
            f"--to {upload.uri}: no end after {seconds:.0f} s (--timeout); where {hub.endpoint()} is slow raise it, "
            "where it hangs set HF_HUB_DISABLE_XET=1 and run again",
        )
        commit, problem = ours.recv()
    except EOFError:
        raise UserError(f"--to {upload.uri}: the upload's process died; run again") from None
    finally:
        child.kill()
        child.join()
    check(not problem, f"--to {upload.uri}: {problem}")
    return str(commit)


def _child(answer: "Connection", upload: Upload) -> None:
    """Sends ("commit", "") or ("", what is wrong) and ends."""
    try:
        answer.send((_pushed(upload), ""))
    except Exception as error:  # the library, and httpx under it, have many
        answer.send(("", _problem(error)))


def _pushed(upload: Upload) -> str:
    place = hub.parse(upload.uri)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_ENDPOINT"] = hub.endpoint()
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint())
    private = upload.private or None  # else as the owner has it by default
    api.create_repo(place.repository, private=private, exist_ok=True)
    if place.revision != "main":
        api.create_branch(place.repository, branch=place.revision, exist_ok=True)
    if not _has_xet(api, place):
        from huggingface_hub import constants

        constants.HF_HUB_DISABLE_XET = True
    done = api.create_commit(
        place.repository,
        _operations(upload),
        commit_message=upload.message,
        revision=place.revision,
    )
    return str(done.oid)


def _has_xet(api: "HfApi", place: hub.Place) -> bool:
    """Whether the hub gives out tokens for Xet storage."""
    import requests
    from huggingface_hub import get_token

    url = f"{api.endpoint}/api/models/{place.repository}/xet-write-token/{quote(place.revision, safe='')}"
    headers = {"Authorization": f"Bearer {get_token()}"}
    return bool(requests.get(url, headers=headers, timeout=hub.TIMEOUT).status_code == 200)


def _operations(upload: Upload) -> "list[CommitOperationAdd | CommitOperationDelete]":
    """The bundle's files and the card; of the bundle that was there what the new one no longer has is removed."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    from ray_app import storage

    index = storage.join(upload.uri, "bundle.json")
    before = storage.read_json(index).get("files", {}) if storage.exists(index) else {}
    there = {name for name, _ in hub.listing(upload.uri)}
    return [
        *(CommitOperationAdd(name, str(Path(upload.folder) / name)) for name in upload.files),
        CommitOperationAdd("README.md", upload.card.encode()),
        *(CommitOperationDelete(name) for name in sorted(there & set(before) - set(upload.files))),
    ]


def _problem(error: Exception) -> str:
    """One line; the token is in none of them."""
    if isinstance(error, UserError):
        return str(error)
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in REFUSED:
        return f"the hub refuses ({status}); set HF_TOKEN to a token that may write there, and check the owner's name"
    if status:
        return f"the hub answered {status} ({first_line(error)}); run again, or check HF_ENDPOINT"
    return f"no answer from {hub.endpoint()} ({type(error).__name__}); check the network and HF_ENDPOINT"
