"""The page's sections about what is said, since when, of what, and in whose words. In: a Report. Out: HTML."""

from collections.abc import Sequence
from html import escape

from ray_app.insights import sentences
from ray_app.insights.findings import Report, best_and_worst
from ray_app.insights.html_parts import (
    both,
    course,
    diverging,
    interval,
    more,
    name,
    note,
    percent,
    quotes,
    section,
    table,
)
from ray_app.insights.sentences import Sentence
from ray_app.insights.store import Row

CARDS, LISTED, WORDS = 12, 8, 3
MATRIX = 15  # products of the matrix
SIZES = ((0.75, "5"), (0.6, "4"), (0.5, "3"), (0.4, "2"), (0.0, "1"))  # least satisfaction of a shade


def said(pair: Sentence) -> str:
    """A sentence of `sentences.py` as HTML."""
    return both(escape(pair[0]), escape(pair[1]))


def keywords(report: Report) -> str:
    """Every keyword's praise and complaints beside its most frequent words."""
    rows = [row for row in report.tables.keywords.to_pylist() if row["keyword"] != report.overall]
    if not rows:
        return ""
    words = report.tables.words.to_pylist()
    scale = max(max(_minus(row), _plus(row)) for row in rows) / rows[0]["reviews"]
    lines = "".join(_keyword(row, words, scale) for row in rows)
    legend = (
        f'<p class="legend"><span><i class="n2"></i><i class="n1"></i>{both("불만", "complaints")}</span>'
        f'<span><i class="p1"></i><i class="p2"></i>{both("칭찬", "praise")}</span>'
        f"<span>{both('진할수록 강한 감정 (±2)', 'darker: stronger feeling (±2)')}</span></p>"
    )
    body = f'{_overall(report)}{legend}<div class="rows keywords">{lines}</div>{_matrix(report)}'
    return section("keywords", "무엇을 말하나", "What customers speak of", said(sentences.complaints(report)), body)


def _minus(row: Row) -> int:
    return int(row["score_minus_2"] + row["score_minus_1"])


def _plus(row: Row) -> int:
    return int(row["score_plus_2"] + row["score_plus_1"])


def _keyword(row: Row, words: Sequence[Row], scale: float) -> str:
    total = row["reviews"]
    bar = diverging(
        (row["score_minus_2"] / total, row["score_minus_1"] / total),
        (row["score_plus_1"] / total, row["score_plus_2"] / total),
        scale,
    )
    shares = f'<span class="neg">{percent(_minus(row) / total)}</span> <span class="pos">{percent(_plus(row) / total)}</span>'
    return (
        f'<div class="row"><span class="name">{name(row["keyword"])}</span>{bar}<span class="value">{shares}</span>'
        f'<span class="words">{_words(row["keyword"], "negative", words)}{_words(row["keyword"], "positive", words)}</span></div>'
    )


def _words(keyword: str, sign: str, words: Sequence[Row]) -> str:
    """The words that say the feeling; where there are none, those that name the keyword."""
    mine = [word for word in words if word["keyword"] == keyword and word["sign"] == sign]
    chosen = [word for word in mine if word["role"] == "opinion"] or mine
    kind = "neg" if sign == "negative" else "pos"
    shown = " ".join(f"<em>{name(word['word'])}</em>" for word in chosen[:WORDS])
    return f'<span class="{kind}">{shown}</span>'


def _overall(report: Report) -> str:
    """Overall satisfaction as one bar over the whole width."""
    row = next((row for row in report.tables.keywords.to_pylist() if row["keyword"] == report.overall), None)
    if row is None or not row["findings"]:
        return ""
    kinds = ("n2", "n1", "zero", "p1", "p2")
    counts = [row[f"score_{score}"] for score in ("minus_2", "minus_1", "0", "plus_1", "plus_2")]
    shares = [count / row["findings"] for count in counts]
    parts = "".join(
        f'<i class="{kind}" style="width:{100 * share:.2f}%">{percent(share, 0) if share >= 0.07 else ""}</i>'
        for kind, share in zip(kinds, shares, strict=True)
    )
    label = name(row["keyword"])
    return f'<figure class="overall"><figcaption>{label} · n = {row["findings"]:,}</figcaption><div class="stack">{parts}</div></figure>'


