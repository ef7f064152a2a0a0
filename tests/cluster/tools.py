"""The programs of the cluster tests: built or installed once a machine, kept by version, found again at once.

Everything that takes long lies in one cache folder (`PODSTRAP_TEST_CACHE`, else ~/.cache/podstrap-tests), each entry
in a folder named by what it is made of. An entry is built beside its place and moved there when it is whole; a lock
keeps parallel test workers from building the same twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
KUBERNETES = "1.37.2"
CONTAINERD = "2.4.2"
RUNC = "1.5.2"
HELM = "3.22.0"
PROMETHEUS_OPERATOR = "0.94.1"
PROMETHEUS = "0.316.0"
"""Of the Go module; the release 3.16.0."""
KUBERNETES_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
CONTAINERD_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
NODE_PACKAGES = ("containernetworking-plugins", "iproute2", "util-linux", "gcc", "libc6-dev")


class ToolMissing(AssertionError):
    """Something the cluster tests need is not on this machine and could not be made; the message says what to do."""


def cache() -> Path:
    """The folder where everything slow is kept."""
    return Path(os.environ.get("PODSTRAP_TEST_CACHE") or Path.home() / ".cache" / "podstrap-tests")


def key(*parts: bytes | str) -> str:
    """A short name for these inputs."""
    whole = hashlib.sha256()
    for part in parts:
        one = part.encode() if isinstance(part, str) else part
        whole.update(len(one).to_bytes(8, "big") + one)
    return whole.hexdigest()[:16]


def once(name: str, build: Callable[[Path], None]) -> Path:
    """The cache entry `name`; when it is not there, `build` fills a new folder that becomes it."""
    entry = cache() / name
    if entry.exists():
        return entry
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not entry.exists():
            beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=cache()))
            try:
                beside.chmod(0o755)
                build(beside)
                beside.replace(entry)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    return entry


def run(words: list[str | Path], *, where: Path | None = None, **environ: str) -> str:
    """A helper program's standard output. Raises ToolMissing with the command and both streams' ends."""
    name = str(words[0])
    if shutil.which(name) is None:
        raise ToolMissing(f"{name} is not on PATH and the cluster tests need it ({' '.join(map(str, words))})")
    done = subprocess.run(
        words, cwd=where, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        streams = f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        raise ToolMissing(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{streams}")
    return done.stdout


def packages(*names: str) -> None:
    """Debian packages: installed when they are missing and we are root, else ToolMissing says how."""
    if not (missing := [name for name in names if not _installed(name)]):
        return
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ToolMissing(f"Debian packages are missing: {' '.join(missing)}. Run as root: {command}")
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / ".packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name in names if not _installed(name)]
        install: list[str | Path] = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        try:
            run(install, DEBIAN_FRONTEND="noninteractive")
        except ToolMissing:  # lists that are old or were never read
            run(["apt-get", "update"])
            run(install, DEBIAN_FRONTEND="noninteractive")


def _installed(name: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(asked, capture_output=True, text=True).stdout.startswith("installed")


def kubernetes() -> Path:
    """Folder with the control plane, the kubelet and kubectl: links to one program. Minutes to build, then kept."""
    source = HERE / "kubernetes"
    files = [source / name for name in ("go.mod", "go.sum", "main.go")]

    def build(folder: Path) -> None:
        flags = f"-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"
        run(
            ["go", "build", "-trimpath", "-ldflags", flags, "-o", folder / "kubernetes", "."],
            where=source, CGO_ENABLED="0",
        )  # fmt: skip
        for name in KUBERNETES_PROGRAMS:
            (folder / name).symlink_to("kubernetes")

    return once(f"kubernetes-{key(*[file.read_bytes() for file in files])}", build)


def containerd() -> Path:
    """Folder with containerd, its shim and ctr."""
    module = f"github.com/containerd/containerd/v2/cmd/{{}}@v{CONTAINERD}"

    def build(folder: Path) -> None:
        programs = [module.format(name) for name in CONTAINERD_PROGRAMS]
        _install(folder, "no_btrfs no_devmapper no_zfs", *programs)

    return once(f"containerd-{CONTAINERD}", build)


def runc() -> Path:
    """Folder with runc, with seccomp as a production node has it."""

    def build(folder: Path) -> None:
        packages("libseccomp-dev", "pkg-config", "gcc", "libc6-dev")
        _install(folder, "seccomp", f"github.com/opencontainers/runc@v{RUNC}")

    return once(f"runc-{RUNC}", build)


def helm() -> Path:
    """The program helm. It takes a cluster for our Kubernetes where it may not ask one (`lint`, `template`)."""
    major, minor, _ = KUBERNETES.split(".")
    known = [f"helm.sh/helm/v3/pkg/{one}.k8sVersion" for one in ("chartutil", "lint/rules")]
    flags = " ".join(f"-X {one}Major={major} -X {one}Minor={minor}" for one in known)

    def build(folder: Path) -> None:
        _install(folder, "", f"helm.sh/helm/v3/cmd/helm@v{HELM}", flags=flags)

    return once(f"helm-{HELM}-{key(flags)}", build) / "helm"


def promtool() -> Path:
    """Prometheus' own judge of rules and queries."""

    def build(folder: Path) -> None:
        _install(folder, "", f"github.com/prometheus/prometheus/cmd/promtool@v{PROMETHEUS}", CGO_ENABLED="0")

    return once(f"promtool-{PROMETHEUS}", build) / "promtool"


def monitoring_kinds() -> list[Path]:
    """The Prometheus operator's own definitions of PodMonitor and PrometheusRule."""
    module = "github.com/prometheus-operator/prometheus-operator"
    names = [f"monitoring.coreos.com_{one}.yaml" for one in ("podmonitors", "prometheusrules")]

    def build(folder: Path) -> None:
        (folder / "go.mod").write_text("module tests\n")
        found = json.loads(run(["go", "mod", "download", "-json", f"{module}@v{PROMETHEUS_OPERATOR}"], where=folder))
        for name in names:
            shutil.copy(Path(found["Dir"]) / "example" / "prometheus-operator-crd" / name, folder / name)

    folder = once(f"monitoring-{PROMETHEUS_OPERATOR}", build)
    return [folder / name for name in names]


def pause() -> Path:
    """The static program of pause.c."""
    source = HERE / "pause.c"

    def build(folder: Path) -> None:
        packages("gcc", "libc6-dev")
        run(["gcc", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-o", folder / "pause", source])

    return once(f"pause-{key(source.read_bytes())}", build) / "pause"


def binaries() -> Path:
    """Folder with every program of a whole cluster, control plane and node."""
    packages(*NODE_PACKAGES)
    folders = [kubernetes(), containerd(), runc(), pause().parent]

    def build(folder: Path) -> None:
        for one in folders:
            for program in one.iterdir():
                (folder / program.name).symlink_to(program)

    return once(f"bin-{key(*[str(folder) for folder in folders])}", build)


def _install(folder: Path, tags: str, *programs: str, flags: str = "", **environ: str) -> None:
    linked = f"-s -w {flags}".strip()
    command: list[str | Path] = ["go", "install", "-trimpath", "-tags", tags, "-ldflags", linked, *programs]
    run(command, GOBIN=str(folder), **environ)
