"""Tells a mesh's sidecar that the pod is done, so that its Job can end.

An ordinary sidecar container runs on when the task's container has ended, and the pod never completes. Meshes take a
POST on a local port for that (Istio: http://127.0.0.1:15020/quitquitquit, Linkerd: http://127.0.0.1:4191/shutdown). A
native sidecar (an init container with restartPolicy Always, Kubernetes 1.29) is ended by the kubelet and needs no call:
https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
"""

from __future__ import annotations

import sys

_SECONDS = 2.0


def tell_to_quit(url: str) -> str:
    """POST there, once; what went wrong, empty when nothing did. Never raises: the run is over and reported."""
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    try:
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=_SECONDS)
        try:
            connection.request("POST", parts.path or "/", headers={"Content-Length": "0"})
            answer = connection.getresponse()
            answer.read(1024)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _complained(f"the sidecar at {url} could not be told to quit: {error}")
    if answer.status >= 400:
        return _complained(f"the sidecar at {url} does not quit: HTTP {answer.status}")
    return ""


def _complained(text: str) -> str:
    sys.stderr.write(f"podstrap: {text}\n")
    sys.stderr.flush()
    return text
