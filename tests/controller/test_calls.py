"""How a request to Kubernetes is called in metrics: as Role and audit log call it, never by an object's name."""

from __future__ import annotations

import pytest

from controller.cluster.kubernetes import call_of, events_path, jobs_path, leases_path, pods_path


@pytest.mark.parametrize(
    ("method", "path", "query", "verb", "resource"),
    [
        ("GET", jobs_path("team"), {"limit": 500}, "list", "jobs"),
        ("GET", pods_path("team"), {"watch": "1"}, "watch", "pods"),
        ("GET", jobs_path("team", "job-1"), None, "get", "jobs"),
        ("GET", f"{pods_path('team', 'pod-1')}/log", {"tailLines": 15}, "get", "pods/log"),
        ("POST", jobs_path("team"), {"fieldValidation": "Strict"}, "create", "jobs"),
        ("PATCH", jobs_path("team", "job-1"), None, "patch", "jobs"),
        ("DELETE", jobs_path("team", "job-1"), None, "delete", "jobs"),
        ("PUT", leases_path("team", "lease"), None, "update", "leases"),
        ("GET", events_path("namespaces"), None, "list", "events"),
        ("GET", "/api/v1/nodes/node-1", None, "get", "nodes"),
        ("GET", "/apis/apps/v1/deployments", None, "list", "deployments"),
        ("GET", "/version", None, "list", "version"),
    ],
)
def test_a_request_is_called_by_verb_and_resource(
    method: str, path: str, query: dict[str, object] | None, verb: str, resource: str
) -> None:
    assert call_of(method, path, query) == (verb, resource)
