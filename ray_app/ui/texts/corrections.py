"""The texts of corrections, in Korean and English."""

TEXTS: dict[str, tuple[str, str]] = {
    "correct": ("결과 고치기", "Correct findings"),
    "correct_hint": (
        "카드마다 ‘고치기’ 단추가 나타납니다. 고친 것은 라벨이 되어 다시 학습할 때 쓰입니다.",
        "Every card gets a button. What you correct becomes labels to train with.",
    ),
    "correct_no_text": (
        "분석 결과에 리뷰 원문이 없어 고칠 수 없습니다. --no-text 없이 다시 분석하세요.",
        "These analyses kept no text, so nothing can be corrected. Analyze again without --no-text.",
    ),
    "correct_one": ("고치기", "Correct"),
    "correct_title": ("분석 결과 고치기", "Correct the findings"),
    "decided_by": ("{who} 확인", "checked by {who}"),
    "findings_left": ("키워드", "Findings"),
    "add_finding": ("＋ 빠진 키워드", "+ a missing one"),
    "keyword_of": ("키워드", "Keyword"),
    "score_of": ("점수", "Score"),
    "words_of": ("키워드를 말하는 단어", "Words that name the keyword"),
    "opinions_of": ("느낌을 말하는 단어", "Words that say the feeling"),
    "remove_finding": ("이 키워드 지우기", "Remove this one"),
    "who": ("이름", "Your name"),
    "who_hint": (
        "결정 파일에 남는 이름입니다. 같은 리뷰를 다시 고치면 마지막 것이 쓰입니다.",
        "It stands in the file of decisions. Of your decisions about a review the last one counts.",
    ),
    "save_decision": ("이대로 저장", "Save as shown"),
    "save_hint": (
        "위에 보이는 키워드 모두를 이 리뷰의 올바른 라벨로 저장합니다.",
        "All findings shown above are saved as the right labels of this review.",
    ),
    "saved": ("저장했습니다: {path}", "Saved: {path}"),
    "who_needed": ("이름을 먼저 적어 주세요.", "Write your name first."),
    "overall_needed": (
        "모든 리뷰에는 ‘{overall}’이 있어야 합니다. 추가해 주세요.",
        "Every review needs “{overall}”: please add it.",
    ),
    "nothing_left": ("키워드가 하나도 없습니다.", "No findings are left."),
    "decisions_next": (
        "지금까지 리뷰 {count}건을 고쳤습니다. 라벨로 합치려면:",
        "{count} reviews corrected so far. To make labels of them:",
    ),
}
