"""The files server: whole files, tokens, and no way out of its folder; tokens and keys of the API."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

from standalone.auth import keys
from standalone.wire import Refusal
from tests import support


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    server = support.Server(tmp_path_factory.mktemp("files"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def token(server) -> str:
    session = support.session_of(server.environ)
    session.login()
    return session._token


def ask(server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """One raw request: no client library cleans the path."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{server.port}", "Content-Length": str(len(body)), **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def upload(server, token: str, name: str, data: bytes) -> int:
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
    kind = f"multipart/form-data; boundary={mark}"
    return ask(server, "POST", "/", body, Authorization=f"Bearer {token}", Content_Type=kind)[0]


def stored(server) -> set[str]:
    folder = Path(server.log).parent / "server" / "files"
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_what_is_stored_is_read_back_and_removed(server, token) -> None:
    data = bytes(range(256)) * 5000
    assert upload(server, token, "project/task.1/artifacts/a b.bin", data) == 200
    bearer = f"Bearer {token}"
    path = "/project/task.1/artifacts/a%20b.bin"
    assert ask(server, "GET", path, Authorization=bearer)[:2] == (200, data)
    assert ask(server, "GET", path, Cookie=f"clearml_token_basic={token}")[:2] == (200, data)
    assert ask(server, "GET", path, Authorization=bearer, Range="bytes=2-4")[1] == data[2:5]
    assert ask(server, "DELETE", path, Authorization=bearer)[0] == 200
    assert ask(server, "GET", path, Authorization=bearer)[0] == 404


def test_without_a_token_nothing_is_had(server, token) -> None:
    assert upload(server, token, "secret/x.txt", b"x") == 200
    for authorization in ("", "Bearer x", "Bearer a.b.c", "Basic YTpi"):
        assert ask(server, "GET", "/secret/x.txt", Authorization=authorization, Host="evil.example")[0] == 401
        assert upload(server, authorization.removeprefix("Bearer "), "evil.txt", b"x") == 401
    assert ask(server, "DELETE", "/secret/x.txt")[0] == 401
    assert "evil.txt" not in stored(server)


@pytest.mark.parametrize(
    "name", ["../../escape.txt", "/../escape.txt", "a/../../../escape.txt", "..%2f..%2fescape.txt", "", ".", "x\x00y"]
)
def test_no_path_leads_out_of_the_folder(server, token, name) -> None:
    before = stored(server)
    upload(server, token, name, b"evil")
    root = Path(server.log).parent
    assert not [file for file in root.rglob("*escape*") if "files" not in file.parts]
    assert len(stored(server) - before) <= 1
    answer = ask(server, "GET", "/../../keys.json", Authorization=f"Bearer {token}")
    assert answer[0] == 404
    assert b"signing" not in answer[1]


def test_an_uploaded_page_cannot_act_as_ours(server, token) -> None:
    upload(server, token, "evil.html", b"<script>alert(1)</script>")
    _, _, headers = ask(server, "GET", "/evil.html", Authorization=f"Bearer {token}")
    lower = {name.lower(): value for name, value in headers.items()}
    assert "sandbox" in lower["content-security-policy"]
    assert lower["x-content-type-options"] == "nosniff"


def test_tokens_expire_and_cannot_be_forged(tmp_path) -> None:
    mine = keys(tmp_path, "access", "secret")
    mine.check(f"Bearer {mine.issue(60)}")
    for token, why in (
        (mine.issue(-1), "expired"),
        (mine.issue(60)[:-3] + "abc", "Signature"),
        (keys(tmp_path / "other", "access", "secret").issue(60), "Signature"),
        ("eyJhbGciOiJub25lIn0.e30.", "Signature"),
        ("x", "segments"),
    ):
        with pytest.raises(Refusal, match=why) as caught:
            mine.check(f"Bearer {token}")
        assert (caught.value.code, caught.value.subcode) == (401, 30)


def test_keys_are_kept_and_for_the_owner_alone(tmp_path) -> None:
    first = keys(tmp_path)
    assert keys(tmp_path) == first
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
    assert keys(tmp_path, "given", "too").access == "given"


def test_a_cookie_does_not_open_the_api(server, token) -> None:
    status, body, _ = ask(server, "POST", "/tasks.get_all", b"{}", Cookie=f"clearml_token_basic={token}")
    assert status == 401
    assert json.loads(body)["meta"]["result_subcode"] == 20


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff\xfe", b'"x"', b"1" * 100])
def test_a_body_that_is_no_json_object_is_told(server, token, body) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content_Type": "application/json"}
    status, answer, _ = ask(server, "POST", "/tasks.get_all", body, **headers)
    assert (status, json.loads(answer)["meta"]["result_code"]) == (400, 400)


def test_the_page_is_served_beside_the_api(server) -> None:
    with urllib.request.urlopen(server.environ["CLEARML_API_HOST"] + "/") as answer:
        assert b"podstrap" in answer.read().lower()
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(server.environ["CLEARML_API_HOST"] + "/page/../keys.json")


def test_it_stops_at_once_when_told(tmp_path) -> None:
    server = support.Server(tmp_path)
    server.start()
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5
