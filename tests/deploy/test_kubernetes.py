"""deploy/rayjob.yaml and rayservice.yaml: Kubernetes' schema of pods, Ray's code for KubeRay, Serve's schema.

An unknown key anywhere in them fails: tests/support/strictly.py.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import strictly
from tests.support.documents import configured
from tests.support.paths import ROOT

JOB, SERVICE = ROOT / "deploy" / "rayjob.yaml", ROOT / "deploy" / "rayservice.yaml"
SCHEMAS = {JOB: strictly.JOB, SERVICE: strictly.SERVICE}


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def cluster(path: Path) -> dict[str, Any]:
    spec = content(path)["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    return found


def groups(path: Path) -> list[dict[str, Any]]:
    return [cluster(path)["headGroupSpec"], *cluster(path)["workerGroupSpecs"]]


both = pytest.mark.parametrize("path", [JOB, SERVICE], ids=lambda path: path.stem)


@both
def test_fields_are_kuberays_and_those_of_ray_start(path: Path) -> None:
    resource = content(path)
    assert (resource["apiVersion"], resource["kind"]) == ("ray.io/v1", "RayJob" if path == JOB else "RayService")
    assert not list(strictly.wrong(resource, SCHEMAS[path]))
    assert {name for group in groups(path) for name in group["rayStartParams"]} <= strictly.start_options()


def test_serve_configs_have_no_key_that_serve_does_not_know() -> None:
    """It would take it in silence."""
    for text in (
        (ROOT / "deploy" / "serve.yaml").read_text(encoding="utf-8"),
        content(SERVICE)["spec"]["serveConfigV2"],
    ):
        assert not list(strictly.wrong(yaml.safe_load(text), strictly.serve_schema()))


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("autoscalerOption", {}, "spec.rayClusterSpec.autoscalerOption: unknown"),
        ("autoscalerOptions", {"idleTime": 1}, "spec.rayClusterSpec.autoscalerOptions.idleTime: unknown"),
        ("authOptions", "token", "spec.rayClusterSpec.authOptions: not a mapping"),
        ("enableInTreeAutoscaling", 1, "spec.rayClusterSpec.enableInTreeAutoscaling: not bool"),
        ("rayVersion", 2.6, "spec.rayClusterSpec.rayVersion: not str"),
        ("headGroupSpec", {"rayStartParams": {"num-cpus": 0}}, "spec.rayClusterSpec.headGroupSpec.rayStartParams: not"),
        ("workerGroupSpecs", [{"minReplica": 1}], "spec.rayClusterSpec.workerGroupSpecs[0].minReplica: unknown"),
    ],
)  # fmt: skip
def test_the_check_is_strict(place: str, value: object, line: str) -> None:
    resource = content(JOB)
    resource["spec"]["rayClusterSpec"][place] = value
    (found,) = strictly.wrong(resource, strictly.JOB)
    assert found.startswith(line)


@both
def test_pods_are_kubernetes(path: Path) -> None:
    import kubernetes_validate

    for group in groups(path):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@both
def test_rays_autoscaler_reads_it_and_the_head_does_no_work(path: Path) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    config = _derive_autoscaling_config_from_ray_cr({"metadata": content(path)["metadata"], "spec": cluster(path)})
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"]["CPU"] == 0
    if path == JOB:
        assert {name: (kind["min_workers"], kind["resources"].get("GPU", 0)) for name, kind in types.items()} == {
            "headgroup": (0, 0),
            "cpu": (0, 0),
            "gpu": (0, 1),
        }


@both
def test_tokens_are_asked_for_and_containers_have_no_rights_they_do_not_need(path: Path) -> None:
    assert cluster(path)["authOptions"] == {"mode": "token"}
    assert cluster(path)["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in groups(path):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert all("value" not in variable for variable in container.get("env", []))  # secrets by reference


@both
def test_versions_agree_with_the_lock(path: Path) -> None:
    lock = (ROOT / "deploy" / "requirements.lock").read_text(encoding="utf-8")
    version = re.search(r"(?m)^ray==(\S+)", lock)
    assert version
    assert cluster(path)["rayVersion"] == version[1]


def test_the_job_runs_a_command_that_parses() -> None:
    from ray_app.catalog.analyze import REJECTS_EXIT, Config
    from ray_app.cli import parse

    line, _, otherwise = content(JOB)["spec"]["entrypoint"].partition("||")
    command = shlex.split(line)
    assert otherwise.split() == ["test", "$?", "=", str(REJECTS_EXIT)]
    assert content(JOB)["spec"]["submissionMode"] == "HTTPMode"
    assert command[:3] == ["python", "-m", "jobs.analyze"]
    config = parse(Config, command[3:], "jobs.analyze", "")
    assert all(uri.startswith("s3://") for uri in (config.input, config.bundle, config.output))


def test_the_service_is_the_shipped_serve_yaml_for_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve.schema import ServeDeploySchema

    from ray_app.serving import serve

    config = yaml.safe_load(content(SERVICE)["spec"]["serveConfigV2"])
    shipped = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text(encoding="utf-8"))
    (application,) = ServeDeploySchema.model_validate(config).applications
    monkeypatch.setenv("NUNCHI_TOKEN", "secret")
    serve.app(application.args)  # its options are known and right
    placements = [each["applications"][0]["args"]["placement"] for each in (config, shipped)]
    assert placements[0] == placements[1], "deployments have other names otherwise"
    rolled = [
        [(d["name"], d["max_surge_percent"]) for d in each["applications"][0]["deployments"]]
        for each in (config, shipped)
    ]
    assert rolled[0] == rolled[1]
    assert all(percent > 0 for _, percent in rolled[0]), "changed options would stop an endpoint of one replica"
    assert application.import_path == shipped["applications"][0]["import_path"]


def test_the_report_runs_every_morning(monkeypatch: pytest.MonkeyPatch) -> None:
    """deploy/report-cronjob.yaml: Kubernetes' schema, options that jobs.report has, no secret in the file."""
    import kubernetes_validate

    job = content(ROOT / "deploy" / "report-cronjob.yaml")
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "jobs.report"]
    _, config = configured("report", container["args"], monkeypatch)
    (secret,) = (one for one in container["env"] if "valueFrom" in one)
    assert config.webhook == secret["name"]
