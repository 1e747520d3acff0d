"""Sheets with a column per keyword and scores in the cells, `배송 | 디자인 | …`: which columns are keywords.

In: the names and rows of a table. Out: column -> keyword. A column that would be lost or misread in silence is refused,
or named in a warning.
"""

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ray_app.data.column_names import DECISION_NAMES, ID_NAMES, LABEL_NAMES, ROLE_NAMES, TEXT_NAMES, folded
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import composed
from ray_app.errors import UserError, check, closest
from ray_app.labels.completions import is_nothing, parse_score
from ray_app.labels.rows import Row

log = logging.getLogger(__name__)
LARGEST = 5  # of scores that are guessed to be scores: counts and prices are larger
SHOWN = 3  # cells that a message shows
ENOUGH_COLUMNS, ENOUGH_ROWS = 3, 5  # from which zeros and ones everywhere tell presence
_NOTE = re.compile(r"\s*[(\[（].*[)\]）]\s*$")  # `배송 (-2~2)`
_ORDINARY = frozenset(
    folded(name)
    for names in (ID_NAMES, TEXT_NAMES, *ROLE_NAMES.values(), *LABEL_NAMES.values(), *DECISION_NAMES.values())
    for name in names
) | {"model", "answers", "round", "chosenby", "index", "unnamed0", ""}


class _Cells(NamedTuple):
    """What a column's cells hold: how many are filled, the scores on the scale among them, the others, and whether
    numbers off the scale are among these."""

    filled: int
    scores: list[int]
    others: list[object]
    larger: bool

    @property
    def mostly_scores(self) -> bool:
        return 2 * (self.filled - len(self.others)) >= self.filled > 0


def find(
    uri: str, names: Sequence[str], rows: Sequence[tuple[str, Row]], taxonomy: Taxonomy | None, completed: bool
) -> dict[str, str]:
    """Column -> keyword, of the columns `names` that have no other role.

    Args:
        taxonomy: the keywords; None: whatever columns hold small whole numbers.
        completed: whether the table has a column with all labels in one too, so that it needs none of these.
    """
    own = taxonomy.scores if taxonomy else range(-LARGEST, LARGEST + 1)
    cells = {name: _cells(rows, name, own) for name in names}
    if taxonomy is None:
        return {} if completed else _guessed(uri, names, cells)
    found = _named(uri, names, taxonomy)
    for name in list(found):
        if cells[name].filled and not cells[name].mostly_scores:
            shown = ", ".join(map(repr, cells[name].others[:SHOWN]))
            scale = ", ".join(map(str, taxonomy.scores))
            problem = f"{uri}: column {name!r} has a keyword's name, but its cells are no scores ({shown})"
            check(completed, f"{problem}; write {scale} there, or rename it")
            log.warning("%s: it is left alone", problem)
            del found[name]
    if completed and not any(cells[name].filled for name in found):
        return {}
    if found or not completed:
        _check_others(uri, [name for name in names if name not in found], cells, taxonomy, set(found.values()))
    _check_presence(uri, [cells[name] for name in found], len(rows), min(taxonomy.scores))
    return found


def _named(uri: str, names: Sequence[str], taxonomy: Taxonomy) -> dict[str, str]:
    """The columns that are named after keywords. Raises UserError where two are named after one."""
    exact, alike = set(taxonomy.names), {folded(keyword): keyword for keyword in taxonomy.names}
    found: dict[str, str] = {}
    for name in names:
        bare = keyword_of(name)
        keyword = bare if bare in exact else alike.get(folded(bare))
        if keyword is None:
            continue
        again = name in found or keyword in found.values()
        check(not again, f"{uri}: two columns are for {keyword!r}; remove or rename one")
        found[name] = keyword
    return found


def keyword_of(column: str) -> str:
    """`배송` of `배송 (-2~2)`; an apostrophe that keeps Excel from calculating a name is dropped."""
    bare = composed(column.strip()).removeprefix("'")
    return _NOTE.sub("", bare) or bare


def _check_others(
    uri: str, names: Sequence[str], cells: Mapping[str, _Cells], taxonomy: Taxonomy, found: set[str]
) -> None:
    """Columns of scores under a name that is no keyword: refused where it looks misspelled or is surely one of
    sentiment, else named in a warning."""
    absent = [name for name in taxonomy.names if name not in found]
    for name in names:
        scores = cells[name].scores
        if folded(name) in _ORDINARY or not cells[name].mostly_scores:
            continue
        near = difflib.get_close_matches(keyword_of(name), absent, n=1, cutoff=0.5)
        sure = bool(near) or (bool(found) and min(scores, default=0) < 0)
        problem = f"{uri}: column {name!r} has scores, but is no keyword"
        check(not sure, f"{problem}{closest(keyword_of(name), absent or taxonomy.names)}; rename or remove it")
        if found:
            log.warning("%s: it is left alone; --taxonomy labels would take it in", problem)


def _guessed(uri: str, names: Sequence[str], cells: Mapping[str, _Cells]) -> dict[str, str]:
    """The columns that hold small whole numbers, under names that mean nothing else."""
    found: dict[str, str] = {}
    rest: list[str] = []
    for name in names:
        if folded(name) in _ORDINARY or not cells[name].mostly_scores or cells[name].larger:
            rest += [name] if name else []
            continue
        keyword = keyword_of(name)
        check(keyword not in found.values(), f"{uri}: two columns are for {keyword!r}; remove or rename one")
        found[name] = keyword
    if found:
        left = f"; left alone: {', '.join(rest)}" if rest else ""
        log.info("%s: keywords from its columns: %s%s", uri, ", ".join(found.values()), left)
        _check_presence(uri, [cells[name] for name in found], max(cells[name].filled for name in found), -1)
    return found


def _check_presence(uri: str, columns: Sequence[_Cells], rows: int, least: int) -> None:
    """Raises UserError where every cell is 0 or 1: presence of a keyword, which scores would be read from."""
    full = all(column.filled == rows and not column.others for column in columns)
    binary = {score for column in columns for score in column.scores} == {0, 1}
    enough = len(columns) >= ENOUGH_COLUMNS and rows >= ENOUGH_ROWS
    if full and binary and enough and least < 0:
        raise UserError(
            f"{uri}: every cell of its keywords is 0 or 1, which says whether a review speaks of it and not how it "
            "feels; write scores, and leave a cell blank where a review does not speak of the keyword"
        )


def _cells(rows: Sequence[tuple[str, Row]], name: str, scale: Sequence[int]) -> _Cells:
    scores: list[int] = []
    others: list[object] = []
    filled, larger = 0, False
    for _, row in rows:
        cell = row.get(name)
        if is_nothing(cell):
            filled += 1
            continue
        try:
            score = parse_score(cell)
        except ValueError:
            filled += 1
            others.append(cell)
            continue
        if score is not None:
            filled += 1
            (scores if score in scale else others).append(score)
            larger = larger or score not in scale
    return _Cells(filled, scores, others, larger)
