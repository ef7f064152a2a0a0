"""Real git servers on this machine: http with basic auth and LFS, ssh, git://. Each on a port of its own.

`GitPod` prepares repositories from them, as one pod after another over one cache.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bootstrap import repository
from bootstrap.commands import Programs
from bootstrap.masking import Masker
from bootstrap.prepared import Checkout
from clearml_api.configuration import Configuration
from clearml_api.models import Script
from tests import support

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


class HttpGit:
    """Serves the bare repositories below `root` by `git http-backend`, and their LFS objects.

    A path that begins with `private/` wants `user` and `password`. `refuse_bare` speaks git's protocol 0, in which a
    server gives no commit that is not at a reference.
    """

    def __init__(self, root: Path, user: str = "robot", password: str = "s3cr et/pass") -> None:
        self.root = root
        self.user, self.password = user, password
        self.refuse_bare = False
        self.failures = 0
        """So many of the next requests are answered 503."""
        self.requests: list[str] = []
        self.lfs_gets = 0
        owner = self

        class Handler(_Handler):
            server_owner = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://{self.host}/{name}"

    def allows(self, path: str, header: str) -> bool:
        wanted = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return not path.startswith("/private/") or header == wanted

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_owner: HttpGit
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._any(b"")

    def do_PUT(self) -> None:
        self._any(self._body())

    def do_POST(self) -> None:
        self._any(self._body())

    def _any(self, body: bytes) -> None:
        owner = self.server_owner
        owner.requests.append(f"{self.command} {self.path}")
        if owner.failures > 0:
            owner.failures -= 1
            return self._answer(503, b"busy\n")
        if not owner.allows(self.path, self.headers.get("Authorization", "")):
            return self._answer(401, b"who are you?\n", {"WWW-Authenticate": 'Basic realm="git"'})
        if self.path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        if "/lfs-objects/" in self.path:
            return self._object(body)
        return self._git(body)

    def _batch(self, request: dict) -> None:
        base = f"http://{self.headers['Host']}{self.path.partition('/info/lfs/')[0]}/lfs-objects"
        header = {"Authorization": self.headers.get("Authorization", "")}
        objects = []
        for one in request["objects"]:
            found = {**one, "authenticated": True}
            if request["operation"] == "download" and not (self.server_owner.root / "lfs" / one["oid"]).exists():
                found["error"] = {"code": 404, "message": "Object does not exist"}
            else:
                found["actions"] = {request["operation"]: {"href": f"{base}/{one['oid']}", "header": header}}
            objects.append(found)
        answer = json.dumps({"transfer": "basic", "objects": objects}).encode()
        self._answer(200, answer, {"Content-Type": "application/vnd.git-lfs+json"})

    def _object(self, body: bytes) -> None:
        file = self.server_owner.root / "lfs" / self.path.rpartition("/")[2]
        if self.command == "PUT":
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(body)
            return self._answer(200, b"")
        self.server_owner.lfs_gets += 1
        if not file.exists():
            return self._answer(404, b"")
        return self._answer(200, file.read_bytes())

    def _git(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server_owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_USER": "somebody",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "CONTENT_LENGTH": str(len(body)),
        }
        if not self.server_owner.refuse_bare:
            environ["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(["git", "http-backend"], env=environ, input=body, capture_output=True, check=False)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        self._answer(int(headers.pop("Status", "200 OK").split()[0]), rest, headers)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Ssh:
    """A real sshd that lets one key in."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o700)
        self.port = support.free_port()
        self.key, host = folder / "key", folder / "host"
        for key in (self.key, host):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        (folder / "authorized").write_bytes(self.key.with_suffix(".pub").read_bytes())
        kind, public = host.with_suffix(".pub").read_text().split()[:2]
        self.known_hosts = f"[127.0.0.1]:{self.port} {kind} {public}\n"
        Path("/run/sshd").mkdir(exist_ok=True)
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {folder / 'authorized'}\n"
            f"StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nPermitRootLogin yes\n"
        )
        log = (folder / "log").open("wb")
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log)
        support.until(lambda: b"listening on" in (folder / "log").read_bytes(), 10)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Daemon:
    """`git daemon`."""

    def __init__(self, root: Path) -> None:
        self.port = support.free_port()
        words = ["--export-all", f"--base-path={root}", "--listen=127.0.0.1", f"--port={self.port}", "--reuseaddr"]
        self._process = subprocess.Popen(
            ["git", "-c", "safe.directory=*", "daemon", "--verbose", *words, str(root)],
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stderr
        self._process.stderr.readline()  # "Ready to rumble"
        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    def stop(self) -> None:
        os.killpg(self._process.pid, 9)
        self._process.wait()


def lfs_pointer(data: bytes) -> str:
    """What git keeps of a file in LFS."""
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n"


class GitPod:
    """Prepares repositories as one pod after another would, over one cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.told: list[str] = []
        self.pods = 0

    def prepare(self, script: Script, tree: dict | None = None, **environ: str) -> Checkout:
        self.pods += 1
        masker = Masker([environ.get("CLEARML_AGENT_GIT_PASS", "")])
        return repository.prepare(
            script,
            work=self.folder / f"work-{self.pods}",
            cache=self.cache,
            configuration=Configuration(tree={"agent": tree or {}}),
            environ={"PATH": os.environ["PATH"], "HOME": str(self.home), **environ},
            programs=Programs(masker.text),
            tell=self.told.append,
        )

    def listing(self, folder: Path) -> list[tuple[str, int]]:
        """Every file below a folder, and when it was written."""
        return sorted((str(file), file.stat().st_mtime_ns) for file in folder.rglob("*"))

    def files(self) -> bytes:
        """Everything that was written, to look for what must not be there."""
        return b"".join(file.read_bytes() for file in self.folder.rglob("*") if file.is_file())


def me(http: HttpGit) -> dict[str, str]:
    return {"CLEARML_AGENT_GIT_USER": http.user, "CLEARML_AGENT_GIT_PASS": http.password}
