"""The requests that nearly all are, read in a tenth of the time: reviews as texts or as {text, review_id}, and options.

In: ASGI. Out: the answer; whatever has another form goes on to the routes, which name the mistake. A body that holds
more values than any request needs is refused before it is parsed: millions of them take seconds, in which nothing else
is answered.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pydantic_core
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ray_app.data.schema import MAX_CHARACTERS
from ray_app.serving.guard import Replay, error
from ray_app.serving.protocol import ID_CHARACTERS, MOST_KEYWORDS, Accepted, accept

ANALYZE = "/analyze"
JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
SMALL = 65_536  # bytes that parse within a millisecond or two, whatever they hold
# A string of JSON. One that does not end reaches to the end of the body: were it no match, every quote after it would
# be tried as a beginning.
STRING = re.compile(rb'"[^"\\]*+(?:\\[\s\S][^"\\]*+)*+(?:"|\\?\Z)')
STRINGS, MARKS = 8, 200  # per review that may be sent: strings, and bytes between them without white space
INTERNAL = "internal error; the log of the service has the details"
SPARE = 10_000  # of both, for the ids of few reviews
Answer = Callable[[Accepted, str], Awaitable[Response]]


class PlainRequests:
    """In front of the routes; behind what checks hosts, tokens and sizes.

    Args:
        answer: accepted rows, and the header X-Timeout-Seconds -> the response.
        reviews: that a request may hold.
    """

    def __init__(self, app: ASGIApp, answer: Answer, reviews: int) -> None:
        self.app, self.answer, self.reviews = app, answer, reviews

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; the first message holds the whole body."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body: bytes = (await receive()).get("body", b"")
        if overfull(body, self.reviews):
            line = f"more values than {self.reviews} reviews can have, the limit per request"
            await error(422, line, "reviews")(scope, receive, send)
            return
        headers = dict(scope["headers"])
        accepted = None
        if scope["path"] == ANALYZE and headers.get(b"content-type", b"").lower() in JSON:
            accepted = read(body, self.reviews)
        if accepted is None:
            await self.app(scope, Replay(body, receive), send)
            return
        try:
            response = await self.answer(accepted, headers.get(b"x-timeout-seconds", b"").decode("latin-1"))
        except Exception:
            await error(500, INTERNAL)(scope, receive, send)
            raise  # so that the server logs it
        await response(scope, receive, send)


def overfull(body: bytes, reviews: int) -> bool:
    """Whether a body has more values than a request of so many reviews needs, whatever it is."""
    if len(body) <= SMALL:
        return False
    most = STRINGS * reviews + SPARE
    rest, strings = STRING.subn(b"", body, count=most)
    return strings >= most or len(rest.translate(None, b" \t\r\n")) > MARKS * reviews + SPARE


def read(body: bytes, reviews: int) -> Accepted | None:
    """The rows of a request whose every field is as it should be; None for any other."""
    try:
        request = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        return None
    if not isinstance(request, dict) or not request.keys() <= {"reviews", "options"}:
        return None
    given, options = request.get("reviews"), request.get("options", {})
    if not isinstance(given, list) or len(given) > reviews or not _are_options(options):
        return None
    texts: list[str | None] = []
    ids: list[str | None] = []
    for review in given:
        if isinstance(review, dict):
            if "text" not in review or not review.keys() <= {"text", "review_id"}:
                return None
            text, review_id = review["text"], review.get("review_id")
        else:
            text, review_id = review, None
        if not (text is None or (type(text) is str and len(text) <= MAX_CHARACTERS)):
            return None
        if not (review_id is None or (type(review_id) is str and len(review_id) <= ID_CHARACTERS)):
            return None
        texts.append(text)
        ids.append(review_id)
    return accept(texts, ids, options.get("threshold"), options.get("top_k"), options.get("highlights", True))


def _are_options(options: Any) -> bool:
    if not isinstance(options, Mapping) or not options.keys() <= {"highlights", "top_k", "threshold"}:
        return False
    top_k, threshold = options.get("top_k"), options.get("threshold")
    return (
        type(options.get("highlights", True)) is bool
        and (top_k is None or (type(top_k) is int and 1 <= top_k <= MOST_KEYWORDS))
        and (threshold is None or (type(threshold) in (int, float) and 0 <= threshold <= 1))
    )
