"""The chart, by helm itself: what it renders is what Kubernetes takes and the controller reads; what could not work is
refused, what is not honoured is named."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import generate
from charts.dashboard import dashboard_json
from clearml_api.models import Task
from controller import permissions, settings_file, values_report
from controller.settings import Settings
from controller.values_chart import IGNORED
from tests import support
from tests.cluster.chart import (
    CHART,
    Helm,
    Refused,
    only,
    path_of,
    pod_template,
    pull_secret,
    settings_text,
)
from tests.cluster.chart_values import KEYS, MATRIX, OFFICIAL, OTHER
from tests.cluster.conftest import World
from tests.cluster.kube import Object
from tests.cluster.test_alerts import promtool
from tests.controller.manifests import TASK, render

pytestmark = pytest.mark.cluster

# What is written from elsewhere


def test_files_that_are_written_from_the_code_are_true(offline_helm: Helm) -> None:
    files = CHART / "files"
    again = "stale: make chart writes it"
    assert (files / "dashboard.json").read_text() == dashboard_json(), again
    assert (files / "permissions.yaml").read_text() == generate.permissions_yaml(), again
    assert (files / "settings-keys.yaml").read_text() == generate.settings_keys_yaml(), again
    assert json.loads((CHART / "values.schema.json").read_text()) == generate.values_schema(), again
    page = generate.INSTALL.read_text()
    assert generate.with_table(page) == page, again
    assert (generate.DEPLOY / "podstrap.yaml").read_text() == generate.manifests(offline_helm.program), again


def test_every_value_is_described() -> None:
    assert [one.name for one in generate.values() if not one.description] == []
    settings = {field.alias or name for name, field in Settings.model_fields.items()}
    described = {one.path[1] for one in generate.values() if one.path[0] == "agentk8sglue" and len(one.path) == 2}
    assert settings <= described


def test_defaults_are_the_controllers_own() -> None:
    own = Settings().model_dump(by_alias=True, mode="json")
    for one in generate.values():
        if one.path[0] == "agentk8sglue" and len(one.path) == 2 and one.default not in ("", None, {}, []):
            name = one.path[1]
            if name in own and not name.endswith("ServerUrlReference"):
                assert one.default == own[name], name


def test_helm_finds_nothing_to_say(offline_helm: Helm) -> None:
    for values in MATRIX.values():
        offline_helm("lint", "--strict", CHART, values=values)


# What is rendered


@pytest.mark.usefixtures("monitoring")
@pytest.mark.parametrize("name", MATRIX)
def test_kubernetes_takes_it_and_the_controller_reads_it(name: str, helm: Helm, world: World, tmp_path: Path) -> None:
    kube, other = world.plane.kube, f"{world.namespace}-b"
    values = MATRIX[name].replace(OTHER, other)
    objects = helm.rendered(values, world.namespace)
    kube.create("/api/v1/namespaces", {"metadata": {"name": other}})
    try:
        for one in objects:
            kube.call("POST", path_of(one), one, dryRun="All", fieldValidation="Strict")
        settings = settings_file.load_text(settings_text(objects))
        for queue_name, queue in settings.queues.items():
            job = render(settings=settings, queue=queue, queue_name=queue_name)
            path = f"/apis/batch/v1/namespaces/{queue.namespace or settings.namespace}/jobs"
            kube.call("POST", path, job, dryRun="All", fieldValidation="Strict")
    finally:
        kube.delete(f"/api/v1/namespaces/{other}")
    assert settings.namespace == world.namespace
    (tmp_path / "given.yaml").write_text(values)
    rows = values_report.report(tmp_path / "given.yaml")
    assert values_report.understood(rows), [row for row in rows if row.verdict in ("unknown", "wrong")]


@pytest.mark.parametrize("name", MATRIX)
def test_the_role_is_the_one_of_the_code(name: str, offline_helm: Helm) -> None:
    objects = offline_helm.rendered(MATRIX[name])
    settings = settings_file.load_text(settings_text(objects))
    account = pod_template(objects)["spec"]["serviceAccountName"]
    wanted = permissions.manifests(settings, account, "team")
    found = [one for one in objects if one["kind"] in ("Role", "RoleBinding") and is_generated(one, wanted)]
    assert sorted(map(comparable, found), key=str) == sorted(map(comparable, wanted), key=str)
    others = [one for one in objects if one["kind"].endswith(("Role", "RoleBinding")) and one not in found]
    assert {one["roleRef"]["name"] for one in others} <= {"privileged", "reader"}


def is_generated(one: Object, wanted: list[Object]) -> bool:
    return bool(one["metadata"]["name"] == wanted[0]["metadata"]["name"])


def comparable(one: Object) -> Object:
    """Without labels, and verbs in one order."""
    metadata = {key: value for key, value in one["metadata"].items() if key != "labels"}
    rules = [{**rule, "verbs": sorted(rule["verbs"])} for rule in one.get("rules", ())]
    return {**one, "metadata": metadata, **({"rules": rules} if rules else {})}


def test_the_seeds_queues_stand_in_the_settings_unchanged(offline_helm: Helm) -> None:
    found = yaml.safe_load(settings_text(offline_helm.rendered(MATRIX["seed"])))
    assert found["queues"] == yaml.safe_load(support.SEED_VALUES)["agentk8sglue"]["queues"]


def test_queue_gives_the_order_that_a_mapping_does_not_keep(offline_helm: Helm) -> None:
    values = {**yaml.safe_load(KEYS), "agentk8sglue": {"queue": "z, b", "queues": {"a": {}, "b": {"paused": True}}}}
    settings = settings_file.load_text(settings_text(offline_helm.rendered(values)))
    assert list(settings.queues) == ["z", "b", "a"] and settings.queues["b"].paused
    without = settings_file.load_text(settings_text(offline_helm.rendered(KEYS)))
    assert list(without.queues) == ["default"]


def test_credentials_and_pull_secrets_lie_where_jobs_run(offline_helm: Helm) -> None:
    values = yaml.safe_load(MATRIX["two namespaces, limits, a claim"])
    login = {"enabled": True, "registry": "r.example.org", "username": "u", "password": 'p"$'}
    objects = offline_helm.rendered({**values, "imageCredentials": login})
    places: dict[str, set[str]] = {}
    for one in objects:
        if one["kind"] == "Secret":
            places.setdefault(one["metadata"]["name"], set()).add(one["metadata"]["namespace"])
        if one["metadata"]["name"].endswith("-pull"):
            assert pull_secret(one)["auths"]["r.example.org"]["password"] == 'p"$'
    assert places == {name: {"team", OTHER} for name in ("podstrap-clearml", "podstrap-pull")}
    for one in objects:
        if one["kind"] != "Secret":
            assert "n0t-a-placeholder" not in json.dumps(one)


def test_tasks_and_the_controller_get_clearml_conf_proxy_and_certificates_alike(offline_helm: Helm) -> None:
    values = MATRIX["proxy and certificates"].replace(
        "clearml: {", "clearml: {clearmlConfig: 'sdk {}', "
    )  # fmt: skip
    objects = offline_helm.rendered(values)
    settings = settings_file.load_text(settings_text(objects))
    (own,) = pod_template(objects)["spec"]["containers"]
    (task,) = render(settings=settings)["spec"]["template"]["spec"]["containers"]
    for container in (own, task):
        variables = {one["name"]: one.get("value") for one in container["env"]}
        mounts = {one["mountPath"] for one in container["volumeMounts"]}
        assert variables["HTTPS_PROXY"] == "http://proxy:3128"
        assert "$(KUBERNETES_SERVICE_HOST)" in variables["NO_PROXY"] and ".example.org" in variables["NO_PROXY"]
        for name, folder in (
            ("SSL_CERT_FILE", "/etc/podstrap-certificates"),
            ("CLEARML_CONFIG_FILE", "/etc/podstrap-clearml"),
        ):
            assert str(variables[name]).startswith(folder) and folder in mounts


@pytest.mark.parametrize(
    ("more", "context", "volume"),
    [
        ({"podstrap": {"cache": {"persistentVolumeClaim": {"create": True}}}},
         {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"},
         {"persistentVolumeClaim": {"claimName": "podstrap-cache"}}),
        ({"podstrap": {"cache": {"persistentVolumeClaim": {"existingClaim": "mine"}}},
          "agentk8sglue": {"basePodTemplate": {"podSecurityContext": {"fsGroup": 7}}}},
         {"fsGroup": 7}, {"persistentVolumeClaim": {"claimName": "mine"}}),
        ({"podstrap": {"cache": {"persistentVolumeClaim": {"create": True}, "fsGroup": None}}},
         None, {"persistentVolumeClaim": {"claimName": "podstrap-cache"}}),
        ({"podstrap": {"cache": {"hostPath": "/var/x"}}},
         None, {"hostPath": {"path": "/var/x", "type": "DirectoryOrCreate"}}),
        ({}, None, {"emptyDir": {}}),
    ],
)  # fmt: skip
def test_tasks_share_the_cache_and_need_not_be_root(
    more: dict[str, Any], context: Object | None, volume: Object, offline_helm: Helm
) -> None:
    objects = offline_helm.rendered({**yaml.safe_load(KEYS), **more})
    spec = render(settings=settings_file.load_text(settings_text(objects)))["spec"]["template"]["spec"]
    assert spec.get("securityContext") == context
    assert {"name": "podstrap-cache", **volume} in spec["volumes"]


def test_files_of_every_template_lie_in_secrets_of_their_own_and_no_text_in_the_settings(offline_helm: Helm) -> None:
    def files(text: str) -> list[dict[str, str]]:
        return [{"name": "a.conf", "folderPath": "/etc/files/", "fileContent": text},
                {"name": "there", "folderPath": "/etc/files", "configMapName": "mine"}]  # fmt: skip

    glue = {
        "basePodTemplate": {"fileMounts": files("of all")},
        "queues": {"a": {"templateOverrides": {"fileMounts": files("of queue a")}}, "b": None},
        "rules": [{"when": {"types": ["x"]}, "templateOverrides": {"fileMounts": files("of the rule")}}],
    }
    objects = offline_helm.rendered({**yaml.safe_load(KEYS), "agentk8sglue": glue})
    assert "of queue a" not in settings_text(objects) and "fileContent" not in settings_text(objects)
    texts = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "Secret"}
    settings = settings_file.load_text(settings_text(objects))

    def text(queue: str, task: Task) -> str:
        spec = render(task, settings, settings.queues[queue], queue_name=queue)["spec"]["template"]["spec"]
        volumes = {one["name"]: one for one in spec["volumes"]}
        mounts = {one["mountPath"]: one for one in spec["containers"][0]["volumeMounts"]}
        mount, there = mounts["/etc/files/a.conf"], mounts["/etc/files/there"]
        assert (mount["subPath"], mount["readOnly"]) == ("a.conf", True)
        assert volumes[there["name"]]["configMap"] == {"name": "mine"}
        return base64.b64decode(texts[volumes[mount["name"]]["secret"]["secretName"]]["a.conf"]).decode()

    assert (text("b", TASK), text("a", TASK), text("a", replace(TASK, type="x"))) == (
        "of all", "of queue a", "of the rule",
    )  # fmt: skip


def test_names_of_digits_stay_texts(offline_helm: Helm) -> None:
    for one in offline_helm.rendered(KEYS + "agentk8sglue: {instance: '7'}\n", namespace="12", release="34"):
        assert one["metadata"]["namespace"] == "12"
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "34"


def test_a_change_of_settings_or_credentials_is_a_new_pod_and_nothing_else_is(offline_helm: Helm) -> None:
    values = yaml.safe_load(KEYS)

    def template(**more: Any) -> Object:
        return pod_template(offline_helm.rendered({**values, **more}))

    assert template() == template()
    assert template() == template(agentk8sglue={"replicaCount": 1})
    assert template() != template(agentk8sglue={"maxPods": 3})
    assert template() != template(clearml={**values["clearml"], "agentk8sglueSecret": "another"})


def test_the_controller_is_no_root_and_writes_nothing_but_tmp(offline_helm: Helm) -> None:
    spec = pod_template(offline_helm.rendered(OFFICIAL))["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    given = pod_template(offline_helm.rendered(MATRIX["OpenShift"]))["spec"]["securityContext"]
    assert set(given) == {"runAsNonRoot", "seccompProfile"}


def test_prometheus_finds_the_metrics_port_and_takes_the_rules(offline_helm: Helm, tmp_path: Path) -> None:
    objects = offline_helm.rendered(MATRIX["metrics, whole and for a few"])
    pod = pod_template(objects)
    (container,) = pod["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"health": 8080, "metrics": 9402}
    assert container["args"][container["args"].index("--metrics") + 1] == ":9402"
    monitor = only(objects, "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "metrics", "interval": "15s"}]
    rule = only(objects, "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    promtool("check", "rules", "--lint-fatal", tmp_path / "rules.yaml")
    given = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
    wanted = [one for one in given if one["alert"] != "PodstrapTasksFail"]
    found = rule["spec"]["groups"][0]["rules"]
    for one, other in zip(found, wanted, strict=True):
        page = f"https://docs.example.org/alerts#{one['alert'].lower()}"
        assert one == {**other, "annotations": {**other["annotations"], "runbook_url": page}}
    policy = only(objects, "NetworkPolicy")["spec"]["ingress"]
    assert [sorted(one) for one in policy] == [["ports"], ["from", "ports"]], "probes from everywhere, metrics not"
    (shown,) = [one for one in objects if one["metadata"]["name"] == "podstrap-dashboard"]
    assert json.loads(shown["data"]["podstrap.json"])["uid"] == "podstrap"
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_plain_manifests_claim_to_be_no_release_of_helms() -> None:
    for one in yaml.safe_load_all((generate.DEPLOY / "podstrap.yaml").read_text()):
        own = one["metadata"]["labels"]
        assert own["app.kubernetes.io/managed-by"] == "kubectl" and "helm.sh/chart" not in own


# What is refused, and what is named


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "clearml.agentk8sglueKey is empty"),
        ({"clearml": {"agentk8sglueKey": "ACCESSKEY", "agentk8sglueSecret": "SECRETKEY"}}, "is a placeholder"),
        ({"clearml": {"agentk8sglueKey": "4KQ2X", "agentk8sglueSecret": "  "}}, "agentk8sglueSecret is"),
        ({"clearml": {"agentk8sglueKey": "4KQ2X", "agentk8sglueSecret": "<your secret>"}}, "is a placeholder"),
        ({"imageCredentials": {"enabled": True, "registry": "r", "username": "someone", "password": "pwd"}},
         "imageCredentials is enabled"),
        ({"podstrap": {"proxy": {"https": "http://u:hunter2@proxy:3128"}}}, "podstrap.proxy.https holds a user"),
        ({"agentk8sglue": {"apiServerUrlReference": "https://u:p@api"}}, "apiServerUrlReference must be"),
        ({"agentk8sglue": {"apiServerUrlReference": ""}}, "apiServerUrlReference must be"),
        ({"agentk8sglue": {"basePodTemplat": {}}}, "basePodTemplat"),
        ({"agentk8sglue": {"basePodTemplate": {"nodeSelectr": {}}}}, "nodeSelectr"),
        ({"agentk8sglue": {"queues": {"a": {"maxPod": 1}}}}, "maxPod"),
        ({"agentk8sglue": {"maxPods": "many"}}, "maxPods"),
        ({"podstrap": {"runAs": "DaemonSet"}}, "runAs"),
        ({"podstrap": {"metrics": {"port": 8080}}}, "podstrap.metrics.port and podstrap.healthPort are the same"),
        ({"podstrap": {"metrics": {"enabled": False, "podMonitor": {"enabled": True}}}},
         "podstrap.metrics.podMonitor is enabled, podstrap.metrics is not"),
        ({"podstrap": {"cache": {"hostPath": "/x", "persistentVolumeClaim": {"create": True}}}}, "more than one place"),
    ],
)  # fmt: skip
def test_what_could_not_work_is_refused_with_the_words_what_to_do(
    values: Mapping[str, Any], words: str, offline_helm: Helm
) -> None:
    whole = {**yaml.safe_load(KEYS), **values} if values else {}
    with pytest.raises(Refused) as caught:
        offline_helm.rendered(whole)
    assert words in str(caught.value)


def test_what_is_not_honoured_is_named_by_the_notes(helm: Helm, world: World) -> None:
    notes = helm("install", "podstrap", CHART, "--namespace", world.namespace, "--dry-run=server", values=OFFICIAL)
    for key in ("agentk8sglue.image", "agentk8sglue.initContainers", "sessions"):
        assert f"- {key}: {IGNORED[key.rpartition('.')[2]]}" in notes
    tcp = yaml.safe_load(KEYS) | {"tcpProxy": {"enabled": True}}
    notes = helm("install", "podstrap", CHART, "--namespace", world.namespace, "--dry-run=server", values=tcp)
    assert f"- tcpProxy: {IGNORED['tcpProxy']}" in notes and "sessions:" not in notes
    assert "NOT honoured" not in helm(
        "install", "podstrap", CHART, "--namespace", world.namespace, "--dry-run=server", values=KEYS
    )
