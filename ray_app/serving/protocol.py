"""What goes over HTTP: request and response models, and their conversion to tables and back.

In: JSON of `POST /analyze`. Out: a table of accepted rows with their options, and the rejected reviews; then a table of
analyses -> JSON with exactly the columns of the analyses table, in the order of the request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

from ray_app.data import given_texts
from ray_app.data.rows import AnalysisRow
from ray_app.data.schema import ANALYSIS, MAX_CHARACTERS, ROW_OPTIONS
from ray_app.inference.masking import DECIMALS

FAILED = "analysis failed"
ID_CHARACTERS, MOST_KEYWORDS = 1_000, 10_000
ROW = pa.schema([("review_id", pa.string()), ("text", pa.string()), *ROW_OPTIONS])

Text = Annotated[str, Field(strict=True, max_length=MAX_CHARACTERS, examples=["옷은 예쁘지만 배송은 늦어요"])]


def _as_integer(value: object) -> object:
    """3.0 as 3: JSON does not tell them apart."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _bounded(value: int) -> int:
    if not -BIG < value < BIG:
        raise ValueError(f"an id has at most {ID_CHARACTERS:,} digits")
    return value


Integral = BeforeValidator(_as_integer)
BIG = 10**ID_CHARACTERS
ReviewId = (
    Annotated[str, Field(strict=True, max_length=ID_CHARACTERS)]
    | Annotated[int, Field(strict=True), Integral, AfterValidator(_bounded)]
    | None
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown(cls, body: object) -> object:
        """Drops all unknown fields but the first: a body may hold a million of them, and one is reported."""
        if not isinstance(body, dict):
            return body
        known = set(cls.model_fields)
        kept = {name: value for name, value in body.items() if name in known}
        first = next((name for name in body if name not in known), None)
        return kept if first is None else {**kept, first: body[first]}


class Review(_Strict):
    """One review, and the id its analysis carries."""

    text: Text | None
    review_id: ReviewId = None


class Options(_Strict):
    """What a request may ask for in place of the bundle's own settings."""

    highlights: Annotated[bool, Field(strict=True, description="find the word behind every keyword")] = True
    top_k: Annotated[int, Field(strict=True, ge=1, le=MOST_KEYWORDS), Integral] | None = Field(
        default=None, description="only the most probable keywords of a review"
    )
    threshold: Annotated[float, Field(strict=True, ge=0, le=1)] | None = Field(
        default=None, description="least probability of a keyword, in place of the bundle's own thresholds"
    )


class AnalyzeRequest(_Strict):
    """Reviews to analyze, with options for all of them."""

    reviews: Annotated[list[Text | Review | None], FailFast()] = Field(
        description="texts, or objects with text and review_id; null for a missing text, which is rejected"
    )
    options: Options = Options()


class ExplainRequest(_Strict):
    """One review to explain."""

    text: Text


class Highlight(BaseModel):
    """A word of the review: code points [start, end), and the drop in probability without it."""

    word: str
    start: int
    end: int
    drop: float


class Finding(BaseModel):
    """A keyword found in a review, its score, the word that names it and the word that says the feeling."""

    keyword: str
    probability: float
    score: int
    score_probabilities: list[float]
    highlight: Highlight | None
    opinion: Highlight | None


class Analysis(BaseModel):
    """The result for one review; `keyword_probabilities` in the order of the taxonomy."""

    review_id: str | None
    keyword_probabilities: list[float]
    findings: list[Finding]
    truncated: bool


class Rejected(BaseModel):
    """A review that could not be analyzed: its place in the request, and why."""

    index: int
    review_id: str | None
    reason: str


class AnalyzeResponse(BaseModel):
    """The analyses in the order of the request, and what was rejected."""

    analyses: list[Analysis]
    rejected: list[Rejected]


class Word(BaseModel):
    """A word of the review: code points [start, end)."""

    word: str
    start: int
    end: int


class ExplainResponse(BaseModel):
    """Every word of a review, and per keyword the drop in probability without each."""

    words: list[Word]
    drops: dict[str, list[float]]


class Error(BaseModel):
    """Every response that is not a 200: one line, and the field it is about."""

    error: str
    field: str | None = None


class RejectedRow(TypedDict):
    """`Rejected` as plain values: the review's position in the request, its id, and why it has no analysis."""

    index: int
    review_id: str | None
    reason: str


class AnalyzeBody(TypedDict):
    """`AnalyzeResponse` as plain values."""

    analyses: list[AnalysisRow]
    rejected: list[RejectedRow]


@dataclass(frozen=True)
class Accepted:
    """A request's rows: `table` (ROW), the position of each in the request, and the reviews that were rejected."""

    table: pa.Table
    index: list[int]
    rejected: list[RejectedRow]


def parse_request(request: AnalyzeRequest) -> Accepted:
    """The rows to analyze, see `accept`."""
    reviews = [item if isinstance(item, Review) else Review(text=item) for item in request.reviews]
    ids = [None if review.review_id is None else str(review.review_id) for review in reviews]
    options = request.options
    return accept([each.text for each in reviews], ids, options.threshold, options.top_k, options.highlights)


def accept(
    texts: Sequence[str | None],
    given_ids: Sequence[str | None],
    threshold: float | None,
    top_k: int | None,
    highlights: bool,
) -> Accepted:
    """The rows to analyze. Blank texts and repeated ids are rejected, as in the catalog job."""
    ids = [None if review_id is None else review_id.strip() or None for review_id in given_ids]
    seen_ids: set[str] = set()
    index: list[int] = []
    rejected: list[RejectedRow] = []
    for i, (text, review_id) in enumerate(zip(texts, ids, strict=True)):
        reason = given_texts.reason(text) or ("id already seen" if review_id in seen_ids else None)
        seen_ids |= {review_id} if review_id else set()
        if reason:
            rejected.append({"index": i, "review_id": review_id, "reason": reason})
        else:
            index.append(i)
    options = (threshold, top_k, highlights)
    columns = [[ids[i] for i in index], [texts[i] for i in index], *([value] * len(index) for value in options)]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ROW, strict=True)]
    return Accepted(pa.table(arrays, ROW), index, rejected)


def build_response(accepted: Accepted, table: pa.Table | None, failed: tuple[int, ...]) -> AnalyzeBody:
    """The body of the response to a request.

    Args:
        table: the accepted rows after the stages, without the failed ones; None where all failed.
        failed: positions in `accepted.table` of the rows that failed.
    """
    ids = accepted.table["review_id"].to_pylist()
    lost: list[RejectedRow] = [
        {"index": accepted.index[row], "review_id": ids[row], "reason": FAILED} for row in failed
    ]
    names = ["review_id", *(name for name, _ in ANALYSIS)]
    return {
        "analyses": [] if table is None or not len(table) else round_floats(table.select(names).to_pylist()),
        "rejected": sorted([*accepted.rejected, *lost], key=lambda row: row["index"]),
    }


def round_floats(value: Any) -> Any:
    """JSON values with every number rounded to 1e-4, which removes the digits fp32 gains when written in decimals."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, list):
        return [round_floats(item) for item in value]
    return {key: round_floats(item) for key, item in value.items()} if isinstance(value, dict) else value
