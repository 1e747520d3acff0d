"""Batches for people who label in a spreadsheet: all labels of a review in one cell, or a column per keyword.

In: tasks. Out: `reviews.csv` or `reviews.xlsx`, where a keyword's cells have a drop-down of the scores and its name has
the guideline as a comment.
"""

from collections.abc import Iterable, Sequence

from ray_app import storage
from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.labels.annotations import LabelingTask
from ray_app.labels.spreadsheet import to_csv
from ray_app.labels.workbook import Column, to_xlsx

AUTO = "auto"
FORMS = (AUTO, "completion", "keywords")  # what is filled in; auto is a column per keyword in xlsx, else one cell
ID, TEXT = Column(name="review_id", width=14), Column(name="text", width=60)
COMPLETION = Column(name="Completion", width=40, note="스타일 1, 만족도 2; - where no keyword is spoken of")
OVERALL = "every review has it"


def write(folder: str, tasks: Iterable[LabelingTask], taxonomy: Taxonomy, kind: str, form: str = AUTO) -> list[str]:
    """Writes a batch as `kind`, csv or xlsx; returns the URI. Cells to fill in are empty, beside them is what the model
    finds."""
    uri = storage.join(folder, f"reviews.{kind}")
    by_keyword = form == "keywords" or (form == AUTO and kind == "xlsx")
    own = [_column(keyword, taxonomy) for keyword in taxonomy.keywords] if by_keyword else [COMPLETION]
    model = next(name for name in ("Model", "Model says", "Model  says") if name not in taxonomy.names)
    rows = ((task.review_id, task.text, *([""] * len(own)), task.completion) for task in tasks)
    storage.write_bytes(uri, table(kind, [ID, TEXT, *own, Column(name=model, width=40)], rows, uri))
    return [uri]


def table(kind: str, columns: Sequence[Column], rows: Iterable[Sequence[str]], place: str = "") -> bytes:
    """A sheet as csv or xlsx."""
    if kind == "xlsx":
        return to_xlsx(columns, rows, place)
    return to_csv([column.name for column in columns], rows)


def _column(keyword: Keyword, taxonomy: Taxonomy) -> Column:
    """A keyword's column: its guideline, and the scores to choose from."""
    lines = [
        keyword.belongs,
        f"not: {keyword.excludes}" if keyword.excludes else "",
        f"cues: {', '.join(keyword.cues)}" if keyword.cues else "",
        OVERALL if keyword.name == taxonomy.overall else "blank where the review does not speak of it",
        "; ".join(f"{score}: {name}" for score, name in taxonomy.score_names.items()),
    ]
    return Column(
        name=keyword.name,
        width=10,
        note="\n".join(filter(None, lines)),
        choices=tuple(map(str, taxonomy.scores)),
        number=True,
    )
