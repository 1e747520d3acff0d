"""The texts of the views, in Korean and English."""

TEXTS: dict[str, tuple[str, str]] = {
    "language": ("0", "1"),
    "view_ranking": ("상품 순위", "Ranking"),
    "view_trend": ("추이·알림", "Trend"),
    "view_stars": ("별점 요인", "Stars"),
    "view_compare": ("비교", "Compare"),
    "counting": ("분석 결과를 집계하는 중…", "Counting the analyses…"),
    "whole_catalog": (
        "이 보기는 필터와 관계없이 전체 리뷰를 집계합니다.",
        "This view counts all reviews, whatever the filters.",
    ),
    "report_large": (
        "리뷰 {reviews}건을 모두 읽어야 합니다. {seconds}초쯤 걸립니다. 아래 명령으로 보고서를 만들 수도 있습니다.",
        "All {reviews} reviews have to be read, which takes some {seconds} seconds. The command below makes a report "
        "of its own instead.",
    ),
    "report_read": ("지금 읽기", "Read them now"),
    "column_missing": (
        "분석 결과에 {what} 열이 없습니다. --keep으로 열을 남겨 다시 분석하면 볼 수 있습니다.",
        "These analyses kept no {what}. Analyze again with --keep:",
    ),
    "groups_of": ("상품·카테고리·쇼핑몰", "products, categories or malls"),
    "dates_of": ("날짜", "dates"),
    "ratings_of": ("별점", "ratings"),
    "save_csv": ("CSV 저장", "Save CSV"),
    "save_svg": ("그림 저장 (SVG)", "Save image (SVG)"),
    "as_table": ("표로 보기", "Show as a table"),
    "table_cut": (
        "전체 {all}행 중 {shown}행입니다. CSV에는 모두 들어 있습니다.",
        "{shown} of {all} rows; the CSV has all.",
    ),
    "level": ("기준", "By"),
    "level_product": ("상품", "Product"),
    "level_category": ("카테고리", "Category"),
    "level_mall": ("쇼핑몰", "Mall"),
    "order": ("순서", "Order"),
    "worst_first": ("아쉬운 순", "Worst first"),
    "best_first": ("좋은 순", "Best first"),
    "satisfaction": ("만족도", "Satisfaction"),
    "interval": ("95% 구간", "95% interval"),
    "complaints": ("불만", "Complaints"),
    "elsewhere": ("다른 곳", "Elsewhere"),
    "chance": ("우연일 확률", "Chance (q)"),
    "where": ("어디", "Where"),
    "since": ("시점", "Since"),
    "before": ("전", "Before"),
    "after": ("후", "After"),
    "ranking_label": (
        "‘{keyword}’에 긍정인 의견의 비율. 세로선은 전체 평균 {mean}, 비교 대상 {groups}곳.",
        "Share of positive findings of “{keyword}”; the line marks the catalog's {mean}. {groups} are compared.",
    ),
    "ranking_hint": (
        "점은 추정치, 선은 95% 신용구간입니다. 의견이 적으면 평균 쪽으로 당겨지고, {least}건 미만은 빠집니다.",
        "Dots are estimates, lines 95% credible intervals, drawn towards the mean where little is known; "
        "with fewer than {least} findings nothing is ranked.",
    ),
    "ranking_few": (
        "의견이 {least}건 이상인 곳이 없습니다. 다른 키워드나 기준을 골라 보세요.",
        "Nothing has {least} findings or more. Choose another keyword, or another level.",
    ),
    "open_reviews": ("리뷰 보기", "Read the reviews of"),
    "open_hint": ("고르면 그 리뷰만 보여 줍니다", "Choose one to see its reviews only"),
    "standing": ("다른 곳보다 확실히 나쁜 곳", "Worse than the others beyond chance"),
    "standing_hint": (
        "여러 번 비교한 것을 감안한 확률(q)이 {alpha} 이하인 곳만 보여 줍니다.",
        "Only where the probability of chance, corrected for how many are compared (q), is {alpha} or less.",
    ),
    "changes": ("찾은 변화", "Changes found"),
    "course": ("불만 비율의 흐름", "Complaints over time"),
    "course_hint": (
        "세로선은 95% 구간, n은 그 기간의 리뷰 수입니다. 속이 빈 회색 점은 리뷰가 {few}건 미만이라 우연일 수 있습니다. "
        "점선은 변화가 시작된 때입니다.",
        "Vertical lines are 95% intervals, n is the number of reviews. Hollow gray points have fewer than {few} "
        "and may be chance. A dashed line marks a change.",
    ),
    "course_of": ("무엇의 흐름", "Of"),
    "drivers_negative": ("불만이 깎는 별점", "What complaints cost"),
    "drivers_positive": ("칭찬이 더하는 별점", "What praise adds"),
    "drivers_hint": (
        "같은 상품·같은 시기의 다른 리뷰와 별점이 얼마나 다른지와 95% 구간입니다. 이름 옆은 그런 리뷰의 비율입니다. "
        "함께 나타난다는 뜻이지 원인이라는 뜻은 아닙니다.",
        "How far the rating lies from others of the same product and time, with its 95% interval; beside the name the "
        "share of such reviews. It says what goes together, not what causes it.",
    ),
    "effect": ("효과 (별점)", "Effect in stars"),
    "share": ("비율", "Share"),
    "impact": ("평균 별점에서의 몫", "Part of the mean"),
    "drivers_products": ("상품별로 잃은 별점", "Stars lost by product"),
    "stars_lost": ("잃은 별점", "Stars lost"),
    "rating": ("별점", "Rating"),
    "with_complaints": ("불만이 있는 리뷰", "With a complaint"),
    "compare_with": ("비교 대상", "Compare with"),
    "compare_days": ("이전 기간", "Earlier days"),
    "compare_folder": ("다른 분석 폴더", "Another folder of analyses"),
    "compare_path": ("이전 분석 결과 폴더", "Folder of the earlier analyses"),
    "compare_before": ("‘전’으로 볼 기간 (그 뒤가 ‘후’)", "Days that count as before (all later ones are after)"),
    "compare_start": (
        "비교할 기간의 첫날과 마지막 날, 또는 이전 분석 폴더를 고르세요.",
        "Choose the first and last day of a period, or the folder of earlier analyses.",
    ),
    "compare_moved": (
        "키워드 {all}개 중 {moved}개가 우연을 넘어 달라졌습니다",
        "{moved} of {all} keywords moved beyond chance",
    ),
    "compare_label": (
        "불만 비율의 변화. 왼쪽 빨강은 불만이 늘어난 키워드입니다.",
        "How complaints moved: red on the left are keywords with more of them.",
    ),
    "compare_same_model": (
        "같은 모델이 분석했으므로 차이는 모두 고객에게서 옵니다.",
        "One model made both, so that all of a difference is the customers'.",
    ),
    "compare_parts": (
        "두 모델이 모두 분석한 리뷰 {shared}건으로 모델의 몫과 고객의 몫을 나누었습니다.",
        "By {shared} reviews that both models analyzed, the model's part is told from the customers'.",
    ),
    "compare_no_parts": (
        "두 모델이 함께 분석한 리뷰가 {shared}건뿐이라 모델의 몫을 나눌 수 없습니다.",
        "Only {shared} reviews were analyzed by both models: the model's part cannot be told.",
    ),
    "difference": ("차이", "Difference"),
    "by_model": ("모델의 몫", "The model's part"),
    "by_customers": ("고객의 몫", "The customers' part"),
}
