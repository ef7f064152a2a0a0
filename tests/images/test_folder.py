"""The self-contained folder by itself: whole, small, at home in any image, and copied as it is."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import exit_codes
from protocol.folder import COPIED
from tests import support
from tests.cluster import tools
from tests.images.conftest import given
from tests.images.container import STRANGER, Container, injected

PODSTRAP = "/opt/podstrap/bin/podstrap"
TOOLS = "/opt/podstrap/tools"
LOADER = re.compile(r"Requesting program interpreter: (\S+)\]")
NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[(.+)\]")
RPATH = re.compile(r"\(RPATH\)\s+Library rpath: \[(.+)\]")
VENDORED = re.compile(r"\(R(?:UN)?PATH\)")


def elf_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every program and library, with what readelf says of it."""
    for file in folder.rglob("*"):
        if file.is_symlink() or not file.is_file():
            continue
        with file.open("rb") as opened:
            if opened.read(4) != b"\x7fELF":
                continue
        told = subprocess.run(["readelf", "--wide", "-l", "-d", file], check=True, capture_output=True, text=True)
        yield file, told.stdout


def test_every_program_brings_its_loader_and_all_libraries(folder: Path) -> None:
    programs = 0
    for file, told in elf_files(folder):
        if (loader := LOADER.search(told)) and file.parent.name != "runtime":  # libc itself can be started
            programs += 1
            assert loader[1].startswith("/opt/podstrap/runtime/"), file
            assert (folder / Path(loader[1]).relative_to("/opt/podstrap")).is_file(), file
            assert (found := RPATH.search(told)) and found[1] == "/opt/podstrap/runtime", file
        for name in NEEDED.findall(told):
            assert (folder / "runtime" / name).is_file() or VENDORED.search(told), f"{file} needs {name}"
    assert programs >= 5, "python, uv, git, git-lfs, ssh"


