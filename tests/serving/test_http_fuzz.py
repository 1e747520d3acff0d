"""Requests that nobody would think of, made from the endpoint's own OpenAPI schema.

Schemathesis checks each answer: no 5xx, a declared status, a body and a content type as declared, valid requests
accepted and invalid ones refused.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from ray_app.data.text import is_blank
from ray_app.serving import http_app
from ray_app.serving.http_app import Limits
from ray_app.serving.replica_engine import ReplicaEngine, ReplicaOptions
from tests.serving.test_replica_engine import ALL, Local

pytestmark = pytest.mark.filterwarnings("ignore")
MODES = schemathesis.GenerationMode


@pytest.fixture(scope="module")
def app(bundle_folder: str) -> Iterator[Any]:
    """An endpoint with a real engine behind it."""
    with ThreadPoolExecutor(1) as thread:
        service = Local(ReplicaEngine(bundle_folder, ReplicaOptions(stages=ALL, last=True)), thread)
        yield http_app.build_app(service, Limits(reviews=8, deadline_seconds=60))


def answers(app: Any, path: str, method: str, mode: Any, examples: int) -> "Counter[int]":
    """How often each status came over that many generated requests."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    seen: Counter[int] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def answered(case: Any) -> None:
        response = case.call()
        seen[response.status_code] += 1
        blank = path == "/explain" and isinstance(case.body, dict) and is_blank(str(case.body.get("text")))
        if blank:  # what JSON Schema cannot say
            assert response.status_code == 422
        else:
            case.validate_response(response)

    answered()
    return seen


@pytest.mark.parametrize(("path", "examples"), [("/analyze", 80), ("/explain", 30)])
def test_whatever_the_schema_allows_is_answered_as_it_declares(app: Any, path: str, examples: int) -> None:
    assert answers(app, path, "POST", MODES.POSITIVE, examples)[200] > examples / 4


@pytest.mark.parametrize("path", ["/analyze", "/explain"])
def test_whatever_the_schema_forbids_is_refused_as_it_declares(app: Any, path: str) -> None:
    assert set(answers(app, path, "POST", MODES.NEGATIVE, 80)) == {422}


@pytest.mark.parametrize("path", ["/taxonomy", "/version", "/health", "/ready", "/metrics"])
def test_what_the_endpoint_tells_of_itself_is_as_it_declares(app: Any, path: str) -> None:
    assert set(answers(app, path, "GET", MODES.POSITIVE, 3)) == {200}
