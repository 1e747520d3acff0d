"""Typical reviews, quoted: for a keyword's sign, of a group or of all. In: a Store, analyses, wishes. Out: quotes.

Typical is a text of middling length near the center of its kind (the mean of its hashed pairs of letters). No text is
quoted twice. Only the candidates' texts are read; they are drawn from all of the analyses, so that no month
is preferred.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from ray_app.arrays import Doubles
from ray_app.data import analyses
from ray_app.data.analyses import Analyses
from ray_app.data.text import composed
from ray_app.insights.store import LEVELS, SCORES, SIDES, Level, Row, Store

QUOTES = pa.schema(
    [
        ("about", pa.string()),
        ("level", pa.string()),
        ("value", pa.string()),
        ("keyword", pa.string()),
        ("sign", pa.string()),
        ("review_id", pa.string()),
        ("text", pa.string()),
        ("highlight_start", pa.int32()),
        ("highlight_end", pa.int32()),
        ("opinion_start", pa.int32()),
        ("opinion_end", pa.int32()),
        ("product", pa.string()),
        ("day", pa.date32()),
        ("rating", pa.float32()),
    ]
)
CANDIDATES = 40  # reviews that one wish chooses from
BLOCK_BITS, BLOCKS = (
    15,
    24,
)  # rows of a file that are near one another, 2 to that power; how many such blocks are enough
WIDTH = 512  # of the vector of a text
BEST_LENGTH = 60  # characters; shorter says little, longer is no quote
LONGEST, LONGEST_WORD = 280, 16
FIELDS = ("findings.keyword", "findings.score", "findings.highlight", "findings.opinion")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Up to `count` quotes about a keyword's sign: of one group, since a day, with ratings that SQL `where` names."""

    about: str
    keyword: str
    sign: str
    level: Level = "all"
    value: str = ""
    since: int | None = None
    where: str = "true"
    count: int = 1


def pick(store: Store, source: Analyses, columns: dict[str, str], wishes: Sequence[Wish]) -> pa.Table:
    """QUOTES in the order of the wishes; empty where the analyses kept no texts."""
    if "text" not in columns or not wishes:
        return QUOTES.empty_table()
    positions = _candidates(store, wishes)
    needed = np.array(sorted({position for some in positions for position in some}), np.int64)
    if not len(needed):
        return QUOTES.empty_table()
    kept = [columns[role] for role in ("text", "product", "created_at", "rating") if role in columns]
    read = analyses.take(source, needed, list(dict.fromkeys([*kept, *FIELDS, "review_id"]))).to_pylist()
    reviews = dict(zip(needed.tolist(), read, strict=True))
    numbers = _numbers(store, needed)
    rows: list[Row] = []
    quoted: set[str] = set()
    for wish, some in zip(wishes, positions, strict=True):
        offered = [(position, quote) for position in some if (quote := _quote(reviews[position], wish, columns))]
        left = wish.count
        for i in _typical([str(quote["text"]) for _, quote in offered]):
            position, quote = offered[i]
            text = "".join(str(quote["text"]).split())
            if left and text not in quoted:
                left -= 1
                quoted.add(text)
                rows.append(quote | numbers[position])
    return pa.Table.from_pylist(rows, QUOTES)


def codes_of(store: Store, keyword: str, sign: str) -> str:
    """SQL: a list of the codes of a keyword's sign."""
    first = store.keywords.index(keyword) * SCORES
    numbers = {"negative": (0, 1), "neutral": (2,), "positive": (3, 4)}[sign]
    return f"[{', '.join(str(first + number) for number in numbers)}]::USMALLINT[]"


def _candidates(store: Store, wishes: Sequence[Wish]) -> list[list[int]]:
    """The positions of up to CANDIDATES reviews per wish, drawn by a hash: those of a few blocks of rows first, so that
    little has to be read. One pass over the reviews for all wishes of a level."""
    order = store.order()
    for level in LEVELS[1:]:
        values = sorted({store.names[level].index(wish.value) for wish in wishes if wish.level == level})
        store.run(
            f"""CREATE OR REPLACE TEMP TABLE wished_{level} AS SELECT pos, {level}, day, rating, codes, {order} AS place
            FROM reviews WHERE {f"{level} IN ({', '.join(map(str, values))})" if values else "false"}"""
        )
    kinds = {(wish.where, wish.since) for wish in wishes if wish.level == "all"}
    general = {kind: _of_all(store, *kind, order) for kind in kinds}
    return [
        general[wish.where, wish.since].get((store.keywords.index(wish.keyword), wish.sign), [])
        if wish.level == "all"
        else _of_group(store, wish)
        for wish in wishes
    ]


