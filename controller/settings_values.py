"""What single values of the settings must look like: their types, and the checks behind them.

Each check answers the value or says what is wrong with it. Types are strict: `maxPods: true` is an error, not 1.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def dns_label(text: str) -> str:
    """A Kubernetes namespace's name (RFC 1123 label)."""
    if not _DNS_LABEL.fullmatch(text):
        raise PydanticCustomError(
            "dns_label", "a namespace is up to 63 lower-case letters, digits and hyphens, none at its ends"
        )
    return text


def absolute_path(text: str) -> str:
    """An absolute path without `..`."""
    if not text.startswith("/") or ".." in text.split("/"):
        raise PydanticCustomError("path", "an absolute path without .. is wanted")
    return text


def server_url(text: str) -> str:
    """An http(s) URL without a user or password: it stands in manifests, where no secret may be. Empty: not set."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise PydanticCustomError("url", "an http:// or https:// URL is wanted")
    if "@" in parts.netloc:
        raise PydanticCustomError("url_secret", "user and password must not stand in the URL; use the Secret")
    return text.rstrip("/")


def loopback_url(text: str) -> str:
    """An http URL on the pod's own loopback, without user, query or fragment. Empty: not set."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        fits = parts.scheme == "http" and parts.netloc == f"{parts.hostname}:{parts.port}" and parts.port != 0
    except ValueError:
        fits = False
    if not fits or parts.hostname != "127.0.0.1" or parts.query or parts.fragment:
        raise PydanticCustomError("loopback_url", "http://127.0.0.1:PORT/PATH is wanted: a sidecar of the same pod")
    return text


def volume_source(source: dict[str, Any]) -> dict[str, Any]:
    """A Kubernetes volume without its name: exactly one source."""
    if len(source) != 1 or "name" in source:
        raise PydanticCustomError(
            "volume", "one volume source is wanted and no name, such as persistentVolumeClaim: {claimName: NAME}"
        )
    (kind, fields) = next(iter(source.items()))
    if not isinstance(fields, dict):
        raise PydanticCustomError("volume", "{kind}: a mapping is wanted", {"kind": kind})
    return source


Template = dict[str, Any]
Seconds = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
MaxPods = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Namespace = Annotated[str, AfterValidator(dns_label)]
ContainerPath = Annotated[str, AfterValidator(absolute_path)]
ServerUrl = Annotated[str, AfterValidator(server_url)]
LoopbackUrl = Annotated[str, AfterValidator(loopback_url)]
Installer = Literal["uv", "pip"]
Engine = Literal["podstrap", "clearml-agent"]
MissingPython = Literal["install", "nearest", "fail"]
Injection = Literal["auto", "always", "never"]
InjectionMethod = Literal["auto", "imageVolume", "initContainer"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]
NotNegative = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
Limit = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]


class Model(BaseModel):
    """camelCase in the file, nothing unknown, never changed."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)
