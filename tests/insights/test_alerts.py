"""Alerts to a webhook: a real server that fails, refuses and takes."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ray_app.errors import UserError
from ray_app.insights import alerts
from ray_app.insights.alerts import Alert

ALERT: Alert = {
    "kind": "change",
    "level": "product",
    "value": "<!channel> 바지",
    "keyword": "사이즈",
    "since": "2026-03-03",
    "complaints": 41,
    "reviews": 122,
    "share": 0.336,
    "usual_share": 0.15,
    "p_corrected": 0.001,
    "review_ids": ["r1"],
    "text": "사이즈 complaints of product <!channel> 바지",
}


@contextmanager
def server(*answers: int) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The URL of a webhook that gives these answers, the last one for ever, and the messages that it got."""
    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers[min(len(got), len(answers)) - 1])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/secret", got
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


def test_a_failing_webhook_is_tried_again() -> None:
    with server(500, 503, 200) as (url, got):
        assert alerts.post(url, [ALERT], "두루")
    assert len(got) == 3
    assert "1 new alerts" in got[0]["text"]
    assert "<!channel>" not in got[0]["text"]
    assert "&lt;!channel&gt;" in got[0]["text"]


def test_a_refusal_is_not_repeated_and_names_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    with server(404) as (url, got):
        assert not alerts.post(url, [ALERT], "두루")
    assert len(got) == 1
    assert "HTTP 404" in caplog.text
    assert "secret" not in caplog.text


def test_nobody_there_costs_a_warning_only(caplog: pytest.LogCaptureFixture) -> None:
    assert not alerts.post("http://127.0.0.1:9/secret", [ALERT], "두루")
    assert "not delivered" in caplog.text
    assert "secret" not in caplog.text


def test_nothing_new_is_no_message() -> None:
    with server(200) as (url, got):
        assert alerts.post(url, [], "두루")
    assert got == []


def test_a_change_found_again_is_no_news_and_a_later_one_is(tmp_path: Path) -> None:
    file = str(tmp_path / "alerts.jsonl")
    assert len(alerts.append(file, [ALERT])) == 1
    assert alerts.append(file, [{**ALERT, "since": "2026-03-20", "complaints": 50}]) == []
    assert len(alerts.append(file, [{**ALERT, "since": "2026-09-01"}])) == 1
    assert len(Path(file).read_text(encoding="utf-8").splitlines()) == 2


def test_lines_end_where_lines_end(tmp_path: Path) -> None:
    file = tmp_path / "alerts.jsonl"
    odd: Alert = {**ALERT, "value": "a\u2028b\u0085c"}
    alerts.append(str(file), [odd])
    file.write_bytes(file.read_bytes().rstrip())  # an editor took the last new line
    assert alerts.append(str(file), [odd]) == []
    assert alerts.append(str(file), [ALERT]) == [ALERT]
    assert len(alerts.read(str(file))[1]) == 2


@pytest.mark.parametrize("bad", [b"\xff\n", b"{}\n", json.dumps({**ALERT, "since": "soon"}).encode()])
def test_what_is_no_alert_is_one_line(tmp_path: Path, bad: bytes) -> None:
    file = tmp_path / "alerts.jsonl"
    file.write_bytes(bad)
    with pytest.raises(UserError, match="name another file"):
        alerts.append(str(file), [ALERT])


def test_a_file_that_is_something_else_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("hello\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 1: not an alert"):
        alerts.append(str(file), [ALERT])
    assert file.read_text(encoding="utf-8") == "hello\n"
