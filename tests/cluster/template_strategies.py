"""Templates, overrides and tasks as people write them, well and badly: every key, with values of each kind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from clearml_api.models import Container, Task
from controller.job_template_keys import CONTAINER_KEYS, POD_KEYS, SECURITY_CONTEXTS
from controller.job_template_reserved import METADATA_KEYS

JUNK: tuple[Any, ...] = (
    None, True, 0, 1, 30.0, 1.5, "", "x", "Not OK!", "true", [], {}, [{}], [1], ["x"], [None], {"a": 1}, {"a": "b"},
    {"a": None}, {"a": {"b": "c"}}, [{"name": "x"}], [{"name": 1}], [{"name": "x", "zzz": 1}], {"$patch": "replace"},
    [{"name": "x", "$patch": "delete"}], [[]],
)  # fmt: skip
"""What may stand anywhere by mistake."""
_VOLUMES = (
    [{"name": "data", "emptyDir": {}}], [{"name": "data", "hostPath": {"path": "/data"}}],
    [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}], [{"name": "data", "nfs": {"server": "s"}}],
    [{"name": "code", "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}}],
    [{"name": "big", "emptyDir": {"sizeLimit": 1073741824}}], [{"name": "data"}, {"name": "data", "emptyDir": {}}],
    [{"name": "data", "emptyDir": {}, "hostPath": {"path": "/x"}}], [{"name": "data", "$patch": "delete"}],
)  # fmt: skip
USUAL: dict[str, tuple[Any, ...]] = {
    "affinity": ({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a"]}]}]}}},
        {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
    "automountServiceAccountToken": (True,),
    "dnsConfig": ({"nameservers": ["1.1.1.1"]}, {"searches": ["a.b"]}, {"nameservers": ["no address"]}),
    "dnsPolicy": ("None", "Default", "ClusterFirstWithHostNet", "Sometimes"),
    "enableServiceLinks": (True,),
    "hostAliases": ([{"ip": "127.0.0.1", "hostnames": ["a.local"]}], [{"ip": "x", "hostnames": ["a"]}]),
    "hostIPC": (True, False), "hostNetwork": (True, False), "hostPID": (True,), "hostUsers": (True, False),
    "hostname": ("box", "Box"),
    "imagePullSecrets": ([{"name": "pull"}], [{}], [{"name": "pull"}, {"name": "other"}]),
    "initContainers": (
        [{"name": "init", "image": "busybox", "resources": {"limits": {"cpu": 1}}}],
        [{"name": "side", "image": "s:1", "restartPolicy": "Always", "resources": {"requests": {"memory": 1048576}}}],
        [{"name": "init"}], [{"name": "task", "image": "x"}],
    ),
    "nodeSelector": ({"disk": "ssd"}, {"disk": None}, {"bad key!": "x"}, {"disk": True}, {"a": 1}),
    "overhead": ({"cpu": "1"},),
    "preemptionPolicy": ("Never",),
    "priorityClassName": ("system-node-critical", "absent"),
    "resourceClaims": ([{"name": "gpu", "resourceClaimTemplateName": "t"}], [{"name": "gpu"}]),
    "runtimeClassName": ("nvidia", "Bad_Name"),
    "schedulerName": ("volcano", ""),
    "schedulingGates": ([{"name": "example.org/quota"}], [{"name": "?"}]),
    "serviceAccountName": ("default", "Bad_Name"),
    "setHostnameAsFQDN": (True,), "shareProcessNamespace": (True,),
    "subdomain": ("sub",),
    "terminationGracePeriodSeconds": (0, 120, -1),
    "tolerations": ([{"key": "gpu", "operator": "Exists"}], [{"operator": "Exists", "value": "x"}], []),
    "topologySpreadConstraints": (
        [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"},
         {"topologyKey": "zone", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway"}],
        [{"topologyKey": "zone"}],
    ),
    "volumes": _VOLUMES,
    "env": ([{"name": "A", "value": "1"}], [{"name": "A", "value": "2"}, {"name": "B"}], [{"name": "A", "value": 1}],
            [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}], {"A": "1"},
            [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            [{"name": "A", "valueFrom": {}}],
            [{"name": "A", "value": "", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            [{"name": "PODSTRAP_ANSI", "value": "strip"}],
            [{"name": "", "value": "x"}]),
    "envFrom": ([{"secretRef": {"name": "s"}}], [{"prefix": "P_", "configMapRef": {"name": "m"}}], [{}]),
    "image": ("team/image:1", "spaces in it "),
    "imagePullPolicy": ("Always", "Sometimes"),
    "lifecycle": ({"preStop": {"exec": {"command": ["true"]}}}, {"preStop": {}}),
    "livenessProbe": ({"exec": {"command": ["true"]}}, {"httpGet": {"port": 80}}, {}),
    "startupProbe": ({"tcpSocket": {"port": 80}},),
    "ports": ([{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}], [{"containerPort": 0}],
              [{"containerPort": "80"}], [{"name": "http"}]),
    "resources": ({"limits": {"nvidia.com/gpu": 1}}, {"limits": {"memory": 8589934592, "cpu": 0.5}},
                  {"requests": {"cpu": 4}, "limits": {"cpu": 2}}, {"requests": {"cpu": "100m", "memory": "1Gi"}},
                  {"requests": {"nvidia.com/gpu": 1}}, {"limits": {"cpu": "lots"}}, {"limits": {"bad name": 1}},
                  {"limits": {"cpu": None}}, {"limits": None}, {"limits": {"memory": "1e3"}}, {"limits": {"cpu": "-1"}},
                  {"limits": {"memory": "1.5Gi", "ephemeral-storage": "10G"}}, {"limits": {"cpu": ""}}),
    "volumeDevices": ([{"name": "data", "devicePath": "/dev/xvda"}],),
    "volumeMounts": ([{"name": "data", "mountPath": "/data"}], [{"name": "absent", "mountPath": "/x"}],
                     [{"name": "data", "mountPath": "/data", "subPath": "../x"}], [{"mountPath": "/data"}]),
    "workingDir": ("/work", ""),
    "labels": ({"team": "vision"}, {"bad label!": "x"}, {"a": "b c"}, {"n": 1}),
    "annotations": ({"note": "anything at all, even\nlines"}, {"Bad Key!": "x"}, {"n": True}),
    "podSecurityContext": ({"fsGroup": 1001}, {"runAsUser": -1}, {"runAsNonRoot": "yes"}, {"sysctls": [{"name": "x"}]}),
    "containerSecurityContext": ({"runAsUser": 0}, {"capabilities": {"drop": ["ALL"]}}, {"zzz": 1},
                                 {"privileged": True, "allowPrivilegeEscalation": False}),
}  # fmt: skip
KEYS = [*POD_KEYS, *CONTAINER_KEYS, *METADATA_KEYS, *SECURITY_CONTEXTS]
ARGUMENTS = (
    "", "-e A=1 --rm", "--memory 8g --cpus 2", "--gpus 1", "--shm-size 1g --ipc=host", "--user 1000:100", "-w /x",
    "--hostname box", "--add-host a.b:10.0.0.1 --dns 1.1.1.1 --dns-search x.y", "--cap-drop ALL --read-only",
    "--tmpfs /scratch:size=1m", "--memory 0.1 --cpus 0.001", "--group-add 7 --security-opt no-new-privileges",
    "--pull always", "-v /data:/data --mount type=bind,source=/data/x,target=/x,ro", "--cpus 99999 --memory 1t",
    "--hostname a- --user x", "--tmpfs /data", "--workdir / --tmpfs /", "--add-host a:1.1.1.1 --add-host a_b:1.1.1.1",
    "--tmpfs '/a,b' --tmpfs /dev/shm --shm-size 1g", "--cap-drop net_raw --cap-drop CAP_NET_RAW", "--memory 1b",
    "--dns 1.1.1.1 --dns 2.2.2.2 --dns 3.3.3.3 --dns 4.4.4.4", "--dns-search a..b", "--user 2147483647:0",
)  # fmt: skip


def _value(key: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(USUAL[key]) | st.sampled_from((*USUAL[key], *USUAL[key], *USUAL[key], *JUNK))


_flat = st.lists(st.sampled_from(KEYS), max_size=4, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: _value(key) for key in keys})
)


def _whole(flat: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    """The same in the form of a whole pod or Job."""
    contexts = {"podSecurityContext": "pod", "containerSecurityContext": "task"}
    spec = {key: value for key, value in flat.items() if key in POD_KEYS}
    task = {"name": name, **{key: value for key, value in flat.items() if key in CONTAINER_KEYS}}
    for key, owner in (("podSecurityContext", spec), ("containerSecurityContext", task)):
        if key in flat and contexts[key]:
            owner["securityContext"] = flat[key]
    pod = {"metadata": {key: value for key, value in flat.items() if key in METADATA_KEYS},
           "spec": {**spec, "containers": [task, {"name": "side", "image": "side:1"}]}}  # fmt: skip
    return {
        "": pod,
        "Pod": {"apiVersion": "v1", "kind": "Pod", **pod},
        "Job": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": pod}},
        "template": {"template": pod},
    }[kind]


TEMPLATES = _flat | st.builds(
    _whole, _flat, st.sampled_from(("", "Pod", "Job", "template")), st.sampled_from(("task", "x"))
)
TASKS = st.builds(
    lambda arguments, image, kind: Task(
        id="3" * 32, name="a task \u2764", type=kind, container=Container(image=image, arguments=arguments)
    ),
    st.sampled_from(ARGUMENTS),
    st.sampled_from(("", "", "python:3.12", "r.io/a/b@sha256:" + "0" * 64, "UPPER/Case:X", "a//b", "a:b:c", "x" * 300)),
    st.sampled_from(("training", "controller")),
)
