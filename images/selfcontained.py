"""Make the self-contained folder: a Python, git, ssh and a shell that run in any image, whatever its libc is.

    python3 images/selfcontained.py runtime         Python, its libraries and loader; then
    python3 images/selfcontained.py ssh             ssh and certificates
    python3 images/selfcontained.py tools           a shell and git-lfs; then images/compile-git, and
    python3 images/selfcontained.py git             what it made; at last
    python3 images/selfcontained.py finish          once podstrap's requirements are installed
    python3 images/selfcontained.py own             podstrap itself, apart from the rest

It runs as root in a Debian build stage (images/Dockerfile) and fills `/opt/podstrap` there, the very place where the
folder lies in a pod: programs know it by heart. A program names its own loader (the kernel starts that, not the
image's) and its libraries' folder as RPATH, not RUNPATH: the former is searched before LD_LIBRARY_PATH, which CUDA
images set, and holds for whatever a library or an extension module asks for in turn. See docs/decisions/0007.

    bin/         python, podstrap, uv: a virtual environment whose site-packages are podstrap's own
    python/      the interpreter behind it, which a task may use where its image has none
    runtime/     the loader and the libraries of every program here
    tools/       git, git-lfs, ssh, sh: for what the image lacks
    git/         what git needs beside its program
    certificates.pem
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

HOME = Path("/opt/podstrap")
RUNTIME = HOME / "runtime"
TOOLS = HOME / "tools"
PYTHON = HOME / "python"
OWN = Path("/opt/podstrap-own")
OWN_IN_PODS = Path("/opt/podstrap-own-in-pods")
"""The same without the controller and the server."""
CONTENTS = HOME / "contents.json"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
MULTIARCH = str(sysconfig.get_config_var("MULTIARCH"))
LIBRARY_FOLDERS = tuple(Path(folder) for folder in (f"/lib/{MULTIARCH}", f"/usr/lib/{MULTIARCH}", "/lib", "/usr/lib"))

UNUSED_MODULES = (
    "test", "idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3", "pydoc_data", "ensurepip", "__phello__",
    "LICENSE.txt", "sitecustomize.py", "msilib", f"config-{VERSION}-{MULTIARCH}",
)  # fmt: skip
"""Of the standard library: tests, windows, and what needs packages that Debian keeps apart."""
UNUSED_EXTENSIONS = ("_dbm", "_tkinter", "_crypt", "nis", "_ctypes_test", "_test", "_xx", "xx")
FOR_WHEELS = ("libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libstdc++.so.6", "libgcc_s.so.1")
"""What wheels may expect of any machine (PEP 600) beside what Python itself needs; the first four are empty today. The
interpreter names them, so that they are there before a wheel's library with a RUNPATH of its own looks in the image."""
UNUSED_GIT = (
    "git-add--interactive", "git-archimport", "git-cvs", "git-daemon", "git-difftool", "git-filter-branch", "git-http-",
    "git-imap-send", "git-instaweb", "git-mergetool", "git-p4", "git-quiltimport", "git-request-pull", "git-send-email",
    "git-shell", "git-svn", "git-web--browse", "mergetools", "scalar",
)  # fmt: skip
"""Servers, other systems' histories, and what is Perl."""
SHELL = Path("/bin/busybox")
USERS_LIBRARY = "libnss_wrapper.so"
"""Preloaded into our ssh, which refuses to run for a uid that /etc/passwd does not know."""
KEPT_PROGRAMS = ("python", "podstrap", "uv")
UNUSED_OF_WHEELS = ("sboms", "*.exe", "tests")
PROGRAM = "from cli.main import main\n\nraise SystemExit(main())\n"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = {"runtime": runtime, "ssh": ssh, "tools": tools, "git": git, "finish": finish, "own": own}
    parser.add_argument("step", choices=steps)
    steps[parser.parse_args().step]()


