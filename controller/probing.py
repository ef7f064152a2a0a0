"""When the cluster is asked for its opinion of the templates: at the start, after each change of the settings, and
once a minute while it has something against one (a CRD, a quota or a policy may change under us)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timezone

from controller import probe
from controller.cluster.interface import Cluster, ClusterError
from controller.settings import Settings
from controller.settings_file import Places

log = logging.getLogger("podstrap.controller")

_AGAIN_SECONDS = 60.0
_MOST_TOLD = 20
"""Findings on the Lease; the log has them all."""


class Probing:
    """One for each time that this controller leads."""

    def __init__(self, cluster: Cluster, monotonic: Callable[[], float]) -> None:
        self._cluster = cluster
        self._monotonic = monotonic
        self._probed: Settings | None = None
        self._told: dict[str, probe.Finding] = {}
        self._again = float("inf")

    @property
    def found(self) -> str:
        """What the cluster has against the templates, a line each; empty for nothing."""
        lines = [f"a template is refused: {one}" for one in list(self._told)[:_MOST_TOLD]]
        more = len(self._told) - len(lines)
        return "\n".join([*lines, *([f"and {more} more, in the log"] if more else [])])

    def see_to(self, settings: Settings, places: Callable[[], Places | None]) -> None:
        """Ask where that is due, and log what is new. Never raises: an outage is told by the round that follows."""
        if settings is self._probed and self._monotonic() < self._again:
            return
        try:
            found = probe.findings(settings, self._cluster, datetime.now(timezone.utc), places())
        except ClusterError as error:
            log.debug("no-probe error=%r", str(error))
            self._probed, self._again = settings, self._monotonic() + _AGAIN_SECONDS
            return
        told = {str(one): one for one in found}
        for text, one in told.items():
            if text not in self._told:
                log.warning("template-refused probe=%r at=%s error=%r", one.probe, one.at or "-", text)
        if self._told and not told:
            log.info("templates-taken")
        self._probed, self._told = settings, told
        self._again = self._monotonic() + _AGAIN_SECONDS if told else float("inf")
