"""What the doctor finds, without Ray: an open, closed or silent dashboard; data and folders that are right or wrong."""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ray_app import storage
from ray_app.catalog import doctor
from tests.support.small_catalogs import parquet

Examine = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Runs the doctor in a clean environment -> exit code, lines."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)

    def run(**options: object) -> tuple[int, list[str]]:
        code = doctor.run(doctor.Config(**options))  # type: ignore[arg-type]
        return code, capsys.readouterr().out.splitlines()

    return run


def lines(output: list[str], name: str) -> list[str]:
    return [line for line in output if line.split()[1] == name]


@contextmanager
def dashboard(status: int) -> Iterator[str]:
    """Something that answers every request with `status`."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_healthy_machine_has_no_failure_and_nothing_else_is_asked_of_it(examine: Examine) -> None:
    code, output = examine()
    assert code == 0, output
    assert {line.split()[1] for line in output} == {"machine", "token", "dashboard", "cluster"}


@pytest.mark.parametrize(
    ("status", "code", "word"), [(200, 1, "CVE-2023-48022"), (401, 0, "refuses"), (403, 0, "refuses")]
)
def test_an_open_job_api_fails(examine: Examine, status: int, code: int, word: str) -> None:
    with dashboard(status) as url:
        got, output = examine(dashboard=url)
    assert got == code
    assert word in lines(output, "dashboard")[0]


def test_a_silent_dashboard_takes_no_longer_than_it_may(examine: Examine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        code, output = examine(dashboard=f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=1)
    assert code == 1
    assert lines(output, "dashboard") == ["fail  dashboard  no answer in 1 s"]
    assert time.monotonic() - began < 4


def test_a_cluster_without_token_mode_here_fails(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    code, output = examine()
    assert code == 1
    assert "export RAY_AUTH_MODE=token" in lines(output, "token")[0]


def test_a_token_that_others_can_read_is_named_and_not_shown(
    examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert any("no token in" in line for line in lines(examine()[1], "token") if line.startswith("fail"))
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("s3cret", encoding="utf-8")
    path.chmod(0o644)
    code, output = examine()
    assert code == 0
    assert any(line.startswith("warn") and f"chmod 600 {path}" in line for line in output)
    assert "s3cret" not in "".join(output)


def test_bundle_input_and_output_are_tried(examine: Examine, bundle_folder: str, tmp_path: Path) -> None:
    code, output = examine(bundle=bundle_folder, input="sample", output=str(tmp_path / "new" / "folder"))
    assert code == 0, output
    assert "15 keywords" in lines(output, "bundle")[0]
    assert "review_id=review_id text=text" in lines(output, "input")[0]
    assert "can be written" in lines(output, "output")[0]
    assert not (tmp_path / "new").exists()
    assert not [path for path in tmp_path.iterdir() if "doctor" in path.name]


def test_each_that_is_wrong_fails_and_the_others_are_still_tried(examine: Examine, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not Parquet", encoding="utf-8")
    code, output = examine(bundle=str(tmp_path / "none"), input=str(tmp_path / "nowhere"), output=f"{file}/out")
    assert code == 1
    assert all(lines(output, name)[0].startswith("fail") for name in ("bundle", "input", "output"))
    assert "no bundle.json" in lines(output, "bundle")[0]
    assert "no such file" in lines(output, "input")[0]


def test_on_s3_a_bucket_is_listed_an_object_written_and_taken_away(examine: Examine, s3: str) -> None:
    storage.write_bytes(f"{s3}/mine", b"1")
    code, output = examine(output=f"{s3}/analyses")
    assert code == 0, output
    assert lines(output, "buckets") == [f"ok    buckets    {s3} can be listed"]
    assert [file.uri for file in storage.list_files(s3)] == [f"{s3}/mine"]


def test_a_bucket_that_is_not_there_fails_without_a_word_of_credentials(
    examine: Examine, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    code, output = examine(output="s3://nobody-has-this/out")
    assert code == 1
    assert any(line.startswith("fail") and "s3://nobody-has-this" in line for line in output)
    assert "hush-hush" not in "".join(output)


def test_files_that_are_left_out_and_those_that_cannot_be_read_are_named(examine: Examine, tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    (tmp_path / "_SUCCESS").write_bytes(b"")
    (tmp_path / "r.feather").write_bytes(b"ARROW1..")
    code, output = examine(input=str(tmp_path))
    found = lines(output, "input")
    assert code == 0
    assert "3 rows; review_id=review_id text=text" in found[0]
    assert any(line.startswith("warn") and "_SUCCESS: hidden" in line for line in found)
    assert any(line.startswith("warn") and "read_feather" in line for line in found)
    assert any(line.startswith("warn") and "b.parquet: unreadable Parquet file" in line for line in found)
