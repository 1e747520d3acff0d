"""The texts of the page, in Korean and English. In: a language. Out: `say("key", name=value)`, a line of text."""

from collections.abc import Callable

from ray_app.ui.texts.corrections import TEXTS as CORRECTIONS
from ray_app.ui.texts.views import TEXTS as VIEWS

LANGUAGES = {"ko": "한국어", "en": "English"}
Translate = Callable[..., str]

TEXTS: dict[str, tuple[str, str]] = {
    **VIEWS,
    **CORRECTIONS,
    # frame
    "tagline": (
        "리뷰에 담긴 키워드와 감정, 그 근거가 된 단어까지 읽어 냅니다",
        "Which keywords a review mentions, how the customer feels about each, and which words say so",
    ),
    "tab_try": ("리뷰 분석", "Try a review"),
    "tab_catalog": ("카탈로그", "Catalog"),
    "tab_model": ("모델", "Model"),
    "reading": ("불러오는 중…", "Loading…"),
    # scores
    "score_-2": ("매우 불만", "very unhappy"),
    "score_-1": ("불만", "unhappy"),
    "score_0": ("보통", "neutral"),
    "score_1": ("만족", "happy"),
    "score_2": ("매우 만족", "very happy"),
    "negative": ("부정", "negative"),
    "neutral": ("중립", "neutral"),
    "positive": ("긍정", "positive"),
    # try a review
    "source_endpoint": ("엔드포인트 {location} · 번들 {bundle}", "Endpoint {location} · bundle {bundle}"),
    "source_bundle": ("번들 {location} ({bundle})", "Bundle {location} ({bundle})"),
    "loading_bundle": ("번들을 불러오는 중…", "Loading the bundle…"),
    "no_bundle": (
        "{path}에 번들이 없습니다. 아래 명령으로 만들거나 --endpoint를 지정하세요.",
        "No bundle at {path} yet. Make one with this command, or start the page with --endpoint:",
    ),
    "pick": ("예시 리뷰", "Example reviews"),
    "pick_hint": ("예시를 고르거나 아래에 직접 입력하세요", "Pick one, or write your own below"),
    "example_long": ("아주 긴 리뷰", "a very long review"),
    "review": ("리뷰", "Review"),
    "review_hint": ("옷은 예쁘지만 배송은 늦어요", "옷은 예쁘지만 배송은 늦어요"),
    "analyze": ("분석하기", "Analyze"),
    "analyzing": ("분석하는 중…", "Analyzing…"),
    "start_here": (
        "리뷰를 입력하고 ‘분석하기’를 누르면 키워드와 점수, 근거 단어가 여기에 표시됩니다.",
        "Write a review and press Analyze to see its keywords, their scores and the words behind them.",
    ),
    "findings": ("찾은 키워드", "Keywords found"),
    "no_findings": (
        "기준값을 넘은 키워드가 없습니다. 가장 높은 확률은 {best}입니다.",
        "No keyword reaches its threshold; the highest probability is {best}.",
    ),
    "hover_hint": (
        "키워드에 마우스를 올리거나 누르면 그 키워드의 근거 단어만 강조됩니다.",
        "Hover over a keyword, or press it, to see only the words behind it.",
    ),
    "why": ("단어별 기여도", "What each word contributes"),
    "why_keyword": ("키워드", "Keyword"),
    "why_hint": (
        "막대 길이는 그 단어를 가렸을 때 ‘{keyword}’의 확률이 떨어지는 정도입니다. "
        "회색은 가리면 오히려 확률이 올라가는 단어입니다.",
        "How much the probability of “{keyword}” falls when the word is masked. A gray bar means that it rises.",
    ),
    "why_none": ("가려 볼 단어가 없습니다.", "There is no word to mask."),
    "why_more": (
        "기여도가 더 작은 단어 {count}개는 생략했습니다.",
        "Words that contribute less, not shown: {count}.",
    ),
    "score_shares": ("점수별 확률", "Score probabilities"),
    "truncated": (
        "리뷰가 모델이 읽을 수 있는 길이보다 길어 앞부분만 분석했습니다.",
        "This review is longer than the models can read; only its beginning was analyzed.",
    ),
    "no_space": (
        "띄어쓰기가 거의 없어 ‘{word}’ 전체를 한 단어로 처리했습니다. 나누어 보려면 --words kiwi로 실행하세요.",
        "There are hardly any spaces: “{word}” counts as one word. Start the page with --words kiwi to split it.",
    ),
    "empty_review": ("리뷰에 읽을 내용이 없습니다.", "There is nothing to read in this review."),
    # catalog
    "folder": ("분석 결과 폴더", "Folder of analyses"),
    "folder_hint": (
        "jobs.analyze의 --output 경로(로컬 또는 s3://)",
        "The --output of jobs.analyze, local or s3://",
    ),
    "outside": (
        "이 페이지는 시작할 때 받은 {given} 아래만 엽니다. 다른 폴더로 다시 시작하세요.",
        "The page opens only what lies below {given}, which it was started with. Start it with another folder.",
    ),
    "no_folder": (
        "{path}에 분석 결과가 없습니다. 아래 명령으로 만들 수 있습니다.",
        "No analyses at {path} yet. Make some with this command:",
    ),
    "example": (
        "그때까지는 예시 쇼핑몰의 리뷰 분석 결과를 보여 드립니다.",
        "Until then you see an analyzed example, the catalog of a small shop.",
    ),
    "folder_inside": (
        "{path}는 분석 결과의 일부입니다. 한 단계 위 {parent}를 입력하세요.",
        "{path} is a part of analyses: name the folder above it, {parent}.",
    ),
    "folder_above": (
        "{path}에는 분석 결과 폴더가 들어 있습니다. {below}를 입력하세요.",
        "{path} holds folders of analyses, such as {below}: name one of them.",
    ),
    "folder_bundle": (
        "{path}는 번들(모델)입니다. 여기에는 jobs.analyze의 --output 폴더를 입력하세요.",
        "{path} is a bundle, that is, a model. Name the --output of jobs.analyze here.",
    ),
    "folder_report": (
        "{path}는 jobs.report의 보고서입니다. report.html을 열거나, 여기에는 그 --analyses 폴더를 입력하세요.",
        "{path} is a report of jobs.report. Open its report.html, or name its --analyses folder here.",
    ),
    "folder_evaluation": (
        "{path}는 jobs.evaluate의 평가입니다. ‘모델’ 탭에서 열고, 여기에는 jobs.analyze의 --output 폴더를 입력하세요.",
        "{path} is an evaluation of jobs.evaluate, which the Model tab shows. Name the --output of jobs.analyze here.",
    ),
    "folder_batch": (
        "{path}는 라벨링할 리뷰 묶음입니다. 여기에는 jobs.analyze의 --output 폴더를 입력하세요.",
        "{path} is a batch to label. Name the --output of jobs.analyze here.",
    ),
    "folder_labels": (
        "{path}는 라벨입니다. 여기에는 jobs.analyze의 --output 폴더를 입력하세요.",
        "{path} holds labels. Name the --output of jobs.analyze here.",
    ),
    "folder_begun": (
        "{path}의 분석이 아직 결과를 내지 않았습니다. 멈췄다면 같은 명령으로 이어서 하세요.",
        "The run in {path} has written nothing yet. If it was stopped, the same command resumes it:",
    ),
    "folder_file": (
        "{path}는 파일입니다. 리뷰 파일이라면 먼저 분석하세요.",
        "{path} is a file. If it holds reviews, analyze them first:",
    ),
    "folder_other": (
        "{path}에는 분석 결과가 없습니다. 폴더 이름을 확인하거나 아래 명령으로 만드세요.",
        "There are no analyses in {path}. Check the name, or make some:",
    ),
    "run_line": ("리뷰 {analyzed}건 분석 · {rejected}건 제외", "{analyzed} reviews analyzed · {rejected} rejected"),
    "run_bundle": ("번들 {bundle}", "bundle {bundle}"),
    "run_open": (
        "분석 작업이 아직 끝나지 않았습니다(_run.json 없음).",
        "The job that writes these analyses has not finished (no _run.json).",
    ),
    "filter_keywords": ("키워드", "Keywords"),
    "filter_scores": ("점수", "Score"),
    "filter_text": ("리뷰 내용", "Text contains"),
    "filter_product": ("상품", "Product"),
    "filter_mall": ("쇼핑몰", "Mall"),
    "filter_category": ("카테고리", "Category"),
    "filter_dates": ("기간", "Dates"),
    "more_filters": ("상품·쇼핑몰·카테고리·기간", "Product, mall, category, dates"),
    "all": ("전체", "All"),
    "all_or_type": ("전체 (이름 일부를 입력해도 됩니다)", "All; part of a name will do"),
    "clear": ("필터 모두 지우기", "Clear all filters"),
    "drop_word": ("근거 단어 「{word}」 ({keyword}) ✕", "Highlight “{word}” ({keyword}) ✕"),
    "absent": (
        "{filters}: 분석 결과에 해당 열이 없어 쓸 수 없는 필터입니다. "
        "분석할 때 --keep {columns} 옵션을 주면 쓸 수 있습니다.",
        "{filters}: not in these analyses. To filter by them, run jobs.analyze with --keep {columns}.",
    ),
    "view": ("보기", "View"),
    "view_summary": ("요약", "Summary"),
    "view_reviews": ("리뷰", "Reviews"),
    "sampled": (
        "전체 {total}건 중 {read}건을 집계한 추정치입니다.",
        "Estimated from {read} of {total} reviews.",
    ),
    "exact": ("전체 집계하기", "Count all of them"),
    "figure_reviews": ("리뷰 수", "Reviews"),
    "figure_per_review": ("리뷰당 키워드", "Keywords per review"),
    "figure_positive": ("긍정 비율", "Positive findings"),
    "figure_negative": ("부정 비율", "Negative findings"),
    "of_all": ("전체의 {share}", "{share} of all"),
    "shares": ("키워드별 긍정·부정", "Positive and negative by keyword"),
    "shares_hint": (
        "조건에 맞는 리뷰에서 찾은 모든 키워드입니다. 오른쪽은 대표적인 근거 단어와 그 횟수입니다.",
        "All findings in the matching reviews. On the right, the most telling words and how often they occur.",
    ),
    "sort_frequent": ("많이 나온 순", "Most frequent"),
    "sort_trouble": ("불만 많은 순", "Most complaints"),
    "sort_share": ("불만 비율 순", "Largest share of complaints"),
    "findings_count": ("찾은 수", "Findings"),
    "side": ("긍정·부정", "Sign"),
    "trend_few": (
        "n은 그 기간에 찾은 수, 속이 빈 회색 점은 {few}건 미만입니다.",
        "n is the number of findings; hollow gray points have fewer than {few}.",
    ),
    "focus": ("키워드 자세히 보기", "A closer look"),
    "trend": ("긍정·부정 비율 추이", "Positive and negative shares over time"),
    "trend_none": ("날짜 열이 없어 추이를 볼 수 없습니다.", "No date column, so no trend over time."),
    "trend_short": (
        "리뷰가 모두 같은 기간에 작성되어 추이를 볼 수 없습니다.",
        "All reviews fall within one period, so there is no trend.",
    ),
    "period_day": ("일별", "by day"),
    "period_week": ("주별", "by week"),
    "period_month": ("월별", "by month"),
    "words": ("근거 단어", "Telling words"),
    "words_hint": ("단어를 누르면 그 단어가 근거가 된 리뷰를 볼 수 있습니다.", "Press a word to read its reviews."),
    "words_none": ("근거 단어가 없습니다.", "There are no highlighted words."),
    "nothing": ("조건에 맞는 리뷰가 없습니다.", "No reviews match these filters."),
    "page_range": ("{first}–{last}번째", "{first}–{last}"),
    "page_range_of": ("{total} 중 {first}–{last}번째", "{first}–{last} of {total}"),
    "about": ("약 {count}건", "about {count}"),
    "exactly": ("{count}건", "{count}"),
    "previous": ("이전", "Previous"),
    "next": ("다음", "Next"),
    "cut": ("앞부분만 분석", "only the beginning was analyzed"),
    # model
    "report_file": ("평가 보고서", "Evaluation report"),
    "no_report": (
        "{path}에 평가 보고서가 없습니다. 아래 명령으로 만들 수 있습니다.",
        "No evaluation report at {path} yet. Make one with this command:",
    ),
    "damaged_report": (
        "{path}: 평가 보고서가 아니거나 손상된 파일입니다.",
        "{path}: damaged, or not an evaluation report.",
    ),
    "report_line": (
        "번들 {bundle} · 리뷰 {reviews}건으로 평가",
        "Bundle {bundle}, evaluated on {reviews} reviews",
    ),
    "report_line_unseen": (
        "번들 {bundle} · 학습과 조정에 쓰지 않은 리뷰 {reviews}건으로 평가",
        "Bundle {bundle}, evaluated on {reviews} reviews that it was not trained on",
    ),
    "baseline": ("기준선 {value}", "baseline {value}"),
    "random_word": ("무작위 단어 {value}", "random word {value}"),
    "copied": ("전체 느낌을 그대로 쓰면 {value}", "copying the overall feeling {value}"),
    "shuffled": ("키워드를 섞으면 {value}", "with shuffled keywords {value}"),
    "f1_keywords": ("키워드 F1", "Keyword F1"),
    "f1_sign": ("키워드+극성 F1", "Keyword + sign F1"),
    "f1_exact": ("키워드+점수 F1", "Keyword + score F1"),
    "score_accuracy": ("점수 정확도", "Score accuracy"),
    "mixed_sign": ("엇갈린 리뷰의 극성", "Sign in mixed reviews"),
    "hit_rate": ("근거 단어 적중률", "Highlight hit rate"),
    "opinion_rate": ("감정 단어 적중률", "Opinion hit rate"),
    "thresholds": ("기준값 조정해 보기", "Try another threshold"),
    "thresholds_hint": (
        "확률이 기준값 이상이면 그 키워드를 찾은 것으로 봅니다. 낮추면 더 많이 찾고, 높이면 더 정확해집니다.",
        "A keyword is found if its probability reaches the threshold. A lower one finds more; "
        "a higher one is right more often.",
    ),
    "threshold": ("기준값", "Threshold"),
    "own_threshold": ("번들의 기준값은 {value}입니다.", "The bundle's own threshold is {value}."),
    "reset": ("번들의 기준값으로 되돌리기", "Back to the bundle's own"),
    "reset_all": ("모두 되돌리기", "Reset all"),
    "moved": ("바꾼 기준값: {list}", "Moved: {list}"),
    "save_thresholds": ("기준값 파일 저장", "Save the thresholds"),
    "download_thresholds": ("내려받기", "Download"),
    "thresholds_next": (
        "저장한 파일로 분석하거나 서빙할 수 있습니다. jobs.serve에서도 같은 옵션을 씁니다.",
        "The file decides what is found; jobs.serve takes the same option:",
    ),
    "curve_label": (
        "‘{keyword}’의 기준값에 따른 정밀도, 재현율, F1",
        "Precision, recall and F1 of “{keyword}” by threshold",
    ),
    "no_predictions": (
        "보고서와 같은 폴더에 predictions.parquet이 없습니다. "
        "jobs.evaluate를 다시 실행하면 기준값을 조정해 볼 수 있습니다.",
        "There is no predictions.parquet beside this report; run jobs.evaluate again to move thresholds.",
    ),
    "measure": ("지표", "Measure"),
    "value": ("값", "Value"),
    "precision": ("정밀도", "Precision"),
    "recall": ("재현율", "Recall"),
    "f1": ("F1", "F1"),
    "counts": (
        "라벨이 있는 {support}건 중 {hits}건을 찾고 {misses}건을 놓쳤으며, 라벨이 없는 {extra}건을 잘못 찾았습니다.",
        "Of {support} labeled reviews, {hits} found and {misses} missed; {extra} found without a label.",
    ),
    "per_keyword": ("키워드별 성능", "Quality by keyword"),
    "keyword": ("키워드", "Keyword"),
    "support": ("라벨 수", "Labels"),
    "support_train": ("학습 라벨 수", "Training labels"),
    "confusion": ("점수 혼동 행렬", "Score confusion matrix"),
    "confusion_hint": ("행은 라벨, 열은 예측입니다.", "Rows are labels, columns are predictions."),
}


def translator(language: str) -> Translate:
    """`say(key, **values)` in one of LANGUAGES."""
    position = list(LANGUAGES).index(language)
    return lambda key, **values: TEXTS[key][position].format(**values)