def runtime() -> None:
    """The interpreter with its library, and the virtual environment that podstrap will be installed into."""
    program = PYTHON / "bin" / f"python{VERSION}"
    program.parent.mkdir(parents=True)
    shutil.copy2(f"/usr/bin/python{VERSION}", program)
    (program.parent / "python3").symlink_to(program.name)
    _standard_library(PYTHON / "lib" / f"python{VERSION}")
    (PYTHON / "lib" / f"python{VERSION}" / "site-packages").mkdir()
    for name in FOR_WHEELS:
        _run("patchelf", "--add-needed", name, program)
    extensions = sorted((PYTHON / "lib").rglob("*.so"))
    make_own([program], extensions)
    environment = HOME / "bin"
    environment.mkdir()
    (environment / "python").symlink_to(f"../python/bin/{program.name}")
    for name in ("python3", program.name):
        (environment / name).symlink_to("python")
    (HOME / "lib" / f"python{VERSION}" / "site-packages").mkdir(parents=True)
    (HOME / "pyvenv.cfg").write_text(f"home = {program.parent}\ninclude-system-site-packages = false\n")
    (environment / "podstrap.py").write_text(PROGRAM)
    compiler = ["musl-gcc", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror"]
    _run(*compiler, "-o", environment / "podstrap", Path(__file__).with_name("launcher.c"))
    _note(f"python{VERSION}", f"python{VERSION}-minimal", f"libpython{VERSION}-stdlib")


def ssh() -> None:
    """ssh, and what lets it run as any uid; certificates. A baked image has these two as well."""
    TOOLS.mkdir(exist_ok=True)
    wrapper = RUNTIME / USERS_LIBRARY
    shutil.copy(_library(USERS_LIBRARY), wrapper)
    make_own([Path(shutil.copy2("/usr/bin/ssh", TOOLS))], [wrapper])
    shutil.copy(CERTIFICATES, HOME / "certificates.pem")
    _note("openssh-client", "libnss-wrapper", "ca-certificates")


def tools() -> None:
    """The shell, which git's scripts will name, and git-lfs."""
    shutil.copy2(SHELL, TOOLS / "busybox")
    (TOOLS / "sh").symlink_to("busybox")
    make_own([Path(shutil.copy2("/usr/bin/git-lfs", TOOLS))], [])
    _note("busybox-static", "git-lfs")


def git() -> None:
    """What `make install` left in git/: only what a checkout needs, with our loader and libraries."""
    core = HOME / "git" / "libexec" / "git-core"
    for one in core.iterdir():
        if one.name.startswith(UNUSED_GIT):
            shutil.rmtree(one) if one.is_dir() else one.unlink()
    for one in (HOME / "git" / "bin").iterdir():
        if one.name != "git":
            one.unlink()
    (TOOLS / "git").symlink_to("../git/bin/git")
    files = [one for one in (HOME / "git").rglob("*") if one.is_file() and not one.is_symlink()]
    make_own([one for one in files if _is_elf(one)], [])
    _note("git")


def finish() -> None:
    """After the requirements are installed: uv as our own program, nothing that is never read, and all of it
    compiled, because the folder is read-only in a pod."""
    binaries = HOME / "bin"
    for script in binaries.iterdir():
        if not script.name.startswith(KEPT_PROGRAMS) or script.name == "uvx":
            script.unlink()
    if (binaries / "uv").exists():
        make_own([binaries / "uv"], [])
    _pip_of_virtualenv()
    for pattern in UNUSED_OF_WHEELS:
        for one in list((HOME / "lib").rglob(pattern)):
            shutil.rmtree(one) if one.is_dir() else one.unlink()
    _compile([PYTHON / "lib", HOME / "lib"])
    _readable(HOME)


def _pip_of_virtualenv() -> None:
    """A task that runs on our interpreter finds a pip where ensurepip would have it: the wheel of virtualenv."""
    wheels = sorted((HOME / "lib").rglob("virtualenv/seed/wheels/embed/pip-*.whl"))
    if wheels:
        bundled = PYTHON / "lib" / f"python{VERSION}" / "ensurepip" / "_bundled"
        bundled.mkdir(parents=True)
        (bundled / wheels[-1].name).symlink_to(os.path.relpath(wheels[-1], bundled))


def own() -> None:
    """podstrap's own packages, once pip has installed them: compiled, and moved to a place by themselves, so that
    they are a layer of their own and a new version is two megabytes to pull."""
    site = Path("lib", f"python{VERSION}", "site-packages")
    record = next((HOME / site).glob("podstrap-*.dist-info/RECORD"))
    packages = {line.split("/")[0] for line in record.read_text().splitlines() if not line.startswith(("..", "/"))}
    _compile([HOME / site / name for name in packages])
    (OWN / site).mkdir(parents=True)
    for name in packages:
        shutil.move(HOME / site / name, OWN / site / name)
    _readable(OWN)
    shutil.copytree(OWN, OWN_IN_PODS, symlinks=True, ignore=shutil.ignore_patterns("controller", "standalone"))


def _compile(folders: Iterable[Path]) -> None:
    """Packages carry templates that are no Python: a file that cannot be compiled says nothing. The times of the
    sources are not kept, because whoever unpacks an image may set others; what pip left behind as it ran is made anew.
    """
    for folder in folders:
        compileall.compile_dir(
            folder, force=True, quiet=2, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )


def _readable(root: Path) -> None:
    """For any user, and executable what is: whatever umask the build had."""
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o111 else 0o644)


