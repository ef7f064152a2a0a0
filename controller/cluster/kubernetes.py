"""The wire to a Kubernetes API server: the official client's configuration, raw JSON, typed errors.

The `kubernetes` client loads what there is to load (a pod's service account with its rotating token, a kubeconfig
with exec plugins, client certificates, proxies) and gives its connection pool; requests and answers stay bytes,
since its models cost ten times the time and memory of the few fields that we read.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from controller.cluster.interface import ClusterError
from protocol.errors import ConfigError

log = logging.getLogger("podstrap.controller")

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
_THROTTLED_SECONDS = 10.0
"""Longest time that one request waits for a server that says 429 or 503 with Retry-After; then the round fails."""
_MOST_CONNECTIONS = 32
_MESSAGE_BYTES = 64 * 1024
PATCH = "application/merge-patch+json"
_GROUP = re.compile(r"^/(api/[^/]+/|apis/[^/]+/[^/]+/)?")


Causes = tuple[tuple[str, str], ...]
"""What is wrong with an object: field and words, as far as the server tells."""


class ApiError(ClusterError):
    """The API server answered with a status that is no success."""

    def __init__(
        self, status: int, reason: str, message: str, *, retry_after: float | None = None, causes: Causes = ()
    ) -> None:
        super().__init__(f"Kubernetes says {status} {reason}: {message}")
        self.causes = causes
        self.status = status
        self.reason = reason
        self.said = message
        self.retry_after = retry_after


class _Cause(msgspec.Struct):
    field: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/"""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


