"""What a Kubernetes Job does when its pods end, as far as ours use it. Pure.

https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.state import JobEnd, PodFacts

_COUNT = "Count"


def end_of(spec: Mapping[str, Any], pods: Sequence[PodFacts]) -> JobEnd | None:
    """The Job's end after these pods, of which none lives; None when it goes on with another pod."""
    counted = 0
    for pod in pods:
        if pod.phase == "Succeeded":
            return JobEnd(succeeded=True, reason="Complete", at=pod.finished)
        action, rule = _action(spec, pod)
        if action == "FailJob":
            message = f"pod {pod.name} failed with exit code {pod.exit_code}, matching FailJob rule at index {rule}"
            return JobEnd(succeeded=False, reason="PodFailurePolicy", message=message, at=pod.finished)
        counted += action == _COUNT
    limit = spec.get("backoffLimit", 6)
    if counted > limit:
        message = "Job has reached the specified backoff limit"
        return JobEnd(succeeded=False, reason="BackoffLimitExceeded", message=message, at=pods[-1].finished)
    return None


def _action(spec: Mapping[str, Any], pod: PodFacts) -> tuple[str, int]:
    """The first rule that matches decides; none: the failure is counted."""
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or ()
    for index, rule in enumerate(rules):
        if _matches(rule, pod):
            return str(rule.get("action")), index
    return _COUNT, -1


def _matches(rule: Mapping[str, Any], pod: PodFacts) -> bool:
    if conditions := rule.get("onPodConditions"):
        return bool(pod.disruption) and any(
            one.get("type") == "DisruptionTarget" and str(one.get("status", "True")) == "True" for one in conditions
        )
    codes = rule.get("onExitCodes") or {}
    if not codes or pod.exit_code in (None, 0):
        return False
    return (pod.exit_code in codes.get("values", ())) == (codes.get("operator") == "In")
