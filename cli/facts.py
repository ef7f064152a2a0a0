"""What `status` and `explain` ask: the settings, the cluster, the server. Nothing is changed."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clearml_api.models import Queue
    from clearml_api.session import Session
    from controller.cluster.interface import Cluster
    from controller.cluster.kubernetes import Api
    from controller.settings import Settings
    from controller.state import JobFacts

_ALL_ENTRIES = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to look."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the controller's settings")
    add_cluster_arguments(parser)


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Where Jobs run."""
    parser.add_argument(
        "--cluster",
        choices=("kubernetes", "local"),
        default="kubernetes",
        help="where Jobs run: in Kubernetes (the default), or as processes of this machine",
    )
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="instead of KUBECONFIG or the pod's account")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig, instead of its current one")
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the local cluster's state (default: a folder for each server below ~/.local/state/podstrap)",
    )


@dataclass
class Facts:
    """A connection to each; `look` as often as wanted."""

    settings: Settings
    session: Session
    _options: argparse.Namespace

    @classmethod
    def of(cls, options: argparse.Namespace) -> Facts:
        from clearml_api.configuration import load
        from clearml_api.session import Session
        from controller import settings_file

        configuration = load()
        settings = settings_file.load(options.config)
        settings = settings.with_servers(configuration.api_host, configuration.web_host, configuration.files_host)
        return cls(settings, Session(configuration), options)

    def queues(self) -> list[Queue]:
        """All of the server, with all their entries."""
        from clearml_api import queues

        return queues.get_all(self.session, max_entries=_ALL_ENTRIES)

    def jobs(self) -> list[JobFacts]:
        """The instance's own."""
        from protocol import labels

        instance = self.settings.instance
        return [job for job in self._cluster.snapshot().jobs if job.labels.get(labels.CONTROLLER, instance) == instance]

    def note(self) -> str:
        """What the controller that leads has to say about its settings; empty for nothing."""
        if self._options.cluster == "local":
            return ""
        from controller.cluster.kube_lease import note_of

        settings = self.settings.or_in(self._api.namespace)
        return note_of(self._api, settings.namespace, settings.instance)

    @cached_property
    def _api(self) -> Api:
        from controller.cluster.kubernetes import Api

        return Api(self._options.kubeconfig, self._options.context)

    @cached_property
    def _cluster(self) -> Cluster:
        """Kept from look to look: Kubernetes is listed once and then watched."""
        if self._options.cluster == "local":
            from cli.controller import default_state
            from controller.cluster.local import LocalCluster

            state = self._options.state or default_state(self.session.configuration.api_host)
            return LocalCluster(state.resolve())
        from controller.cluster.kube_cluster import KubernetesCluster
        from controller.permissions import namespaces

        settings = self.settings.or_in(self._api.namespace)
        return KubernetesCluster(self._api, settings.instance, namespaces(settings), home="")
