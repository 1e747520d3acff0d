"""What the page says, in Korean and English. In: a language. Out: `say("key", name=value)`, a line of text."""

from collections.abc import Callable

LANGUAGES = {"ko": "한국어", "en": "English"}
Translate = Callable[..., str]

TEXTS: dict[str, tuple[str, str]] = {
    # frame
    "tagline": (
        "리뷰가 어떤 키워드를 말하는지, 고객이 어떻게 느끼는지, 어느 단어가 그렇게 말하는지",
        "What a review speaks of, how the customer feels about it, and which words say so",
    ),
    "language": ("언어", "Language"),
    "tab_try": ("리뷰 분석", "Try a review"),
    "tab_catalog": ("카탈로그", "Catalog"),
    "tab_model": ("모델", "Model"),
    "reading": ("읽는 중…", "Reading…"),
    # scores
    "score_-2": ("매우 불만", "very unhappy"),
    "score_-1": ("불만", "unhappy"),
    "score_0": ("보통", "neutral"),
    "score_1": ("만족", "happy"),
    "score_2": ("매우 만족", "very happy"),
    "negative": ("부정", "negative"),
    "neutral": ("보통", "neutral"),
    "positive": ("긍정", "positive"),
    # try a review
    "source_endpoint": ("엔드포인트 {url} · 번들 {bundle}", "Endpoint {url} · bundle {bundle}"),
    "source_bundle": ("번들 {path} ({bundle})", "Bundle {path} ({bundle})"),
    "loading_bundle": ("번들을 불러오는 중…", "Loading the bundle…"),
    "no_bundle": (
        "{place}에 아직 번들이 없습니다. 다음 명령으로 만들거나 --endpoint를 주세요.",
        "No bundle at {place} yet. This makes one; or name an --endpoint:",
    ),
    "pick": ("예시 리뷰", "Example reviews"),
    "pick_hint": ("예시를 고르거나 아래에 직접 쓰세요", "Pick one, or write your own below"),
    "example_long": ("아주 긴 리뷰", "a very long review"),
    "review": ("리뷰", "Review"),
    "review_hint": ("옷은 예쁘지만 배송은 늦어요", "옷은 예쁘지만 배송은 늦어요"),
    "analyse": ("분석하기", "Analyse"),
    "analysing": ("분석하는 중…", "Analysing…"),
    "start_here": (
        "리뷰를 쓰고 ‘분석하기’를 누르면 키워드와 점수, 근거 단어가 여기에 나옵니다.",
        "Write a review and press Analyse: its keywords, their scores and the words behind them appear here.",
    ),
    "findings": ("찾은 키워드", "Findings"),
    "no_findings": (
        "기준을 넘은 키워드가 없습니다. 가장 가까운 확률은 {best}입니다.",
        "No keyword reaches its threshold; the nearest has a probability of {best}.",
    ),
    "hover_hint": (
        "키워드에 마우스를 올리거나 누르면 그 키워드의 근거 단어만 남습니다.",
        "Point at a keyword, or press it, to see only the words behind it.",
    ),
    "why": ("단어별 기여도", "What each word contributes"),
    "why_keyword": ("키워드", "Keyword"),
    "why_hint": (
        "단어를 가렸을 때 ‘{keyword}’의 확률이 줄어드는 만큼입니다. 회색 막대는 오히려 올라가는 단어입니다.",
        "How much the probability of “{keyword}” falls when the word is masked; a grey bar: it rises.",
    ),
    "why_none": ("가릴 단어가 없습니다.", "There is no word to mask."),
    "why_more": ("나머지 {count}개 단어는 기여도가 더 작습니다.", "{count} more words contribute less."),
    "score_shares": ("점수 확률", "Score probabilities"),
    "truncated": (
        "모델이 읽을 수 있는 길이보다 긴 리뷰라서 앞부분만 분석했습니다.",
        "This review is longer than the models read: only its beginning was analysed.",
    ),
    "no_space": (
        "띄어쓰기가 거의 없어 ‘{word}’ 전체가 한 단어로 취급됩니다. 안쪽 단어를 보려면 --words kiwi로 시작하세요.",
        "Hardly any spaces: “{word}” counts as one word. Start with --words kiwi to see the words inside.",
    ),
    "empty_review": ("읽을 글자가 없습니다.", "There is nothing to read in this review."),
    # catalog
    "folder": ("분석 폴더", "Analyses folder"),
    "folder_hint": (
        "jobs.analyze의 --output: 로컬 또는 s3://",
        "the --output of jobs.analyze, on local disk or s3://",
    ),
    "no_folder": (
        "{place}에 아직 분석 결과가 없습니다. 다음 명령으로 만들 수 있습니다.",
        "No analyses at {place} yet. This makes some:",
    ),
    "run_line": ("리뷰 {analysed}건 분석 · {rejected}건 거절", "{analysed} reviews analysed · {rejected} rejected"),
    "run_bundle": ("번들 {bundle}", "bundle {bundle}"),
    "run_open": (
        "작업이 끝나지 않았습니다(_run.json 없음).",
        "The job that writes them has not finished (no _run.json).",
    ),
    "filter_keywords": ("키워드", "Keywords"),
    "filter_scores": ("점수", "Score"),
    "filter_text": ("본문 검색", "Text contains"),
    "filter_product": ("상품", "Product contains"),
    "filter_mall": ("쇼핑몰", "Mall"),
    "filter_category": ("카테고리", "Category"),
    "filter_dates": ("기간", "Dates"),
    "more_filters": ("상품·쇼핑몰·카테고리·기간", "Product, mall, category, dates"),
    "all": ("전체", "All"),
    "clear": ("필터 모두 지우기", "Clear all filters"),
    "drop_word": ("근거 단어 「{word}」 ({keyword}) ✕", "Highlight “{word}” ({keyword}) ✕"),
    "absent": (
        "{filters}: 분석 결과에 이 열이 없어 쓸 수 없습니다. 분석할 때 --keep {columns}을(를) 주면 생깁니다.",
        "{filters}: not in these analyses; the job passes them through when told --keep {columns}.",
    ),
    "view": ("보기", "View"),
    "view_summary": ("요약", "Summary"),
    "view_reviews": ("리뷰", "Reviews"),
    "sampled": (
        "{total}건 가운데 {read}건을 읽은 추정치입니다.",
        "Estimated from {read} of {total} reviews.",
    ),
    "exact": ("전체를 세기", "Count all of them"),
    "figure_reviews": ("리뷰", "Reviews"),
    "figure_per_review": ("리뷰당 키워드", "Keywords per review"),
    "figure_positive": ("긍정", "Positive findings"),
    "figure_negative": ("부정", "Negative findings"),
    "of_all": ("전체의 {share}", "{share} of all"),
    "shares": ("키워드별 긍정·부정", "Positive and negative, by keyword"),
    "shares_hint": (
        "조건에 맞는 리뷰의 모든 키워드. 오른쪽은 그 키워드를 가장 잘 말해 주는 단어와 횟수입니다.",
        "All findings of the matching reviews; on the right the most telling words and how often they are.",
    ),
    "focus": ("키워드 자세히 보기", "A closer look at"),
    "trend": ("시간에 따른 변화", "Over time"),
    "trend_none": ("날짜 열이 없어 추이를 그릴 수 없습니다.", "No date column, so no trend over time."),
    "trend_short": ("모두 같은 기간이라 추이가 없습니다.", "All within one period: no trend to show."),
    "period_day": ("일별", "by day"),
    "period_week": ("주별", "by week"),
    "period_month": ("월별", "by month"),
    "words": ("근거 단어", "Telling words"),
    "words_hint": ("누르면 그 단어가 근거인 리뷰를 봅니다.", "Press one to read the reviews it comes from."),
    "words_none": ("근거 단어가 없습니다.", "There are no highlight words."),
    "nothing": ("조건에 맞는 리뷰가 없습니다.", "No review matches these filters."),
    "page_range": ("{first}–{last}번째", "{first}–{last}"),
    "page_range_of": ("{total} 중 {first}–{last}번째", "{first}–{last} of {total}"),
    "about": ("약 {count}건", "about {count}"),
    "exactly": ("{count}건", "{count}"),
    "previous": ("이전", "Previous"),
    "next": ("다음", "Next"),
    "cut": ("잘림", "cut"),
    # model
    "report_file": ("평가 보고서", "Evaluation report"),
    "no_report": (
        "{place}에 아직 평가 보고서가 없습니다. 다음 명령으로 만들 수 있습니다.",
        "No evaluation report at {place} yet. This makes one:",
    ),
    "damaged_report": (
        "{place}: 평가 보고서가 아니거나 손상되었습니다.",
        "{place}: damaged, or not an evaluation report.",
    ),
    "report_line": ("번들 {bundle} · 처음 보는 리뷰 {reviews}건", "Bundle {bundle} on {reviews} unseen reviews"),
    "baseline": ("기준선 {value}", "baseline {value}"),
    "random_word": ("임의 단어 {value}", "random word {value}"),
    "shuffled": ("키워드를 섞으면 {value}", "keywords shuffled {value}"),
    "f1_keywords": ("키워드 F1", "Keywords F1"),
    "f1_sign": ("키워드+부호 F1", "Keyword + sign F1"),
    "f1_exact": ("키워드+점수 F1", "Keyword + score F1"),
    "score_accuracy": ("점수 정확도", "Score accuracy"),
    "hit_rate": ("근거 단어 적중률", "Highlight hit rate"),
    "thresholds": ("기준값 움직여 보기", "Move a threshold"),
    "thresholds_hint": (
        "확률이 기준값 이상이면 그 키워드를 찾은 것으로 봅니다. 낮추면 더 많이 찾고, 높이면 더 정확해집니다.",
        "A keyword is found when its probability reaches the threshold: lower finds more, higher is more often right.",
    ),
    "threshold": ("기준값", "Threshold"),
    "own_threshold": ("번들의 기준값 {value}", "The bundle's own: {value}"),
    "reset": ("번들의 기준값으로", "Back to the bundle's own"),
    "no_predictions": (
        "이 보고서에는 predictions.parquet이 없습니다. jobs.evaluate를 다시 실행하면 기준값을 움직여 볼 수 있습니다.",
        "There is no predictions.parquet beside this report: run jobs.evaluate again to move thresholds.",
    ),
    "precision": ("정밀도", "Precision"),
    "recall": ("재현율", "Recall"),
    "f1": ("F1", "F1"),
    "counts": (
        "라벨 {support}건 중 {hits}건을 찾았고, {misses}건을 놓쳤고, {extra}건을 잘못 찾았습니다.",
        "Of {support} labelled reviews {hits} are found and {misses} missed; {extra} are found wrongly.",
    ),
    "per_keyword": ("키워드별 품질", "Quality by keyword"),
    "keyword": ("키워드", "Keyword"),
    "support": ("라벨 수", "Labels"),
    "support_train": ("학습 라벨 수", "Training labels"),
    "confusion": ("점수 혼동 행렬", "Scores, labelled against predicted"),
    "confusion_hint": ("행은 라벨, 열은 예측입니다.", "Rows are labels, columns are predictions."),
}


def speaker(language: str) -> Translate:
    """`say(key, **values)` in one of LANGUAGES."""
    place = list(LANGUAGES).index(language)
    return lambda key, **values: TEXTS[key][place].format(**values)
