"""cluster.yaml against Ray's own schema and its AWS provider, on a pretended AWS, and what its comments promise."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

CONFIG = ROOT / "cluster.yaml"


def content() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """cluster.yaml in a pretended AWS account that has what is marked CHANGE; the home folder is a temporary one."""
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        ec2 = boto3.resource("ec2", region_name=content()["provider"]["region"])
        vpc, image = next(iter(ec2.vpcs.all())).id, next(iter(ec2.images.all())).id
        group = ec2.create_security_group(GroupName="nunchi", Description="nunchi", VpcId=vpc).id
        for name in ("nunchi-head", "nunchi-worker"):
            boto3.client("iam").create_instance_profile(InstanceProfileName=name)
        text = CONFIG.read_text(encoding="utf-8")
        for placeholder, value in (("sg-CHANGE", group), ("ami-CHANGE-ubuntu", image), ("ami-CHANGE-cuda", image)):
            text = text.replace(placeholder, value)
        yield yaml.safe_load(text)


def bootstrapped(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of it before it starts the head."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.util import fillout_defaults, prepare_config, validate_config

    ready = prepare_config(config)
    validate_config(ready)
    return fillout_defaults(bootstrap_aws(ready))  # type: ignore[no-any-return]


def test_ray_accepts_it() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(content()))


def test_rays_aws_provider_starts_and_ends_nodes_of_every_type_within_our_security_group(aws: dict[str, Any]) -> None:
    import boto3
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    config = bootstrapped(aws)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    ec2 = boto3.resource("ec2", region_name=config["provider"]["region"])
    ours = aws["available_node_types"]["head"]["node_config"]["SecurityGroupIds"]
    for name, node_type in config["available_node_types"].items():
        tags = {"ray-node-type": "head" if name == "head" else "worker", "ray-user-node-type": name}
        provider.create_node(node_type["node_config"], tags, 1)
    nodes = {node: provider.node_tags(node)["ray-user-node-type"] for node in provider.non_terminated_nodes({})}
    assert sorted(nodes.values()) == ["cpu", "gpu", "head"]
    for instance in ec2.instances.all():
        assert [group["GroupId"] for group in instance.security_groups] == ours
        assert (instance.instance_lifecycle == "spot") == (nodes[instance.id] != "head")
    opened = [rule for group in ec2.security_groups.all() for rule in group.ip_permissions if rule["IpRanges"]]
    assert not opened  # Ray made no group of its own, and opened nothing in ours
    provider.terminate_nodes(list(nodes))
    assert not provider.non_terminated_nodes({})


def test_the_head_does_no_work_and_workers_start_at_none() -> None:
    types = content()["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert all(kind["min_workers"] == 0 for kind in types.values())
    assert types["gpu"]["resources"]["GPU"] == 1


def test_every_node_starts_with_token_authentication_and_a_closed_dashboard() -> None:
    config = content()
    starts = [line for key in ("head_start_ray_commands", "worker_start_ray_commands") for line in config[key]]
    starts = [line for line in starts if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in shlex.split(line) for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"


def test_nodes_install_from_the_locks_with_hashes() -> None:
    config = content()
    mounted = {remote.replace("/home/ubuntu", "~"): local for remote, local in config["file_mounts"].items()}
    builds, install, wheel = (shlex.split(line) for line in config["setup_commands"] if "pip install" in line)
    assert builds[-3:] == ["--require-hashes", "--requirement", "~/nunchi/build.lock"]
    assert mounted["~/nunchi/build.lock"] == "deploy/build.lock"
    assert "--require-hashes" in install
    how = ["--no-build-isolation", "--only-binary", ":all:", "--no-binary", "kiwipiepy-model"]
    assert [word for word in install if word in how] == how
    locks = [install[i + 1] for i, word in enumerate(install) if word == "--requirement"]
    assert [mounted[lock] for lock in locks] == ["deploy/requirements.lock", "deploy/torch-cuda.lock"]
    assert all((ROOT / mounted[lock]).is_file() for lock in locks)
    assert set(install) - {"--require-hashes", "--requirement", *how, *locks} == {
        "~/nunchi/venv/bin/pip",
        "install",
        "--quiet",
    }
    assert "~/nunchi/dist/*.whl" in wheel  # the newest: a mount keeps what was there
    assert {"--no-deps", "--no-index", "--force-reinstall"} <= set(wheel)
    assert mounted["~/nunchi/dist"] == "dist"


def test_nodes_hold_no_keys_and_disks_are_encrypted() -> None:
    for node_type in content()["available_node_types"].values():
        node = node_type["node_config"]
        assert node["IamInstanceProfile"]
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
