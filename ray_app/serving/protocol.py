"""What goes over HTTP: request and answer models, and their way to tables and back.

In: JSON of `POST /analyze`. Out: a table of accepted rows with their wishes and the rejected ones; then a table of
analyses -> JSON with exactly the columns of the analyses table, in the order of the request.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

from ray_app.data.schema import ANALYSIS, MAX_CHARACTERS, ROW_OPTIONS
from ray_app.data.text import is_blank
from ray_app.inference.masking import DECIMALS

FAILED = "analysis failed"
ROW = pa.schema([("review_id", pa.string()), ("text", pa.string()), *ROW_OPTIONS])

Text = Annotated[str, Field(strict=True, max_length=MAX_CHARACTERS, examples=["옷은 예쁘지만 배송은 늦어요"])]


def _whole(value: Any) -> Any:
    """JSON knows no difference between 3 and 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
ReviewId = Annotated[str, Field(strict=True, max_length=1_000)] | Annotated[int, Field(strict=True), Whole] | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_unknown(cls, given: Any) -> Any:
        """Without all unknown fields but one: a body can hold a million, and one is reported."""
        if not isinstance(given, dict):
            return given
        unknown = [name for name in given if name not in cls.model_fields]
        return {name: value for name, value in given.items() if name in cls.model_fields or name == unknown[0]}


class Review(_Strict):
    """One review with the id it is answered under."""

    text: Text
    review_id: ReviewId = None


class Options(_Strict):
    """What may be asked for beside the bundle's own ways."""

    highlights: Annotated[bool, Field(strict=True, description="find the word behind every keyword")] = True
    top_k: Annotated[int, Field(strict=True, ge=1, le=10_000), Whole] | None = Field(
        default=None, description="only the most probable keywords of a review"
    )
    threshold: Annotated[float, Field(strict=True, ge=0, le=1)] | None = Field(
        default=None, description="least probability of a keyword, in place of the bundle's own thresholds"
    )


class AnalyzeRequest(_Strict):
    reviews: Annotated[list[Text | Review], FailFast()] = Field(description="texts, or objects with text and review_id")
    options: Options = Options()


class ExplainRequest(_Strict):
    text: Text


class Highlight(BaseModel):
    word: str
    start: int
    end: int
    drop: float


class Finding(BaseModel):
    keyword: str
    probability: float
    score: int
    score_probabilities: list[float]
    highlight: Highlight | None


class Analysis(BaseModel):
    review_id: str | None
    keyword_probabilities: list[float]
    findings: list[Finding]
    truncated: bool


class Rejected(BaseModel):
    index: int
    review_id: str | None
    reason: str


class AnalyzeResponse(BaseModel):
    analyses: list[Analysis]
    rejected: list[Rejected]


class Word(BaseModel):
    word: str
    start: int
    end: int


class ExplainResponse(BaseModel):
    words: list[Word]
    drops: dict[str, list[float]]


class Error(BaseModel):
    """Every answer that is not 200: one line, and the field it is about."""

    error: str
    field: str | None = None


@dataclass(frozen=True)
class Accepted:
    """A request's rows: `table` (ROW), the position of each in the request, and those that cannot be analysed."""

    table: pa.Table
    index: list[int]
    rejected: list[dict[str, Any]]


def parse_request(request: AnalyzeRequest) -> Accepted:
    """Blank texts and ids that come again are rejected, as in the catalog job."""
    given = [Review(text=item) if isinstance(item, str) else item for item in request.reviews]
    ids = [None if review.review_id is None else str(review.review_id).strip() or None for review in given]
    seen: set[str] = set()
    index: list[int] = []
    rejected = []
    for i, (review, review_id) in enumerate(zip(given, ids, strict=True)):
        reason = "empty text" if is_blank(review.text) else "id already seen" if review_id in seen else ""
        seen |= {review_id} if review_id else set()
        if reason:
            rejected.append({"index": i, "review_id": review_id, "reason": reason})
        else:
            index.append(i)
    wishes = (request.options.threshold, request.options.top_k, request.options.highlights)
    columns = [[ids[i] for i in index], [given[i].text for i in index], *([wish] * len(index) for wish in wishes)]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ROW, strict=True)]
    return Accepted(pa.table(arrays, ROW), index, rejected)


def build_response(accepted: Accepted, table: pa.Table | None, failed: tuple[int, ...]) -> dict[str, Any]:
    """The body of an answer, AnalyzeResponse as plain values."""
    ids = accepted.table["review_id"].to_pylist()
    lost = [{"index": accepted.index[row], "review_id": ids[row], "reason": FAILED} for row in failed]
    names = ["review_id", *(name for name, _ in ANALYSIS)]
    return {
        "analyses": [] if table is None or not len(table) else round_floats(table.select(names).to_pylist()),
        "rejected": sorted([*accepted.rejected, *lost], key=lambda row: row["index"]),
    }


def round_floats(value: Any) -> Any:
    """Numbers as the analyses mean them: to 1e-4, without what fp32 adds when it is written in decimals."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, list):
        return [round_floats(item) for item in value]
    return {key: round_floats(item) for key, item in value.items()} if isinstance(value, dict) else value
