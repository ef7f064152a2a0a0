"""How environments are made here: the `agent.package_manager` section of clearml.conf and the variables beside it.

Read once, on the warm path too, so nothing is parsed that is not set. A variable stands above the file, as under
clearml-agent. What the section knows and we leave out is listed in docs/environment.md and told when it is met.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clearml_api.configuration import Configuration

TRUE = ("1", "true", "yes", "y", "on", "t")
_SECTION = "agent.package_manager"
_LEFT_OUT = {
    "pip_version": "virtualenv's own pip is used; a `pip==` line among the requirements is honoured",
    "poetry_version": "poetry.lock is read without poetry",
    "poetry_install_extra_args": "poetry.lock is read without poetry",
    "pip_legacy_resolver": "no pip of those versions is used",
    "torch_nightly": "name the nightly index in extra_index_url",
    "uv_version": "podstrap's own uv is used",
    "uv_run_extra_args": "the task's process is Python itself",
}
"""Of the section's keys those that change nothing here, and why."""
_DEFAULTS = {
    "pip_version": (
        "<20.2 ; python_version < '3.10'",
        "<22.3 ; python_version >= '3.10' and python_version <= '3.11'",
        ">=23,<26 ; python_version >= '3.12'",
    ),
    "pip_legacy_resolver": (">=20.3,<24.3",),
}
"""What clearml-agent's own file says: no wish of anybody's."""


@dataclass(frozen=True)
class Options:
    """What the operator asked for."""

    manager: str = "uv"
    """`uv` or `pip`: what installs."""
    lock: str = ""
    """`uv` or `poetry`: the repository's lock file wins over the task's requirements."""
    conda: bool = False
    """The operator's package manager is conda."""
    system_site_packages: bool = False
    force_repository: bool = False
    """force_repo_requirements_txt: the task's own requirements are ignored."""
    force_original: bool = False
    """force_original_requirements: `org_pip`, what the user asked for, instead of what was installed last."""
    lock_in_working_dir: bool = False
    priority: tuple[str, ...] = ()
    priority_optional: tuple[str, ...] = ("pygobject",)
    post: tuple[str, ...] = ()
    post_optional: tuple[str, ...] = ()
    extra_index: tuple[str, ...] = ()
    extra_flags: tuple[str, ...] = ()
    """pip's spelling."""
    lock_flags: tuple[str, ...] = ()
    """Of `uv export`: --all-extras, --group x."""
    torch: str = ""
    """uv's torch backend (`auto`, `cu121`, ...); empty: torch is a package like any other."""
    best_match: bool = False
    """uv takes the best version of all indexes, not of the first that has the package."""
    left_out: tuple[str, ...] = ()
    """Keys that were set and change nothing, each with the reason."""

    @property
    def key(self) -> str:
        """What of this changes the environment that given requirements lead to."""
        order = (self.priority, self.priority_optional, self.post, self.post_optional)
        indexes = tuple(
            re.sub(r"(://)[^/@\s]+@", r"\1", url) for url in self.extra_index
        )  # a new password changes nothing
        return repr((self.manager, self.system_site_packages, self.torch, indexes, self.extra_flags, order))


def read(configuration: Configuration, environ: Mapping[str, str], package_manager: str = "uv") -> Options:
    """The options of this pod; `package_manager` is the queue's wish (PODSTRAP_PACKAGE_MANAGER)."""
    section = configuration.get(_SECTION)
    section = section if isinstance(section, Mapping) else {}

    def switch(key: str, variable: str = "") -> bool:
        value = environ.get(variable, "") if variable else ""
        return str(value or section.get(key) or "").strip().lower() in TRUE

    kind = str(section.get("type") or "").strip().lower()
    force_uv = switch("", "CLEARML_AGENT_FORCE_UV")
    force_poetry = switch("", "CLEARML_AGENT_FORCE_POETRY")
    flags = environ.get("CLEARML_EXTRA_PIP_INSTALL_FLAGS", "")
    return Options(
        manager="pip" if not force_uv and (package_manager == "pip" or kind == "pip") else "uv",
        lock="poetry" if force_poetry or kind == "poetry" else "uv" if force_uv or kind == "uv" else "",
        conda=kind == "conda",
        system_site_packages=switch("system_site_packages", "CLEARML_AGENT_FORCE_SYSTEM_SITE_PACKAGES"),
        force_repository=switch("force_repo_requirements_txt"),
        force_original=switch("force_original_requirements"),
        lock_in_working_dir=switch("uv_files_from_repo_working_dir") or switch("poetry_files_from_repo_working_dir"),
        priority=_names(section.get("priority_packages")),
        priority_optional=_names(section.get("priority_optional_packages")) or ("pygobject",),
        post=_names(section.get("post_packages")),
        post_optional=_names(section.get("post_optional_packages")),
        extra_index=_texts(section.get("extra_index_url")),
        extra_flags=_flags(flags) if flags else _texts(section.get("extra_pip_install_flags")),
        lock_flags=_texts(section.get("uv_sync_extra_args")),
        torch=_torch(section, configuration, environ),
        best_match=switch("uv_unsafe_best_match"),
        left_out=_left_out(section),
    )


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _torch(section: Mapping[str, Any], configuration: Configuration, environ: Mapping[str, str]) -> str:
    """clearml-agent's `pytorch_resolve`, done by uv: it knows the indexes and asks the driver."""
    wanted = environ.get("CLEARML_AGENT_PACKAGE_PYTORCH_RESOLVE") or section.get("pytorch_resolve") or "pip"
    if str(wanted).strip().lower() == "none":
        return ""
    if given := environ.get("UV_TORCH_BACKEND", "").strip():
        return given
    cuda = str(environ.get("CUDA_VERSION") or configuration.get("agent.cuda_version") or "").replace(".", "").strip()
    if cuda in ("0", "cpu"):
        return "cpu"
    return f"cu{cuda[:3]}" if cuda.isdigit() and len(cuda) >= 2 else "auto"


def _left_out(section: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"package_manager.{key} ({why})" for key, why in _LEFT_OUT.items() if _is_set(section, key))


def _is_set(section: Mapping[str, Any], key: str) -> bool:
    value = section.get(key)
    return bool(value) and _texts(value) != _DEFAULTS.get(key)


def _flags(text: str) -> tuple[str, ...]:
    """A variable's list: clearml-agent splits it at commas; people write spaces too."""
    try:
        return tuple(shlex.split(text.strip("[]").replace(",", " ")))
    except ValueError:
        return tuple(text.split())


def _texts(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    if isinstance(value, (list, tuple)):
        return tuple(str(item).strip() for item in value if str(item).strip())
    return tuple(str(value).split())


def _names(value: Any) -> tuple[str, ...]:
    return tuple(normalised(name) for name in _texts(value))
