"""Who this pod is and how it should behave: the PODSTRAP_* variables of the Job's manifest, read once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from protocol import environment as names
from protocol.errors import ConfigError

OWN_ENGINE = "podstrap"
"""The engine that prepares a task by itself; the other is `clearml-agent`."""


@dataclass(frozen=True)
class PodSettings:
    """Every variable with its type made sure; seconds where a time is meant."""

    task: str
    queue: str
    queue_name: str = ""
    job: str = ""
    job_uid: str = ""
    pod: str = ""
    pod_uid: str = ""
    node: str = ""
    attempt: int = 1
    max_attempts: int = 3
    failures: int = 0
    retries_left: int = 0
    """The controller puts the task back when it fails by itself: the status is left to it."""
    history: tuple[str, ...] = ()
    on_disruption: str = "restart"
    grace_seconds: float = 30.0
    cache: Path | None = None
    work: Path = Path("/podstrap/work")
    termination_log: Path = Path("/dev/termination-log")
    package_manager: str = "uv"
    engine: str = OWN_ENGINE
    resolve_after_seconds: float = 24 * 3600.0
    cache_max_bytes: int | None = None
    cache_max_seconds: float | None = None
    poll_seconds: float = 3.0
    sample_seconds: float = 10.0
    ansi: str = "keep"
    """`keep` or `strip`: colours and other escape sequences in the console."""
    queued_at: float | None = None
    """Seconds since the epoch."""
    created_at: float | None = None
    docker_notes: tuple[str, ...] = ()
    """Docker arguments of the task without effect, each with the reason."""
    home: str = ""
    """The mark of the controller that made our Job."""
    injection_note: str = ""
    """Why podstrap was not mounted into the image but copied."""
    connect_seconds: float = 120.0
    """How long the claim is tried while the server does not answer: a mesh's sidecar may start after us."""
    sidecar_quit_url: str = ""
    """Where a mesh's sidecar is told at the end to quit."""
    final_seconds: float = 600.0
    """How long the last report is tried when nobody is waiting for the pod to go."""

    @property
    def worker(self) -> str:
        """This pod's own name as a ClearML worker: never two pods as one."""
        return f"podstrap:{self.pod or self.job or self.task}"


def read(environ: Mapping[str, str]) -> PodSettings:
    """The pod's settings. Raises ConfigError that names every variable that is missing or wrong."""
    wrong: list[str] = []

    def number(name: str, default: float, least: float) -> float:
        text = environ.get(name, "").strip()
        try:
            value = float(text) if text else default
        except ValueError:
            wrong.append(f"{name}={text!r} is no number")
            return default
        if value < least:
            wrong.append(f"{name}={text!r} is below {least:g}")
        return value

    missing = [name for name in (names.TASK_ID, names.QUEUE_ID) if not environ.get(name)]
    if missing:
        wrong.append(f"{' and '.join(missing)} not set")
    on_disruption = environ.get(names.ON_DISRUPTION, "restart")
    if on_disruption not in ("restart", "fail"):
        wrong.append(f"{names.ON_DISRUPTION}={on_disruption!r} is neither restart nor fail")
    package_manager = environ.get(names.PACKAGE_MANAGER, "") or "uv"
    if package_manager not in ("uv", "pip"):
        wrong.append(f"{names.PACKAGE_MANAGER}={package_manager!r} is neither uv nor pip")
    ansi = environ.get(names.ANSI, "") or "keep"
    if ansi not in ("keep", "strip"):
        wrong.append(f"{names.ANSI}={ansi!r} is neither keep nor strip")
    engine = environ.get(names.ENGINE, "") or OWN_ENGINE
    if engine not in (OWN_ENGINE, "clearml-agent"):
        wrong.append(f"{names.ENGINE}={engine!r} is neither podstrap nor clearml-agent")
    missing_python = environ.get(names.MISSING_PYTHON, "") or "install"
    if missing_python not in ("install", "nearest", "fail"):
        wrong.append(f"{names.MISSING_PYTHON}={missing_python!r} is none of install, nearest, fail")
    cache = environ.get(names.CACHE_DIR, "")
    work = Path(environ.get(names.WORK_DIR) or "/podstrap/work")
    settings = PodSettings(
        task=environ.get(names.TASK_ID, ""),
        queue=environ.get(names.QUEUE_ID, ""),
        queue_name=environ.get(names.QUEUE_NAME, ""),
        job=environ.get(names.JOB_NAME, ""),
        job_uid=environ.get(names.JOB_UID) or environ.get(names.JOB_NAME, ""),
        pod=environ.get(names.POD_NAME) or environ.get("HOSTNAME", ""),
        pod_uid=environ.get(names.POD_UID, ""),
        node=environ.get(names.NODE_NAME, ""),
        attempt=int(number(names.ATTEMPT, 1, 1)),
        max_attempts=int(number(names.MAX_ATTEMPTS, 3, 1)),
        failures=int(number(names.FAILURES, 0, 0)),
        retries_left=int(number(names.RETRIES_LEFT, 0, 0)),
        history=_lines(environ.get(names.HISTORY, "")),
        on_disruption=on_disruption,
        grace_seconds=number(names.GRACE_SECONDS, 30, 0),
        cache=Path(cache) if cache else None,
        work=work,
        termination_log=Path(environ.get(names.TERMINATION_LOG) or "/dev/termination-log"),
        package_manager=package_manager,
        engine=engine,
        resolve_after_seconds=number(names.RESOLVE_AFTER_HOURS, 24, 0) * 3600,
        cache_max_bytes=int(number(names.CACHE_MAX_GIB, 0, 0) * 2**30) or None,
        cache_max_seconds=number(names.CACHE_MAX_DAYS, 0, 0) * 86400 or None,
        poll_seconds=number(names.POLL_SECONDS, 3, 0.05),
        sample_seconds=number(names.SAMPLE_SECONDS, 10, 0.1),
        ansi=ansi,
        queued_at=number(names.QUEUED_AT, 0, 0) / 1000 or None,
        created_at=number(names.CREATED_AT, 0, 0) / 1000 or None,
        docker_notes=tuple(environ.get(names.DOCKER_NOTES, "").splitlines()),
        home=environ.get(names.HOME, ""),
        injection_note=environ.get(names.INJECTION_NOTE, ""),
        connect_seconds=number(names.CONNECT_SECONDS, 120, 0),
        sidecar_quit_url=environ.get(names.SIDECAR_QUIT_URL, ""),
    )
    if wrong:
        raise ConfigError(
            f"This pod's variables cannot be used: {'; '.join(wrong)}",
            hint="podstrap bootstrap is started by the controller's Jobs; `podstrap render` shows their variables",
        )
    return settings


def _lines(text: str) -> tuple[str, ...]:
    """A JSON list of texts; nothing when it is none: history is for people, no reason to run nothing."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return ()
    return tuple(str(line) for line in found) if isinstance(found, list) else ()


def current() -> PodSettings:
    """The settings of this process."""
    return read(os.environ)
