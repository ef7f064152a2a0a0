"""The files a test node is made of: containerd's, the kubelet's and the pod network's, as text.

Paths are those inside the node's room, so they are the programs' own defaults but for what lies in `etc`, the node's
folder of settings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

PAUSE_IMAGE = "podstrap.test/pause:1"
SOCKET = "/run/containerd/containerd.sock"
LEASE_SECONDS = 4
"""How long a heartbeat counts; one is sent each quarter. The control plane's grace period must be longer."""


def containerd(etc: Path, runc: Path, cni_binaries: Path) -> str:
    """Configuration version 3, of containerd 2.x."""
    return f"""
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "{etc}/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
# A test machine may lack CAP_SYS_RESOURCE; without this every sandbox dies before its first instruction.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{cni_binaries}"]
conf_dir = "{etc}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""


def pod_network(bridge: str, address: str, subnet: str) -> str:
    """A CNI list: our bridge, addresses by host-local. The bridge is there before, so the plugin sets no sysctl."""
    ranges: list[Any] = [[{"subnet": subnet, "gateway": address}]]
    plugin = {
        "type": "bridge",
        "bridge": bridge,
        "isGateway": False,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/var/lib/cni/networks",
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "podstrap-test", "plugins": [plugin]}, indent=1)


def registry_host(address: str) -> str:
    """containerd's hosts.toml for a registry that speaks plain HTTP."""
    return f'server = "http://{address}"\n[host."http://{address}"]\ncapabilities = ["pull", "resolve"]\n'


def kubelet(address: str, port: int, cgroup: str) -> str:
    """KubeletConfiguration. Anyone may ask this kubelet: it listens on the bridge of the tests only."""
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "port": port,
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        # A developer's full disk is no reason to refuse pods or to remove images.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
                         "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "2s",
    }  # fmt: skip
    return yaml.safe_dump(settings)
