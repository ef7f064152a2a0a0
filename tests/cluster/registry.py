"""A real registry for tests: Debian's docker-registry, by plain HTTP, its storage in a folder."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

import yaml

from tests.cluster import tools
from tests.cluster.images import MANIFEST, Image
from tests.support import free_port

READY_SECONDS = 20
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Registry:
    """`host`: an address of this machine: loopback, or a bridge's so that pods reach it too."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = f"{host}:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers. Again after `stop`: the same address and images."""
        tools.packages("docker-registry")
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }
        (self.folder / "registry.yaml").write_text(yaml.safe_dump(settings))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", self.folder / "registry.yaml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert self._process.poll() is None, f"docker-registry: {self._log.read_text()[-2000:]}"
            assert time.monotonic() < end, f"docker-registry does not answer: {self._log.read_text()[-2000:]}"
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def push(self, image: Image, name: str, tag: str = "1") -> str:
        """The reference by which a node pulls it, HOST:PORT/NAME:TAG."""
        for layer in image.layers:
            with layer.file.open("rb") as file:
                self._push_blob(name, layer.digest, file, layer.size)
        described = image.config_descriptor
        self._push_blob(name, str(described["digest"]), image.config_blob, int(described["size"]))
        self._call("PUT", f"/v2/{name}/manifests/{tag}", image.manifest, {"Content-Type": MANIFEST})
        return f"{self.address}/{name}:{tag}"

    def requests(self) -> list[str]:
        """Its log's lines: what was asked of it."""
        return self._log.read_text(errors="replace").splitlines()

    def _push_blob(self, name: str, digest: str, body: bytes | IO[bytes], size: int) -> None:
        try:
            self._call("HEAD", f"/v2/{name}/blobs/{digest}")
            return
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        place = self._call("POST", f"/v2/{name}/blobs/uploads/", b"")["Location"]
        target = place + ("&" if "?" in place else "?") + f"digest={digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self._call("PUT", target, body, headers)

    def _call(
        self, method: str, target: str, body: bytes | IO[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, str]:
        """The answer's headers."""
        url = target if target.startswith("http") else f"http://{self.address}{target}"
        request = urllib.request.Request(url, body, headers or {}, method=method)
        with _DIRECT.open(request, timeout=60) as answer:
            answer.read()
            return dict(answer.headers)

    def _answers(self) -> bool:
        try:
            self._call("GET", "/v2/")
        except OSError:
            return False
        return True

    @property
    def _log(self) -> Path:
        return self.folder / "registry.log"
