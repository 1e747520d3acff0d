"""A bundle is put into use: the pointer that everyone names moves to it, and back.

In: a pointer's path or URI, bundles by pinned name and id. Out: the pointer moved, or a UserError that says why not.
"""

from ray_app import storage
from ray_app.errors import check
from ray_app.inference import bundle_names, bundle_pointer
from ray_app.inference.bundle_pointer import Target
from ray_app.storage import hub


def check_movable(pointer: str, old: str, name: str) -> None:
    """Raises UserError where moving it from bundle `old` to the one at `name` would fail: known before the work."""
    check(not pointer.startswith(hub.SCHEME), f"--promote {pointer}: a pointer is a file, or on s3://; name one")
    check(
        not _local(name, pointer),
        f"--promote {pointer}: it would point to {name}, a folder of this machine; copy the bundle to S3 or publish "
        "it, and name that",
    )
    uri = storage.absolute(pointer)
    found = bundle_pointer.read(uri) if bundle_names.is_file(uri) else None
    check(found or not storage.exists(uri), f"--promote {pointer}: a folder; name a file in it, such as current")
    check(
        found is None or found["id"] == old,
        f"--promote {pointer}: it is at bundle {found and found['id']}, compared is {old}; compare with it: --bundle "
        f"{pointer} --bundle {name}",
    )


def promote(pointer: str, old: Target, new: Target, why: str) -> None:
    """Moves it from bundle `old` to `new`. One that is made goes back to `old` too, where that can be reached."""
    uri = storage.absolute(pointer)
    if bundle_pointer.read(uri) is None and not _local(old["bundle"], pointer):
        bundle_pointer.move(uri, old, "in use before", None)
    expected = old["id"] if bundle_pointer.read(uri) else None
    bundle_pointer.move(uri, new, why, expected)


def _local(name: str, pointer: str) -> bool:
    """Whether a pointer that others read too would stand for a folder of this machine."""
    return "://" not in name and name != bundle_names.READY.name and "://" in pointer


def roll_back(pointer: str) -> int:
    """Moves it back to the bundle before, says so, and returns 0."""
    target = bundle_pointer.roll_back(storage.absolute(pointer))
    print(f"{pointer} is at bundle {target['id']} again: {target['bundle']}")
    return 0
