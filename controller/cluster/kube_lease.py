"""The Lease of a controller instance: one leader among its replicas, and the instance's name in the world.

The rules are those of Kubernetes' own components: a candidate takes a Lease that nobody holds or whose holder has
not renewed it for its duration, by the candidate's own monotonic clock from when it saw the last renewal, so no two
clocks are ever compared; the PUT carries the resourceVersion that was read, so one of two wins
(https://kubernetes.io/docs/concepts/architecture/leases/). A leader that cannot renew stops acting before another
can take over.

The Lease's uid is the instance's mark on the claims of its pods (`ClusterState.home`): two clusters may serve one
queue under the same instance name and never take the other's tasks for their own. An annotation holds the ClearML
server, because one instance serves one server: a task that a server does not know counts as deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import msgspec

from controller.cluster.interface import ClusterError
from controller.cluster.kubernetes import Api, ApiError, leases_path
from controller.cluster.lease_name import lease_name
from controller.leader import NAMESPACES, NOTE
from protocol import labels
from protocol.errors import ConfigError

log = logging.getLogger("podstrap.controller")

SERVER = labels.PREFIX + "server"
"""Annotation: the ClearML API server that this instance serves."""
WORDS = (NOTE, NAMESPACES)
LEASE_SECONDS = 15.0
"""A leader that was killed is followed after this long."""
_RENEW_DEADLINE_SECONDS = 10.0
"""A leader that could not renew for so long stops acting."""
_RENEW_EVERY_SECONDS = 3.0
_LOOK_EVERY_SECONDS = 1.0
"""A standby sees a released Lease this soon."""
_READ_SECONDS = 4.0


class Lease:
    """Made by `join`; a thread of its own takes, renews and watches the Lease until `release`."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        instance: str,
        identity: str,
        server: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = lease_name(instance)
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._server = server
        self._monotonic = monotonic
        self._until = float("-inf")
        self._seen: tuple[str, float] = ("", float("-inf"))
        """The version last seen of the Lease, and when it was first seen."""
        self._trouble = ""
        self._words: dict[str, str] = {}
        """Annotation -> text: what the leader says, and at first what the last one said."""
        self._to_write = False
        self._led = False
        self._change = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"lease {self.name}", daemon=True)

    def join(self) -> str:
        """Make the Lease if there is none, check that it is ours to take, begin. Its uid.

        Raises ConfigError when this instance name serves another ClearML server, ClusterError when nobody answers.
        """
        lease = self._read() or self._make()
        served = (lease["metadata"].get("annotations") or {}).get(SERVER, self._server)
        if served.rstrip("/") != self._server.rstrip("/"):
            raise ConfigError(
                f"The instance of this name in namespace {self._namespace} serves {served}, not {self._server}: two "
                "controllers that share a name would take each other's Jobs for those of deleted tasks",
                hint="give this one another `instance` in its settings; or, if the server's address has changed: "
                f"kubectl -n {self._namespace} delete lease {self.name}",
            )
        self._thread.start()
        return str(lease["metadata"]["uid"])

    @property
    def leading(self) -> bool:
        return self._monotonic() < self._until

    @property
    def trouble(self) -> str:
        return self._trouble

    def wait(self, seconds: float) -> bool:
        with self._change:
            self._change.wait_for(lambda: self.leading or self._stopping, seconds)
        return self.leading

    def say(self, key: str, text: str) -> None:
        with self._change:
            if self._words.get(labels.PREFIX + key, "") != text:
                self._words[labels.PREFIX + key] = text
                self._to_write = True
                self._change.notify_all()

    def said(self, key: str) -> str:
        return self._words.get(labels.PREFIX + key, "")

    def release(self) -> None:
        with self._change:
            if self._stopping:
                return
            led, self._stopping, self._until = self.leading, True, float("-inf")
            self._change.notify_all()
        self._thread.join(_READ_SECONDS + 1)
        if led:
            self._give_up()

    def _run(self) -> None:
        led = False
        while not self._stopping:
            try:
                self._step()
                self._trouble = ""
            except (ClusterError, msgspec.MsgspecError, KeyError, ValueError) as error:
                self._trouble = str(error)
                log.debug("lease-failed lease=%s error=%r", self.name, str(error))
            if led != self.leading:
                led = not led
                log.info("%s lease=%s identity=%s", "leads" if led else "lead-lost", self.name, self._identity)
            with self._change:
                self._change.notify_all()
                pause = _RENEW_EVERY_SECONDS if self.leading else _LOOK_EVERY_SECONDS
                self._change.wait_for(lambda: self._stopping or (self._to_write and self.leading), pause)

    def _step(self) -> None:
        """Look; renew or take it where that is due."""
        asked = self._monotonic()
        lease = self._read() or self._make()
        spec, version = lease.get("spec") or {}, str(lease["metadata"]["resourceVersion"])
        if version != self._seen[0]:
            self._seen = (version, asked)
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity):
            self._until = float("-inf")
            if self._monotonic() - self._seen[1] < float(spec.get("leaseDurationSeconds") or LEASE_SECONDS):
                return
        self._take(lease, asked, new=holder != self._identity)

    def _take(self, lease: dict[str, Any], asked: float, *, new: bool) -> None:
        now = _now()
        spec = {**(lease.get("spec") or {}), "holderIdentity": self._identity, "renewTime": now}
        spec["leaseDurationSeconds"] = int(LEASE_SECONDS)
        if new:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        found = lease["metadata"].get("annotations") or {}
        with self._change:
            if new or not self._led:  # what the last leader said holds until this one says otherwise
                self._led = True
                self._words = {key: text for key, text in found.items() if key.removeprefix(labels.PREFIX) in WORDS}
            annotations, self._to_write = {**found, **self._words, SERVER: self._server}, False
        body = {**lease, "metadata": {**lease["metadata"], "annotations": annotations}, "spec": spec}
        try:
            written = self._put(body)
        except ApiError as error:
            if error.status == 409:  # another was faster
                self._until = float("-inf")
                return
            raise
        self._seen = (str(written["metadata"]["resourceVersion"]), asked)
        if not self._stopping:
            self._until = asked + _RENEW_DEADLINE_SECONDS

    def _give_up(self) -> None:
        """So that the next one need not wait until it expires."""
        try:
            lease = self._read()
            if lease and (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                self._put({**lease, "spec": spec})
                log.info("lead-released lease=%s", self.name)
        except ClusterError as error:
            log.warning("lease-not-released lease=%s error=%r", self.name, str(error))

    def _read(self) -> dict[str, Any] | None:
        try:
            raw = self._api.request("GET", leases_path(self._namespace, self.name), read_seconds=_READ_SECONDS)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        found: dict[str, Any] = msgspec.json.decode(raw)
        return found

    def _make(self) -> dict[str, Any]:
        metadata = {
            "name": self.name,
            "labels": {labels.MANAGED_BY: labels.MANAGED_BY_VALUE},
            "annotations": {SERVER: self._server},
        }
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
        try:
            raw = self._api.request("POST", leases_path(self._namespace), None, body, read_seconds=_READ_SECONDS)
        except ApiError as error:
            if error.status == 409 and (found := self._read()):
                return found
            raise
        made: dict[str, Any] = msgspec.json.decode(raw)
        return made

    def _put(self, body: dict[str, Any]) -> dict[str, Any]:
        path = leases_path(self._namespace, self.name)
        written: dict[str, Any] = msgspec.json.decode(
            self._api.request("PUT", path, None, body, read_seconds=_READ_SECONDS)
        )
        return written


def note_of(api: Api, namespace: str, instance: str) -> str:
    """What the leader of an instance last said; empty when nothing, or nobody could be asked."""
    try:
        raw = api.request("GET", leases_path(namespace, lease_name(instance)), read_seconds=_READ_SECONDS)
    except ClusterError as error:
        log.debug("no-lease error=%r", str(error))
        return ""
    annotations = (msgspec.json.decode(raw).get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(labels.PREFIX + NOTE, ""))


def _now() -> str:
    """MicroTime, for people; nobody reckons with it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
