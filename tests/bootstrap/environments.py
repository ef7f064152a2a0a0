"""What the tests of environments share: wheels made on the spot, a whole `prepare`, the finished Python."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from bootstrap.commands import Programs
from bootstrap.environment import build
from bootstrap.prepared import Checkout, TaskEnvironment
from clearml_api.configuration import Configuration
from clearml_api.models import Script

PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def wheel(folder: Path, name: str, version: str = "1.0", needs: str = "", files: dict[str, str] | None = None) -> Path:
    """A real wheel with a module, a console script and data: no index is asked."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content = {
        f"{name}.py": f"VERSION = {version!r}\ndef main():\n    import sys\n    print('{name}', sys.prefix)\n",
        f"{name}-{version}.dist-info/METADATA": metadata + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-{version}.dist-info/entry_points.txt": f"[console_scripts]\n{name}-tool = {name}:main\n",
        **(files or {}),
    }
    record = "".join(f"{file},,\n" for file in content) + f"{name}-{version}.dist-info/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**content, f"{name}-{version}.dist-info/RECORD": record}.items():
            archive.writestr(file, text)
    return path


def project(folder: Path, name: str = "mine", needs: str = '"alpha==1.0"') -> Path:
    """A package that lies in a repository; its build needs nothing but what it brings itself."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text("HERE = __file__\n")
    (folder / "backend.py").write_text(BACKEND.format(name=name, needs=_requires(needs)))
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "0.1"\ndependencies = [{needs}]\n'
    )
    return folder


def _requires(needs: str) -> str:
    return "".join(f"Requires-Dist: {one.strip().strip(chr(34))}\\n" for one in needs.split(","))


BACKEND = """
import os, zipfile
META = "Metadata-Version: 2.1\\nName: {name}\\nVersion: 0.1\\n{needs}"
def _build(folder, files):
    name = "{name}-0.1-py3-none-any.whl"
    info = "{name}-0.1.dist-info"
    files = dict(files)
    files[info + "/METADATA"] = META
    files[info + "/WHEEL"] = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    record = "".join(f"{{file}},,\\n" for file in files) + info + "/RECORD,,\\n"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(info + "/RECORD", record)
    return name
def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _build(folder, {{"{name}.py": open("{name}.py").read()}})
def build_editable(folder, config_settings=None, metadata_directory=None):
    return _build(folder, {{"{name}.pth": os.getcwd() + "\\n"}})
"""


def prepare(
    text: object,
    tmp_path: Path,
    wheels: Path | None,
    *,
    manager: str = "uv",
    told: list[str] | None = None,
    **more: Any,
) -> TaskEnvironment:
    """The environment of a task that asks for `text`, from a folder of wheels, offline."""
    work = more.pop("work", None) or tmp_path / f"work-{time.monotonic_ns()}"
    work.mkdir(parents=True, exist_ok=True)
    offline = {
        "UV_OFFLINE": "1", "UV_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels),
    } if wheels else {}  # fmt: skip
    seeds = {"VIRTUALENV_OVERRIDE_APP_DATA": str(Path(tempfile.gettempdir(), "podstrap-tests-virtualenv"))}
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **seeds, **offline, **more.pop("environ", {})}
    requirements = text if isinstance(text, dict) else {"pip": text}
    return build.prepare(
        Script(requirements=requirements, **more.pop("script", {})),
        checkout=more.pop("checkout", lambda: Checkout(tmp_path)),
        place=build.Place(work, more.pop("cache", tmp_path / "cache"), **more.pop("place", {})),
        configuration=more.pop("configuration", Configuration()),
        environ=environ,
        package_manager=manager,
        programs=more.pop("programs", Programs()),
        tell=(told if told is not None else []).append,
    )


def python(environment: TaskEnvironment, code: str) -> str:
    """What the environment's Python prints."""
    done = subprocess.run(
        [environment.python, "-c", code], env={**os.environ, **environment.environ}, cwd="/",
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def configured(**package_manager: object) -> Configuration:
    """clearml.conf with an agent.package_manager section."""
    return Configuration(tree={"agent": {"package_manager": package_manager}})