class Api:
    """One API server. Safe to use from many threads."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        """With neither, as kubectl: $KUBECONFIG or ~/.kube/config, and in a pod its service account.

        Raises ConfigError when there is no configuration or it cannot be used.
        """
        self._source = (kubeconfig, context)
        self._lock = threading.Lock()
        self._client = _load(kubeconfig, context)
        self._served_namespace = _namespace_of(kubeconfig, context)
        self.on_request: Callable[[str, str, str, float], None] | None = None
        """Told of each request: verb, resource, status (or `unanswered`, `broken`), seconds until the answer began."""

    @property
    def host(self) -> str:
        """The API server's address."""
        return str(self._client.configuration.host)

    @property
    def namespace(self) -> str:
        """The kubeconfig context's namespace; empty when it names none."""
        return self._served_namespace

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        content_type: str = "application/json",
        read_seconds: float = READ_SECONDS,
    ) -> bytes:
        """One call. Raises ApiError, or ClusterError when nothing answers.

        A connection that breaks is tried once more, since every call of ours may be made twice. A server that is
        busy (429, or 503 with Retry-After) is asked again after the time that it names.
        """
        data = msgspec.json.encode(body) if body is not None else None
        headers = {"Content-Type": content_type} if data is not None else {}
        end = time.monotonic() + _THROTTLED_SECONDS
        tries = 0
        while True:
            tries += 1
            try:
                return self._once(method, path, query, data, headers, read_seconds)
            except ApiError as error:
                if error.status == 401 and tries == 1:
                    self._load_again()
                    continue
                wait = error.retry_after
                if wait is None or time.monotonic() + wait > end:
                    raise
                time.sleep(wait * random.uniform(1.0, 1.2))  # noqa: S311
            except _Broken:
                if tries > 1:
                    raise

    def stream(self, path: str, query: Mapping[str, Any], silence_seconds: float) -> Iterator[bytes]:
        """The lines of an answer that does not end by itself, such as a watch.

        Raises ApiError, and ClusterError when the connection breaks or is silent for `silence_seconds`.
        """
        with self._open("GET", path, query, None, {}, silence_seconds) as response:
            if response.status >= 400:
                raise _error_of(response)
            rest = b""
            for chunk in response.stream(64 * 1024):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line for line in lines if line)

    def _once(
        self, method: str, path: str, query: Mapping[str, Any] | None, data: bytes | None,
        headers: Mapping[str, str], read_seconds: float,
    ) -> bytes:  # fmt: skip
        with self._open(method, path, query, data, headers, read_seconds) as response:
            if response.status >= 400:
                raise _error_of(response)
            return bytes(response.read())

    @contextmanager
    def _open(
        self, method: str, path: str, query: Mapping[str, Any] | None, data: bytes | None,
        headers: Mapping[str, str], read_seconds: float,
    ) -> Iterator[Any]:  # fmt: skip
        client = self._client
        response, began, took = None, time.monotonic(), None
        status = "unanswered"
        try:
            response = client.rest_client.pool_manager.request(
                method,
                f"{client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else ""),
                body=data,
                headers={"Accept": "application/json", "User-Agent": "podstrap", **headers, **_authorization(client)},
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            took, status = time.monotonic() - began, str(response.status)
            yield response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            status = "broken" if response is not None else status
            raise _Broken(f"the Kubernetes API server {self.host} does not answer ({path}): {error}") from error
        finally:
            if self.on_request:
                self.on_request(*call_of(method, path, query), status, took or time.monotonic() - began)
            if response is not None:  # one that was read to its end has given its connection back by now
                response.close()
                response.release_conn()

    def _load_again(self) -> None:
        """A refused token or certificate may have been replaced on disk since."""
        with self._lock:
            try:
                self._client = _load(*self._source)
            except ConfigError as error:
                log.warning("kubeconfig-unusable error=%r", str(error))


class _Broken(ClusterError):
    """The connection, not the server's answer."""


def _authorization(client: ApiClient) -> dict[str, str]:
    """The configuration's own headers; asking for them is what lets it renew a token."""
    try:
        settings = client.configuration.auth_settings()
    except (config.ConfigException, OSError) as error:
        raise ClusterError(f"the credentials for Kubernetes cannot be renewed: {error}") from error
    return {one["key"]: one["value"] for one in settings.values() if one.get("in") == "header" and one.get("value")}


def _load(kubeconfig: Path | None, context: str | None) -> ApiClient:
    configuration = Configuration()
    try:
        if kubeconfig is None and context is None and _in_a_pod():
            config.load_incluster_config(client_configuration=configuration)
        else:
            file = str(kubeconfig) if kubeconfig else None
            config.load_kube_config(config_file=file, context=context, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError) as error:
        raise ConfigError(
            f"No usable configuration for Kubernetes: {error}",
            hint="--kubeconfig FILE, KUBECONFIG, or run in a pod with a service account; --cluster local needs none",
        ) from error
    configuration.socket_options = tcp_keepalive_socket_options(idle=15, interval=5, count=3)
    configuration.connection_pool_maxsize = _MOST_CONNECTIONS
    return ApiClient(configuration)


def _in_a_pod() -> bool:
    return Path(config.incluster_config.SERVICE_TOKEN_FILENAME).is_file()


def _namespace_of(kubeconfig: Path | None, context: str | None) -> str:
    if kubeconfig is None and context is None and _in_a_pod():
        return ""
    try:
        contexts, active = config.list_kube_config_contexts(str(kubeconfig) if kubeconfig else None)
    except (config.ConfigException, OSError):
        return ""
    wanted = next((one for one in contexts if one.get("name") == context), active) if context else active
    return str(((wanted or {}).get("context") or {}).get("namespace") or "")


def _error_of(response: Any) -> ApiError:
    raw = response.read(_MESSAGE_BYTES)
    try:
        status = msgspec.json.decode(raw, type=_Status)
    except msgspec.MsgspecError:  # a proxy's page
        status = _Status(message=raw[:300].decode("utf-8", "replace").strip())
    retry_after = None
    if response.status in (429, 503, 504, 500) and (said := response.headers.get("Retry-After")):
        retry_after = float(said) if said.isascii() and said.isdigit() else 1.0
    elif response.status == 429:
        retry_after = 1.0
    causes = tuple((one.field, one.message) for one in (status.details and status.details.causes) or ())
    reason = status.reason or str(response.reason)
    return ApiError(response.status, reason, status.message, retry_after=retry_after, causes=causes)


def call_of(method: str, path: str, query: Mapping[str, Any] | None) -> tuple[str, str]:
    """Verb and resource of a request, as Role and audit log call them: `list` `jobs`, `get` `pods/log`."""
    _, inside, below = path.partition("/namespaces/")
    parts = below.split("/")[1:] if inside else _GROUP.sub("", path).split("/")
    resource, name, inner = (*parts[:3], "", "", "")[:3]
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(method, "get")
    if verb == "get" and not name:
        verb = "watch" if query and query.get("watch") else "list"
    return verb, "/".join(one for one in (resource, inner) if one) or "other"


def jobs_path(namespace: str, name: str = "") -> str:
    """Of the Jobs of a namespace, or of one."""
    return _path("/apis/batch/v1", namespace, "jobs", name)


def pods_path(namespace: str, name: str = "") -> str:
    """Of the pods of a namespace, or of one."""
    return _path("/api/v1", namespace, "pods", name)


def events_path(namespace: str, name: str = "") -> str:
    """Of the Events of a namespace, or of one."""
    return _path("/api/v1", namespace, "events", name)


def leases_path(namespace: str, name: str = "") -> str:
    """Of the Leases of a namespace, or of one."""
    return _path("/apis/coordination.k8s.io/v1", namespace, "leases", name)


def _path(group: str, namespace: str, resource: str, name: str) -> str:
    whole = f"{group}/namespaces/{quote(namespace, safe='')}/{resource}"
    return f"{whole}/{quote(name, safe='')}" if name else whole
