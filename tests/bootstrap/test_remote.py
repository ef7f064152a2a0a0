"""Addresses: what is one, who we are there, and which way we go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from clearml_agent.helper.repo import VCS

from bootstrap import git
from bootstrap.errors import RepositoryError
from bootstrap.remote import relative, remote
from clearml_api.configuration import Configuration

ME = {"CLEARML_AGENT_GIT_USER": "me", "CLEARML_AGENT_GIT_PASS": "token"}


def go(url: str, agent: dict | None = None, **environ: str) -> str:
    return remote(url, Configuration(tree={"agent": agent or {}}), environ).url


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a/b.git",
        "http://example.org:8080/a/b",
        "ssh://git@example.org:2222/a/b.git",
        "git://example.org/a",
        "git@example.org:a/b.git",
        "example.org:a/b.git",
        "file:///srv/a.git",
        "/srv/a.git",
        "https://dev.azure.com/o/p/_git/r?version=1",
        "https://[::1]:8080/a.git",
    ],
)
def test_an_address_stays_as_it_is_when_nothing_is_configured(url) -> None:
    assert go(url) == url


@pytest.mark.parametrize(
    "url", ["ssh://git@Example.org/a/b.git", "git@example.org:a/b.git", "ssh://me@example.org/a.git"]
)
def test_ssh_becomes_https_where_a_password_is_known_as_under_clearml_agent(url) -> None:
    theirs = VCS.replace_ssh_url(url).replace("me@", "")  # the user goes by GIT_ASKPASS
    assert go(url, **ME) == theirs.lower()
    assert go(url, **ME, CLEARML_AGENT_GIT_HOST="example.org") == theirs.lower()
    assert go(url, **ME, CLEARML_AGENT_GIT_HOST="other.org").lower() == url.lower()
    assert go(url, {"translate_ssh": False}, **ME).lower() == url.lower()
    assert go(url, **ME, CLEARML_AGENT_SSH_URL_REPLACEMENT_SCHEME="http") == theirs.lower().replace("https", "http")
    extra = {"git": {"extra_credentials": [{"user": "u", "pass": "p", "host": "EXAMPLE.org"}]}}
    assert go(url, extra) == theirs.lower()


def test_an_ssh_port_is_no_https_port() -> None:
    assert go("ssh://git@example.org:7999/a/b.git", **ME) == "https://example.org/a/b.git"


@pytest.mark.parametrize(("port", "user"), [(0, ""), (2222, ""), (0, "forge"), (2222, "forge")])
def test_https_becomes_ssh_when_it_is_forced_as_under_clearml_agent(port, user) -> None:
    conf = {"force_git_ssh_protocol": True, "force_git_ssh_port": port, "force_git_ssh_user": user}
    url = "https://me:secret@example.org:8443/a/b.git"
    assert go(url, conf) == VCS.replace_http_url(url, port=port, username=user)
    assert go("ssh://git@example.org/a.git", conf) == VCS.rewrite_ssh_url(
        "ssh://git@example.org/a.git", port=port, username=user
    )
    assert go("http://example.org/a.git", conf) == "http://example.org/a.git"
    assert go(url, {**conf, "git_host": "other.org"}) == "https://example.org:8443/a/b.git"
    scp = "git@example.org:a/b.git"
    assert go(scp, conf) == (VCS.rewrite_ssh_url("ssh://git@example.org/a/b.git", port, user) if port or user else scp)


def test_credentials_in_a_url_go_to_askpass_alone(tmp_path) -> None:
    where = remote("https://me:pa%20ss@example.org/x.git", Configuration(), {})
    assert where.url == "https://example.org/x.git"
    assert "pa ss" not in repr(where)
    access = git.access(where, Configuration(), {"PATH": os.environ["PATH"]}, tmp_path)
    environ = dict(access.environ)

    def ask(question: str) -> str:
        done = subprocess.run([environ["GIT_ASKPASS"], question], env=environ, capture_output=True, text=True)
        return done.stdout.strip()

    assert ask("Username for 'https://example.org': ") == "me"
    assert ask("Password for 'https://me@example.org': ") == "pa ss"
    assert ask('Password for "https://me@example.org:8080/x"') == "pa ss"
    assert ask("Password for 'https://me@evil.org': ") == ""
    assert ask("Password for 'https://example.org@evil.org': ") == ""
    assert ask("Password for 'https://example.org.evil.org': ") == ""
    assert "pa ss" not in Path(environ["GIT_ASKPASS"]).read_text()


def test_every_configured_password_is_known_as_a_secret() -> None:
    entry = {"user": "u", "pass": "extra-pass", "host": "h"}
    conf = Configuration(tree={"agent": {"git_pass": "plain-pass", "git": {"extra_credentials": [entry]}}})
    assert {"extra-pass", "plain-pass"} <= set(conf.secrets())


def test_azure_devops_gets_its_header_for_its_host_alone(tmp_path) -> None:
    conf = Configuration(tree={"agent": {"git_use_ms_entra_token": True}})
    where = remote("https://dev.azure.com/o/p", conf, ME)
    environ = git.access(where, conf, {"PATH": os.environ["PATH"], **ME}, tmp_path).environ
    settings = {
        environ[f"GIT_CONFIG_KEY_{n}"]: environ[f"GIT_CONFIG_VALUE_{n}"]
        for n in range(int(environ["GIT_CONFIG_COUNT"]))
    }
    assert settings["http.https://dev.azure.com/.extraHeader"] == "Authorization: Bearer token"
    environ = git.access(where, Configuration(), {**ME, "CLEARML_AGENT_GIT_USE_AZURE_PAT": "1"}, tmp_path).environ
    assert "Authorization: Basic OnRva2Vu" in environ.values()


@pytest.mark.parametrize("bundle", ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"])
def test_a_bundle_of_certificates_reaches_git(tmp_path, bundle) -> None:
    environ = git.access(remote("https://x/y", Configuration(), {}), Configuration(), {bundle: "/ca.pem"}, tmp_path)
    assert environ.environ["GIT_SSL_CAINFO"] == "/ca.pem"


@pytest.mark.parametrize(
    ("url", "base", "found"),
    [
        ("../lib.git", "https://example.org/a/b.git", "https://example.org/a/lib.git"),
        ("../../x/lib", "https://example.org/a/b/", "https://example.org/x/lib"),
        ("./lib", "/srv/a.git", "/srv/a.git/lib"),
        ("../lib", "git@example.org:a/b.git", "git@example.org:a/lib"),
        ("../lib", "git@example.org:b.git", "git@example.org:lib"),
        ("https://other.org/x", "https://example.org/a", "https://other.org/x"),
    ],
)
def test_a_submodules_address_counts_from_its_superprojects(url, base, found) -> None:
    assert relative(url, base) == found


@pytest.mark.parametrize(
    "url", ["", "-x", "ext::sh -c x", "ftp://x/y", "https:///x", "https://-x/y", "https://u:secret@x:y/"]
)
def test_what_is_no_address_is_refused_without_its_secret(url) -> None:
    with pytest.raises(RepositoryError) as caught:
        go(url)
    assert "secret" not in str(caught.value)
