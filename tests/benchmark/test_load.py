"""The load generator against a small server whose answers are set."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ray_app.benchmark import load
from ray_app.errors import UserError


class Server:
    """Answers 200 until more than `room` requests are under way, then 503."""

    def __init__(self, room: int = 1_000, status: int = 200) -> None:
        self.room, self.status, self.seen, self.under_way = room, status, [], 0  # type: ignore[var-annotated]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((body, self.headers.get("Authorization")))
                outer.under_way += 1
                self.send_response(outer.status if outer.under_way <= outer.room else 503)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                outer.under_way -= 1

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.shutdown()


def config(url: str, output: Path, **changes: Any) -> load.Config:
    settings: dict[str, Any] = {"seconds": 0.3, "rounds": 2, "concurrency": 4, "rates": "0.5,2", "reviews": 20}
    return load.Config(url=url, output=str(output), **{**settings, **changes})


def test_a_run_measures_saturation_open_loop_rates_and_recovery(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "ray_app")
    monkeypatch.setenv("NUNCHI_TOKEN", "secret")
    result = load.run(config(server.url, tmp_path, highlights=False), recovery_seconds=1)
    assert len(result["recovery"]["reviews_per_s"]) == 1
    shown = capsys.readouterr().out
    assert f"{tmp_path}/load.json: {result['saturation']['reviews_per_s']:g} reviews/s" in shown
    rows = [line.split(" | ")[0] for line in shown.splitlines() if line.startswith("| ") and "---" not in line]
    assert rows == ["| measurement", "| saturation 1", "| saturation 2", *["| open loop"] * 2, "| full speed again"]
    assert "200 x " in shown
    assert next(record.message.split(":")[0] for record in caplog.records) == "saturation 1 of 2"
    assert json.loads((tmp_path / "load.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert len(result["saturation"]["rounds"]) == 2
    assert [sorted(one["statuses"]) for one in result["open_loop"]] == [["200"], ["200"]]
    assert all(one["p50_ms"] <= one["p95_ms"] <= one["p99_ms"] for one in result["open_loop"])
    body, authorization = server.seen[-1]
    assert body["options"] == {"highlights": False}
    assert len(body["reviews"]) == 1
    assert authorization == "Bearer secret"


def test_open_loop_arrivals_do_not_wait_for_answers() -> None:
    sent = 0

    async def slow(_: str, __: load.Tally) -> None:
        nonlocal sent
        sent += 1
        await asyncio.sleep(0.2)

    figures = asyncio.run(load.open_loop(slow, ["가"], rate=200.0, seconds=0.2, seed=0))
    assert sent > 10, "one after the other would be one or two"
    assert figures["asked_per_s"] == round(sent / 0.2, 2)


def test_a_tally_counts_latencies_of_answers_with_200_only() -> None:
    tally = load.Tally()
    for i in range(1, 101):
        tally.add("200", i / 1_000)
    tally.add("503", 9.0)
    figures = tally.summary(2.0)
    assert (figures["p50_ms"], figures["p95_ms"], figures["p99_ms"]) == (50.0, 95.0, 99.0)
    assert (figures["reviews_per_s"], figures["statuses"]) == (50.0, {"200": 100, "503": 1})
    assert "p50_ms" not in load.Tally().summary(1.0)


@pytest.mark.parametrize("status", [404, 401])
def test_an_endpoint_that_does_not_answer_is_named(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(UserError, match=rf"--url http://127.*: no review was analyzed \({status} x 4\)") as raised:
        load.run(config(server.url, tmp_path))
    assert ("set NUNCHI_TOKEN" in str(raised.value)) == (status == 401)


def test_no_endpoint_at_all_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--url http://127.0.0.1:9: nothing answers there; start it with"):
        load.run(config("http://127.0.0.1:9", tmp_path))


@pytest.mark.parametrize(("changes", "line"), [({"rates": "a"}, "--rates a"), ({"seconds": 0}, "--seconds 0")])
def test_bad_options_are_named(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        load.Config(**changes)
