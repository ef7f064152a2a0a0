"""`podstrap controller`: read queues, create one Job per task, watch, report."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cli.facts import add_cluster_arguments

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer
    from threading import Event

    from clearml_api.session import Session
    from controller.cluster.interface import Cluster
    from controller.cluster.kube_lease import Lease
    from controller.health import Health
    from controller.leader import Leadership
    from controller.settings import Settings
    from controller.telemetry import Telemetry

_AGAIN_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings file, cluster, and whether to go on for ever."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (docs/settings.schema.json)")
    add_cluster_arguments(parser)
    parser.add_argument("--health", metavar="HOST:PORT", help="serve /healthz and /readyz there (:8080: on all)")
    parser.add_argument(
        "--metrics", metavar="HOST:PORT", help="serve /metrics there, for Prometheus; may be --health's"
    )
    parser.add_argument(
        "--drain", action="store_true", help="work until the queues are empty and the Jobs done, then exit 0"
    )
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="with --drain: exit 4 after S seconds")
    parser.add_argument("--fail-on-task-failure", action="store_true", help="with --drain: exit 1 if a task failed")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    parser.add_argument("--log-format", default="text", choices=("text", "json"), help="one line an event, either way")
    glue = parser.add_argument_group("the glue script's options, instead of a settings file or over it")
    glue.add_argument("--queue", metavar="A,B", help="queues to serve, in order of priority")
    glue.add_argument("--namespace", metavar="N", help="where Jobs are made")
    glue.add_argument("--max-pods", type=int, metavar="N", help="most pods at a time")
    glue.add_argument("--template-yaml", type=Path, metavar="F", help="what every task's pod is made from")
    glue.add_argument("--overrides-yaml", type=Path, metavar="F", help="laid over the template")
    glue.add_argument("--pod-name-prefix", metavar="P", help="what the names of Jobs and pods begin with")
    glue.add_argument("--create-queue", action="store_true", help="create queues that the server does not have")


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM, or drain; see `--help` for the exit codes."""
    import signal
    import sys
    import threading

    if (options.timeout is not None or options.fail_on_task_failure) and not options.drain:
        print("podstrap controller: --timeout and --fail-on-task-failure go with --drain", file=sys.stderr)
        return 2
    if options.config is None and options.queue is None:
        print("usage: podstrap controller --config FILE | --queue NAME,NAME (one of them is needed)", file=sys.stderr)
        return 2
    from clearml_api.configuration import load
    from clearml_api.session import Session
    from cli.logs import start_logging

    start_logging(options.log_level, options.log_format)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    configuration = load()

    def read() -> Settings:
        servers = (configuration.api_host, configuration.web_host, configuration.files_host)
        return settings_of(options).with_servers(*servers)

    instance = read().instance
    session = Session(configuration, worker=f"podstrap:{instance}")
    telemetry = _telemetry(instance) if options.metrics else None
    session.on_request = telemetry.clearml if telemetry else None
    serve = _locally if options.cluster == "local" else _in_kubernetes
    return serve(options, read, session, telemetry, stop)


def settings_of(options: argparse.Namespace, own_namespace: Path | None = None) -> Settings:
    """The file's, with the glue script's options over them; in a pod its namespace where neither names one."""
    from controller import glue_flags, settings_file

    own_namespace = own_namespace or settings_file.OWN_NAMESPACE

    base = settings_file.load(options.config) if options.config else settings_file.load_text("{}", "the flags")
    return glue_flags.laid_over(
        settings_file.in_own_namespace(base, own_namespace),
        queue=options.queue,
        namespace=options.namespace,
        max_pods=options.max_pods,
        template_yaml=options.template_yaml,
        overrides_yaml=options.overrides_yaml,
        pod_name_prefix=options.pod_name_prefix,
        create_queue=options.create_queue,
    )


def _telemetry(instance: str) -> Telemetry:
    from cli.version import installed
    from controller.telemetry import Telemetry

    return Telemetry(installed(), instance)


Read = Callable[[], "Settings"]
"""Makes the settings of the files as they are now."""


