"""What an image lacks: which shell, which certificates, which Python, which home."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import home, lent, task_environ
from bootstrap.environment import pythons
from clearml_api import certificates
from protocol import environment as names
from protocol.folder import CERTIFICATES


def program(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return str(file)


def test_our_tools_come_last_and_once(tmp_path: Path) -> None:
    lended = lent.to_helpers({"PATH": "/usr/bin:/bin", "SSL_CERT_FILE": "/mine"}, tools=tmp_path)
    assert lended == {"PATH": f"/usr/bin:/bin:{tmp_path}", "SSL_CERT_FILE": "/mine"}
    assert lent.to_helpers(lended, tools=tmp_path) == lended
    assert lent.to_helpers({"PATH": "/bin", "SSL_CERT_FILE": "/mine"}, tools=tmp_path / "none")["PATH"] == "/bin"


def test_what_a_script_exports_is_kept_without_what_it_was_lent(tmp_path: Path) -> None:
    changed = lent.taken_back({"PATH": f"/extra:/bin:{tmp_path}", "A": "1", "B": None}, tools=tmp_path)
    assert changed == {"PATH": "/extra:/bin", "A": "1", "B": None}


def test_the_images_own_shell_comes_before_ours(tmp_path: Path) -> None:
    image, tools = tmp_path / "bin", tmp_path / "tools"
    environ = {"PATH": str(image)}
    assert lent.shell(environ, tools=tools) == ""
    ours = program(tools / "sh")
    assert lent.shell(environ, "zsh", tools=tools) == ours
    assert lent.is_ours(ours, tools=tools)
    plain = program(image / "sh")
    assert lent.shell(environ, "zsh", tools=tools) == plain
    bash = program(image / "bash")
    assert lent.shell(environ, tools=tools) == bash
    wanted = program(image / "zsh")
    assert lent.shell(environ, "zsh", tools=tools) == wanted


@pytest.mark.parametrize(
    ("image", "environ", "told"),
    [
        (["/etc/ssl/certs/ca-certificates.crt"], {}, None),
        (["/etc/pki/tls/certs/ca-bundle.crt"], {}, "/etc/pki/tls/certs/ca-bundle.crt"),
        (["/etc/ssl/ca-bundle.pem"], {}, "/etc/ssl/ca-bundle.pem"),
        ([str(CERTIFICATES)], {}, str(CERTIFICATES)),
        (["/etc/ssl/cert.pem", str(CERTIFICATES)], {}, "/etc/ssl/cert.pem"),
        ([str(CERTIFICATES)], {"SSL_CERT_FILE": "/company.pem"}, None),
        ([str(CERTIFICATES)], {"GIT_SSL_CAINFO": "/company.pem"}, None),
        ([], {}, None),
    ],
)
def test_certificates_are_the_users_else_the_images_else_ours(tmp_path, image, environ, told) -> None:
    for place in image:
        file = tmp_path / place.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("-----BEGIN CERTIFICATE-----\n")
    assert certificates.bundle(environ, tmp_path) == (Path(told) if told else None)


def test_an_empty_bundle_is_none(tmp_path: Path) -> None:
    (tmp_path / "etc/ssl/certs").mkdir(parents=True)
    (tmp_path / "etc/ssl/certs/ca-certificates.crt").touch()
    (tmp_path / "etc/ssl/cert.pem").write_text("one")
    assert certificates.bundle({}, tmp_path) == Path("/etc/ssl/cert.pem")


@pytest.mark.parametrize(
    ("loader", "kind"),
    [
        ("lib64/ld-linux-x86-64.so.2", "gnu"),
        ("lib/ld-linux-aarch64.so.1", "gnu"),
        ("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "gnu"),
        ("lib/ld-musl-aarch64.so.1", "musl"),
        ("lib/other.so", ""),
    ],
)
def test_the_c_library_is_told_by_its_loader(tmp_path: Path, loader: str, kind: str) -> None:
    (tmp_path / loader).parent.mkdir(parents=True)
    (tmp_path / loader).touch()
    assert pythons.libc(tmp_path) == kind


def test_a_python_of_another_c_library_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    other, own = ("musl", "gnu") if pythons.libc() == "gnu" else ("gnu", "musl")
    folder = pythons.folder_of(tmp_path)
    program(folder / f"cpython-3.12.1-linux-x86_64-{other}" / "bin" / "python3.12")
    assert pythons.installed("3.12", tmp_path) is None
    mine = program(folder / f"cpython-3.12.1-linux-x86_64-{own}" / "bin" / "python3.12")
    assert str(pythons.installed("3.12", tmp_path)) == mine


def test_a_home_that_can_be_written_is_left_alone(tmp_path: Path) -> None:
    assert "HOME" not in home.variables({"HOME": str(tmp_path), "USER": "me"}, tmp_path / "work")


@pytest.mark.parametrize("before", ["", "/nonexistent/home"])
def test_a_task_without_a_home_gets_one(tmp_path: Path, before: str) -> None:
    made = tmp_path / "work" / "home"
    assert home.variables({"HOME": before, "USER": "me"}, tmp_path / "work") == {"HOME": str(made)}
    assert made.is_dir()


def test_what_the_image_preloads_is_given_back_to_the_task_alone() -> None:
    aside = {"PATH": "/bin", names.LD_PRELOAD: "/lib/image.so"}
    assert task_environ.for_its_script(aside) == {"PATH": "/bin", "LD_PRELOAD": "/lib/image.so"}
    exported = {**aside, "LD_PRELOAD": "/lib/own.so"}
    assert task_environ.for_its_script(exported)["LD_PRELOAD"] == "/lib/own.so"
    assert "LD_PRELOAD" not in lent.to_helpers(aside)
