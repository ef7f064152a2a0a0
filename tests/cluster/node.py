"""A real Kubernetes node for tests: containerd, runc and the kubelet, in their released form, on this machine.

What flows: the kubelet sees a pod at the API server, asks containerd, which pulls the image, plugs the pod to the
node's bridge and has runc start it below the node's cgroup. Processes and mounts live in a room that ends with the
tests (room.py); what is left to undo is the cgroup and what is plugged to the bridge, undone by `stop`, or by the next
`start` of a node with this name when the tests were killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster import node_settings
from tests.cluster.bridge import Bridge
from tests.cluster.cgroup import Cgroup
from tests.cluster.room import Program, Room
from tests.support import free_port

CNI_BINARIES = Path("/usr/lib/cni")
READY_SECONDS = 60
_KERNEL_SETTINGS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
"""What a kubelet sets for the whole machine (kubelet/cm, setupKernelTunables). Ours sets copies that it alone sees."""
_WITH_OWN_SETTINGS = """
mount --make-private /proc
copies=$1; shift
for setting in {settings}; do
    mkdir -p "$copies/$(dirname $setting)"
    cat /proc/sys/$setting > "$copies/$setting"
    mount --bind "$copies/$setting" /proc/sys/$setting
done
exec "$@"
""".format(settings=" ".join(_KERNEL_SETTINGS))


class Node:
    """`name`: of the Node object, the cgroup and the log lines. `bridge`: may be up before, for servers of the tests.

    `binaries`: folder of kubelet, kubectl, containerd, containerd-shim-runc-v2, ctr, runc and pause. `kubeconfig`: of a
    user who may be a node. `folder`: state and logs, not below /run, /var/lib or /var/log; all but logs and settings is
    removed by `stop`. Two nodes at a time need two names, bridges and subnets.
    """

    def __init__(self, name: str, binaries: Path, kubeconfig: Path, folder: Path, bridge: Bridge) -> None:
        self.name = name
        self.folder = folder
        self.bridge = bridge
        self.cgroup = Cgroup(f"podstrap-{name}")
        self._binaries = binaries
        self._kubeconfig = kubeconfig
        self._etc = folder / "etc"
        self._room = Room(folder, binaries / "pause")
        self._containerd = self._program(
            "containerd", binaries / "containerd", "--config", self._etc / "containerd.toml"
        )
        self._kubelet = self._program(
            "kubelet", "unshare", "--mount", "--propagation=unchanged",
            "sh", "-ec", _WITH_OWN_SETTINGS, "sh", folder / "lib" / "kernel-settings",
            binaries / "kubelet", f"--config={self._etc}/kubelet.yaml", f"--kubeconfig={kubeconfig}",
            f"--hostname-override={name}", f"--node-ip={bridge.address}",
        )  # fmt: skip

    @property
    def bridge_address(self) -> str:
        """The host's address by which pods reach servers of the tests."""
        return self.bridge.address

    def start(self, *images: Path) -> None:
        """Up to Ready, with these archives imported before. AssertionError with the programs' last words."""
        self._remove_leftovers()
        self.bridge.up()
        self._write_settings()
        self._boot()
        for image in images:
            self.import_image(image)
        self.start_kubelet()

    def stop(self) -> None:
        """Nothing of it left but logs; pods are killed, not asked. Safe at any time, twice too."""
        self._kubelet.end()
        self._room.close()
        self._room.clear()
        self._remove_leftovers()

    def kill_kubelet(self) -> None:
        """As if it crashed: heartbeats end, the pods run on."""
        self._kubelet.end(signal.SIGKILL)

    def start_kubelet(self) -> None:
        """Until the Node object is Ready, by a heartbeat of this kubelet."""
        before = self._ready_heartbeat()
        self._kubelet.start()
        self._until(lambda: self._ready_heartbeat() not in ("", before), self._kubelet)

    def pause_kubelet(self) -> None:
        """SIGSTOP: as a node that hangs. `resume_kubelet` lets it go on."""
        self._kubelet.send(signal.SIGSTOP)

    def resume_kubelet(self) -> None:
        self._kubelet.send(signal.SIGCONT)

    def power_off(self) -> None:
        """Everything on it dies at once, unasked. `power_on` brings it back with its disk."""
        self._room.close()
        self._kubelet.end()
        self._containerd.end()
        self._remove_leftovers()

    def power_on(self) -> None:
        """After `power_off`: what was on its disk is there, its pods' processes are not."""
        self._boot()
        self.start_kubelet()

    def import_image(self, archive: Path) -> None:
        """A docker or OCI archive into the kubelet's images."""
        self.ctr("images", "import", "--local", archive)

    def remove_image(self, reference: str) -> None:
        """Gone from the node: the next pod pulls it."""
        self.ctr("images", "remove", "--sync", reference)

    def images(self) -> list[str]:
        """References the node has."""
        return self.ctr("images", "list", "--quiet").split()

    def trust_registry(self, address: str) -> None:
        """Pull from HOST:PORT by plain HTTP. At any time; containerd reads it at each pull."""
        folder = self._etc / "certs.d" / address
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(node_settings.registry_host(address))

    def ctr(self, *words: str | Path) -> str:
        """containerd's client on the kubelet's images and containers."""
        inside = self._room.words(self._binaries / "ctr", "--namespace=k8s.io", *words)
        done = subprocess.run(inside, env=self._environ(), capture_output=True, text=True)
        assert done.returncode == 0, f"ctr {' '.join(map(str, words))}: {done.stderr[-2000:]}"
        return done.stdout

    def kubectl(self, *words: str) -> str:
        """kubectl's output; AssertionError with what it said on failure."""
        command: list[str | Path] = [
            self._binaries / "kubectl",
            f"--kubeconfig={self._kubeconfig}",
            "--request-timeout=20s",
            *words,
        ]
        done = subprocess.run(command, env=self._environ(), capture_output=True, text=True)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr[-2000:]}"
        return done.stdout

    def logs(self) -> str:
        """The ends of its programs' logs, for a failed test's message."""
        return f"{self._containerd.tail()}\n{self._kubelet.tail()}"

    def _program(self, name: str, *words: str | Path) -> Program:
        return Program(name, self._room, list(words), self.folder / f"{name}.log", self._environ())

    def _environ(self) -> dict[str, str]:
        path = f"{self._binaries}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": str(self.folder / "lib"), "LANG": os.environ.get("LANG", "C.UTF-8")}

    def _write_settings(self) -> None:
        runc, address = self._binaries / "runc", self.bridge.address
        (self._etc / "cni").mkdir(parents=True, exist_ok=True)
        (self._etc / "certs.d").mkdir(exist_ok=True)
        (self._etc / "containerd.toml").write_text(node_settings.containerd(self._etc, runc, CNI_BINARIES))
        network = node_settings.pod_network(self.bridge.name, address, str(self.bridge.subnet))
        (self._etc / "cni" / "10-bridge.conflist").write_text(network)
        settings = node_settings.kubelet(address, free_port(), self.cgroup.path)
        (self._etc / "kubelet.yaml").write_text(settings)

    def _boot(self) -> None:
        self.cgroup.create()
        self._room.open()
        self._containerd.start()
        self._until(self._containerd_answers, self._containerd)

    def _containerd_answers(self) -> bool:
        words = self._room.words(self._binaries / "ctr", "version")
        return subprocess.run(words, env=self._environ(), capture_output=True).returncode == 0

    def _ready_heartbeat(self) -> str:
        """When the kubelet last said it was ready; empty when it did not, or said it is not."""
        found = self.kubectl("get", "node", self.name, "--output=json", "--ignore-not-found")
        conditions = json.loads(found)["status"]["conditions"] if found else ()
        ready = (one for one in conditions if one["type"] == "Ready" and one["status"] == "True")
        return next((str(one["lastHeartbeatTime"]) for one in ready), "")

    def _until(self, what: Callable[[], object], program: Program) -> None:
        end = time.monotonic() + READY_SECONDS
        while not what():
            assert program.running(), program.tail()
            assert time.monotonic() < end, f"node {self.name} is not up: {self.logs()}"
            time.sleep(0.05)

    def _remove_leftovers(self) -> None:
        """Of this name. A room's processes die with its tests, so whoever is still there belongs to a living test."""
        self.cgroup.remove()
        self.bridge.unplug()
