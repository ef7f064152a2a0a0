"""The chart, by helm itself: what it renders is what Kubernetes takes and the controller reads; it is installed,
changed, rolled back and removed on a real control plane, and its Role is enough for a task's whole life."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import generate
from clearml_api import queues
from controller import permissions, settings_file, values_report
from controller.settings import Settings
from controller.values_chart import IGNORED
from tests import support
from tests.cluster import tools
from tests.cluster.chart import (
    CHART,
    Helm,
    Refused,
    controller,
    path_of,
    pod_template,
    pull_secret,
    settings_text,
)
from tests.cluster.chart_values import KEYS, MATRIX, OFFICIAL, OTHER
from tests.cluster.conftest import World, job_reason, steps
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Object
from tests.controller.manifests import render

pytestmark = pytest.mark.cluster

QUICK = ({"phase": "Running"}, {"call": "bootstrap"})
NOWHERE = {"nodeSelector": {"podstrap.test/node": "none"}}
"""The controller's pod waits for a node for ever; its container runs as a process of the test."""


@pytest.fixture(scope="session")
def offline_helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Of no cluster."""
    return Helm(tools.helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture
def helm(offline_helm: Helm, control_plane: ControlPlane, tmp_path: Path) -> Helm:
    """Of the control plane."""
    return replace(offline_helm, folder=tmp_path, kubeconfig=control_plane.kubeconfig("admin"))


# What is written from elsewhere


def test_files_that_are_written_from_the_code_are_true(offline_helm: Helm) -> None:
    files = CHART / "files"
    again = "stale: make chart writes it"
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


# A release's life


def values_of(world: World, *names: str, **more: Any) -> dict[str, Any]:
    """For the tests' server; each queue's pods run on simulated nodes."""
    environ = world.environ
    glue = {
        "apiServerUrlReference": environ["CLEARML_API_HOST"],
        "webServerUrlReference": environ["CLEARML_WEB_HOST"],
        "fileServerUrlReference": environ["CLEARML_FILES_HOST"],
        "queues": {name: steps(*QUICK) for name in names},
        "pollSeconds": 0.3,
        **NOWHERE,
        **more,
    }
    keys = {
        "agentk8sglueKey": environ["CLEARML_API_ACCESS_KEY"],
        "agentk8sglueSecret": environ["CLEARML_API_SECRET_KEY"],
    }
    return {"clearml": keys, "agentk8sglue": glue}


def deployment(world: World) -> Object:
    found: Object = world.plane.kube.get(f"/apis/apps/v1/namespaces/{world.namespace}/deployments/podstrap")
    return found


def started(world: World, name: str) -> support.Process:
    """The Deployment's container as it stands now."""
    pod = deployment(world)["spec"]["template"]
    process = controller(world.plane, world.namespace, pod, name, world.folder / name)
    world.processes.append(process)
    return process