def _of_all(store: Store, where: str, since: int | None, order: str) -> dict[tuple[int, str], list[int]]:
    """(keyword, sign) -> positions."""
    where += f" AND day >= {since}" if since is not None else ""
    sql = f"""SELECT code // {SCORES}, sign(code % {SCORES} - 2), arg_min(pos, place, {CANDIDATES})
        FROM (SELECT pos, {order} AS place, unnest(codes)::INTEGER AS code FROM reviews WHERE {where}) GROUP BY 1, 2"""
    return {(keyword, SIDES[int(sign) + 1]): list(found) for keyword, sign, found in store.rows(sql)}


def _of_group(store: Store, wish: Wish) -> list[int]:
    since = f"AND day >= {wish.since}" if wish.since is not None else ""
    value = store.names[wish.level].index(wish.value)
    sql = f"""SELECT pos FROM wished_{wish.level} WHERE {wish.level} = {value} {since} AND {wish.where}
        AND list_has_any(codes, {codes_of(store, wish.keyword, wish.sign)})
        ORDER BY place LIMIT {CANDIDATES}"""
    return [position for (position,) in store.rows(sql)]


def _numbers(store: Store, positions: Iterable[int]) -> dict[int, Row]:
    """Position -> the day and rating as numbers."""
    listed = ", ".join(str(position) for position in positions)
    found = store.rows(f"SELECT pos, day, rating FROM reviews WHERE pos IN ({listed})")
    return {position: {"day": day, "rating": rating} for position, day, rating in found}


def _quote(review: Row, wish: Wish, columns: dict[str, str]) -> Row | None:
    """The review as a quote; None where it is no good as one."""
    text = review[columns["text"]]
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        return None
    findings = review["findings"]
    meant = (f for f in findings if f["keyword"] == wish.keyword and _sign(f["score"]) == wish.sign)
    finding = next((f for f in meant if f["highlight"]), None)
    if finding and len(finding["highlight"]["word"]) > LONGEST_WORD:  # written without spaces: marks the whole
        return None
    words = {f"{role}_{end}": None for role in ("highlight", "opinion") for end in ("start", "end")}
    for role in ("highlight", "opinion"):
        if finding and (word := finding.get(role)):
            words |= {f"{role}_start": word["start"], f"{role}_end": word["end"]}
    return {
        "about": wish.about,
        "level": wish.level,
        "value": wish.value,
        "keyword": wish.keyword,
        "sign": wish.sign,
        "review_id": str(review["review_id"]),
        "text": text,
        "product": str(review.get(columns.get("product", ""), "") or ""),
        **words,
    }


def _sign(score: int) -> str:
    return "negative" if score < 0 else "positive" if score > 0 else "neutral"


def _typical(texts: Sequence[str]) -> list[int]:
    """The texts' numbers, the most typical first."""
    if not texts:
        return []
    vectors = np.stack([_vector(text) for text in texts])
    center = vectors.mean(0)
    closeness = vectors @ center / max(1e-9, float(np.linalg.norm(center)))
    lengths = np.array([len(text) for text in texts])
    score = closeness - 0.25 * np.abs(np.log(np.maximum(lengths, 1) / BEST_LENGTH))
    return [int(i) for i in np.argsort(-score, kind="stable")]


def _vector(text: str) -> Doubles:
    """[WIDTH] how often each pair of letters occurs, by its hash, of length 1."""
    letters = "".join(composed(text).split())
    vector = np.zeros(WIDTH)
    for first, second in pairwise(letters):
        vector[(ord(first) * 31 + ord(second)) % WIDTH] += 1.0
    return vector / max(1e-9, float(np.linalg.norm(vector)))