def test_every_file_is_for_anybody_and_no_link_leads_out(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink():
            assert folder in path.resolve(strict=True).parents, path
            continue
        mode = path.stat().st_mode
        assert mode & 0o444 == 0o444, path
        assert not mode & (stat.S_ISUID | stat.S_ISGID | 0o022), path
        assert not path.is_dir() or mode & 0o111 == 0o111, path


def test_it_is_compiled_because_nobody_can_do_it_later(folder: Path) -> None:
    for root in (folder / "lib/python3.11/site-packages/bootstrap", folder / "python/lib/python3.11/json"):
        for source in root.rglob("*.py"):
            compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
            flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
            assert flags == 0b01, f"{compiled}: never compared with its source"


@pytest.mark.parametrize("kind", ["nothing", "musl", "bare"])
def test_its_programs_run_in_any_image(kind: str, folder: Path, roots: dict[str, Path]) -> None:
    one = injected(roots[kind], folder)
    assert one.run(PODSTRAP, "--version").startswith("podstrap ")
    assert one.run("/opt/podstrap/bin/uv", "--version").startswith("uv ")
    assert one.run(f"{TOOLS}/git", "--version").startswith("git version ")
    assert one.run(f"{TOOLS}/git-lfs", "version").startswith("git-lfs/")
    assert one.run(f"{TOOLS}/sh", "-c", "echo /a/b | sed s/a/c/") == "/c/b\n"
    assert one.end(PODSTRAP, "bootstrap").returncode == exit_codes.USAGE


def test_variables_of_an_image_do_not_reach_it(folder: Path, roots: dict[str, Path], tmp_path: Path) -> None:
    for name in ("libc.so.6", "libssl.so.3", "libz.so.1"):
        (tmp_path / name).write_bytes(b"not a library")
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the image')")
    one = injected(roots["bare"], folder, **{"/mnt": tmp_path})
    hostile = {"LD_LIBRARY_PATH": "/mnt", "PYTHONHOME": "/mnt", "PYTHONPATH": "/mnt", "PYTHONSTARTUP": "/mnt/json.py"}
    assert one.run(PODSTRAP, "--version", **hostile).startswith("podstrap ")


def test_what_the_image_preloads_cannot_keep_it_from_starting(
    folder: Path, roots: dict[str, Path], tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    compiler = ["gcc", "-shared", "-nostdlib", "-x", "c", "/dev/null"]
    missing, preloaded = tmp_path / "libmissing.so", tmp_path / "libpreloaded.so"
    tools.packages("gcc", "libc6-dev")
    tools.run([*compiler, "-o", missing])
    tools.run([*compiler, "-Wl,--no-as-needed", f"-L{tmp_path}", "-lmissing", "-o", preloaded])
    missing.unlink()
    one = injected(roots["bare"], folder, **{"/mnt": tmp_path})
    script = "LD_PRELOAD=/mnt/libpreloaded.so exec {}"
    plain = one.end(f"{TOOLS}/sh", "-c", script.format("/opt/podstrap/bin/python -V"))
    assert "libmissing.so" in plain.stdout, "an interpreter started directly does not start"
    assert one.run(f"{TOOLS}/sh", "-c", script.format(f"{PODSTRAP} --version")).startswith("podstrap ")


def test_scripts_of_git_run_where_there_is_no_shell(folder: Path, roots: dict[str, Path], tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    commit = support.repository(inner, {"a": "1"})
    support.repository(outer, {"b": "2"})
    tmp_path.chmod(0o755)
    support.git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "inside")
    told = injected(roots["nothing"], folder, **{"/mnt": tmp_path}).run(
        f"{TOOLS}/git", "-c", "safe.directory=*", "-C", "/mnt/outer", "submodule", "status"
    )
    assert commit in told


def test_ssh_runs_for_a_user_without_a_name_only_as_we_start_it(folder: Path, roots: dict[str, Path]) -> None:
    refused = injected(roots["bare"], folder).end(f"{TOOLS}/ssh", "-G", "example")
    assert "No user exists for uid" in refused.stdout, "why bootstrap starts it with a library of users"


def copied(folder: Path, roots: dict[str, Path], target: Path) -> str:
    return injected(roots["nothing"], folder, {"/podstrap/work": target}).run(PODSTRAP, "copy", "/podstrap/work/folder")


def listing(root: Path) -> dict[str, tuple[int, int, str]]:
    """Kind and mode, size and link of everything; the owner may write in the copy."""
    found = {}
    for path in root.rglob("*"):
        known = path.lstat()
        link = str(path.readlink()) if path.is_symlink() else ""
        size = known.st_size if path.is_file() and not link else 0
        if path.name != COPIED:
            found[str(path.relative_to(root))] = (known.st_mode, size, link)
    return found


def test_copy_is_the_folder_as_it_is_and_says_what_it_took(
    folder: Path, roots: dict[str, Path], tmp_path: Path
) -> None:
    target = given(tmp_path / "volume", STRANGER)
    told = copied(folder, roots, target)
    assert "files" in told
    there = target / "folder"
    assert listing(there) == listing(folder)
    assert (there / "bin/uv").read_bytes() == (folder / "bin/uv").read_bytes()
    took = json.loads((there / COPIED).read_text())
    assert took["bytes"] == sum(size for _, size, _ in listing(folder).values())
    assert took["seconds"] > 0
    assert injected(roots["bare"], there).run(PODSTRAP, "--version").startswith("podstrap ")


def test_copy_after_a_killed_copy_makes_it_whole(folder: Path, roots: dict[str, Path], tmp_path: Path) -> None:
    target = given(tmp_path / "volume", STRANGER)
    copied(folder, roots, target)
    (target / "folder/bin/uv").write_bytes(b"half")
    (target / "folder/tools/git").unlink()
    copied(folder, roots, target)
    assert listing(target / "folder") == listing(folder)


def test_copy_into_what_cannot_be_written_says_so(folder: Path, roots: dict[str, Path], tmp_path: Path) -> None:
    one = Container(roots["nothing"], {}, {"/opt/podstrap": folder, "/mnt": tmp_path})
    tmp_path.chmod(0o755)
    done = one.end(PODSTRAP, "copy", "/mnt/folder")
    assert done.returncode == exit_codes.FAILED
    assert "cannot be copied to /mnt/folder: [Errno 30] Read-only file system" in done.stdout
    assert "the volume must be writable" in done.stdout


def test_copy_by_another_program_than_the_folders_own_is_refused(tmp_path: Path) -> None:
    from bootstrap.copy import CopyFailed, copy

    with pytest.raises(CopyFailed, match="is not podstrap's self-contained folder"):
        copy(tmp_path / "target", source=tmp_path)
    assert not list(tmp_path.iterdir())