@pytest.fixture
def volume(world: World) -> Iterator[str]:
    """A storage class with one volume, which a claim of the test takes."""
    kube, name = world.plane.kube, world.namespace
    spec = {
        "storageClassName": name, "capacity": {"storage": "100Gi"}, "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": "/nonexistent"}, "persistentVolumeReclaimPolicy": "Retain",
    }  # fmt: skip
    kube.create("/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})
    yield name
    kube.delete(f"/api/v1/persistentvolumes/{name}")


@pytest.mark.usefixtures("nodes")
def test_install_upgrade_rollback_and_uninstall_lose_and_double_no_task(helm: Helm, world: World, volume: str) -> None:
    kube, place = world.plane.kube, ("--namespace", world.namespace)
    cache = {"podstrap": {"cache": {"persistentVolumeClaim": {"create": True, "storageClassName": volume}}}}
    notes = helm("install", "podstrap", CHART, *place, values=values_of(world, world.queue) | cache)
    assert f"serves {world.environ['CLEARML_API_HOST']}" in notes and f'"{world.queue}"' in notes
    first = started(world, "first")
    tasks = [world.enqueue("before")]
    world.status(tasks[0], "completed")
    assert "is forbidden" not in first.text(), first.text()

    second_queue = f"{world.queue}-2"
    second_id = queues.create(world.session, second_queue)
    helm("upgrade", "podstrap", CHART, *place, values=values_of(world, world.queue, second_queue) | cache)
    sets = f"/apis/apps/v1/namespaces/{world.namespace}/replicasets"
    support.until(lambda: len(kube.items(sets)) == 2, 30)
    second = started(world, "second")  # as a rolling update does: the new one first, then the old one is told to stop
    tasks += [world.enqueue(f"while it rolls, {number}") for number in range(5)]
    assert first.stop() == 0
    one = support.create_task(world.session, "in the new queue", "print(1)")
    world.session.call("tasks.enqueue", {"task": one, "queue": second_id})
    tasks.append(one)
    for task in tasks:
        world.status(task, "completed")
        assert len(world.jobs(task)) == 1

    helm("rollback", "podstrap", "1", *place)
    support.until(lambda: second_queue not in kube.get(f"/api/v1/namespaces/{world.namespace}/configmaps/podstrap")
                  ["data"]["settings.yaml"], 10)  # fmt: skip
    third = started(world, "third")
    assert second.stop() == 0
    world.status(world.enqueue("after the rollback"), "completed")
    assert third.stop() == 0
    for process in (first, second, third):
        assert "is forbidden" not in process.text(), process.text()

    support.until(lambda: all(job_reason(one) for one in world.jobs()), 30)
    helm("uninstall", "podstrap", *place)
    left = [f"{one} {found['metadata']['name']}" for one, found in remaining(world)]
    assert left == ["persistentvolumeclaims podstrap-cache"]


def remaining(world: World) -> list[tuple[str, Object]]:
    """What of a release is there, of all the kinds that the chart makes."""
    kube, found = world.plane.kube, []
    kinds = ("apps/v1/deployments", "v1/configmaps", "v1/secrets", "v1/serviceaccounts", "v1/persistentvolumeclaims",
             "rbac.authorization.k8s.io/v1/roles", "rbac.authorization.k8s.io/v1/rolebindings")  # fmt: skip
    for kind in kinds:
        version, plural = kind.rsplit("/", 1)
        group = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        selector = {"labelSelector": "app.kubernetes.io/instance=podstrap"}
        for one in kube.items(f"{group}/namespaces/{world.namespace}/{plural}", **selector):
            found.append((plural, one))
    return found


@pytest.mark.usefixtures("nodes")
def test_a_drain_job_works_its_queues_until_empty(helm: Helm, world: World) -> None:
    values = values_of(world, world.queue)
    values["podstrap"] = {"runAs": "Job", "drain": {"timeoutSeconds": 120, "failOnTaskFailure": True}}
    helm("install", "podstrap", CHART, "--namespace", world.namespace, values=values)
    tasks = [world.enqueue(f"task {number}") for number in range(2)]
    pod = world.plane.kube.get(f"/apis/batch/v1/namespaces/{world.namespace}/jobs/podstrap-drain-1")["spec"]["template"]
    process = controller(world.plane, world.namespace, pod, "drain", world.folder / "drain")
    world.processes.append(process)
    assert process.popen
    assert process.popen.wait(100) == 0, process.text()
    assert [world.task(task).status for task in tasks] == ["completed", "completed"]


# What people type


@pytest.fixture
def shell(offline_helm: Helm, control_plane: ControlPlane) -> Callable[[str], str]:
    """Commands as a person types them in the repository's root, with kubectl and helm; what they print."""
    folders = [str(tools.kubernetes()), str(offline_helm.program.parent), support.base_environ()["PATH"]]
    environ = {
        **support.base_environ(),
        **{f"HELM_{one}_HOME": str(offline_helm.folder / one) for one in ("CACHE", "CONFIG", "DATA")},
        "PATH": ":".join(folders),
        "KUBECONFIG": str(control_plane.kubeconfig("admin")),
    }

    def run(text: str) -> str:
        words = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(words, env=environ, cwd=support.REPOSITORY_ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def commands_of(heading: str) -> str:
    """The first block of commands below a heading of docs/install.md, with keys in the place of dots."""
    _, _, below = generate.INSTALL.read_text().partition(f"\n## {heading}\n")
    found = re.search(r"```sh\n(.*?)```", below, re.DOTALL)
    assert found, heading
    return found[1].replace("=…", "=4KQ2X-n0t-a-placeholder")


def test_the_quick_start_installs(shell: Callable[[str], str], world: World) -> None:
    text = commands_of("Quick start")
    watching = [line for line in text.splitlines() if "rollout status" in line or "logs" in line]
    assert watching, "it says how to see it work"
    for line in ("kubectl create namespace clearml", *watching):
        assert line in text
        text = text.replace(line, "")
    shell(re.sub(r"(-n|--namespace) clearml\b", rf"\1 {world.namespace}", text))
    assert deployment(world)["spec"]["replicas"] == 1
    shell(f"helm -n {world.namespace} uninstall podstrap")


def test_the_guides_values_are_taken(offline_helm: Helm, tmp_path: Path) -> None:
    page = generate.INSTALL.read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 3
    for block in blocks:
        objects = offline_helm.rendered(yaml.safe_load(KEYS) | yaml.safe_load(block))
        settings_file.load_text(settings_text(objects))
        (tmp_path / "values.yaml").write_text(block)
        assert values_report.understood(values_report.report(tmp_path / "values.yaml")), block


def test_make_install_puts_the_plain_manifests_in_place(shell: Callable[[str], str], world: World) -> None:
    kube, make = world.plane.kube, f"make install NAMESPACE={world.namespace}"
    with pytest.raises(AssertionError, match="CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY"):
        shell(make)
    deployments = f"/apis/apps/v1/namespaces/{world.namespace}/deployments"
    assert kube.items(deployments) == []
    assert "n0t-a" not in shell(f"CLEARML_API_ACCESS_KEY=4KQ2X CLEARML_API_SECRET_KEY=n0t-a-placeholder {make}")
    shell(make)  # again, without keys: the Secret is there
    held = kube.get(f"/api/v1/namespaces/{world.namespace}/secrets/podstrap-clearml")["data"]
    assert set(held) == {"CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"}
    assert [one["metadata"]["name"] for one in kube.items(deployments)] == ["podstrap"]
    text = kube.get(f"/api/v1/namespaces/{world.namespace}/configmaps/podstrap")["data"]["settings.yaml"]
    assert settings_file.load_text(text).namespace == world.namespace
