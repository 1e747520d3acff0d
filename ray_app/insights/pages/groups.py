"""The page's section about products, malls and categories. In: a Report. Out: HTML."""

from collections.abc import Sequence
from html import escape

import pyarrow.compute as pc

from ray_app.insights.findings import Report, best_and_worst
from ray_app.insights.groups import outliers
from ray_app.insights.pages import sentences
from ray_app.insights.pages.parts import both, interval, more, name, note, percent, quotes, section, table
from ray_app.insights.pages.sections import CARDS, said
from ray_app.insights.store import Row

LISTED = 8  # of the best and the worst each
VOICES = 6  # quotes below those that stand out
MATRIX = 15  # groups of the matrix
SHADES = ((0.75, "5"), (0.6, "4"), (0.5, "3"), (0.4, "2"), (0.0, "1"))  # least satisfaction of a shade


def groups(report: Report) -> str:
    """Best and worst products, what stands out, and products by keyword."""
    if not report.tables.groups.num_rows:
        return ""
    rows, count = best_and_worst(report, "product", report.ranking, LISTED)
    body = ""
    if rows:
        mean = _mean(report)
        about = both(
            f"{escape(report.ranking)}: 긍정 의견의 비율. 점은 추정치, 선은 95% 신용구간, 세로선은 전체 평균 "
            f"{percent(mean, 0)}. 의견이 10개 이상인 상품 {count:,}개 가운데.",
            f"{escape(report.ranking)}: share of positive findings, estimate and 95% credible interval; the line marks "
            f"the catalog's {percent(mean, 0)}. Of {count:,} products with 10 findings or more.",
        )
        split = len(rows) if count <= 2 * LISTED else LISTED
        worst, best = rows[:split], list(reversed(rows[split:]))
        span = (min(row["satisfaction_low"] for row in rows), max(row["satisfaction_high"] for row in rows))
        title = both("아쉬운 상품", "Worst") if best else both("상품", "Products")
        said_of = {sign: quotes(_quoted(report, "ranking", sign)) for sign in ("negative", "positive")}
        lists = f"<div><h3>{title}</h3>{_ranking(worst, span, mean)}{said_of['negative']}</div>"
        if best:
            lists += f"<div><h3>{both('좋은 상품', 'Best')}</h3>{_ranking(best, span, mean)}{said_of['positive']}</div>"
        body = f'{note(about)}<div class="pair">{lists}</div>'
    body += _by_keyword(report) + _standing(report) + _heat(report)
    return section("groups", "어느 상품이", "Which products", said(sentences.groups(report)), body)


def _mean(report: Report) -> float:
    """The catalog's satisfaction with the keyword that groups are ranked by."""
    row = next(row for row in report.tables.keywords.to_pylist() if row["keyword"] == report.ranking)
    return float(row["satisfaction"] or 0.0)


def _ranking(rows: Sequence[Row], span: tuple[float, float], mean: float) -> str:
    lines = []
    for row in rows:
        low, high = row["satisfaction_low"], row["satisfaction_high"]
        kind = "neg" if high < mean else "pos" if low > mean else "neu"
        bar = interval(low, row["satisfaction"], high, span, kind, mean)
        lines.append(
            f'<div class="row"><span class="name">{name(row["value"])}<small>n = {row["negative"] + row["positive"]:,}'
            f'</small></span>{bar}<span class="value">{percent(row["satisfaction"], 0)}</span></div>'
        )
    return f'<div class="rows ranking">{"".join(lines)}</div>'


def _quoted(report: Report, about: str, sign: str) -> list[Row]:
    rows = report.tables.quotes.to_pylist()
    return [row for row in rows if row["about"] == about and row["sign"] == sign]


def _by_keyword(report: Report) -> str:
    """The product that each keyword satisfies least at, and most."""
    head = [
        both("키워드", "Keyword"),
        both("가장 아쉬운 상품", "Worst product"),
        both("가장 좋은 상품", "Best product"),
    ]
    cells = []
    for keyword in report.tables.keywords["keyword"].to_pylist():
        rows, count = best_and_worst(report, "product", keyword, 1)
        if count > 1 and keyword != report.ranking:
            cells.append([name(keyword), _at(rows[0]), _at(rows[-1])])
    if not cells:
        return ""
    title = both("키워드별 가장 아쉬운 상품과 가장 좋은 상품", "Worst and best product by keyword")
    return more(title, table(head, cells, "키워드별 상품 / products by keyword"))


def _at(row: Row) -> str:
    """A product with its satisfaction, the interval and the number of findings."""
    span = f"{percent(row['satisfaction_low'], 0)}–{percent(row['satisfaction_high'], 0)}"
    count = row["negative"] + row["positive"]
    return f"{name(row['value'])} {percent(row['satisfaction'], 0)} <small>({span}, n = {count:,})</small>"


def _standing(report: Report) -> str:
    rows = outliers(report.tables.groups)
    if not rows:
        return ""
    head = [
        both("어디", "Where"),
        both("키워드", "Keyword"),
        both("불만", "Complaints"),
        both("다른 곳", "Elsewhere"),
        "q",
    ]
    cells = []
    for row in rows[:CARDS]:
        ko, en = sentences.where(row)
        share = f"{percent(row['negative'] / row['reviews'])} ({row['negative']:,}/{row['reviews']:,})"
        q = "&lt; 0.0001" if row["q"] < 0.0001 else f"{row['q']:.4f}"
        cells.append([both(escape(ko), escape(en)), name(row["keyword"]), share, percent(row["usual_complaints"]), q])
    title = both("다른 곳보다 확실히 나쁜 곳", "Worse than the others beyond chance")
    shown = quotes(_quoted(report, "group", "negative")[:VOICES])
    return f"<h3>{title}</h3>{table(head, cells, '눈에 띄는 곳 / outliers')}{shown}"


def _heat(report: Report) -> str:
    """Satisfaction of the most reviewed groups by keyword, shaded."""
    blocks = []
    compared = report.tables.groups.select(
        ["level", "value", "keyword", "reviews", "negative", "positive", "satisfaction"]
    )
    for level, (ko, en) in sentences.LEVELS.items():
        mine = compared.filter(pc.field("level") == level)
        sizes = mine.group_by("value").aggregate([("reviews", "max")])
        sizes = sizes.sort_by([("reviews_max", "descending"), ("value", "ascending")])
        values = sizes["value"].slice(0, MATRIX).to_pylist()
        if len(values) < 2:
            continue
        rows = mine.filter(pc.field("value").isin(values)).to_pylist()
        names = [row["keyword"] for row in report.tables.keywords.to_pylist()]
        cells = {(row["value"], row["keyword"]): row for row in rows}
        lines = [[name(value), *(_shade(cells.get((value, keyword))) for keyword in names)] for value in values]
        head = [f"{both(ko, en)}", *(name(keyword) for keyword in names)]
        about = both(f"{ko}별 만족도 (리뷰 많은 순)", f"Satisfaction by {en}, most reviewed first")
        blocks.append(more(about, f'<div class="heat">{table(head, lines, f"{ko} / {en}")}</div>', level != "product"))
    return "".join(blocks)


def _shade(row: Row | None) -> str:
    if row is None or row["negative"] + row["positive"] == 0:
        return '<span class="none">–</span>'
    shade = next(number for least, number in SHADES if row["satisfaction"] >= least)
    return f'<span class="s{shade}">{percent(row["satisfaction"], 0)}</span>'