def _matrix(report: Report) -> str:
    """Keyword by score as a table."""
    head = [
        both("키워드", "Keyword"),
        "−2",
        "−1",
        "0",
        "+1",
        "+2",
        both("불만 (95%)", "Complaints (95%)"),
        both("만족", "Satisfied"),
    ]
    rows = [
        [
            name(row["keyword"]),
            *(f"{row[f'score_{score}']:,}" for score in ("minus_2", "minus_1", "0", "plus_1", "plus_2")),
            f"{percent(row['complaints'])} ({percent(row['complaints_low'])}–{percent(row['complaints_high'])})",
            percent(row["satisfaction"], 0) if row["satisfaction"] is not None else "–",
        ]
        for row in report.tables.keywords.to_pylist()
    ]
    return more(
        both("키워드 × 점수 표", "Keywords by score, as a table"),
        table(head, rows, "키워드 × 점수 / keywords by score"),
    )


def changes(report: Report) -> str:
    """Changes as cards, and the course of every keyword."""
    rows = report.tables.changes.to_pylist()
    trend = report.tables.trend.to_pylist()
    if not trend:
        return section("changes", "언제부터", "Since when", said(sentences.changes(report)), _no_dates())
    worse = [row for row in rows if row["direction"] == "worse"]
    better = [row for row in rows if row["direction"] == "better"]
    body = f'<div class="cards">{"".join(_card(row, report, trend) for row in worse[:CARDS])}</div>' if worse else ""
    if better:
        shown = f'<div class="cards">{"".join(_card(row, report, trend) for row in better[:CARDS])}</div>'
        body += more(both(f"나아진 것 {len(better):,}개", f"{len(better):,} changes for the better"), shown)
    if len(worse) > CARDS:
        body += note(
            both(f"모두 {len(worse):,}개, 표에 있습니다.", f"{len(worse):,} in all; the rest is in the tables.")
        )
    claim = said(sentences.changes(report))
    return section("changes", "언제부터", "Since when", claim, body + _courses(report, trend))


def _no_dates() -> str:
    return note(
        both(
            "날짜 열을 남기면 볼 수 있습니다: <code>jobs.analyze --keep date</code>",
            "Keep a date to see it: <code>jobs.analyze --keep date</code>",
        )
    )


def _card(row: Row, report: Report, trend: Sequence[Row]) -> str:
    key = (row["level"], row["value"], row["keyword"])
    points = [point for point in trend if (point["level"], point["value"], point["keyword"]) == key]
    top = max((point["complaints_high"] for point in points if point["reviews"] >= 30), default=1.0)
    top = max(top, row["share_after"], row["share_before"])
    kind = "worse" if row["direction"] == "worse" else "better"
    ko, en = sentences.where(row)
    title = f"<h3>{name(row['keyword'])} <small>{both(escape(ko), escape(en))}</small></h3>"
    times = f"×{row['ratio']:.1f}"
    chart = course(points, f"{row['keyword']} {row['since']}", top * 1.05, str(row["since"])) if len(points) > 1 else ""
    p = "&lt; 0.0001" if row["q"] < 0.0001 else f"= {row['q']:.4f}"
    sure = both(f"보정 후 p {p}", f"p {p} after correction")
    mine = [
        one
        for one in report.tables.quotes.to_pylist()
        if one["about"] == "change" and (one["level"], one["value"], one["keyword"]) == key
    ]
    return (
        f'<article class="card {kind}">{title}<p class="big">{times}</p><p>{said(sentences.change(row))}</p>{chart}'
        f'<p class="note">{sure}</p>{quotes(mine[:1])}</article>'
    )


def _courses(report: Report, trend: Sequence[Row]) -> str:
    """Every keyword's complaints over time, on one scale."""
    points = [row for row in trend if row["level"] == "all" and row["keyword"] != report.overall]
    top = max((row["complaints_high"] for row in points if row["reviews"] >= 30), default=1.0)
    charts = []
    for row in report.tables.keywords.to_pylist():
        mine = [point for point in points if point["keyword"] == row["keyword"]]
        if len(mine) > 1:
            last = f"{percent(mine[0]['complaints'])} → {percent(mine[-1]['complaints'])}"
            label = f"{row['keyword']}: {last}"
            charts.append(
                f"<figure><figcaption>{name(row['keyword'])} <small>{last}</small></figcaption>{course(mine, label, top)}</figure>"
            )
    step = ("주", "week") if report.period == "week" else ("달", "month")
    about = both(
        f"불만이 있는 리뷰의 비율, {step[0]}마다. 띠는 95% 구간, 회색 점은 리뷰 30건 미만. 모두 같은 눈금(위 끝 {percent(top, 0)}).",
        f"Share of reviews that complain, per {step[1]}. Bands are 95% intervals, gray dots fewer than 30 reviews. "
        f"One scale for all (top: {percent(top, 0)}).",
    )
    return (
        f'<h3>{both("키워드별 불만의 흐름", "Complaints over time")}</h3>{note(about)}<div class="small">{"".join(charts)}</div>'
        if charts
        else ""
    )


