"""clearml.conf and the variables: read as clearml-agent itself reads them, held equal by asking it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clearml_api.configuration import Configuration, load
from protocol.errors import ConfigError

PLAIN = """
# made by clearml-init
api {
    # web page
    web_server: https://app.example.org
    api_server: https://api.example.org/
    files_server: "https://files.example.org"
    credentials {"access_key": "KEY0", "secret_key": "se:cr#et//x"}
}
agent { git_user: "me", git_pass: "pa#ss" }
agent { package_manager: { type: uv, extra_index_url: ["https://a/x", "https://b/y"] } }
"""
NESTED = """
api.api_server = "http://one:8008"
api { credentials.access_key = K1, credentials.secret_key = S1, verify_certificate = false }
base: ${api.api_server}
agent.default_python: 3.11
agent.extra { a: 1, b: [1, 2, 3], c: "x" }
agent.extra { b: [4], d: true }
// a comment
sdk.development.default_output_uri: ""
"""
SECTIONS = '''
api { host: "http://legacy:8008", api_server: "", credentials { access_key: A, secret_key: B } }
agent { script: """
# not a comment
//neither
""" }
'''

_ASK_THE_AGENT = """
import json, sys
from clearml_agent.backend_api.config import load
from clearml_agent.backend_api.session import Session
from clearml_agent.backend_api.session.defs import ENV_ACCESS_KEY, ENV_SECRET_KEY, ENV_WEB_HOST, ENV_FILES_HOST
from clearml_agent.backend_api.session.defs import ENV_HOST_VERIFY_CERT
config = load()
print(json.dumps({
    "api_host": (Session.get_api_server_host(config) or "").strip("/"),
    "web_host": (ENV_WEB_HOST.get(default=config.get("api.web_server", None)) or "").strip("/"),
    "files_host": (ENV_FILES_HOST.get(default=config.get("api.files_server", None)) or "").strip("/"),
    "access_key": ENV_ACCESS_KEY.get(default=config.get("api.credentials.access_key", None)) or "",
    "secret_key": ENV_SECRET_KEY.get(default=config.get("api.credentials.secret_key", None)) or "",
    "verify_certificate": ENV_HOST_VERIFY_CERT.get(default=config.get("api.verify_certificate", True)),
    "values": {path: config.get(path, None) for path in json.loads(sys.argv[1])},
}))
"""
PATHS = [
    "agent.git_user", "agent.git_pass", "agent.package_manager.type", "agent.package_manager.extra_index_url",
    "agent.extra.a", "agent.extra.b", "agent.extra.d", "agent.script", "base", "agent.default_python",
    "sdk.development.default_output_uri",
]  # fmt: skip


def _agents_reading(environ: dict[str, str]) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", _ASK_THE_AGENT, json.dumps(PATHS)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("text", [PLAIN, NESTED, SECTIONS], ids=["plain", "nested", "sections"])
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"CLEARML_API_HOST": "http://env:8008/", "CLEARML_API_ACCESS_KEY": "EK", "CLEARML_API_SECRET_KEY": "ES"},
        {"TRAINS_API_HOST": "http://old:8008", "TRAINS_API_ACCESS_KEY": "OK"},
        {"CLEARML_AGENT__AGENT__GIT_USER": "from-env", "CLEARML_AGENT__API__WEB_SERVER": '"http://w:80"'},
        {"CLEARML_API_HOST_VERIFY_CERT": "false"},
    ],
    ids=["file", "variables", "trains", "paths", "certificate"],
)
def test_same_reading_as_clearml_agent(tmp_path: Path, text: str, variables: dict[str, str]) -> None:
    (tmp_path / "clearml.conf").write_text(text)
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **variables}
    theirs = _agents_reading(environ)
    ours = load(environ, home=tmp_path)
    for name in ("api_host", "web_host", "files_host", "access_key", "secret_key", "verify_certificate"):
        assert getattr(ours, name) == theirs[name], name
    for path, value in theirs["values"].items():
        # the agent adds its packaged defaults below the user's file: compare what the user's own file says
        if ours.get(path) is not None:
            assert ours.get(path) == value, path
    assert any(ours.get(path) is not None for path in PATHS)


def test_named_file_alone_is_read(tmp_path: Path) -> None:
    (tmp_path / "clearml.conf").write_text(PLAIN)
    other = tmp_path / "other.conf"
    other.write_text(NESTED)
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "CLEARML_CONFIG_FILE": str(other)}
    assert load(environ).api_host == _agents_reading(environ)["api_host"] == "http://one:8008"


def test_nothing_configured_says_what_is_missing_and_where_to_set_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)No ClearML server.*CLEARML_API_HOST.*clearml\.conf"):
        load({"HOME": str(tmp_path)}).require_server()
    with pytest.raises(ConfigError, match="No secret key"):
        Configuration(api_host="http://x", access_key="k").require_server()


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.conf, named by CLEARML_CONFIG_FILE, does not exist"):
        load({"HOME": str(tmp_path), "CLEARML_CONFIG_FILE": "/nowhere.conf"})


def test_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "clearml.conf").write_text("api {\n  api_server: http://x\n  credentials {{ \n")
    with pytest.raises(ConfigError, match=r"clearml\.conf .*line \d+"):
        load({"HOME": str(tmp_path)})


def test_secrets_are_known_for_masking_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "clearml.conf").write_text(PLAIN)
    configuration = load({"HOME": str(tmp_path)})
    assert set(configuration.secrets()) >= {"se:cr#et//x", "pa#ss"}
    assert "se:cr#et" not in repr(configuration)
