"""Private indexes, networks that fail, and what is asked of them: with a real index, for uv and pip alike."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest

from bootstrap.commands import Programs
from bootstrap.environment import explain, index, installers, options
from bootstrap.environment.flags import uv_flags
from bootstrap.environment.store import REQUESTS
from bootstrap.errors import EnvironmentBuildError
from bootstrap.masking import in_addresses
from clearml_api.configuration import Configuration
from tests.bootstrap.environments import configured, prepare, wheel
from tests.bootstrap.index import PASSWORD, USER, Index

FEW_TRIES = {"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "1"}
BOTH = pytest.mark.parametrize("manager", ["uv", "pip"])


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("index")
    wheel(folder / "packages", "alpha", "1.0")
    wheel(folder / "packages", "alpha", "2.0")
    wheel(folder / "packages", "beta", needs="alpha")
    started = Index(folder / "server", folder / "packages")
    yield started
    started.stop()


@pytest.mark.parametrize(
    ("manager", "variable"),
    [("uv", "UV_DEFAULT_INDEX"), ("uv", "PIP_INDEX_URL"), ("uv", "UV_INDEX_URL"), ("pip", "UV_DEFAULT_INDEX")],
)
def test_an_index_with_a_password_by_either_tools_variable(tmp_path, private, manager, variable) -> None:
    environment = prepare("beta", tmp_path, None, manager=manager, environ={variable: private.url})
    assert environment.installed == "alpha==2.0\nbeta==1.0"


@BOTH
def test_an_extra_index_of_clearml_conf_and_the_image_s_pip_conf(tmp_path, private, manager) -> None:
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text(f"[global]\nindex-url = {private.url}\n")
    assert prepare("alpha==1.0", tmp_path, None, manager=manager).installed == "alpha==1.0"
    home = tmp_path / "other"
    home.mkdir()
    extra = configured(extra_index_url=[private.url])
    environ = {"HOME": str(home), "PIP_INDEX_URL": private.url.replace("/simple/", "/nothing/")}
    found = prepare("alpha==2.0", tmp_path, None, manager=manager, configuration=extra, environ=environ)
    assert found.installed == "alpha==2.0"


@BOTH
def test_refused_credentials_are_told_with_the_index_and_never_with_the_password(tmp_path, private, manager) -> None:
    wrong = private.url.replace(PASSWORD, "wrong-password")
    with pytest.raises(EnvironmentBuildError) as caught:
        prepare("alpha", tmp_path, None, manager=manager, environ={"UV_DEFAULT_INDEX": wrong})
    assert "alpha" in str(caught.value) or f"127.0.0.1:{private.port}" in str(caught.value)
    assert "wrong-password" not in str(caught.value)


@BOTH
def test_a_dead_index_is_tried_again_and_named_with_the_package(tmp_path, manager, monkeypatch) -> None:
    monkeypatch.setattr(installers, "RETRY_PAUSES", (0.01,))
    told: list[str] = []
    environ = {
        "UV_DEFAULT_INDEX": "http://user:hidden-pass@127.0.0.1:9/simple",
        **FEW_TRIES,
    }
    with pytest.raises(EnvironmentBuildError, match=r"network failed.*alpha.*127\.0\.0\.1:9") as caught:
        prepare("alpha==1.0", tmp_path, None, manager=manager, environ=environ, told=told)
    assert sum("trying again" in line for line in told) == 1
    assert "hidden-pass" not in f"{caught.value}"


def test_a_time_in_pips_log_is_no_answer_of_an_index(tmp_path) -> None:
    log = tmp_path / "log"
    log.write_text("2026-01-01T10:00:40,401 Could not fetch URL http://h/x/: connection error: refused\nother\n")
    pip = installers.PipInstaller(tmp_path, options.Options(manager="pip"), {}, Programs(), [].append)
    assert pip._unsaid(["pip", "--log", log]) == "\nCould not fetch URL http://h/x/: connection error: refused"


class Flaky(BaseHTTPRequestHandler):
    """Answers 503 for a while, then what the real index answers."""

    failures = 0
    target = ""

    def do_GET(self) -> None:
        if Flaky.failures > 0:
            Flaky.failures -= 1
            self.send_error(503)
            return
        headers = {"Authorization": self.headers.get("Authorization", "")}
        path = self.path.removeprefix("http://packages.example")  # as a proxy is asked
        try:
            asked = urllib.request.Request(Flaky.target + path, headers=headers, method=self.command)
            with urllib.request.urlopen(asked) as answer:
                status, kind, body = answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, body = error.code, "text/plain", b""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("WWW-Authenticate", "Basic realm=index")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


@BOTH
def test_an_index_that_comes_back_is_no_failure(tmp_path, private, manager, monkeypatch) -> None:
    monkeypatch.setattr(installers, "RETRY_PAUSES", (0.01, 0.01))
    server = HTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Flaky.failures, Flaky.target = 2, f"http://127.0.0.1:{private.port}"
    environ = {
        "UV_DEFAULT_INDEX": f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/simple",
        **FEW_TRIES,
    }  # fmt: skip
    told: list[str] = []
    found = prepare("alpha==1.0", tmp_path, None, manager=manager, environ=environ, told=told)
    server.shutdown()
    assert found.installed == "alpha==1.0"


@BOTH
def test_a_proxy_is_asked(tmp_path, private, manager) -> None:
    server = HTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Flaky.failures, Flaky.target = 0, f"http://127.0.0.1:{private.port}"
    environ = {
        "PIP_INDEX_URL": f"http://{USER}:{PASSWORD}@packages.example/simple",
        "HTTP_PROXY": f"http://127.0.0.1:{server.server_port}", "http_proxy": f"http://127.0.0.1:{server.server_port}",
        "PIP_TRUSTED_HOST": "packages.example", **FEW_TRIES,
    }  # fmt: skip
    found = prepare("alpha==1.0", tmp_path, None, manager=manager, environ=environ)
    server.shutdown()
    assert found.installed == "alpha==1.0"


@pytest.mark.parametrize(
    ("manager", "variable"), [("uv", "REQUESTS_CA_BUNDLE"), ("uv", "PIP_CERT"), ("pip", "SSL_CERT_FILE")]
)
def test_a_sites_own_certificate_by_any_tools_variable(tmp_path, private, manager, variable) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Flaky.failures, Flaky.target = 0, f"http://127.0.0.1:{private.port}"
    where = {"UV_DEFAULT_INDEX": f"https://{USER}:{PASSWORD}@localhost:{server.server_port}/simple", **FEW_TRIES}
    found = prepare("alpha==1.0", tmp_path, None, manager=manager, environ={**where, variable: str(certificate)})
    assert found.installed == "alpha==1.0"
    with pytest.raises(EnvironmentBuildError):
        prepare("alpha==2.0", tmp_path, None, manager=manager, environ=where)
    server.shutdown()


def test_another_driver_is_another_environment(tmp_path, private) -> None:
    where = {"UV_DEFAULT_INDEX": private.url}
    keys = {
        prepare("beta", tmp_path, None, environ={**where, "UV_CUDA_DRIVER_VERSION": driver}).key
        for driver in ("525.60.13", "580.0")
    }
    assert len(keys) == 2


@BOTH
def test_pinned_requirements_never_ask_again_and_loose_ones_once_in_a_while(tmp_path, manager) -> None:
    wheel(tmp_path / "packages", "alpha", "1.0")
    served = Index(tmp_path / "server", tmp_path / "packages")
    where = {"UV_DEFAULT_INDEX": served.url, "UV_NO_CACHE": "1", **FEW_TRIES}
    told: list[str] = []

    def run(text: str, **more: float):
        told.clear()
        return prepare(text, tmp_path, None, manager=manager, environ=where, told=told, place=more)

    try:
        pinned, loose = run("alpha==1.0"), run("alpha")
        assert any("not pinned, resolved just now: alpha==1.0" in line for line in told)
        assert pinned.key == loose.key, "what is installed is the same, so there is one copy"
        asked = served.asked()
        wheel(tmp_path / "packages", "alpha", "2.0")
        assert run("alpha").key == loose.key and run("alpha==1.0", resolve_after_seconds=0).from_cache
        assert served.asked() == asked, "nothing was asked"
        time.sleep(1.1)  # pypiserver's listing of the folder is a second old at most
        newer = run("alpha", resolve_after_seconds=0)
        assert (newer.from_cache, newer.installed) == (False, "alpha==2.0")
        assert any("newer packages" in line for line in told)
        again = run("alpha", resolve_after_seconds=0)
        assert again.from_cache and again.key == newer.key
    finally:
        served.stop()
    kept = run("alpha", resolve_after_seconds=0)
    assert kept.from_cache and kept.key == newer.key
    assert any("serve on" in line for line in told)


def test_a_resolution_is_of_its_index(tmp_path, private) -> None:
    one = prepare("alpha==1.0", tmp_path, None, environ={"UV_DEFAULT_INDEX": private.url})
    other = prepare(
        "alpha==1.0", tmp_path, None, environ={"UV_DEFAULT_INDEX": private.url, "UV_INDEX": private.plain[:-1] + "x"}
    )
    assert one.key != other.key
    changed = private.url.replace(f"{USER}:{PASSWORD}", "other:password")
    assert prepare("alpha==1.0", tmp_path, None, environ={"UV_DEFAULT_INDEX": changed}).from_cache
    requests = list((tmp_path / "cache" / "environments" / REQUESTS).glob("*.json"))
    assert PASSWORD not in "".join(file.read_text() for file in requests)


def test_one_tools_settings_hold_for_the_other() -> None:
    read = options.read(Configuration(), {})
    found = index.variables(read, {"REQUESTS_CA_BUNDLE": "/ca.pem", "PIP_TRUSTED_HOST": "h", "HTTPS_PROXY": "http://p"})
    assert (found["SSL_CERT_FILE"], found["PIP_CERT"], found["UV_INSECURE_HOST"]) == ("/ca.pem", "/ca.pem", "h")
    assert found["HTTPS_PROXY"] == "http://p"
    found = index.variables(read, {"PIP_FIND_LINKS": "/a /b", "PIP_INDEX_URL": "https://e.org/simple"})
    assert (found["UV_FIND_LINKS"], found["UV_DEFAULT_INDEX"]) == ("/a,/b", "https://e.org/simple")
    found = index.variables(read, {"UV_INDEX": "mine=https://e.org/a https://e.org/b"})
    assert found["PIP_EXTRA_INDEX_URL"] == "https://e.org/a https://e.org/b"


def test_the_section_and_its_variables_are_read() -> None:
    section = configured(
        type="pip", system_site_packages=True, priority_packages=["Cython", "numpy"], post_packages="horovod",
        extra_index_url="https://e.org/s", extra_pip_install_flags=["--pre"], force_upgrade=True, poetry_version="<2",
        pip_version=["<20.2 ; python_version < '3.10'", "<22.3 ; python_version >= '3.10' and python_version <= '3.11'",
                     ">=23,<26 ; python_version >= '3.12'"],
    )  # fmt: skip
    found = options.read(section, {})
    assert (found.manager, found.system_site_packages) == ("pip", True)
    assert (found.priority, found.post, found.extra_flags) == (("cython", "numpy"), ("horovod",), ("--pre",))
    assert [line.split()[0] for line in found.left_out] == ["package_manager.poetry_version"]
    found = options.read(
        section, {"CLEARML_EXTRA_PIP_INSTALL_FLAGS": "--no-deps,--quiet", "CLEARML_AGENT_FORCE_UV": "1"}
    )
    assert (found.manager, found.lock, found.extra_flags) == ("uv", "uv", ("--no-deps", "--quiet"))
    assert options.read(Configuration(), {"CLEARML_AGENT_PACKAGE_PYTORCH_RESOLVE": "none"}).torch == ""
    assert options.read(Configuration(), {"CUDA_VERSION": "12.1.1"}).torch == "cu121"
    assert options.read(Configuration(), {}).torch == "auto"


def test_the_network_is_told_from_the_requirement() -> None:
    uv = "error: Request failed\n  cause: Failed to fetch: `https://e.org/simple/six/`\n  cause: dns error"
    assert explain.is_trouble(uv) and explain.place(uv) == "package six at https://e.org/simple/six"
    assert not explain.is_trouble("error: No solution found: Because six was not found in the package registry")
    assert not explain.is_trouble("HTTP status client error (401 Unauthorized) for url (https://e.org/simple/six/)")
    pip = (
        "Could not fetch URL http://e.org/simple/six/: connection error: HTTPConnectionPool(host='e.org', port=80): "
        "Max retries exceeded with url: /simple/six/ (Caused by NewConnectionError('Connection refused')) - skipping"
    )
    assert explain.is_trouble(pip) and explain.place(pip) == "package six at http://e.org/simple/six"
    texts = ["x @ git+https://me:tok%3Aen@h/x.git", "https://a-token-that-is-long-enough@h/s", "ssh://git@h/x", "a@b"]
    assert in_addresses(texts) == ["tok%3Aen", "tok:en", "a-token-that-is-long-enough"]
    assert in_addresses(["https://me@corp:p@ss@h/x", "https://h:80/a@b"]) == ["p@ss"]
    repositories = ["https://ghp_token@h/x", "https://git@h/x", "ssh://longuser@h/x"]
    assert in_addresses(repositories, shortest_user=8) == ["ghp_token"]


def test_flags_that_uv_does_not_know_make_pip_install() -> None:
    assert uv_flags(["--pre", "--no-binary=:all:", "-f", "/x", "--retries=3"]) == [
        "--prerelease=allow", "--no-binary", "--find-links", "/x",
    ]  # fmt: skip
    assert uv_flags(["--global-option=x"]) is None
    told: list[str] = []
    asked = options.Options(extra_flags=("--global-option=x",))
    made = installers.installer(asked, cache=Path("/nowhere"), environ={}, programs=Programs(), tell=told.append)
    assert made.name == "pip" and told


@BOTH
def test_flags_for_pip_are_obeyed_by_uv_or_pip_is_taken(tmp_path, private, manager) -> None:
    where = {"UV_DEFAULT_INDEX": private.url}
    flags = configured(extra_pip_install_flags=["--no-deps", "--disable-pip-version-check"])
    found = prepare("beta", tmp_path, None, manager=manager, environ=where, configuration=flags)
    assert found.installed == "beta==1.0"


def test_optional_packages_do_not_stop_the_rest(tmp_path, private) -> None:
    section = configured(priority_packages=["alpha"], post_packages=["beta"], post_optional_packages=["nowhere"])
    told: list[str] = []
    where = {"UV_DEFAULT_INDEX": private.url}
    found = prepare("nowhere\nbeta\nalpha==1.0", tmp_path, None, environ=where, configuration=section, told=told)
    assert found.installed == "alpha==1.0\nbeta==1.0"
    assert any("left out nowhere" in line for line in told)


def test_torch_comes_from_the_usual_index_when_its_own_is_away(tmp_path) -> None:
    """uv knows pytorch's index, which a proxy that nobody serves keeps away; the private index needs no proxy."""
    wheel(tmp_path / "packages", "torch", "2.1.0")
    served = Index(tmp_path / "server", tmp_path / "packages")
    told: list[str] = []
    environ = {"UV_DEFAULT_INDEX": served.url, "HTTPS_PROXY": "http://127.0.0.1:9", **FEW_TRIES}
    found = prepare("torch==2.1.0+cu121", tmp_path, None, told=told, environ=environ)
    served.stop()
    assert found.installed == "torch==2.1.0"
    assert any("chosen anew" in line for line in told) and any("usual index" in line for line in told)


def test_what_is_written_back_holds_no_password() -> None:
    frozen = "a @ git+https://me:secret@e.org/a@" + "0" * 40 + "\n-e git+ssh://git@e.org/b#egg=b\nsix==1"
    assert index.clean(frozen) == frozen.replace("me:secret@", "")
