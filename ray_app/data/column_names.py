"""The names that shops, exports and people give to the columns of a review, by what the column holds (its role).

In: a column's name. Out: the name without what does not tell columns apart, and the roles that it may have.
"""

import re

from ray_app.data.text import composed

# The tiers of a role, the surest first: its own name, names that say which thing's they are, names of many meanings.
# Naver SmartStore, Cafe24, CREMA, Judge.me, Yotpo, Amazon, Olist, Steam and hand-made sheets use these.
ID_TIERS = (
    ("review_id",),
    (
        *(
            "reviewid",
            "review_no",
            "review_number",
            "reviewnum",
            "review_seq",
            "review_key",
            "review_uuid",
            "reviews_id",
        ),
        *("recommendationid", "comment_id", "리뷰id", "리뷰번호", "리뷰글번호", "리뷰고유번호", "리뷰코드", "후기번호"),
        *("후기id", "구매평번호", "상품평번호", "상품평id", "구매평id"),
        *(f"{word}{what}" for word in ("리뷰", "후기", "구매평", "상품평") for what in ("no", "코드", "seq")),
    ),
    ("id", "번호", "글번호", "게시글번호", "게시물번호", "no", "seq", "idx", "uuid"),
)
TEXT_TIERS = (
    ("text",),
    (
        *("review_text", "review_content", "review_contents", "review_body", "review_comment", "review_message"),
        *(
            "review_comment_message",
            "reviews_text",
            "completion_text",
            "리뷰내용",
            "리뷰상세내용",
            "리뷰본문",
            "리뷰글",
        ),
        *("리뷰텍스트", "후기내용", "후기본문", "구매평내용", "상품평내용"),
    ),
    (
        *("review", "content", "contents", "comment", "comments", "body", "document", "message", "feedback"),
        *("리뷰", "내용", "본문", "후기", "상품평", "구매평", "구매후기", "사용후기", "텍스트", "문장"),
    ),
)
ID_NAMES = tuple(name for tier in ID_TIERS for name in tier)
TEXT_NAMES = tuple(name for tier in TEXT_TIERS for name in tier)
ROLE_NAMES = {  # role -> names of its column
    "text": TEXT_NAMES,
    "product": (
        *("product", "product_name", "product_title", "item_name", "상품명", "상품이름", "제품명", "상품", "item"),
        *("product_id", "product_no", "product_code", "상품번호", "상품코드", "asin", "parent_asin", "app_id", "sku"),
    ),
    "mall": ("mall", "shop", "store", "쇼핑몰", "몰", "몰명", "판매처", "channel", "채널", "판매채널"),
    "category": ("category", "product_category", "카테고리", "상품카테고리", "상품분류"),
    "rating": (
        *("rating", "stars", "star", "star_rating", "review_rating", "review_score", "평점", "별점", "구매자평점"),
        *("리뷰평점", "평가점수", "별점(5점)", "score"),
    ),
    "created_at": (
        *("created_at", "created", "date", "written_at", "review_date", "review_creation_date", "작성일", "작성일자"),
        *("작성일시", "등록일", "등록일시", "리뷰등록일", "리뷰작성일", "날짜", "timestamp"),
    ),
    "author": ("author", "writer", "reviewer", "reviewer_name", "작성자", "등록자", "user_id", "member_id"),
}
LABEL_NAMES = {  # what a column of labeled reviews holds -> its names
    "labels": ("labels", "label", "라벨", "레이블"),
    "completion": ("completion", "정답", "태깅", "태그", "라벨링결과", "키워드와점수"),
    "split": ("split", "데이터구분", "분할"),
    "labeller": ("labeller", "labeler", "annotator", "라벨러", "작업자", "태거"),
    "labelled_at": ("labelled_at", "labeled_at", "작업일시", "라벨링일시", "작업시각"),
}
DECISION_NAMES = {  # what a column of an audit's decisions holds -> its names
    "review_id": ID_NAMES,
    "keyword": ("keyword", "키워드"),
    "action": ("action", "decision", "결정", "조치"),
    "score": ("score", "점수"),
    "who": ("who", "결정자", "담당자"),
    "when": ("when", "결정일시"),
}
ALIASES = {"date": "created_at"}
_SILENT = re.compile(r"[\s_\-./\u200b-\u200f\u2060\ufeff\u00a0]+")  # what names of one column differ in


def folded(name: str) -> str:
    """A column name without case, spaces, underscores, points and byte order marks, its letters composed (NFC).

    `Review Text`, `review_text` and `review.text` are the same column.
    """
    return _SILENT.sub("", composed(name)).casefold()


def role_names(word: str) -> tuple[str, ...]:
    """The names that a column of the role `word` may have; none where it is no role."""
    return ROLE_NAMES.get(ALIASES.get(word, word), ())
