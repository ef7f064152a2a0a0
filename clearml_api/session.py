"""One logged-in connection to a ClearML server.

`Session.call("tasks.get_by_id", {"task": ID})` is one POST and answers the `data` of ClearML's envelope, or raises
one of errors.py. How long to try is the caller's choice (`Bounds`): a pod's claim wants to fail fast, a console
that must not lose a line wants minutes. Only failures that cannot have been the server's considered answer are
tried again: no connection, timeout, 429, 502, 503, 504, an answer cut in the middle.

The token comes from `auth.login` with basic authentication, is read for its expiry (a JWT's `exp`) and renewed
before that or when the server calls it bad. urllib3 carries the bytes: pooled connections, proxies from the
environment, TLS by the system's certificates. Nothing is printed.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3

from clearml_api import certificates
from clearml_api.configuration import Configuration
from clearml_api.errors import ApiError, ApiUnreachable, LoginRefused, NotAnApi
from protocol.errors import ConfigError

logging.getLogger("urllib3").setLevel(logging.CRITICAL)

_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_RENEW_BEFORE_SECONDS = 60.0
_BAD_TOKEN = frozenset({30, 31, 32})
"""Subcodes of 401 that a new login may heal (a bad or expired token); 20 and 22 are about the credentials."""


@dataclass(frozen=True)
class Bounds:
    """How long one call may take, tries included."""

    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    total_seconds: float = 60.0
    """No new try begins after this; 0: one try only."""
    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 10.0


QUICK = Bounds(connect_seconds=2.0, read_seconds=10.0, total_seconds=5.0)
ONCE = Bounds(total_seconds=0.0)


class Session:
    """Safe to use from several threads."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        worker: str = "",
        bounds: Bounds | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is sent until the first call. Raises ConfigError when server or credentials are missing."""
        configuration.require_server()
        self.configuration = configuration
        self.bounds = bounds or Bounds()
        self.requests = 0
        """Requests sent, tries and logins included."""
        self.on_request: Callable[[str, str, float], None] | None = None
        """Told of each of them: the call, its HTTP status or `unanswered`, seconds."""
        self._worker = worker
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._token = configuration.auth_token
        self._renew_at = float("inf") if self._token else 0.0
        self._pool = _pool(configuration)

    def login(self, bounds: Bounds | None = None) -> None:
        """Make sure that there is a token. Raises LoginRefused, NotAnApi or ApiUnreachable."""
        self._bearer(bounds or self.bounds)

    def call(
        self,
        endpoint: str,
        payload: Mapping[str, Any] | None = None,
        *,
        bounds: Bounds | None = None,
    ) -> dict[str, Any]:
        """POST `service.action` with a JSON body; the answer's `data`. Raises what errors.py lists."""
        body = json.dumps(payload or {}, separators=(",", ":")).encode()
        return self._authorized(endpoint, body, "application/json", bounds or self.bounds)

    def send_lines(self, endpoint: str, lines: bytes, *, bounds: Bounds | None = None) -> dict[str, Any]:
        """POST newline-delimited JSON (events.add_batch); the answer's `data`."""
        return self._authorized(endpoint, lines, "application/json-lines", bounds or self.bounds)

    def close(self) -> None:
        """Close the pooled connections."""
        self._pool.clear()

    def _authorized(self, endpoint: str, body: bytes, kind: str, bounds: Bounds) -> dict[str, Any]:
        for renewed in (False, True):
            token = self._bearer(bounds)
            try:
                return self._tries(endpoint, body, {"Authorization": f"Bearer {token}", "Content-Type": kind}, bounds)
            except ApiError as error:
                renewable = error.code == 401 and error.subcode in _BAD_TOKEN and not self.configuration.auth_token
                if renewed or not renewable:
                    raise
                with self._lock:
                    if self._token == token:
                        self._token = ""
        raise AssertionError("unreachable")

    def _bearer(self, bounds: Bounds) -> str:
        with self._lock:
            if self._token and self._clock() < self._renew_at:
                return self._token
            config = self.configuration
            basic = base64.b64encode(f"{config.access_key}:{config.secret_key}".encode()).decode()
            try:
                answer = self._tries("auth.login", b"{}", {"Authorization": f"Basic {basic}"}, bounds)
            except ApiError as error:
                if error.code in (401, 403):
                    raise LoginRefused(
                        f"ClearML at {config.api_host} refuses the access key {config.access_key[:4]}…: "
                        f"{error.server_message}",
                        hint="check CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY (web page: Settings, Workspace)",
                    ) from None
                raise
            token = answer.get("token")
            if not isinstance(token, str) or not token:
                raise NotAnApi(f"{config.api_host}: auth.login answered without a token")
            self._token = token
            self._renew_at = self._clock() + _seconds_left(token) - _RENEW_BEFORE_SECONDS
            return token

    def _tries(self, endpoint: str, body: bytes, headers: dict[str, str], bounds: Bounds) -> dict[str, Any]:
        """One request, tried again within the bounds while there was no considered answer."""
        started = self._clock()
        pause = bounds.first_pause_seconds
        tries = 0
        while True:
            tries += 1
            trouble, wait = "", 0.0
            try:
                return self._once(endpoint, body, headers, bounds)
            except _Passing as passing:
                trouble, wait = str(passing), passing.wait_seconds
            pause_now = max(wait, pause * random.uniform(0.5, 1.0))  # noqa: S311 (spreads load, protects nothing)
            if self._clock() - started + pause_now > bounds.total_seconds:
                times = f"{tries} tries in {self._clock() - started:.0f} s" if tries > 1 else "1 try"
                raise ApiUnreachable(
                    f"ClearML at {self.configuration.api_host} did not answer {endpoint}: {trouble} ({times})",
                    hint="is the server up, the address right, and reachable from here (proxy, firewall, DNS)?",
                ) from None
            self._sleep(pause_now)
            pause = min(pause * 2, bounds.longest_pause_seconds)

    def _once(self, endpoint: str, body: bytes, headers: dict[str, str], bounds: Bounds) -> dict[str, Any]:
        url = f"{self.configuration.api_host}/{endpoint}"
        self.requests += 1
        began, status = self._clock(), "unanswered"
        if self._worker:
            headers = {**headers, "X-ClearML-Worker": self._worker}
        try:
            answer = self._pool.request(
                "POST",
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=bounds.connect_seconds, read=bounds.read_seconds),
                retries=False,
                redirect=False,
            )
            status = str(answer.status)
        except urllib3.exceptions.SSLError as error:
            if _hung_up(error):
                raise _Passing(_plain(error)) from None
            raise NotAnApi(
                f"ClearML at {self.configuration.api_host}: the certificate is not accepted: {_plain(error)}",
                hint="mount your CA and set SSL_CERT_FILE, or set api.verify_certificate",
            ) from None
        except urllib3.exceptions.LocationValueError as error:
            raise ConfigError(f"The ClearML address {self.configuration.api_host!r} is no URL: {error}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _Passing(_plain(error)) from None
        finally:
            if self.on_request:
                self.on_request(endpoint, status, self._clock() - began)
        return self._read(endpoint, answer.status, answer.headers, answer.data)

    def _read(self, endpoint: str, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        envelope = _json(body)
        meta = envelope.get("meta") if isinstance(envelope, dict) else None
        if not isinstance(meta, dict):
            if status in _TRY_AGAIN:
                raise _Passing(f"HTTP {status}", _retry_after(headers))
            if 200 <= status < 300 and _looks_cut(body):
                raise _Passing("an answer cut in the middle")
            start = body[:60].decode("utf-8", "replace").strip()
            raise NotAnApi(
                f"{self.configuration.api_host} is no ClearML API server: {endpoint} answered HTTP {status}, "
                f"not ClearML's JSON: {start!r}",
                hint="give the API server's address (port 8008 or https://api.…), not the web page's or files server's",
            )
        if status in _TRY_AGAIN and not (status == 500 and meta.get("result_subcode")):
            raise _Passing(f"HTTP {status}: {meta.get('result_msg')}", _retry_after(headers))
        if status >= 400:
            subcode = int(meta.get("result_subcode") or 0)
            raise ApiError(endpoint, status, subcode, str(meta.get("result_msg") or "no reason given"))
        data = envelope.get("data")
        return data if isinstance(data, dict) else {}


class _Passing(Exception):
    """No considered answer: the same request may be sent again."""

    def __init__(self, text: str, wait_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.wait_seconds = wait_seconds


def _hung_up(error: BaseException) -> bool:
    """Whether the other side closed in the middle of the handshake: a proxy or sidecar that is not ready yet."""
    import ssl

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)):
            return True
        cause = seen.args[0] if seen.args and isinstance(seen.args[0], BaseException) else None
        seen = cause or seen.__cause__ or seen.__context__
    return False


def _pool(configuration: Configuration) -> urllib3.PoolManager:
    options: dict[str, Any] = {"maxsize": 8, "block": False}
    if configuration.api_host.startswith("https:"):
        options["ssl_context"] = _ssl_context(configuration.verify_certificate)
    proxy = _proxy_for(configuration.api_host)
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def _ssl_context(verify: bool | str) -> Any:
    import ssl

    if verify is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    named = (
        verify if isinstance(verify, str) else os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    )
    if named:
        try:
            return ssl.create_default_context(cafile=named)
        except OSError as error:
            raise ConfigError(f"The certificate bundle {named} cannot be read: {error}") from error
    # A folder of hashed certificates is looked up lazily: 0 ms, where the bundle file costs 25 ms a process.
    folder = "/etc/ssl/certs"
    if os.path.isdir(folder) and any(name.endswith(".0") for name in os.listdir(folder)):  # noqa: PTH112, PTH208
        return ssl.create_default_context(capath=folder)
    return ssl.create_default_context(cafile=certificates.bundle(os.environ))


def _proxy_for(url: str) -> str:
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return ""
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all") or ""


def _seconds_left(token: str) -> float:
    """Seconds until the JWT's `exp`; an hour when the token does not tell."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return max(float(claims["exp"]) - time.time(), _RENEW_BEFORE_SECONDS + 1)
    except (IndexError, ValueError, KeyError, TypeError):
        return 3600.0


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _looks_cut(body: bytes) -> bool:
    return body[:1] in (b"{", b"") and _json(body) is None


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return min(float(headers.get("Retry-After", "0")), 60.0)
    except ValueError:
        return 0.0


def _plain(error: BaseException) -> str:
    """urllib3's errors without object addresses and pool names."""
    text = str(getattr(error, "reason", None) or error)
    return text.split(": ", 1)[1] if text.startswith("<") and ": " in text else text
