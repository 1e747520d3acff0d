"""Mistakes of the user as one line."""

import pytest

from ray_app.errors import closest, first_line


@pytest.mark.parametrize(("name", "said"), [("배숑", "did you mean '배송'"), ("xyz", "known: 배송, 핏")])
def test_closest_suggests_or_lists(name: str, said: str) -> None:
    assert said in closest(name, ["배송", "핏"])


@pytest.mark.parametrize(("message", "line"), [("a\nb", "a"), ("", "ValueError"), ("x" * 999, "x" * 200)])
def test_first_line_is_short_and_never_empty(message: str, line: str) -> None:
    assert first_line(ValueError(message)) == line
