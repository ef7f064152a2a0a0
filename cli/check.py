"""`podstrap check`: is everything configured? Each failure stands with its fix.

`check --values FILE` needs no server: it reads a values file of the official chart or of ours, or our settings,
and says per key what becomes of it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import PodstrapError

if TYPE_CHECKING:
    from clearml_api.session import Session
    from controller.settings import Settings

Step = tuple[str, Callable[[], str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to check."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings to check too, with their queues")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="with --config: ask the Kubernetes API server what it makes of each template",
    )
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="instead of KUBECONFIG or the pod's account")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig, instead of its current one")
    parser.add_argument("--values", type=Path, metavar="FILE", help="say per key what becomes of it; asks no server")


def run(options: argparse.Namespace) -> int:
    """0 when all is well; 1 when something needs a person."""
    if options.values:
        return _values(options.values)
    if options.dry_run and not options.config:
        print("podstrap check: --dry-run goes with --config", file=sys.stderr)
        return 2
    passed = [_passes(name, step) for name, step in _Checks(options).steps()]  # every step is shown
    return 0 if all(passed) else 1


def _passes(name: str, step: Callable[[], str]) -> bool:
    try:
        print(f"ok    {name}: {step()}", flush=True)
    except PodstrapError as error:
        print(f"FAIL  {name}: {error}", flush=True)
        return False
    return True


class _Checks:
    """The steps in order; a later one uses what an earlier one found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._config: Path | None = options.config
        self._session: Session | None = None
        self._settings: Settings | None = None

    def steps(self) -> Iterator[Step]:
        """Each step's name and what does it: the sentence to print, or a PodstrapError with the fix."""
        yield "configuration", self._configuration
        if self._session:
            yield "login", self._login
        yield "git", lambda: _program("git", "install git")
        yield "uv", lambda: _program("uv", "install podstrap with its [pod] extra")
        if self._config:
            yield "settings", self._read_settings
            if self._settings and self._session:
                yield "queues", self._queues
            if self._settings and self._options.dry_run:
                yield "templates", self._templates

    def _configuration(self) -> str:
        from clearml_api.configuration import load
        from clearml_api.session import QUICK, Session

        configuration = load()
        self._session = Session(configuration, bounds=QUICK)
        return f"{configuration.api_host} ({', '.join(configuration.sources) or 'from variables'})"

    def _login(self) -> str:
        if self._session is None:
            raise AssertionError("login comes after configuration")
        self._session.login()
        return f"access key {self._session.configuration.access_key[:4]}… is accepted"

    def _read_settings(self) -> str:
        from controller import settings_file

        if self._config is None:
            raise AssertionError("only with --config")
        self._settings = settings_file.load(self._config)
        return f"{self._config}: {len(self._settings.queues)} queues"

    def _queues(self) -> str:
        from clearml_api import queues
        from controller import queue_names

        if self._session is None or self._settings is None:
            raise AssertionError("queues come after login and settings")
        listing = queues.get_all(self._session)
        unused = queue_names.without_queue(self._settings.queues, listing)
        missing = [key for key, why in unused.items() if why == queue_names.MISSING]
        if missing and not self._settings.create_queues:
            raise PodstrapError(
                f"not on the server: {', '.join(missing)}",
                hint="create them on the web page, or set createQueueIfNotExists: true",
            )
        found = [queue.name for _, queue in queue_names.served(self._settings.queues, listing)]
        notes = [f"made at start: {', '.join(missing)}"] if missing else []
        notes += [f"{key}: {why}" for key, why in unused.items() if key not in missing]
        return ", ".join(found) + (f" ({'; '.join(notes)})" if notes else "")

    def _templates(self) -> str:
        """The API server's own opinion; nothing is made."""
        from datetime import datetime, timezone

        from controller import probe
        from controller.cluster.kube_cluster import KubernetesCluster
        from controller.cluster.kubernetes import Api
        from controller.settings_file import Places

        if self._settings is None or self._config is None:
            raise AssertionError("templates come after settings")
        api = Api(self._options.kubeconfig, self._options.context)
        settings = self._settings.or_in(api.namespace)
        if self._session:
            configuration = self._session.configuration
            settings = settings.with_servers(configuration.api_host, configuration.web_host, configuration.files_host)
        cluster = KubernetesCluster(api, settings.instance, (), home="")
        places = Places.of(self._config)
        found = probe.findings(settings, cluster, datetime.now(timezone.utc), places)
        if found:
            raise PodstrapError("\n      ".join([f"{api.host} refuses", *map(str, found)]))
        return f"{api.host} takes the Jobs of {len(list(probe.probes(settings)))} queues and rules"


def _program(name: str, fix: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if not found:
        raise PodstrapError(f"{name} was not found on PATH", hint=fix)
    return found


def _values(file: Path) -> int:
    from controller import values_report

    rows = values_report.report(file)
    width = max((len(row.key) for row in rows), default=0)
    for row in rows:
        print(f"{row.line:>5}  {row.verdict:8} {row.key:{width}}  {row.explanation}")
    return 0 if values_report.understood(rows) else 1
