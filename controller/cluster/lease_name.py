"""The Lease's name, apart so that the Role can be written without a cluster client."""

from __future__ import annotations

import re


def lease_name(instance: str) -> str:
    """A DNS label for an instance."""
    return ("podstrap-" + re.sub(r"[^a-z0-9-]+", "-", instance.lower()))[:63].strip("-")
