"""All flags of docker run, and what becomes of each (https://docs.docker.com/reference/cli/docker/container/run/).

Three kinds: mapped to the pod (`docker_args_flags`), ignored with a note because a pod has it already or Kubernetes
has no such thing, and refused with what to do instead. A flag that is missing here is refused as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

from controller.docker_args_flags import MAPPED
from controller.docker_args_seen import Flag, Refused, Seen


def _ignored(why: str, *names: str, takes_value: bool = True) -> dict[str, Flag]:
    def make(name: str) -> Flag:
        def apply(seen: Seen, _value: str) -> None:
            seen.notes.append(f"--{name}: {why}")

        return Flag(name, apply, takes_value, why, "ignored")

    return {name: make(name) for name in names}


def _refused(why: str, *names: str, takes_value: bool = True) -> dict[str, Flag]:
    def apply(_seen: Seen, _value: str) -> None:
        raise Refused(why)

    return {name: Flag(name, apply, takes_value, why, "refused") for name in names}


SHORT = {
    "e": "env", "m": "memory", "u": "user", "w": "workdir", "h": "hostname", "v": "volume", "c": "cpu-shares",
    "l": "label", "p": "publish", "P": "publish-all", "a": "attach", "t": "tty", "i": "interactive", "d": "detach",
    "q": "quiet",
}  # fmt: skip
FLAGS: Mapping[str, Flag] = {
    **{flag.name: flag for flag in MAPPED},
    **_ignored("a Job's pod is removed by its time to live", "rm", takes_value=False),
    **_ignored("bootstrap is the pod's init", "init", takes_value=False),
    **_ignored("a task has no terminal and nobody attached", "tty", "interactive", "detach", "quiet",
               takes_value=False),
    **_ignored("a task has no terminal and nobody attached", "attach", "detach-keys"),
    **_ignored("the Job's name and labels are podstrap's", "name", "label", "cidfile"),
    **_ignored("the queue's onDisruption decides", "restart"),
    **_ignored("the pod's grace time and SIGTERM end a task", "stop-timeout", "stop-signal"),
    **_ignored("Kubernetes has no field for it", "ulimit", "cpu-shares", "cpu-quota", "cpu-period", "cpuset-cpus",
               "cpuset-mems", "memory-swap", "memory-swappiness", "memory-reservation", "kernel-memory", "pids-limit",
               "blkio-weight", "oom-score-adj", "storage-opt", "cgroup-parent", "cgroupns", "mac-address",
               "isolation"),
    **_ignored("Kubernetes has no field for it", "oom-kill-disable", takes_value=False),
    **_ignored("the cluster keeps a pod's log", "log-driver", "log-opt"),
    **_ignored("the queue's template sets runtimeClassName or nodeSelector", "runtime", "platform"),
    **_ignored("a pod has its own address; services are the cluster's matter", "publish", "expose", "network-alias",
               "net-alias", "ip", "ip6"),
    **_ignored("a pod has its own address; services are the cluster's matter", "publish-all", takes_value=False),
    **_ignored("the API server sees a task's health by its reports", "health-cmd", "health-interval",
               "health-retries", "health-start-period", "health-timeout"),
    **_ignored("the API server sees a task's health by its reports", "no-healthcheck", takes_value=False),
    **_refused("devices come through the queue's template (device plugins)", "device-cgroup-rule"),
    **_refused("a pod cannot see that file; use -e, or envFrom in the queue's template", "env-file", "label-file"),
    **_refused("use -v /HOST/PATH:/CONTAINER/PATH, or volumes in the queue's template", "volumes-from",
               "volume-driver"),
    **_refused("say it in the queue's template", "sysctl", "userns", "uts", "link"),
}  # fmt: skip
