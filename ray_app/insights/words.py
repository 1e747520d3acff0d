"""The words that customers use for a keyword, praising and criticizing, forms of one word counted together.

In: a Store. Out: the most frequent words per keyword, sign and role: `highlight` names the keyword, `opinion` says the
feeling.
"""

import pyarrow as pa

from ray_app.insights.lemmas import key
from ray_app.insights.reading.parts import WORDS as ROLES
from ray_app.insights.store import Store

WORDS = pa.schema(
    [
        ("keyword", pa.string()),
        ("sign", pa.string()),
        ("role", pa.string()),
        ("word", pa.string()),
        ("forms", pa.list_(pa.string())),
        ("findings", pa.int64()),
    ]
)
READ = 400  # forms per keyword, sign and role that are grouped
KEPT = 15


def strongest(store: Store) -> pa.Table:
    """WORDS, the most frequent first within their keyword, sign and role."""
    sql = f"""SELECT keyword, negative, role, word, sum(n)::BIGINT AS total FROM words
        GROUP BY keyword, negative, role, word
        QUALIFY row_number() OVER (PARTITION BY keyword, negative, role ORDER BY total DESC, word) <= {READ}
        ORDER BY keyword, negative, role, total DESC, word"""
    cells: dict[tuple[int, bool, int], dict[str, list[tuple[str, int]]]] = {}
    for keyword, negative, role, word, count in store.rows(sql):
        cells.setdefault((keyword, negative, role), {}).setdefault(key(word), []).append((word, count))
    rows = []
    for (keyword, negative, role), groups in cells.items():
        forms = sorted(groups.values(), key=lambda group: (-sum(n for _, n in group), group[0][0]))
        for group in forms[:KEPT]:
            rows.append(
                {
                    "keyword": store.keywords[keyword],
                    "sign": "negative" if negative else "positive",
                    "role": ROLES[role],
                    "word": group[0][0],
                    "forms": [word for word, _ in group],
                    "findings": sum(count for _, count in group),
                }
            )
    return pa.Table.from_pylist(rows, WORDS)