def groups(report: Report) -> str:
    """Best and worst products, what stands out, and products by keyword."""
    if not report.tables.groups.num_rows:
        return ""
    rows, count = best_and_worst(report, "product", report.ranking, LISTED)
    body = ""
    if rows:
        about = both(
            f"{escape(report.ranking)} 만족도: 점은 추정치, 선은 95% 신용구간, 세로선은 50%. 의견이 10개 이상인 상품 {count:,}개 가운데.",
            f"Satisfaction with {escape(report.ranking)}: estimate and 95% credible interval, the line marks 50%. Of {count:,} "
            "products with 10 findings or more.",
        )
        split = len(rows) if count <= 2 * LISTED else LISTED
        worst, best = rows[:split], list(reversed(rows[split:]))
        lists = (
            f"<div><h3>{both('아쉬운 상품', 'Worst') if best else both('상품', 'Products')}</h3>{_ranking(worst)}</div>"
        )
        lists += f"<div><h3>{both('좋은 상품', 'Best')}</h3>{_ranking(best)}</div>" if best else ""
        body = f'{note(about)}<div class="pair">{lists}</div>'
    body += _standing(report) + _heat(report)
    return section("groups", "어느 상품이", "Which products", said(sentences.groups(report)), body)


def _ranking(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        kind = "neg" if row["satisfaction_high"] < 0.5 else "pos" if row["satisfaction_low"] > 0.5 else "neu"
        bar = interval(row["satisfaction_low"], row["satisfaction"], row["satisfaction_high"], (0.0, 1.0), kind, 0.5)
        lines.append(
            f'<div class="row"><span class="name">{name(row["value"])}<small>n = {row["negative"] + row["positive"]:,}'
            f'</small></span>{bar}<span class="value">{percent(row["satisfaction"], 0)}</span></div>'
        )
    return f'<div class="rows ranking">{"".join(lines)}</div>'


def _standing(report: Report) -> str:
    rows = sorted((r for r in report.tables.groups.to_pylist() if r["stands_out"]), key=lambda r: (r["q"], r["p"]))
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
    return f"<h3>{title}</h3>{table(head, cells, '눈에 띄는 곳 / outliers')}"


def _heat(report: Report) -> str:
    """Satisfaction of the most reviewed groups by keyword, shaded."""
    blocks = []
    for level, (ko, en) in sentences.LEVELS.items():
        rows = [row for row in report.tables.groups.to_pylist() if row["level"] == level]
        sizes = {row["value"]: row["reviews"] for row in rows}
        values = sorted(sizes, key=lambda value: (-sizes[value], value))[:MATRIX]
        if len(values) < 2:
            continue
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
    shade = next(number for least, number in SIZES if row["satisfaction"] >= least)
    return f'<span class="s{shade}">{percent(row["satisfaction"], 0)}</span>'


def voices(report: Report) -> str:
    """Typical reviews per keyword, complaints beside praise."""
    rows = [row for row in report.tables.quotes.to_pylist() if row["about"] == "keyword"]
    if not rows:
        return ""
    parts: list[str] = []
    for keyword in [row["keyword"] for row in report.tables.keywords.to_pylist()]:
        mine = [row for row in rows if row["keyword"] == keyword]
        if mine:
            parts.append(more(name(keyword), quotes(mine), not parts))
    about = both(
        "키워드마다 전형적인 리뷰입니다. 칠해진 단어는 무엇에 대한 말인지, 밑줄 친 단어는 어떤 느낌인지를 알려 줍니다.",
        "Typical reviews per keyword. The shaded word names the keyword, the underlined one says the feeling.",
    )
    return section(
        "voices",
        "고객의 말",
        "In their own words",
        both("이렇게 말합니다", "This is how they put it"),
        note(about) + "".join(parts),
    )
