"""A pointer: a small file, on disk or S3, that says which bundle is in use; it moves while everyone names only it.

    {"pointer": 1, "bundle": URI, "id": ID, "earlier": [{"bundle", "id"}], "moves": [{"bundle", "id", "time", "why"}]}

In: its path or URI. Out: what it says; moves of it, compare-and-set: of two that move it at once one is refused.
`earlier` is what a rollback goes back to, the last first to go; `moves` is its history and only grows.
"""

import json
import re
import time
from typing import TypedDict

from ray_app import storage
from ray_app.errors import UserError, check

FORMAT = 1
ID = re.compile(r"[0-9a-f]{12}")


class Target(TypedDict):
    """Where a bundle is, and its id: a bundle that was replaced in its place is another one."""

    bundle: str
    id: str


class Move(Target):
    """One move of the pointer; `time` is UTC."""

    time: str
    why: str


class Pointer(Target):
    """A pointer's file."""

    pointer: int
    earlier: list[Target]
    moves: list[Move]


def read(uri: str) -> Pointer | None:
    """What the file says; None where there is no file. Raises UserError where it is no pointer."""
    content = _bytes(uri)
    return None if content is None else _parsed(uri, content)


def move(uri: str, target: Target, why: str, expected: str | None) -> None:
    """Points to another bundle, if the pointer is still at the bundle with the id `expected` (None: at none yet).

    Raises UserError where it is not, or another process moved it at this moment.
    """
    content = _bytes(uri)
    before = None if content is None else _parsed(uri, content)
    now = before and before["id"]
    check(
        now == expected,
        f"{uri}: it is at {f'bundle {now}' if now else 'no bundle yet'}, not at {expected or 'none'}, which was "
        f"compared; compare with it: --bundle {uri if now else 'BUNDLE'}",
    )
    earlier = [*before["earlier"], _target(before)] if before else []
    _write(uri, content, before, target, earlier, why)


def roll_back(uri: str, why: str = "rollback") -> Target:
    """Points to the bundle before the present one again, and returns it. Raises UserError where there is none."""
    content = _bytes(uri)
    check(content is not None, f"{uri}: no pointer there; make one with python -m jobs.evaluate compare --promote")
    assert content is not None
    before = _parsed(uri, content)
    check(before["earlier"], f"{uri}: bundle {before['id']} is its first; there is nothing to go back to")
    target = before["earlier"][-1]
    _write(uri, content, before, target, before["earlier"][:-1], why)
    return target


def _write(
    uri: str, content: bytes | None, before: Pointer | None, target: Target, earlier: list[Target], why: str
) -> None:
    moved: Move = {**_target(target), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "why": why}
    moves = [*before["moves"], moved] if before else [moved]
    after: Pointer = {"pointer": FORMAT, **_target(target), "earlier": earlier, "moves": moves}
    data = (json.dumps(after, ensure_ascii=False, indent=1) + "\n").encode()
    ours = storage.create(uri, data) if content is None else storage.swap(uri, content, data)
    check(ours, f"{uri}: another process moved it at this moment; look at it and run again")


def _target(target: Target) -> Target:
    return {"bundle": target["bundle"], "id": target["id"]}


def _bytes(uri: str) -> bytes | None:
    try:
        return storage.read_bytes(uri)
    except storage.MissingError:
        return None


def _parsed(uri: str, content: bytes) -> Pointer:
    """Raises UserError where a file is no pointer."""
    try:
        found: Pointer = json.loads(content)
        targets = [found, *found["earlier"], *found["moves"]]
        sound = found["pointer"] == FORMAT and all(
            isinstance(each["bundle"], str) and each["bundle"] and ID.fullmatch(each["id"]) for each in targets
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"bundle {uri}: a file that is neither a bundle's folder nor a pointer to one; check the name")
    return found
