"""What a report says in a sentence each, in Korean and English. In: a Report. Out: (Korean, English) pairs, plain text.

The page escapes them; Markdown does so in its own way. A sentence claims no more than its numbers hold: where nothing
stands out beyond chance it says so.
"""

import shlex

from ray_app.insights.findings import Report
from ray_app.insights.groups import outliers
from ray_app.insights.overview import TOP, best_rating
from ray_app.insights.pages.parts import LONGEST_NAME, day_en, day_ko, percent, signed
from ray_app.insights.star_drivers import LEAST, LEAST_RATED
from ray_app.insights.store import Row

Sentence = tuple[str, str]
_TURNS = dict.fromkeys((*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
LEVELS = {"product": ("상품", "product"), "mall": ("쇼핑몰", "mall"), "category": ("카테고리", "category")}


def short(value: object) -> str:
    """A name, shortened, without marks that would turn the text after it around."""
    shown = " ".join(str(value).translate(_TURNS).split())
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"


def with_object(word: str) -> str:
    """`배송을`, `사이즈를`: the particle goes by the last syllable."""
    last = word[-1:]
    if not "가" <= last <= "힣":
        return f"{word}을(를)"
    return word + ("을" if (ord(last) - 0xAC00) % 28 else "를")


def where(row: Row) -> Sentence:
    """`상품 「…」`, `product “…”`, or the whole catalog."""
    if row["level"] == "all":
        return "전체", "the whole catalog"
    ko, en = LEVELS[str(row["level"])]
    return f"{ko} 「{short(row['value'])}」", f"{en} “{short(row['value'])}”"


def complaints(report: Report) -> Sentence:
    """Which keyword is complained of most."""
    rows = [row for row in report.tables.keywords.to_pylist() if row["keyword"] != report.overall]
    if not rows or not rows[0]["complaints"]:
        return "불만이 발견되지 않았습니다.", "No complaints were found."
    worst, share = short(rows[0]["keyword"]), percent(rows[0]["complaints"])
    return (
        f"가장 잦은 불만은 {worst}: 리뷰의 {share}에 나옵니다.",
        f"The most frequent complaint is {worst}, in {share} of the reviews.",
    )


def change(row: Row) -> Sentence:
    """One change, with its numbers."""
    ko, en = where(row)
    keyword, ratio = short(row["keyword"]), row["ratio"]
    counts = f"{row['complaints_after']:,}/{row['reviews_after']:,}"
    share, before = percent(row["share_after"]), percent(row["share_before"])
    if ratio > 1:
        moved = f"{ratio:.1f}배로 늘었습니다", f"x{ratio:.1f}"
    else:
        moved = f"{1 - ratio:.0%} 줄었습니다", f"down {1 - ratio:.0%}"
    return (
        f"{ko}의 {keyword} 불만이 {day_ko(row['since'])}부터 {moved[0]}: {before} → {share} (리뷰 {counts}).",
        f"{keyword} complaints about {en} are {moved[1]} since {day_en(row['since'])}: {before} → {share} "
        f"({counts} reviews).",
    )


def counted(report: Report) -> Sentence:
    """How many changes there are, of so many series."""
    directions = report.tables.changes["direction"].to_pylist()
    worse, better, series = directions.count("worse"), directions.count("better"), f"{report.facts['series']:,}"
    if not directions:
        return changes(report)
    return (
        f"{series}개 흐름 가운데 {worse:,}개가 나빠지고 {better:,}개가 나아졌습니다.",
        f"Of {series} series {worse:,} got worse and {better:,} got better.",
    )


def changes(report: Report) -> Sentence:
    """The surest change for the worse, or that there is none."""
    rows = report.tables.changes.to_pylist()
    worse = [row for row in rows if row["direction"] == "worse"]
    if worse:
        return change(worse[0])
    series = f"{report.facts['series']:,}"
    if not report.facts["series"]:
        return (
            "날짜가 없거나 기간이 짧아 변화를 볼 수 없습니다.",
            "Without dates over three periods no change can be seen.",
        )
    return (
        f"{series}개 흐름 가운데 우연을 넘어 나빠진 것은 없습니다.",
        f"None of {series} series got worse beyond chance.",
    )


def groups(report: Report) -> Sentence:
    """How many products stand out, and the clearest."""
    compared = report.tables.groups.num_rows
    if not compared:
        return "상품·쇼핑몰 열이 없어 비교할 것이 없습니다.", "No column of products or malls was kept to compare."
    standing = outliers(report.tables.groups)
    if not standing:
        return (
            f"{compared:,}개 비교 가운데 우연을 넘어 눈에 띄게 나쁜 곳은 없습니다.",
            f"In {compared:,} comparisons nothing is worse than the others beyond chance.",
        )
    row = standing[0]
    ko, en = where(row)
    share, usual = percent(row["negative"] / max(1, row["reviews"]), 0), percent(row["usual_complaints"], 0)
    keyword = short(row["keyword"])
    return (
        f"가장 두드러진 곳은 {ko}: 리뷰의 {share}가 {with_object(keyword)} 탓합니다(다른 곳 {usual}).",
        f"The clearest outlier is {en}: {share} of its reviews complain of {keyword}, elsewhere {usual} do.",
    )


def stars(report: Report) -> Sentence:
    """What costs most stars."""
    rows = [row for row in report.tables.star_drivers.to_pylist() if row["sign"] == "negative"]
    sure = [row for row in rows if row["effect_high"] < 0]
    if not report.facts["fit"]:
        return (
            f"서로 다른 별점이 {LEAST_RATED}개 이상 있어야 계산할 수 있습니다.",
            f"Without {LEAST_RATED} ratings that differ nothing can be said of stars.",
        )
    if not rows:
        return (
            f"불만이 {LEAST}건 이상인 키워드가 없어 별점과 견줄 수 없습니다.",
            f"No keyword has the {LEAST} complaints in rated reviews that it takes to tell what they cost.",
        )
    if not sure:
        return "어느 불만도 별점을 확실히 깎지 않습니다.", "No complaint is sure to cost stars."
    row = sure[0]
    effect, impact, keyword = signed(row["effect"]), signed(row["impact"], 3), short(row["keyword"])
    return (
        f"별점을 가장 많이 깎는 것은 {keyword}: 불만이 있는 리뷰마다 {effect}점, 평균 별점에서 {impact}점.",
        f"{keyword} costs the most stars: {effect} in every review that complains, {impact} off the mean.",
    )


def contradiction(report: Report) -> Sentence:
    """How many of the best-rated reviews complain: those whose rating, rounded, is 0.9 of the highest or more."""
    table = report.tables.stars
    top = [row for row in table.to_pylist() if row["rating"] >= TOP * best_rating(table)]
    reviews, found = sum(row["reviews"] for row in top), sum(row["with_complaints"] for row in top)
    if not reviews:
        return "최고 별점 리뷰가 없습니다.", "There are no reviews with the best rating."
    low, high = (f"{one(row['rating'] for row in top):g}" for one in (min, max))
    best = high if low == high else f"{low}–{high}"
    return (
        f"별점 {best}점 리뷰 {reviews:,}건 중 {found:,}건({percent(found / reviews)})에도 불만이 있습니다.",
        f"{found:,} of {reviews:,} reviews with {best} stars ({percent(found / reviews)}) complain all the same.",
    )


def headlines(report: Report) -> list[Sentence]:
    """The report in a few sentences, what matters first."""
    news, rest = [changes(report)], [complaints(report)]
    if report.tables.stars.num_rows:
        rest += [stars(report), contradiction(report)]
    if report.tables.groups.num_rows:
        rest.append(groups(report))
    return news + rest if has_news(report) else rest + news


def has_news(report: Report) -> bool:
    """Whether something got worse."""
    return "worse" in report.tables.changes["direction"].to_pylist()


def next_labels(report: Report) -> str:
    """The command that chooses what to label next."""
    return f"python -m jobs.acquire --analyses {shlex.quote(str(report.facts['analyses']))} --output runs/batch"
