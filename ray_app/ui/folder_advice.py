"""What to do about a folder without analyses to show. In: its URI. Out: a text of the page, and a command.

Whoever names a wrong folder has as a rule named a neighbor of the right one: its parent, its `data`, a bundle.
"""

from ray_app import storage
from ray_app.errors import UserError
from ray_app.ui.filter_bar import KEEP

SIGNS = (  # a file in the folder -> the text that says what the folder is
    ("bundle.json", "folder_bundle"),
    ("report.html", "folder_report"),
    ("predictions.parquet", "folder_evaluation"),
    ("batch.parquet", "folder_batch"),
    ("labels.parquet", "folder_labels"),
    ("_plan", "folder_begun"),
)


def advice(uri: str, bundle: str) -> tuple[str, dict[str, str], str]:
    """(Key of the text, its values, the command that helps or "") for a folder without `data` in it."""
    analyze = f"python -m jobs.analyze --bundle {bundle} --keep {KEEP} --output"
    parent, _, name = uri.rstrip("/").rpartition("/")
    if name in ("data", "findings", "rejected") and storage.exists(storage.join(parent, "_run.json")):
        return "folder_inside", {"path": uri, "parent": parent}, ""
    if not storage.exists(uri):
        return "no_folder", {"path": uri}, f"{analyze} {uri}"
    for sign, text in SIGNS:
        if storage.exists(storage.join(uri, sign)):
            command = f"{analyze} {uri}" if sign == "_plan" else ""
            return text, {"path": uri}, command
    if uri.endswith((".parquet", ".csv", ".jsonl", ".xlsx")):
        return (
            "folder_file",
            {"path": uri},
            f"python -m jobs.analyze --input {uri} --bundle {bundle} --output {parent}/analyses",
        )
    below = _below(uri)
    if below:
        return "folder_above", {"path": uri, "below": below}, ""
    return "folder_other", {"path": uri}, f"{analyze} {storage.join(uri, 'analyses')}"


def _below(uri: str) -> str:
    """A folder of analyses right below this one; "" for none."""
    try:
        runs = [file.uri for file in storage.list_files(storage.join(uri, "*", "_run.json"))]
    except (OSError, UserError):
        return ""
    return runs[0].rpartition("/")[0] if runs else ""
