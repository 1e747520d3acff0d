"""Folders that are tables of Delta Lake, Iceberg or Hudi: their own log says which of their files hold rows now.

In: names of files. Out: the tables among them, and the files of one that are live. Reading all files of such a folder
would read rows that were deleted or replaced.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ray_app import storage
from ray_app.errors import UserError, check, first_line, pip_install
from ray_app.storage import globs

if TYPE_CHECKING:
    from deltalake import DeltaTable

LOGS = {"/_delta_log/": "delta", "/.hoodie/": "hudi"}
ICEBERG = "/metadata/"
Read = Callable[[str], list[storage.FileInfo]]


def roots(uris: Iterable[str]) -> dict[str, Read]:
    """The folder of every table that the files belong to, and what lists its live files."""
    found: dict[str, Read] = {}
    for uri in uris:
        for mark, name in LOGS.items():
            if mark in uri:
                found[uri.partition(mark)[0]] = _READERS[name]
        if ICEBERG in uri and uri.endswith(".metadata.json"):
            found[uri.rpartition(ICEBERG)[0]] = _READERS["iceberg"]
    return found


def check_whole(path: str) -> None:
    """Raises UserError where a path is a part of a table: a folder below its own, or a glob in it.

    Its files may hold rows that the table's log has dropped, and the log speaks of the whole only.
    """
    folder = path if storage.exists(path) else globs.split(path)[0]
    above = folder if folder != path else folder.rpartition("/")[0]
    while above.count("/") > (2 if "://" in above else 0):
        for mark, what in ((f"{above}/_delta_log", "a Delta"), (f"{above}/.hoodie", "a Hudi")):
            check(not storage.exists(mark), f"{path}: a part of {what} table; name its folder, {above}")
        metadata = f"{above}/metadata"
        names = [name for name, _ in storage.walk(metadata)] if storage.exists(metadata) else []
        iceberg = any(name.endswith(".metadata.json") for name in names)
        check(not iceberg, f"{path}: a part of an Iceberg table; name its folder, {above}")
        above = above.rpartition("/")[0]


def _delta(root: str) -> list[storage.FileInfo]:
    """Raises UserError where deltalake is missing, or the files hold rows or names that only its own readers know."""
    try:
        from deltalake import DeltaTable
    except ImportError:
        raise UserError(
            f"{root}: a Delta table, whose files also hold deleted rows; {pip_install('tables')}, or export the live "
            "rows to Parquet"
        ) from None
    try:
        table = DeltaTable(root, storage_options={to: value for _, to, value in _access(root)})
        features = table.protocol().reader_features or []
        vectors = "deletionVectors" in features and _deletes(table)
        mapped = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
        files = [_local(uri) for uri in table.file_uris()]
    except Exception as error:  # whatever deltalake raises at a log that it cannot read
        raise UserError(f"{root}: a Delta table whose log cannot be read ({first_line(error)})") from None
    check(not vectors, f"{root}: a Delta table with deletion vectors; run REORG TABLE … APPLY (PURGE), or export it")
    check(not mapped, f"{root}: a Delta table whose files have other names of columns than it; export it to Parquet")
    return sorted((storage.stat(uri) for uri in files), key=lambda file: file.uri)


def _deletes(table: "DeltaTable") -> bool:
    """Whether live files have deleted rows; releases of the library that cannot tell are taken to say yes."""
    try:
        return any(batch.num_rows for batch in table.deletion_vectors())
    except AttributeError:
        return True


def _iceberg(root: str) -> list[storage.FileInfo]:
    """Raises UserError where pyiceberg is missing, the table has delete files, or names of columns changed hands."""
    try:
        from pyiceberg.table import StaticTable
    except ImportError:
        raise UserError(
            f"{root}: an Iceberg table, whose files also hold deleted rows; {pip_install('iceberg')}, or export the "
            "live rows to Parquet"
        ) from None
    try:
        access = {to: value for to, _, value in _access(root) if to}
        table = StaticTable.from_metadata(_newest_metadata(root), properties=access)
        tasks = list(table.scan().plan_files())
        names = {(field.field_id, field.name) for schema in table.schemas().values() for field in schema.fields}
    except Exception as error:  # whatever pyiceberg raises at metadata that it cannot read
        raise UserError(f"{root}: an Iceberg table whose metadata cannot be read ({first_line(error)})") from None
    deletes = any(task.delete_files for task in tasks)
    check(not deletes, f"{root}: an Iceberg table with delete files; rewrite its data files, or export it to Parquet")
    renamed = not len(names) == len({i for i, _ in names}) == len({name for _, name in names})
    check(not renamed, f"{root}: an Iceberg table whose columns were renamed or replaced; export it to Parquet")
    return sorted((storage.stat(_local(task.file.file_path)) for task in tasks), key=lambda file: file.uri)


def _access(root: str) -> list[tuple[str, str, str]]:
    """What boto3 knows of the way to S3: pyiceberg's name (if it has one), deltalake's name, value."""
    if not root.startswith("s3://"):
        return []
    known = storage.s3_access()
    plain = str(known["endpoint"].startswith("http://")).lower()
    names = {"endpoint": "ENDPOINT_URL", "access-key-id": "ACCESS_KEY_ID", "secret-access-key": "SECRET_ACCESS_KEY"}
    names |= {"session-token": "SESSION_TOKEN", "region": "REGION"}
    access = [(f"s3.{name}", f"AWS_{to}", known[name]) for name, to in names.items() if known[name]]
    return [*access, ("", "AWS_ALLOW_HTTP", plain)]


def _hudi(root: str) -> list[storage.FileInfo]:
    raise UserError(f"{root}: a Hudi table, whose files also hold replaced rows; export a snapshot of it to Parquet")


def _newest_metadata(root: str) -> str:
    """The metadata file that `version-hint.text` names, else the one with the highest number."""
    files = {uri: uri.rpartition("/")[2] for _, file in storage.walk(f"{root}/metadata") if (uri := file.uri)}
    hints = [uri for uri, name in files.items() if name == "version-hint.text"]
    hint = storage.read_bytes(hints[0]).decode().strip() if hints else ""
    named = [uri for uri, name in files.items() if name in (f"v{hint}.metadata.json", f"{hint}.metadata.json")]
    return (
        named[0]
        if hint and named
        else max(
            (uri for uri, name in files.items() if name.endswith(".metadata.json")), key=lambda uri: _number(files[uri])
        )
    )


def _number(name: str) -> int:
    digits = name.removeprefix("v").partition("-")[0].partition(".")[0]
    return int(digits) if digits.isdigit() else -1


def _local(uri: str) -> str:
    """A table's name for a file as ours: a local path as such."""
    return unquote(uri.removeprefix("file://")) if uri.startswith("file:") else uri


_READERS: dict[str, Read] = {"delta": _delta, "iceberg": _iceberg, "hudi": _hudi}
