"""Which folders the page may open: those below what it was given at its start. Whoever reaches the page types paths."""

import os
import posixpath

from ray_app.errors import UserError
from ray_app.ui.translations import Translate


def check_within(uri: str, given: str, say: Translate) -> None:
    """Raises UserError where `uri`, local or remote, is neither `given` nor below it; links are followed first."""
    if _place(uri) != _place(given) and not _place(uri).startswith(_place(given).rstrip("/") + "/"):
        raise UserError(say("outside", given=given))


def _place(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}://{posixpath.normpath(rest)}" if separator else os.path.realpath(os.path.expanduser(uri))
