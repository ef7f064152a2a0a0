"""The settings' types and short forms: what is meant is read, what could be misread is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from controller.settings import Settings
from controller.settings_queue import QueueLimits, QueueSettings


def read(**keys: Any) -> Settings:
    return Settings.model_validate(keys)


def test_defaults_are_those_of_the_guide() -> None:
    settings, queue = Settings(), QueueSettings()
    assert (settings.instance, settings.namespace, settings.max_pods) == ("podstrap", "default", None)
    assert (settings.poll_seconds, settings.reconcile_seconds, settings.orphan_grace_seconds) == (2.0, 60.0, 60.0)
    assert settings.bootstrap_command == ("podstrap", "bootstrap")
    assert settings.credentials_secret == "podstrap-clearml"
    assert (settings.cache.volume, settings.cache.mount_path) == ({"emptyDir": {}}, "/podstrap/cache")
    assert (settings.package_manager, settings.ttl_seconds_after_finished) == ("uv", 3600)
    assert (queue.max_pods, queue.paused, queue.on_disruption, queue.max_attempts) == (None, False, "restart", 3)


@pytest.mark.parametrize(
    "form", [{"queues": ["b", "a"]}, {"queues": {"b": None, "a": {}}}, {"queue": "b, a"}, {"queue": "b,a,"}]
)
def test_every_form_of_queues_keeps_the_order_of_the_file(form: dict[str, Any]) -> None:
    assert list(read(**form).queues) == ["b", "a"]


def test_no_pods_at_all_is_a_limit_and_not_its_absence() -> None:
    assert read(maxPods=0).max_pods == 0
    assert read(queues={"a": {"queueSettings": {"maxPods": 0}}}).queues["a"].max_pods == 0
    assert QueueSettings(queue_settings=QueueLimits(max_pods=2)).max_pods == 2


@pytest.mark.parametrize(
    "keys",
    [
        {"maxPods": True}, {"maxPods": -1}, {"maxPods": "5"}, {"maxPods": 1.5}, {"pollSeconds": 0},
        {"pollSeconds": float("nan")}, {"pollSeconds": "2"}, {"createQueueIfNotExists": "yes"}, {"instance": "a b"},
        {"queues": {1: None}}, {"queues": [True]}, {"queues": ["a", "a"]}, {"queues": [""]}, {"queues": "a"},
        {"queue": ["a"]}, {"queue": "a", "queues": ["b"]}, {"queues": {"a": {"maxAttempts": 0}}},
        {"queues": {"a": {"onDisruption": "retry"}}}, {"queues": {"a": {"namespace": "Up"}}}, {"namespace": "a.b"},
        {"packageManager": "conda"}, {"cache": {"volume": {}}}, {"cache": {"volume": {"emptyDir": None}}},
        {"cache": {"volume": {"emptyDir": {}, "hostPath": {}}}}, {"cache": {"mountPath": "cache"}},
        {"workPath": "/a/../b"}, {"workPath": "/podstrap/cache/work"}, {"workPath": "/podstrap"},
        {"apiServerUrlReference": "api.example.org"}, {"apiServerUrlReference": "http://u:hunter2@api"},
        {"bootstrapCommand": []}, {"allowedHostPaths": ["data"]}, {"basePodTemplate": []}, {"unknown": 1},
    ],
)  # fmt: skip
def test_what_could_be_misread_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(keys)


def test_pods_get_the_controllers_servers_unless_the_file_names_others() -> None:
    settings = read(apiServerUrlReference="http://inside:8008/").with_servers(
        "http://api", "http://web", "http://files"
    )
    assert (settings.api_server_url, settings.web_server_url) == ("http://inside:8008", "http://web")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().max_pods = 3  # type: ignore[misc]
