"""What can go wrong between us and the server, each kind with its own class so that callers catch narrowly."""

from __future__ import annotations

from protocol.errors import PodstrapError


class ApiUnreachable(PodstrapError):
    """No whole answer within the bounds: connection refused, timeout, 5xx, cut in the middle. Trying again may help."""


class NotAnApi(PodstrapError):
    """Something answered, but it is no ClearML API server (HTML, another service, a proxy's page)."""


class LoginRefused(PodstrapError):
    """The server does not accept our credentials."""


class ApiError(PodstrapError):
    """The server understood the request and refused it.

    `code` is the HTTP status, `subcode` ClearML's own number (meta.result_subcode), `endpoint` e.g. `tasks.started`.
    """

    def __init__(self, endpoint: str, code: int, subcode: int, message: str) -> None:
        super().__init__(f"ClearML refused {endpoint}: {message} (HTTP {code}, code {subcode})")
        self.endpoint = endpoint
        self.code = code
        self.subcode = subcode
        self.server_message = message


UNKNOWN_TASK = 101
INVALID_STATUS_CHANGE = 110
STATUS_CHANGED_MEANWHILE = 121
INVALID_QUEUE = 701
NOT_IN_QUEUE = 703
ALREADY_QUEUED = 706
QUEUE_NAME_TAKEN = 801
"""Subcodes of HTTP 400 answers that callers tell apart (measured on API 2.34)."""
