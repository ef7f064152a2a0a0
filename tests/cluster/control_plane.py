"""A whole control plane on loopback: etcd, API server, controller manager and scheduler, of one binary.

Real programs in their released form; only time is shorter than in production (a node counts as lost after seconds).
Ports are free ones, state lies in a folder, everything ends with `stop`. Ready about three seconds after `start`.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests
import yaml

from tests.cluster import tools
from tests.cluster.kube import Kube

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
READY_SECONDS = 90
NODE_LOST_SECONDS = 8
"""After so long without a heartbeat a node is NotReady. (40 in production.)"""
_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""The kernel ends them when the tests are killed."""
_CLIENT_QPS = ("--kube-api-qps=300", "--kube-api-burst=600")
"""As a big cluster sets them; with the defaults a test would wait for them most of its time."""


class ControlPlane:
    """`start`, `kubeconfig`, `kube`, `stop`. `addresses`: further addresses that pods may reach the API server by."""

    def __init__(self, binaries: Path, folder: Path, addresses: tuple[str, ...] = (), *, quick: bool = True) -> None:
        """`quick`: its controllers may ask the API server 300 times a second, not their own default's 20."""
        self._qps = _CLIENT_QPS if quick else ()
        self._binaries = binaries
        self.folder = folder
        self._addresses = ("127.0.0.1", *addresses)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tokens = {"admin": secrets.token_hex(16)}
        self._etcd, self._peer, self.port = _port(), _port(), _port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.kube = self.client("admin")

    def start(self) -> None:
        """Up to `readyz`, and until service accounts are made. Raises AssertionError with a log's end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_certificates()
        self._write_tokens()
        self.kubeconfig("admin")
        for name in PROGRAMS[:2]:
            self._run(name)
        self._until_ready()
        for name in PROGRAMS[2:]:
            self._run(name)
        end = time.monotonic() + READY_SECONDS
        while self.kube.find("/api/v1/namespaces/default/serviceaccounts/default") is None:
            assert time.monotonic() < end, self.log("kube-controller-manager")
            time.sleep(0.05)

    def stop(self) -> None:
        """At once: the API server would wait for its watches to end, and nobody needs the state any more."""
        for name in reversed(PROGRAMS):
            self.end(name)

    def end(self, name: str, number: int = signal.SIGKILL) -> None:
        """Stop one program; `restart` brings it back with its state."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, name: str) -> None:
        self._run(name)
        if name in PROGRAMS[:2]:
            self._until_ready()

    def pause(self, name: str) -> None:
        """SIGSTOP: it is there and does not answer."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGCONT)

    def resident_mb(self, name: str) -> float:
        pages = int(Path(f"/proc/{self._processes[name].pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def log(self, name: str, size: int = 4000) -> str:
        file = self.folder / f"{name}.log"
        return f"{name}: {file.read_text(errors='replace')[-size:]}" if file.exists() else f"{name}: no log"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    def client(self, user: str) -> Kube:
        return Kube(self.url, self._tokens[user], str(self.ca))

    def kubeconfig(self, user: str, *, server: str = "", token: str = "", namespace: str = "") -> Path:
        """A file for a user known by name, or by `token`."""
        name = f"{user}.kubeconfig"
        cluster = {"server": server or self.url, "certificate-authority": str(self.ca)}
        context = {"cluster": "test", "user": user, **({"namespace": namespace} if namespace else {})}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token or self._tokens[user]}}],
            "contexts": [{"name": "test", "context": context}],
        }
        (self.folder / name).write_text(yaml.safe_dump(config))
        return self.folder / name

    def client_certificate(self, user: str, group: str) -> tuple[Path, Path]:
        """Certificate and key by which the API server knows a user."""
        for words in (
            f"req -newkey rsa:2048 -nodes -subj /O={group}/CN={user} -config openssl.cnf "
            f"-keyout {user}.key -out {user}.csr",
            f"x509 -req -in {user}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out {user}.crt",
        ):
            subprocess.run(["openssl", *words.split()], cwd=self.folder, check=True, capture_output=True)
        return self.folder / f"{user}.crt", self.folder / f"{user}.key"

    def _run(self, name: str) -> None:
        words = getattr(self, "_" + name.replace("-", "_") + "_words")()
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*_WITH_US, str(self._binaries / name), *words],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )

    def _until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while True:
            process = self._processes["kube-apiserver"]
            assert process.poll() is None, self.log("kube-apiserver")
            assert time.monotonic() < end, self.log("kube-apiserver") + self.log("etcd")
            try:
                if self.kube.get("/readyz") == "ok":
                    return
            except requests.RequestException:
                time.sleep(0.05)

    def _make_certificates(self) -> None:
        if self.ca.exists():
            return
        if shutil.which("openssl") is None:
            tools.packages("openssl")
        names = ",".join(f"IP:{one}" for one in (*self._addresses, "10.96.0.1")) + ",DNS:localhost"
        config = (
            "[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
            f"[leaf]\nsubjectAltName={names}\n"
        )
        (self.folder / "openssl.cnf").write_text(config)
        for words in (
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=test-ca -config openssl.cnf -extensions ca "
            "-keyout ca.key -out ca.crt",
            "req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -config openssl.cnf "
            "-keyout server.key -out server.csr",
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile openssl.cnf "
            "-extensions leaf -out server.crt",
            "genrsa -out accounts.key 2048",
        ):
            subprocess.run(["openssl", *words.split()], cwd=self.folder, check=True, capture_output=True)

    def _write_tokens(self) -> None:
        groups = {"admin": "system:masters"}
        lines = [f'{token},{user},{user},"{groups[user]}"' for user, token in self._tokens.items()]
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")

    def _etcd_words(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peer}"
        return [
            "--name=test", "--data-dir=etcd", f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=test={peer}",
            "--unsafe-no-fsync", "--log-level=error",
        ]  # fmt: skip

    def _kube_apiserver_words(self) -> list[str]:
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd}", "--bind-address=127.0.0.1", f"--secure-port={self.port}",
            "--tls-cert-file=server.crt", "--tls-private-key-file=server.key", "--token-auth-file=tokens.csv",
            "--client-ca-file=ca.crt",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=accounts.key",
            "--service-account-signing-key-file=accounts.key", "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true", "--endpoint-reconciler-type=none", "--profiling=false",
            "--kubelet-preferred-address-types=InternalIP", "--event-ttl=15m",
        ]  # fmt: skip

    def _kube_controller_manager_words(self) -> list[str]:
        return [
            "--kubeconfig=admin.kubeconfig", "--leader-elect=false", "--secure-port=0", "--root-ca-file=ca.crt",
            "--service-account-private-key-file=accounts.key", *self._qps, "--concurrent-job-syncs=10",
            f"--node-monitor-grace-period={NODE_LOST_SECONDS}s", "--node-monitor-period=1s",
        ]  # fmt: skip

    def _kube_scheduler_words(self) -> list[str]:
        return ["--kubeconfig=admin.kubeconfig", "--leader-elect=false", "--secure-port=0", *self._qps]


def _port() -> int:
    """A free one below the range from which the kernel gives ports to outgoing connections: nobody takes it later."""
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
