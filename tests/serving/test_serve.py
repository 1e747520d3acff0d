"""What is checked before an endpoint starts, without Ray, and the serve.yaml that is shipped."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_app.errors import UserError
from ray_app.serving import serve
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
    (tmp_path / "token").chmod(0o600)
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
        path.chmod(0o600)
    with pytest.raises(UserError, match=f"--token-file .*: {line}"):
        serve.start(serve.Config(token_file=str(path)))


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


def test_behind_a_token_a_deployed_endpoint_answers_to_the_names_of_its_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service's, the ingress's: which they are is known to the cluster alone. Names that are given are the only."""
    seen: list[Any] = []
    monkeypatch.setattr(serve, "_application", lambda config, token: seen.append(serve._hosts(config, token)))
    monkeypatch.setenv("NUNCHI_TOKEN", "secret")
    serve.app({"bundle": "ready"})
    serve.app({"bundle": "ready", "allowed_hosts": ("reviews.shop.example",)})
    assert seen[0].admits("nunchi-serve-svc:8000")
    assert not seen[1].admits("nunchi-serve-svc:8000")
    assert seen[1].admits("reviews.shop.example")


def test_the_shipped_serve_yaml_is_valid_and_names_deployments_that_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve._private.build_app import build_app
    from ray.serve.schema import ServeDeploySchema

    content = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    schema = ServeDeploySchema.model_validate(content)
    (application,) = schema.applications
    assert application.import_path == "ray_app.serving.serve:app"
    monkeypatch.setenv("NUNCHI_TOKEN", "secret")
    built = serve.app({key: value for key, value in application.args.items() if key != "token_file"})
    names = {deployment.name for deployment in build_app(built, name="nunchi").deployments}
    assert {deployment.name for deployment in application.deployments} == names
