"""What Prometheus sees of a running controller."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Series = Mapping[str, float]
"""A series as PromQL writes it, labels in alphabetical order -> its value."""


def numbers(text: str) -> dict[str, float]:
    """Every series of an answer of /metrics."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            inside = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{inside}}}"] = sample.value
    return found


def scrape(address: str) -> dict[str, float]:
    """Of `HOST:PORT`."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return numbers(answer.read().decode())


def total(found: Series, name: str, *parts: str) -> float:
    """The sum of a metric's series whose labels hold all of these, written `label="value"`."""
    return sum(value for key, value in found.items()
               if key.startswith(f"{name}{{") and all(part in key for part in parts))  # fmt: skip
