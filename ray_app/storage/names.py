"""Names of files and folders that are made of data, as Hive's are. In: any text. Out: a safe name, and back."""

from urllib.parse import quote, unquote

from ray_app.errors import check

LONGEST_NAME = 200  # bytes; file systems allow 255, and `column=` comes before the value
EMPTY = "__HIVE_DEFAULT_PARTITION__"
UNSAFE = frozenset("\"#%'*/:=?\\{}[]^<>|")  # what Hive escapes, and what is special in a glob or on Windows


def safe_name(value: str, longest: int = LONGEST_NAME) -> str:
    """Any text as the name of a file or folder, percent-encoded like a Hive partition.

    `urllib.parse.unquote` decodes it, except for the empty text. No two texts share a name and no name is hidden.
    Raises UserError where it has more than `longest` bytes.
    """
    if not value:
        return EMPTY
    hidden = value[0] in "._"  # readers skip such names; `.` and `..` are other folders
    letters = [c if c.isprintable() and c not in UNSAFE else quote(c, safe="") for c in value]
    name = (f"%{ord(value[0]):02X}" if hidden else letters[0]) + "".join(letters[1:])
    check(len(name.encode()) <= longest, f"{value[:20]!r}…: too long for a folder's name; use another column")
    return name


def partition(uri: str, folder: str) -> dict[str, str | None]:
    """Hive partition values in the path between `folder` and a file: `mall=A/part.parquet` has mall A."""
    names = uri[len(folder.rstrip("/")) + 1 :].split("/")[:-1]
    pairs = [name.split("=", 1) for name in names if "=" in name]
    return {unquote(name): None if value == EMPTY else unquote(value) for name, value in pairs}
