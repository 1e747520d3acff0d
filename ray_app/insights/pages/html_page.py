"""The report as one HTML file: Korean and English, offline, for screen, phone and paper, in light and dark.

In: a Report. Out: the page. It loads nothing, and its policy lets it run nothing but its own few lines of script, which
switch the language.
"""

import base64
import hashlib
from datetime import date
from html import escape
from pathlib import Path

from ray_app.insights.findings import Report
from ray_app.insights.pages import groups, sections, sentences, stars
from ray_app.insights.pages.parts import both, day_en, day_ko, name, text

FOLDER = Path(__file__).parent


def page(report: Report, language: str) -> str:
    """The whole file; `language` is what it opens in."""
    script = (FOLDER / "report.js").read_text(encoding="utf-8")
    style = (FOLDER / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    first = [sections.changes(report), sections.keywords(report)]
    parts = [
        *(first if sentences.has_news(report) else reversed(first)),
        groups.groups(report),
        stars.drivers(report),
        stars.contradictions(report),
        sections.voices(report),
        stars.against(report),
        stars.quality(report),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="{language}">',
            '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex">',
            f"<title>{escape(report.title[:80])} · Nunchi</title><style>{style}</style></head>",
            "<body>",
            _head(report),
            f"<main>{''.join(filter(None, parts))}</main>",
            _foot(report),
            f"<script>{script}</script>",
            "</body></html>",
            "",
        ]
    )


def _head(report: Report) -> str:
    facts = report.facts
    lines = "".join(f"<li>{both(escape(ko), escape(en))}</li>" for ko, en in sentences.headlines(report))
    reviews, found = f"{facts['reviews']:,}", f"{facts['findings']:,}"
    ko, en = [f"리뷰 {reviews}건", f"의견 {found}개"], [f"{reviews} reviews", f"{found} findings"]
    if facts["products"]:
        ko.append(f"상품 {facts['products']:,}개")
        en.append(f"{facts['products']:,} products")
    first, last = facts["first_day"], facts["last_day"]
    if isinstance(first, int) and isinstance(last, int):
        days = [date.fromordinal(day + date(1970, 1, 1).toordinal()) for day in (first, last)]
        ko.append(f"{day_ko(days[0])} – {day_ko(days[1])}")
        en.append(f"{day_en(days[0])} – {day_en(days[1])}")
    return (
        '<header class="top"><div class="bar"><span class="brand">Nunchi 눈치</span>'
        '<button id="language" type="button" lang="en">English</button></div>'
        f'<h1>{name(report.title)}</h1><p class="facts">{both(" · ".join(ko), " · ".join(en))}</p>'
        f'<ul class="lede">{lines}</ul></header>'
    )


def _foot(report: Report) -> str:
    alpha = f"{report.facts['alpha']:.0%}"
    ko = (
        "만족도는 긍정과 부정 가운데 긍정의 비율, 불만은 부정적 의견이 있는 리뷰의 비율입니다. 상품별 수치는 리뷰가 "
        "적을수록 다른 상품들의 값으로 당겨집니다(경험적 베이즈, 95% 신용구간). 변화와 이상치는 한꺼번에 비교한 수를 "
        f"감안해 고릅니다: 표시된 것 중 우연은 {alpha} 이하입니다(벤자미니·호크버그). 상품의 변화는 같은 기간의 나머지 "
        "상품과 비교합니다. 별점 효과는 상품과 시기를 맞춘 선형 회귀이며, 오차는 상품별로 묶었습니다. 원인이 아니라 "
        "함께 나타나는 정도입니다."
    )
    en = (
        "Satisfaction is the share of positive among positive and negative findings, complaints the share of reviews "
        "with a negative one. The fewer reviews a product has, the more its figures are drawn towards the others' "
        "(empirical Bayes, 95% credible intervals). Changes and outliers are corrected for how many are compared at "
        f"once: of those shown at most {alpha} are chance (Benjamini and Hochberg). A product's change is judged "
        "against all others in the same period. Effects on stars are linear, with a level per product and period, "
        "errors clustered by product; they say what goes together, not what causes it."
    )
    tables = both(
        "모든 표는 이 파일 옆 <code>tables/</code>에 있습니다.",
        "All tables lie beside this file in <code>tables/</code>.",
    )
    made = text(report.facts["analyses"], 200)
    title = both("읽는 법", "How to read this")
    return f'<footer class="end"><h2>{title}</h2><p>{both(ko, en)}</p><p>{tables} {made}</p></footer>'
