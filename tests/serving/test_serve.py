"""What is checked before an endpoint starts, without Ray, and the serve.yaml that is shipped."""

import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_app import cluster
from ray_app.errors import UserError
from ray_app.serving import process, serve
from tests.support.paths import ROOT

EXAMPLE = ROOT / "deploy" / "serve.yaml"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUNCHI_TOKEN", raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.3", "::", "example.org"])
def test_another_address_than_loopback_needs_a_token(host: str) -> None:
    with pytest.raises(UserError, match=r"--host .*: reachable from elsewhere; set NUNCHI_TOKEN or --token-file"):
        serve.start(serve.Config(host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_loopback_needs_none(host: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bundle"):  # it got as far as the bundle
        serve.start(serve.Config(host=host, bundle=str(tmp_path)))


@pytest.mark.parametrize("way", ["file", "environment", "insecure"])
def test_a_token_or_insecure_opens_other_addresses(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(" secret\n", encoding="utf-8")
    if way == "environment":
        monkeypatch.setenv("NUNCHI_TOKEN", "secret")
    changes: dict[str, Any] = {"file": {"token_file": str(tmp_path / "token")}, "insecure": {"insecure": True}}
    with pytest.raises(UserError, match="no bundle"):
        serve.start(serve.Config(host="0.0.0.0", bundle=str(tmp_path), **changes.get(way, {})))


@pytest.mark.parametrize(("content", "line"), [(None, "No such file"), ("\n", "empty")])
def test_a_token_file_that_holds_none_is_refused(content: str | None, line: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=f"--token-file .*: {line}"):
        serve.start(serve.Config(token_file=str(path)))


def test_a_port_that_is_taken_is_named_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--host 127.0.0.1 --port {port}: Address already in use"):
            serve.run(serve.Config(port=port))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"bundel": "x"}, "args: unknown option 'bundel'; did you mean 'bundle'"),
        ({"bundle": "x"}, "args: set NUNCHI_TOKEN or token_file, or write insecure: true"),
        ({"port": 0}, "--port 0: at least 1 and at most 65535"),
        ({"replicas": 3, "max_replicas": 2}, "--max-replicas 2: at least --replicas 3"),
        ({"queue_seconds": 0}, "--queue-seconds 0: above 0"),
    ],
)
def test_bad_arguments_of_a_serve_yaml_get_one_clear_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        serve.app(arguments)


def test_the_shipped_serve_yaml_is_valid_and_names_deployments_that_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve._private.build_app import build_app
    from ray.serve.schema import ServeDeploySchema

    content = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    schema = ServeDeploySchema.model_validate(content)
    (application,) = schema.applications
    assert application.import_path == "ray_app.serving.serve:app"
    assert set(content) <= set(ServeDeploySchema.model_fields), "Serve takes unknown keys in silence"
    monkeypatch.setenv("NUNCHI_TOKEN", "secret")
    built = serve.app({key: value for key, value in application.args.items() if key != "token_file"})
    names = {deployment.name for deployment in build_app(built, name="nunchi").deployments}
    assert {deployment.name for deployment in application.deployments} == names


def test_a_signal_interrupts_while_starting_and_is_noted_afterwards() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        signals = process.StopSignals()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signals.started = True
        signal.raise_signal(signal.SIGINT)
        assert signals.received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_stopping_waits_for_requests_under_way_and_no_longer_than_ray_lives() -> None:
    begun = time.monotonic()
    assert process.ended(lambda: time.sleep(0.6), lambda: True, 30)
    assert not process.ended(lambda: time.sleep(30), lambda: False, 30)
    assert not process.ended(lambda: time.sleep(30), lambda: True, 0.1)
    assert not process.ended(lambda: next(iter(())), lambda: True, 30), "it raised"
    assert time.monotonic() - begun < 20


def test_whether_anything_listens() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert cluster.listens(address)
    assert not cluster.listens(address)
