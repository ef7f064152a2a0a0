"""`podstrap render TASK|FILE --queue Q`: the Job manifest that a task would get, without creating anything."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearml_api.models import Queue, Task
    from controller.settings import Settings
    from controller.settings_queue import QueueSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which task, which queue, which settings."""
    parser.add_argument(
        "task", metavar="TASK|FILE", help="a task's id on the server, or a JSON/YAML file of its fields"
    )
    parser.add_argument("--queue", required=True, metavar="Q", help="the queue's name or id")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: only the built-in ones)")
    parser.add_argument(
        "--kubernetes", metavar="VERSION", default="1.35", help="of the cluster's API server (default: 1.35 or newer)"
    )
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")
    parser.add_argument(
        "--explain", action="store_true", help="say of each value where it came from, and which rules hold"
    )


def run(options: argparse.Namespace) -> int:
    """Print the manifest; ConfigError when task, queue or template cannot be used."""
    import yaml

    from controller import settings_file

    settings = settings_file.load(options.config) if options.config else settings_file.load_text(_only(options.queue))
    task, queue = _task_and_queue(options.task, options.queue)
    key = _queue_key(settings, queue)
    queue_settings = settings.queues[key]
    manifest = _manifest(task, queue, settings, queue_settings, options.kubernetes)
    if options.explain:
        from cli.render_explained import explained

        file = options.config
        print(explained(manifest, task, settings, queue_settings, key, queue.name, file, options.output))
        return 0
    plain = json.dumps(manifest, indent=2)  # through JSON, so that YAML writes no anchors for what is shared
    text = plain if options.output == "json" else yaml.safe_dump(json.loads(plain), sort_keys=False)
    print(text.rstrip("\n"))
    return 0


def _manifest(
    task: Task, queue: Queue, settings: Settings, queue_settings: QueueSettings, version: str
) -> dict[str, Any]:
    from datetime import datetime, timezone

    from controller import injection, job_template

    now = datetime.now(timezone.utc)
    entry = next((entry for entry in queue.entries if entry.task == task.id), None)
    return job_template.render(
        task,
        queue_id=queue.id,
        queue_name=queue.name,
        added=entry.added if entry else now,
        attempt=task.claim.next_attempt() if task.claim else 1,
        settings=settings,
        queue=queue_settings,
        now=now,
        injections=injection.offered(_version(version)),
    )


def _version(text: str) -> tuple[int, int]:
    import re

    from protocol.errors import ConfigError

    found = re.match(r"v?(\d+)\.(\d+)", text)
    if not found:
        raise ConfigError(f"{text!r} is no version of Kubernetes", hint="such as 1.34, as `kubectl version` says it")
    return int(found[1]), int(found[2])


def _only(queue: str) -> str:
    return json.dumps({"queues": {queue: {}}})


def _queue_key(settings: Settings, queue: Queue) -> str:
    from difflib import get_close_matches

    from controller.queue_names import key_of
    from protocol.errors import ConfigError

    key = key_of(settings.queues, queue.name, queue.id)
    if key is not None:
        return key
    near = get_close_matches(queue.name, settings.queues)
    raise ConfigError(
        f"The settings have no queue {queue.name!r}; they have {', '.join(settings.queues) or 'none'}",
        hint=f"did you mean {near[0]!r}?" if near else "add it under `queues:`",
    )


def _task_and_queue(named: str, queue_name: str) -> tuple[Task, Queue]:
    """From a file: no server is asked. From an id: task and queue as the server has them."""
    from clearml_api.models import Queue

    if Path(named).is_file():
        return _task_of_file(Path(named)), Queue(id="0" * 32, name=queue_name)

    from clearml_api import queues, tasks
    from clearml_api.configuration import load
    from clearml_api.session import Session
    from protocol.errors import ConfigError

    session = Session(load())
    task = tasks.named(session, named)
    if task is None:
        raise ConfigError(f"There is no task {named!r} on {session.configuration.api_host} and no file of that name")
    found = queues.find(queues.get_all(session, max_entries=1000), queue_name)
    if found is None:
        raise ConfigError(f"There is no queue {queue_name!r} on {session.configuration.api_host}")
    return task, found


def _task_of_file(file: Path) -> Task:
    import yaml

    from clearml_api.models import task_of
    from protocol.errors import ConfigError

    try:
        raw = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read as a task: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{file} holds no task: a mapping of its fields is wanted (id, name, script, container, ...)")
    return task_of({"id": "0" * 32, **raw.get("task", raw)})
