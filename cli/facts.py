"""What `status` and `explain` ask: the settings, the cluster, the server. Nothing is changed."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clearml_api.models import Queue
    from clearml_api.session import Session
    from controller.settings import Settings
    from controller.state import JobFacts

_ALL_ENTRIES = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to look."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the controller's settings")
    parser.add_argument("--cluster", choices=("kubernetes", "local"), default="kubernetes", help="where its Jobs run")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="instead of KUBECONFIG")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig")
    parser.add_argument("--state", type=Path, metavar="DIR", help="the local cluster's state")


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
        return [job for job in self._snapshot() if job.labels.get(labels.CONTROLLER, instance) == instance]

    def _snapshot(self) -> tuple[JobFacts, ...]:
        if self._options.cluster == "local":
            from cli.controller import default_state
            from controller.cluster.local import LocalCluster

            state = self._options.state or default_state(self.session.configuration.api_host)
            return LocalCluster(state.resolve()).snapshot().jobs
        from controller.cluster.kube_cluster import KubernetesCluster
        from controller.cluster.kubernetes import Api
        from controller.permissions import namespaces

        api = Api(self._options.kubeconfig, self._options.context)
        settings = self.settings
        if "namespace" not in settings.model_fields_set and api.namespace:
            settings = settings.model_copy(update={"namespace": api.namespace})
        cluster = KubernetesCluster(api, settings.instance, namespaces(settings), home="")
        try:
            return cluster.snapshot().jobs
        finally:
            cluster.close()
