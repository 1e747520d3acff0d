"""The page's sections about stars, about what is compared with, and about the data. In: a Report. Out: HTML."""

from html import escape

from ray_app.insights.findings import Report
from ray_app.insights.overview import TOP, best_rating
from ray_app.insights.pages import sentences
from ray_app.insights.pages.parts import both, interval, more, name, note, percent, quotes, section, signed, table
from ray_app.insights.pages.sections import said
from ray_app.insights.store import Row

LISTED = 12
DRIFTED = ((0.25, "크게 변함", "has moved far"), (0.1, "변함", "has moved"), (0.0, "그대로", "steady"))
FIGURES = {
    "rejected": ("읽지 못한 행", "rows rejected"),
    "nothing_found": ("아무 키워드도 없는 리뷰", "reviews with nothing found"),
    "truncated": ("뒤가 잘린 리뷰", "reviews cut at the end"),
    "unknown_words": ("모델이 모르는 글자가 있는 리뷰 (표본)", "reviews with a word unknown to the model (sample)"),
    "unsure": ("기준값에 가까운 키워드가 있는 리뷰", "reviews with a keyword near its threshold"),
    "rated": ("별점이 있는 리뷰", "reviews with a rating"),
    "dated": ("날짜가 있는 리뷰", "reviews with a date"),
}


def drivers(report: Report) -> str:
    """Effects on the rating with their intervals, and their impact."""
    rows = report.tables.star_drivers.to_pylist()
    if not rows:
        return ""
    negative = [row for row in rows if row["sign"] == "negative"]
    positive = sorted((row for row in rows if row["sign"] == "positive"), key=lambda row: -row["impact"])
    low = min(0.0, *(row["effect_low"] for row in rows))
    high = max(0.0, *(row["effect_high"] for row in rows))
    about = both(
        "점은 그 키워드에 불만(칭찬)이 있는 리뷰의 별점이 같은 상품·같은 시기의 다른 리뷰와 얼마나 다른지, "
        "선은 95% 구간. 오른쪽은 효과 × 빈도: 평균 별점에서 차지하는 몫입니다.",
        "Dots: how far the rating of a review with that complaint (praise) is from others of the same product and "
        "time; lines are 95% intervals. At the right effect times frequency: its part of the mean rating.",
    )
    lists = f"<div><h3>{both('불만이 깎는 별점', 'Complaints cost')}</h3>{_effects(negative, low, high, 'neg')}</div>"
    lists += f"<div><h3>{both('칭찬이 더하는 별점', 'Praise adds')}</h3>{_effects(positive, low, high, 'pos')}</div>"
    body = f'{note(about)}<div class="pair">{lists}</div>{_checked(report)}{_products(report)}'
    return section("stars", "별점을 움직이는 것", "What moves the stars", said(sentences.stars(report)), body)


def _checked(report: Report) -> str:
    """How far the ordered model is from the linear one, for the complaints that surely cost stars."""
    rows = [row for row in report.tables.star_drivers.to_pylist() if row["sign"] == "negative"]
    gaps = [
        abs(row["ordered_effect"] - row["effect"])
        for row in rows
        if row["effect_high"] < 0 and row["ordered_effect"] is not None
    ]
    if not gaps:
        return ""
    fit = report.facts["fit"]
    assert isinstance(fit, dict)
    most, count = f"{max(gaps):.2f}", f"{fit['ordered']:,}"
    return note(
        both(
            f"순서형 로짓 모델(리뷰 {count}건)로 다시 재도 위의 불만 효과와 최대 {most}점 다릅니다.",
            f"An ordered logit model (of {count} reviews) differs from these costs by {most} stars at most.",
        )
    )


def _effects(rows: list[Row], low: float, high: float, kind: str) -> str:
    lines = []
    for row in rows[:LISTED]:
        sure = row["effect_low"] * row["effect_high"] > 0
        bar = interval(row["effect_low"], row["effect"], row["effect_high"], (low, high), kind if sure else "neu", 0.0)
        lines.append(
            f'<div class="row"><span class="name">{name(row["keyword"])}<small>{percent(row["share"])}</small></span>'
            f"{bar}"
            f'<span class="value">{signed(row["effect"])}<small>{signed(row["impact"], 3)}</small></span></div>'
        )
    return f'<div class="rows ranking">{"".join(lines)}</div>'


def _products(report: Report) -> str:
    rows = report.tables.star_drivers_by_product.slice(0, LISTED).to_pylist()
    if not rows:
        return ""
    head = [
        both("상품", "Product"),
        both("키워드", "Keyword"),
        both("불만", "Complaints"),
        both("잃은 별점", "Stars lost"),
        both("구간", "Interval"),
    ]
    cells = [
        [
            name(row["product"]),
            name(row["keyword"]),
            f"{row['complaints']:,}/{row['reviews']:,}",
            signed(row["stars"]),
            f"{signed(row['stars_low'])} … {signed(row['stars_high'])}",
        ]
        for row in rows
    ]
    title = both("어느 상품이 무엇으로 별점을 잃나", "Which product loses stars, and to what")
    return f"<h3>{title}</h3>{table(head, cells, '상품별 잃은 별점 / stars lost by product')}"


