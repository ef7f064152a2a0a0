"""The tests' own client of the API server: requests and dictionaries, nothing of what is tested."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import requests

Object = dict[str, Any]
_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"


class Kube:
    """One user's connection. Paths are the API's own; each method raises requests.HTTPError with the server's words."""

    def __init__(self, url: str, token: str, ca: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._session.verify = ca
        self._session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=16))

    def call(self, method: str, path: str, body: Any = None, *, content: str = "application/json", **query: Any) -> Any:
        data = json.dumps(body) if body is not None else None
        headers = {"Content-Type": content} if data else {}
        answer = self._session.request(method, self.url + path, params=query, data=data, headers=headers, timeout=30)
        if not answer.ok:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text}", response=answer)
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else answer.text

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, **query)

    def find(self, path: str) -> Object | None:
        """None when there is no such object."""
        try:
            found: Object = self.get(path)
            return found
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code == 404:
                return None
            raise

    def items(self, path: str, **query: Any) -> list[Object]:
        found: list[Object] = self.get(path, **query)["items"]
        return found

    def create(self, path: str, body: Object) -> Object:
        made: Object = self.call("POST", path, body)
        return made

    def patch(self, path: str, body: Object, *, strategic: bool = False) -> Object:
        changed: Object = self.call("PATCH", path, body, content=_STRATEGIC if strategic else _MERGE)
        return changed

    def delete(self, path: str, **options: Any) -> None:
        self.call("DELETE", path, options or None)

    def watch(self, path: str, version: str, **query: Any) -> Iterator[Object]:
        """Events until the server ends the watch."""
        params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "60", **query}
        with self._session.get(self.url + path, params=params, stream=True, timeout=(5, 90)) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines(chunk_size=None):
                if line:
                    yield json.loads(line)


def jobs(namespace: str, name: str = "") -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" + (f"/{name}" if name else "")


def pods(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def leases(namespace: str, name: str = "") -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases" + (f"/{name}" if name else "")


def condition(one: Object, kind: str) -> Object | None:
    """A condition that is True."""
    found = (one.get("status") or {}).get("conditions") or ()
    return next((each for each in found if each["type"] == kind and each["status"] == "True"), None)
