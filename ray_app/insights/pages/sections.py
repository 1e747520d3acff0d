"""The page's sections about what is said, since when, and in whose words. In: a Report. Out: HTML."""

from collections.abc import Sequence
from html import escape

import numpy as np

from ray_app.insights.findings import Report
from ray_app.insights.pages import sentences
from ray_app.insights.pages.parts import (
    both,
    course,
    day_en,
    day_ko,
    diverging,
    more,
    name,
    note,
    percent,
    quotes,
    section,
    table,
)
from ray_app.insights.pages.sentences import Sentence
from ray_app.insights.quotes import LONGEST_WORD
from ray_app.insights.statistics import wilson
from ray_app.insights.store import Row

CARDS, WORDS = 12, 3
EMPTY = frozenset("너무 진짜 정말 조금 많이 아주 살짝 그냥 완전 매우 약간 별로".split())  # noqa: SIM905


def telling(word: str) -> bool:
    """Whether a word says something by itself: `안`, `딱` and `너무` do not, nor a sentence without spaces."""
    return 1 < len(word) <= LONGEST_WORD and word not in EMPTY


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
        f"<span>{both('선명할수록 강한 감정 (±2)', 'the stronger color: ±2')}</span></p>"
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
    minus, plus = percent(_minus(row) / total), percent(_plus(row) / total)
    shares = f'<span class="neg">{minus}</span> <span class="pos">{plus}</span>'
    said_words = "".join(_words(row["keyword"], sign, words) for sign in ("negative", "positive"))
    return (
        f'<div class="row"><span class="name">{name(row["keyword"])}</span>{bar}<span class="value">{shares}</span>'
        f'<span class="words">{said_words}</span></div>'
    )


def _words(keyword: str, sign: str, words: Sequence[Row]) -> str:
    """The words that say the feeling; where there are none, those that name the keyword."""
    mine = [word for word in words if word["keyword"] == keyword and word["sign"] == sign and telling(word["word"])]
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
    label = f"<figcaption>{name(row['keyword'])} · n = {row['findings']:,}</figcaption>"
    return f'<figure class="overall">{label}<div class="stack">{parts}</div></figure>'


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
        return section("changes", "언제부터", "Since when", said(sentences.changes(report)), _no_dates(report))
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
    claim = said(sentences.counted(report))
    return section("changes", "언제부터", "Since when", claim, body + _courses(report, trend))


def _no_dates(report: Report) -> str:
    if column := report.facts["columns"].get("created_at"):
        return note(
            both(
                f"{name(column)} 열에서 읽을 수 있는 날짜가 없습니다. 2026-03-01처럼 적어 주세요.",
                f"The column {name(column)} holds no date that can be read; write dates such as 2026-03-01.",
            )
        )
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
    moved = f"{percent(row['share_before'])} → {percent(row['share_after'])}"
    counts = f"{row['complaints_after']:,}/{row['reviews_after']:,}"
    shares = both(
        f"{day_ko(row['since'])}부터 {moved} (리뷰 {counts})",
        f"since {day_en(row['since'])}: {moved} ({counts} reviews)",
    )
    chart = course(points, f"{row['keyword']} {row['since']}", top * 1.05, str(row["since"])) if len(points) > 1 else ""
    p = "&lt; 0.0001" if row["q"] < 0.0001 else f"= {row['q']:.4f}"
    sure = both(f"보정 후 p {p}", f"p {p} after correction")
    mine = [
        one
        for one in report.tables.quotes.to_pylist()
        if one["about"] == "change" and (one["level"], one["value"], one["keyword"]) == key
    ]
    return (
        f'<article class="card {kind}">{title}<p class="big">{times}</p><p>{shares}</p>{chart}'
        f'<p class="note">{sure}</p>{quotes(mine[:1])}</article>'
    )


def _courses(report: Report, trend: Sequence[Row]) -> str:
    """Every keyword's complaints over time, on one scale."""
    points: dict[str, list[Row]] = {}
    for point in trend:
        if point["level"] == "all" and point["keyword"] != report.overall:
            points.setdefault(point["keyword"], []).append(point)
    points = {keyword: joined(mine) for keyword, mine in points.items()}
    top = max((row["complaints_high"] for mine in points.values() for row in mine if row["reviews"] >= 30), default=1.0)
    charts = []
    for row in report.tables.keywords.to_pylist():
        mine = points.get(row["keyword"], [])
        if len(mine) > 1:
            last = f"{percent(mine[0]['complaints'])} → {percent(mine[-1]['complaints'])}"
            label = f"{row['keyword']}: {last}"
            caption = f"<figcaption>{name(row['keyword'])} <small>{last}</small></figcaption>"
            charts.append(f"<figure>{caption}{course(mine, label, top)}</figure>")
    step = ("주", "week") if report.period == "week" else ("달", "month")
    about = both(
        f"불만이 있는 리뷰의 비율, {step[0]}마다(리뷰가 30건이 안 되면 다음과 합침). 띠는 95% 구간. "
        f"모두 같은 눈금(위 끝 {percent(top, 0)}).",
        f"Share of reviews that complain, per {step[1]}, joined with the next below 30 reviews; 95% intervals. "
        f"One scale for all (top: {percent(top, 0)}).",
    )
    if not charts:
        return ""
    title = both("키워드별 불만의 흐름", "Complaints over time")
    return f'<h3>{title}</h3>{note(about)}<div class="small">{"".join(charts)}</div>'


def joined(points: Sequence[Row], least: int = 30) -> list[Row]:
    """The periods of one course, each of fewer than `least` reviews as one with its neighbors: a month of five reviews
    says nothing, and its band hides the others."""
    sums: list[Row] = []
    for point in points:
        if sums and sums[-1]["reviews"] < least:
            sums[-1] |= {side: sums[-1][side] + point[side] for side in ("reviews", "negative")}
        else:
            sums.append(dict(point))
    if len(sums) > 1 and sums[-1]["reviews"] < least:
        last = sums.pop()
        sums[-1] |= {side: sums[-1][side] + last[side] for side in ("reviews", "negative")}
    negative, reviews = (np.array([row[side] for row in sums], np.float64) for side in ("negative", "reviews"))
    low, high = wilson(negative, reviews)
    for row, *shares in zip(sums, negative / np.maximum(reviews, 1), low, high, strict=True):
        row |= dict(zip(("complaints", "complaints_low", "complaints_high"), map(float, shares), strict=True))
    return sums


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
