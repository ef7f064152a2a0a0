"""How answers are wrapped, and the ways to ask; so on the real server, and on ours."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from clearml_api.session import Session
from tests.standalone.calls import new


class Wire:
    """Plain HTTP with the session's own token."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._host = environ["CLEARML_API_HOST"]
        keys = f"{environ['CLEARML_API_ACCESS_KEY']}:{environ['CLEARML_API_SECRET_KEY']}"
        basic = {"Authorization": f"Basic {base64.b64encode(keys.encode()).decode()}"}
        self.login = self.ask("auth.login", b"{}", basic)[1]
        self.bearer = {"Authorization": f"Bearer {self.login['data']['token']}"}

    def ask(
        self, path: str, body: bytes | None = b"{}", headers: dict[str, str] | None = None, **more: str
    ) -> tuple[int, Any]:
        every = {"Content-Type": "application/json", **(self.bearer if headers is None else headers), **more}
        request = urllib.request.Request(f"{self._host}/{path}", body, every)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def wire(server_environ: dict[str, str]) -> Wire:
    return Wire(server_environ)


@pytest.mark.parametrize(
    ("path", "requested", "actual"),
    [
        ("tasks.get_all", "2.34", "1.0"),
        ("v2.13/tasks.get_all", "2.13", "1.0"),
        ("v2.99/queues.get_all", "2.99", "2.4"),
        ("server.info", "2.34", "2.12"),
    ],
)
def test_the_envelope(wire: Wire, path: str, requested: str, actual: str) -> None:
    code, answer = wire.ask(path, b'{"name": "nobody has this name"}')
    assert code == 200
    meta = answer["meta"]
    assert meta["endpoint"] == {"name": path.split("/")[-1], "requested_version": requested, "actual_version": actual}
    assert (meta["result_code"], meta["result_subcode"], meta["result_msg"]) == (200, 0, "OK")
    assert (meta["error_stack"], meta["error_data"]) == (None, {})
    assert len(meta["id"]) == len(meta["trx"]) == 32
    assert set(answer) == {"meta", "data"}


def test_an_error_is_wrapped_the_same_way(wire: Wire) -> None:
    code, answer = wire.ask("tasks.nope")
    assert code == answer["meta"]["result_code"] == 404
    assert answer["meta"]["endpoint"]["actual_version"] is None
    assert answer["data"] == {}


def test_the_login_tells_the_servers_version(wire: Wire) -> None:
    assert wire.login["meta"]["endpoint"]["requested_version"] == "2.34"
    claims = json.loads(base64.urlsafe_b64decode(wire.login["data"]["token"].split(".")[1] + "=="))
    assert claims["exp"] > claims["iat"]
    assert claims["api_version"] == "2.34"
    assert claims["identity"]["role"] == "user"


def test_ways_to_ask(wire: Wire, api: Session) -> None:
    task = new(api)
    posted = wire.ask("tasks.get_all", json.dumps({"id": [task]}).encode())[1]["data"]
    assert wire.ask("tasks.get_all", json.dumps({"id": [task], "method": "get"}).encode())[1]["data"] == posted
    assert wire.ask(f"tasks.get_all?id={task}", None)[1]["data"] == posted
    assert wire.ask(f"v2.13/tasks.get_all?id={task}", None)[1]["data"] == posted


def test_times_are_utc_with_microseconds(wire: Wire, api: Session) -> None:
    task = wire.ask("tasks.get_by_id", json.dumps({"task": new(api)}).encode())[1]["data"]["task"]
    for field in ("created", "last_update", "last_change"):
        assert len(task[field]) == len("2026-11-27T21:27:43.714000+00:00")
        assert task[field].endswith("+00:00")


def test_what_needs_no_login(wire: Wire) -> None:
    for path in ("debug.ping", "login.supported_modes"):
        assert wire.ask(path, headers={})[0] == 200
    for path in ("tasks.get_all", "users.get_current_user", "server.info"):
        code, answer = wire.ask(path, headers={})
        assert (code, answer["meta"]["result_subcode"]) == (401, 20)


def test_who_one_is(wire: Wire) -> None:
    user = wire.ask("users.get_current_user")[1]["data"]["user"]
    assert set(user) == {"company", "created", "id", "name", "role"}
    everybody = wire.ask("users.get_all", b'{"only_fields": ["id"]}')[1]["data"]["users"]
    assert {"id": user["id"]} in everybody
