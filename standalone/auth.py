"""Who asks: one user with one pair of keys; tokens are JWTs signed with a key of this data folder (RFC 7519, HS256)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from standalone.wire import API_VERSION, COMPANY, USER, USER_NAME, Refusal

LIFE_SECONDS = 30 * 24 * 3600
COOKIE = "clearml_token_basic"


@dataclass(frozen=True)
class Keys:
    """The one user's keys and the token's signing key."""

    access: str
    secret: str
    signing: bytes

    def issue(self, seconds: float = LIFE_SECONDS) -> str:
        """A token."""
        now = int(time.time())
        claims = {
            "exp": now + int(seconds),
            "iat": now,
            "auth_type": "Bearer",
            "identity": {
                "company": COMPANY,
                "company_name": "clearml",
                "user": USER,
                "user_name": USER_NAME,
                "role": "user",
            },
            "api_version": API_VERSION,
            "server_version": "2.3.0",
            "server_build": "",
            "feature_set": "basic",
        }
        head = _encode(b'{"alg":"HS256","typ":"JWT"}')
        body = f"{head}.{_encode(json.dumps(claims).encode())}"
        return f"{body}.{self._signature(body)}"

    def login(self, authorization: str) -> None:
        """Check basic credentials. Raises Refusal."""
        kind, _, text = authorization.partition(" ")
        if kind.lower() == "bearer":
            self.check(authorization)
            return
        if kind.lower() != "basic":
            raise Refusal(401, 20, "Unauthorized (missing credentials)")
        try:
            access, _, secret = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Refusal(401, 21, "Unauthorized (malformed credentials)") from None
        known = hmac.compare_digest(access.encode(), self.access.encode())
        if not (hmac.compare_digest(secret.encode(), self.secret.encode()) and known):
            text = "Unauthorized (invalid credentials) (failed to locate provided credentials)"
            raise Refusal(401, 22, text)

    def check(self, authorization: str) -> None:
        """Check a bearer token or basic credentials. Raises Refusal."""
        kind, _, token = authorization.partition(" ")
        if kind.lower() == "basic":
            self.login(authorization)
            return
        if kind.lower() != "bearer" or not token:
            raise Refusal(401, 20, "Unauthorized (missing credentials)")
        body, _, signature = token.strip().rpartition(".")
        if body.count(".") != 1:
            raise _bad_token("Not enough segments")
        if not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            raise _bad_token("Signature verification failed")
        try:
            claims = json.loads(_decode(body.split(".")[1]))
        except (ValueError, binascii.Error):
            raise _bad_token("Invalid payload") from None
        if claims.get("exp", 0) < time.time():
            raise _bad_token("Signature has expired")

    def _signature(self, body: str) -> str:
        return _encode(hmac.new(self.signing, body.encode(), hashlib.sha256).digest())


def keys(folder: Path, access: str = "", secret: str = "") -> Keys:
    """The keys given, else those kept in the folder, made at the first start (readable by the owner alone)."""
    file = folder / "keys.json"
    try:
        kept = json.loads(file.read_text())
    except (OSError, ValueError):
        kept = {
            "access": secrets.token_hex(10).upper(),
            "secret": secrets.token_urlsafe(32),
            "signing": secrets.token_hex(32),
        }
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            json.dump(kept, opened)
    return Keys(access or kept["access"], secret or kept["secret"], bytes.fromhex(kept["signing"]))


def _bad_token(why: str) -> Refusal:
    return Refusal(401, 30, f"Invalid token (invalid jwt token): reason={why}")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
