"""Manifests held against the fields that their readers know: an API server drops unknown ones without a word, and Serve
takes them.

KubeRay's own schema is in no package: its fields are written here, as of its API reference (ray.io/v1), with those
that pods have left to Kubernetes' schema. Serve's are those of its pydantic models.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

ANY = None  # checked elsewhere
STRINGS = "a mapping of strings to strings"
POD = {"metadata": {"labels": STRINGS, "annotations": STRINGS}, "spec": ANY}
METADATA = {"name": str, "namespace": str, "labels": STRINGS, "annotations": STRINGS}
GROUP = {"rayStartParams": STRINGS, "template": POD}
CLUSTER: dict[str, Any] = {
    "rayVersion": str,
    "authOptions": {"mode": str, "secretName": str},
    "enableInTreeAutoscaling": bool,
    "suspend": bool,
    "headServiceAnnotations": STRINGS,
    "autoscalerOptions": {
        "idleTimeoutSeconds": int,
        "upscalingMode": str,
        "version": str,
        "image": str,
        "imagePullPolicy": str,
        "resources": ANY,
        "env": ANY,
        "envFrom": ANY,
        "securityContext": ANY,
        "volumeMounts": ANY,
    },
    "headGroupSpec": {**GROUP, "serviceType": str, "headService": ANY, "enableIngress": bool},
    "workerGroupSpecs": [
        {
            **GROUP,
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "numOfHosts": int,
            "idleTimeoutSeconds": int,
            "suspend": bool,
        }
    ],
}
RESOURCE = {"apiVersion": str, "kind": str, "metadata": METADATA}
JOB = {
    **RESOURCE,
    "spec": {
        "entrypoint": str,
        "submissionMode": str,
        "jobId": str,
        "runtimeEnvYAML": str,
        "metadata": STRINGS,
        "backoffLimit": int,
        "ttlSecondsAfterFinished": int,
        "activeDeadlineSeconds": int,
        "shutdownAfterJobFinishes": bool,
        "suspend": bool,
        "entrypointNumCpus": float,
        "rayClusterSpec": CLUSTER,
    },
}
SERVICE = {
    **RESOURCE,
    "spec": {
        "serveConfigV2": str,
        "serveService": ANY,
        "rayClusterConfig": CLUSTER,
        "upgradeStrategy": {"type": str},
    },
}


def wrong(content: object, schema: Any, at: str = "") -> Iterator[str]:
    """What the schema does not know, or knows as something else: where, and why."""
    if schema is ANY:
        return
    if isinstance(schema, dict):
        if not isinstance(content, dict):
            yield f"{at}: not a mapping"
            return
        for key, value in content.items():
            here = f"{at}.{key}".lstrip(".")
            yield from wrong(value, schema[key], here) if key in schema else [f"{here}: unknown"]
    elif isinstance(schema, list):
        if not isinstance(content, list):
            yield f"{at}: not a list"
            return
        for index, value in enumerate(content):
            yield from wrong(value, schema[0], f"{at}[{index}]")
    elif schema == STRINGS:
        texts = isinstance(content, dict) and all(isinstance(one, str) for pair in content.items() for one in pair)
        if not texts:
            yield f"{at}: not {STRINGS}"
    elif not isinstance(content, schema) or (schema is not bool and isinstance(content, bool)):
        yield f"{at}: not {schema.__name__}"


def serve_schema() -> dict[str, Any]:
    """The fields of a Serve config file."""
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import DeploymentSchema, HTTPOptionsSchema, ServeApplicationSchema, ServeDeploySchema

    from ray_app.serving.deployments import USER_CONFIG

    deployment = {
        **_fields(DeploymentSchema),
        "user_config": dict.fromkeys(USER_CONFIG, str),
        "autoscaling_config": _fields(AutoscalingConfig),
    }
    application = {**_fields(ServeApplicationSchema), "deployments": [deployment]}
    return {**_fields(ServeDeploySchema), "http_options": _fields(HTTPOptionsSchema), "applications": [application]}


def _fields(model: type[BaseModel]) -> Mapping[str, Any]:
    """Their values are the model's to check."""
    return dict.fromkeys(model.model_fields, ANY)


def start_options() -> set[str]:
    """What `ray start` takes, and so `rayStartParams`."""
    from ray.scripts.scripts import start

    return {option.removeprefix("--") for parameter in start.params for option in parameter.opts}