def _locally(
    options: argparse.Namespace, read: Read, session: Session, telemetry: Telemetry | None, stop: Event
) -> int:
    from controller.cluster.local import LocalCluster

    configuration = session.configuration
    state = (options.state or default_state(configuration.api_host)).resolve()
    secrets = {
        "CLEARML_API_ACCESS_KEY": configuration.access_key,
        "CLEARML_API_SECRET_KEY": configuration.secret_key,
    }
    cluster = LocalCluster(state, secrets=secrets)
    return _serve(options, lambda: _with_local_cache(read(), state), session, cluster, stop, None, telemetry)


def _in_kubernetes(
    options: argparse.Namespace, read: Read, session: Session, telemetry: Telemetry | None, stop: Event
) -> int:
    """Join the Lease first: its uid is this instance's mark, and a name that serves another server is refused."""
    import os
    import socket

    from controller.cluster.kube_cluster import KubernetesCluster
    from controller.cluster.kube_lease import Lease
    from controller.cluster.kubernetes import Api
    from controller.permissions import namespaces

    api = Api(options.kubeconfig, options.context)
    api.on_request = telemetry.kubernetes if telemetry else None
    settings = read().or_in(api.namespace)
    # A container that is restarted in its pod is the same holder and leads on at once; a process elsewhere never is.
    identity = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    lease = Lease(api, settings.namespace, settings.instance, identity, session.configuration.api_host)
    home = _joined(lease, stop)
    if not home:
        return 0
    cluster = KubernetesCluster(api, settings.instance, namespaces(settings), home, events=settings.kubernetes_events)
    try:
        return _serve(options, lambda: read().or_in(api.namespace), session, cluster, stop, lease, telemetry)
    finally:
        cluster.close()


def _joined(lease: Lease, stop: Event) -> str:
    """The Lease's uid, as soon as the API server answers; empty when stopped before."""
    import logging

    from controller.cluster.interface import ClusterError

    said = ""
    while not stop.is_set():
        try:
            return lease.join()
        except ClusterError as error:
            if said != str(error):
                logging.getLogger("podstrap.controller").warning("no-lease error=%r", str(error))
            said = str(error)
            stop.wait(_AGAIN_SECONDS)
    return ""


def _serve(
    options: argparse.Namespace,
    read: Read,
    session: Session,
    cluster: Cluster,
    stop: Event,
    leadership: Leadership | None,
    telemetry: Telemetry | None,
) -> int:
    from controller.health import Health
    from controller.observer import NOBODY
    from controller.reload import SettingsFiles
    from controller.run import run_controller

    files = [file for file in (options.config, options.template_yaml, options.overrides_yaml) if file is not None]
    source = SettingsFiles(files, read)
    health = Health()
    servers = _pages(options, health, telemetry)
    try:
        return run_controller(
            source.taken,
            session,
            cluster,
            drain=options.drain,
            timeout=options.timeout,
            fail_on_task_failure=options.fail_on_task_failure,
            stop=stop,
            leadership=leadership,
            health=health,
            observer=telemetry or NOBODY,
            files=source,
        )
    finally:
        for server in servers:
            server.server_close()


def _pages(options: argparse.Namespace, health: Health, telemetry: Telemetry | None) -> list[ThreadingHTTPServer]:
    """On one address or two."""
    from controller import pages

    wanted: dict[str, pages.Pages] = {options.health: pages.of_health(health)} if options.health else {}
    if telemetry:
        wanted[options.metrics] = {**wanted.get(options.metrics, {}), **pages.of_metrics(telemetry.text)}
    return [pages.serve(found, address) for address, found in wanted.items()]


def _with_local_cache(settings: Settings, state: Path) -> Settings:
    """On one machine pods share a cache in the state folder, unless the settings name a volume."""
    if settings.cache.volume != {"emptyDir": {}}:
        return settings
    folder = state / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    volume = {"hostPath": {"path": str(folder)}}
    return settings.model_copy(update={"cache": settings.cache.model_copy(update={"volume": volume})})


def default_state(server: str) -> Path:
    """Where the local cluster keeps its Jobs and pods when nobody says otherwise.

    One folder for each server: a Job whose task this server does not know would be taken for deleted.
    """
    base = os.environ.get("XDG_STATE_HOME") or Path(os.environ.get("HOME", "/tmp"), ".local", "state")  # noqa: S108
    mark = "".join(character if character.isalnum() else "-" for character in server.partition("://")[2])
    return Path(base, "podstrap", mark or "local")


def _seconds(text: str) -> float:
    seconds = float(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no positive number of seconds")
    return seconds
