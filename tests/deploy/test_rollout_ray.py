"""`serve deploy` of deploy/serve.yaml, changed and deployed again under load: no request fails, none is retried.

The cluster's python has the wheel, not the checkout, as cluster.yaml makes its nodes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from ray_app.inference.analyzer import Analyzer
from ray_app.serving import protocol
from ray_app.serving.client import Client
from tests.support.bundles import make_bundle
from tests.support.paths import ROOT
from tests.support.prometheus import Prometheus, alerts, needed, queries
from tests.support.ray_head import Head
from tests.support.steady_load import TEXTS, Load
from tests.support.waiting import wait_for

pytestmark = pytest.mark.ray

Content = dict[str, Any]


@dataclass(frozen=True)
class Deployed:
    """The shipped file with what must differ, deployed; and what is known of it."""

    cluster: Head
    file: Path
    url: str
    token: str

    def deploy(self, change: Callable[[Content], None]) -> None:
        """Changes the file's application and deploys it, by the request that `serve deploy` and KubeRay send."""
        content = yaml.safe_load(self.file.read_text(encoding="utf-8"))
        change(content["applications"][0])
        self.file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        requests.put(self.address, json=content, headers=self.headers, timeout=60).raise_for_status()

    @property
    def address(self) -> str:
        return f"{self.cluster.dashboard}/api/serve/applications/"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.cluster.token}"}

    def status(self) -> Content:
        """Of the application, as Serve tells it."""
        told = requests.get(self.address, headers=self.headers, timeout=60).json()
        found: Content = told["applications"].get("nunchi", {"status": "", "deployments": {}})
        assert found["status"] != "DEPLOY_FAILED", found["message"]
        return found

    def running(self) -> dict[str, set[str]]:
        """The replicas that answer, by deployment."""
        return {
            name: {one["replica_id"] for one in deployment["replicas"] if one["state"] == "RUNNING"}
            for name, deployment in self.status()["deployments"].items()
        }

    @property
    def client(self) -> Client:
        return Client(self.url, token=self.token)


@pytest.fixture(scope="module")
def deployed(
    cluster: Head,
    watched: Prometheus | None,
    bundle_folder: str,
    endpoint_port: int,
    token_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Deployed:
    file = tmp_path_factory.mktemp("deployed") / "serve.yaml"
    content = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text(encoding="utf-8"))
    content["http_options"]["port"] = endpoint_port
    content["applications"][0]["args"]["token_file"] = str(token_file)
    bundle_of(bundle_folder)(content["applications"][0])
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = cluster.run("serve", "deploy", str(file), "--address", cluster.dashboard)
    assert done.returncode == 0, done.stderr
    made = Deployed(cluster, file, f"http://127.0.0.1:{endpoint_port}", token_file.read_text(encoding="utf-8"))
    wait_for(lambda: made.status()["status"] == "RUNNING")
    return made


def bundle_of(bundle: str) -> Callable[[Content], None]:
    """The change that a new bundle is: one line."""

    def change(application: Content) -> None:
        for deployment in application["deployments"]:
            if "user_config" in deployment:
                deployment["user_config"]["bundle"] = bundle

    return change


def longer_queue(application: Content) -> None:
    application["args"]["queue_seconds"] = 6


def test_bundles_and_options_change_under_load_without_a_failed_request(
    deployed: Deployed, bundle_folder: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    make_bundle(other, kind="roberta", pooling="mean")
    client = deployed.client
    first = client.version()["bundle"]
    with Load(deployed.url, headers={"Authorization": "Bearer secret"}, pause=0.02) as load:
        load.more()
        deployed.deploy(bundle_of(str(other)))
        wait_for(lambda: client.version()["bundle"] != first)
        load.more()
        second = client.version()["bundle"]
        deployed.deploy(bundle_of(str(tmp_path / "missing")))
        wait_for(lambda: client.version()["update"] == "failed")
        load.more()
        told = client.version()
        assert (told["bundle"], told["wanted"]) == (second, str(tmp_path / "missing"))
        metrics = requests.get(f"{deployed.url}/metrics", headers=load.headers, timeout=60).text
        assert "nunchi_bundle_update_failed 1.0" in metrics
        assert f'nunchi_bundle_info{{bundle="{second}"}} 1.0' in metrics
        assert deployed.status()["status"] == "RUNNING", "Serve knows nothing of it: why there is an alert"
        deployed.deploy(bundle_of(bundle_folder))
        wait_for(lambda: client.version()["bundle"] == first)
        assert client.version()["update"] == "done"
        load.more()
        before = deployed.running()
        deployed.deploy(longer_queue)

        def replaced() -> bool:
            now = deployed.running()  # nothing, while Serve reads the new options
            assert all(now.values()), "the old ones ended before the new ones answered"
            return all(now.get(name) and not now[name] & before[name] for name in before)

        wait_for(replaced)
        load.more()
    assert load.failed == []
    print(f"{len(load.answers)} answers, the slowest after {max(each.seconds for each in load.answers):.2f} s")
    known = [in_process(bundle) for bundle in (bundle_folder, str(other))]
    assert all(any(each.content == answers[each.text] for answers in known) for each in load.answers)


def in_process(bundle: str) -> dict[str, Any]:
    """The analysis of each text, as the endpoint writes it."""
    rows = protocol.round_floats(Analyzer(bundle, threads=1)(TEXTS))
    return {text: {"review_id": None, **row} for text, row in zip(TEXTS, rows, strict=True)}


@needed
@pytest.mark.usefixtures("submitted")
def test_every_query_of_the_dashboard_and_the_alerts_found_data(watched: Prometheus, deployed: Deployed) -> None:
    for text in TEXTS[:3]:
        deployed.client.request([text])
        deployed.client.explain(text)
        time.sleep(3)  # a rate needs two scrapes
    wait_for(lambda: not [query for query in queries() if not watched.seen(query)])
    assert watched.get("label/run/values", **{"match[]": "ray_nunchi_units_total"}), "the dashboard's list of runs"
    rules = [rule for group in watched.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(alerts(), "ok")
    assert watched.seen('ALERTS{alertname="NunchiBundleNotLoaded", alertstate="firing"}')