def contradictions(report: Report) -> str:
    """Share of reviews with a complaint per rating, and well-rated reviews that complain."""
    rows = report.tables.stars.to_pylist()
    if not rows:
        return ""
    best = best_rating(report.tables.stars)
    lines = "".join(
        f'<div class="row"><span class="name">★ {row["rating"]:g}<small>n = {row["reviews"]:,}</small></span>'
        f'<span class="plain" aria-hidden="true"><i class="{"hot" if row["rating"] >= TOP * best else "cool"}" '
        f'style="width:{100 * row["complaints"]:.2f}%"></i></span>'
        f'<span class="value">{percent(row["complaints"], 0)}<small>{row["with_complaints"]:,}</small></span></div>'
        for row in reversed(rows)
    )
    quoted = report.tables.quotes.to_pylist()
    mine, low = ([row for row in quoted if row["about"] == about] for about in ("stars", "low stars"))
    about = both(
        "별점마다, 불만이 하나라도 있는 리뷰의 비율.", "Per rating, the share of reviews with at least one complaint."
    )
    body = f'{note(about)}<div class="rows ranking one">{lines}</div>'
    if mine:
        title = both("최고 별점을 주고도 남긴 불만", "Complaints under the best rating")
        body += f"<h3>{title}</h3>{quotes(mine[:6])}"
    if low:
        title = both("낮은 별점을 주고도 남긴 칭찬", "Praise under a low rating")
        body += f"<h3>{title}</h3>{quotes(low[:4])}"
    return section(
        "contradictions", "별점과 다른 말", "Text against stars", said(sentences.contradiction(report)), body
    )


def against(report: Report) -> str:
    """What moved since the period or run that is compared with."""
    rows = report.tables.against.to_pylist()
    if not rows:
        return ""
    moved = [row for row in rows if row["q"] <= 0.05]
    ko = f"{len(rows)}개 키워드 가운데 {len(moved)}개가 우연을 넘어 달라졌습니다"
    en = f"{len(moved)} of {len(rows)} keywords have moved beyond chance"
    head = [
        both("키워드", "Keyword"),
        both("전", "Before"),
        both("지금", "Now"),
        both("차이 (95%)", "Difference (95%)"),
        both("고객", "Customers"),
        both("모델", "Model"),
    ]
    cells = [
        [
            name(row["keyword"]),
            percent(row["complaints_before"]),
            percent(row["complaints_now"]),
            f"{_points(row['difference'])} ({_points(row['difference_low'])} … {_points(row['difference_high'])})",
            _points(row["by_customers"]),
            _points(row["by_model"]),
        ]
        for row in rows
    ]
    body = _compared(report) + table(head, cells, "비교 / comparison")
    return section("against", "무엇과 비교해", "Compared with", both(ko, en), body)


def _compared(report: Report) -> str:
    """What is compared, and whether customers and model can be told apart."""
    notes = report.facts["against"]
    assert isinstance(notes, dict)
    what = escape(str(notes["text"])[:200])
    if notes["same_model"]:
        return note(
            both(
                f"{what}. 같은 모델이므로 차이는 모두 고객의 것입니다.",
                f"{what}. One model: all differences are the customers'.",
            )
        )
    shared = f"{notes['shared']:,}"
    if report.tables.against["by_model"].null_count:
        return note(
            both(
                f"{what}. 모델이 다르고 함께 분석한 리뷰가 {shared}건뿐이라 고객과 모델을 나눌 수 없습니다. "
                "같은 리뷰를 새 모델로도 분석해 보세요.",
                f"{what}. Other models, and only {shared} reviews that both analyzed: customers and model cannot be "
                "told apart. Analyze some of the earlier reviews with the new bundle too.",
            )
        )
    return note(
        both(
            f"{what}. 두 모델이 함께 분석한 리뷰 {shared}건에서 모델의 몫을 쟀습니다.",
            f"{what}. The model's part is measured on the {shared} reviews that both runs analyzed.",
        )
    )


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "−")


def quality(report: Report) -> str:
    """Figures of the data, drift, and what to label next."""
    rows = report.tables.quality.to_pylist()
    cells = [
        [
            both(*FIGURES[row["figure"]]),
            f"{row['reviews']:,}",
            f"{row['of']:,}",
            percent(row["share"]) if row["of"] else "–",
        ]
        for row in rows
    ]
    head = [both("무엇", "What"), both("수", "Count"), both("전체", "Of"), both("비율", "Share")]
    body = table(head, cells, "자료의 질 / data quality")
    drift = report.tables.drift.to_pylist()
    if drift:
        lines = [[name(row["keyword"]), f"{row['psi']:.3f}", both(*_drifted(row["psi"]))] for row in drift]
        title = both("확률 분포의 이동 (PSI)", "Drift of the probabilities (PSI)")
        body += more(title, table([both("키워드", "Keyword"), "PSI", both("판단", "Verdict")], lines, "PSI"), True)
    body += note(
        both("모델이 망설이는 리뷰에 라벨을 달면 가장 많이 나아집니다:", "Labels help most where the model is unsure:")
        + f" <code>{escape(sentences.next_labels(report)[:300])}</code>"
    )
    unsure = next((row["share"] for row in rows if row["figure"] == "unsure" and row["share"] is not None), None)
    if unsure is None or not report.facts["probabilities"]:
        return section(
            "quality", "믿을 만한가", "Can it be trusted", both("자료의 질", "The quality of the data"), body
        )
    claim = both(
        f"리뷰의 {percent(1 - unsure)}에서 모델은 망설이지 않았습니다",
        f"The model was sure of {percent(1 - unsure)} of the reviews",
    )
    return section("quality", "믿을 만한가", "Can it be trusted", claim, body)


def _drifted(psi: float) -> tuple[str, str]:
    return next((ko, en) for least, ko, en in DRIFTED if psi >= least)