def make_own(programs: Iterable[Path], libraries: Iterable[Path]) -> None:
    """Give the programs our loader and our folder of libraries, and bring everything that they and these libraries
    need into that folder."""
    RUNTIME.mkdir(exist_ok=True)
    wanted = []
    for program in programs:
        loader = Path(_run("patchelf", "--print-interpreter", program))
        wanted += [loader.name, *_needed(program)]
        _run("patchelf", "--set-interpreter", RUNTIME / loader.name, program)
        _run("patchelf", "--force-rpath", "--set-rpath", RUNTIME, program)
    for library in libraries:
        wanted += _needed(library)
    while wanted:
        name = wanted.pop()
        if (RUNTIME / name).exists():
            continue
        shutil.copy(_library(name), RUNTIME / name)
        (RUNTIME / name).chmod(0o755)
        wanted += _needed(RUNTIME / name)


def _standard_library(target: Path) -> None:
    def unused(folder: str, names: list[str]) -> set[str]:
        left = {name for name in names if name == "__pycache__"}
        if Path(folder) == source:
            left |= {name for name in names if name in UNUSED_MODULES}
        if Path(folder).name == "lib-dynload":
            left |= {name for name in names if name.split(".")[0].startswith(UNUSED_EXTENSIONS)}
        if Path(folder).name in ("distutils", "unittest", "ctypes", "sqlite3"):
            left |= {name for name in names if name in ("tests", "test")}
        return left

    source = Path(f"/usr/lib/python{VERSION}")
    shutil.copytree(source, target, symlinks=False, ignore=unused, ignore_dangling_symlinks=True)


def _needed(file: Path) -> list[str]:
    return _run("patchelf", "--print-needed", file).split()


def _library(name: str) -> Path:
    for folder in LIBRARY_FOLDERS:
        if (folder / name).exists():
            return (folder / name).resolve()
    loader = Path("/lib64", name)
    if loader.exists():
        return loader.resolve()
    raise SystemExit(f"selfcontained: {name} is in none of {', '.join(map(str, LIBRARY_FOLDERS))}: install its package")


def _is_elf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF" and os.access(file, os.X_OK)


def _note(*packages: str) -> None:
    """Write down what came from where, for whoever asks which version of openssl that is."""
    known = json.loads(CONTENTS.read_text()) if CONTENTS.exists() else {}
    for package in packages:
        asked = ["dpkg-query", "--show", "--showformat=${Version}", package]
        known[package] = subprocess.run(asked, capture_output=True, text=True).stdout or "compiled"
    CONTENTS.write_text(json.dumps(known, indent=1) + "\n")


def _run(*words: str | Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"selfcontained: {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
