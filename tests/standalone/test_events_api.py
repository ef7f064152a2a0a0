"""Events beyond the console: errors, locked tasks, plots, images, raw points; so on the real server, and on ours."""

from __future__ import annotations

import json

import pytest

from clearml_api import queues, tasks
from clearml_api.errors import ApiError
from clearml_api.session import Session
from tests.standalone.calls import in_status, name, new, raw, refused, report, seen

NOW = 1795810421000


def log(task: str, text: str, **more: object) -> dict[str, object]:
    return {"type": "log", "task": task, "timestamp": NOW, "msg": text, **more}


def scalar(task: str, value: float, iteration: int, metric: str = "loss", **more: object) -> dict[str, object]:
    return {
        "type": "training_stats_scalar", "task": task, "timestamp": NOW + iteration, "metric": metric, "variant": "v",
        "value": value, "iter": iteration, **more,
    }  # fmt: skip


def test_each_bad_event_has_its_reason(api: Session) -> None:
    task = new(api)
    answer = report(
        api, log(task, "good"), log("nope", "x"), {"type": "zz", "task": task}, {"type": "log"}, {"task": task}
    )
    assert (answer["added"], answer["errors"]) == (1, 4)
    assert answer["errors_info"] == {
        "Invalid task id nope": 1, "Invalid event type zz": 1, "Event must have a 'task' field": 1,
        "Event must have a 'type' field": 1,
    }  # fmt: skip
    assert refused(api, "events.add", log("nope", "x")) == (400, 131)


def test_events_name_no_worker_for_their_task(api: Session) -> None:
    """Only a worker's status report does: `tasks.stop` asks a worker that the server knows of."""
    task = new(api)
    tasks.started(api, task)
    report(api, log(task, "x", worker="w"), scalar(task, 1.0, 3, worker="w"))
    found = raw(api, task)
    assert "last_worker" not in found
    assert (found["last_iteration"], found["active_duration"]) == (3, 0)
    api.call("workers.status_report", {"worker": name("w"), "task": task, "timestamp": NOW})
    assert raw(api, task)["last_worker"].startswith("w ")
    assert refused(api, "workers.status_report", {"worker": "w", "task": "0" * 32, "timestamp": NOW}) == (400, 101)


def test_a_published_task_takes_no_events(api: Session) -> None:
    task = in_status(api, "published", queues.create(api, name("q")))
    with pytest.raises(ApiError, match=f"Invalid task id {task}"):
        report(api, log(task, "late"))
    assert refused(api, "events.delete_for_task", {"task": task}) == (400, 101)


def test_a_line_without_worker_and_level(api: Session) -> None:
    task = new(api)
    report(api, log(task, "bare"))
    found = seen(lambda: api.call("events.get_task_log", {"task": task})["events"])[0]
    assert (found["worker"], found["msg"], found["metric"], found["variant"]) == ("<unknown>", "bare", "", "")
    assert "level" not in found
    assert refused(api, "events.get_task_log", {"task": "0" * 32}) == (400, 101)


def test_points_as_they_were_sent(api: Session) -> None:
    task = new(api)
    report(api, *(scalar(task, 0.1 * n, n) for n in range(5)))
    asked = {"task": task, "metric": {"metric": "loss"}, "batch_size": 3, "count_total": True}
    seen(lambda: api.call("events.scalar_metrics_iter_raw", asked)["total"] == 5)
    first = api.call("events.scalar_metrics_iter_raw", asked)
    assert first["variants"] == {"v": {"iter": [0, 1, 2], "y": [0.0, 0.1, 0.2]}}
    second = api.call("events.scalar_metrics_iter_raw", {**asked, "scroll_id": first["scroll_id"]})
    assert second["variants"]["v"]["iter"] == [3, 4]
    assert refused(api, "events.get_scalar_metric_data", {"task": task}) == (400, 12)


def test_curves_are_thinned_to_means(api: Session) -> None:
    task = new(api)
    report(api, *(scalar(task, 0.1 * n, n) for n in range(6)))
    asked = {"task": task, "key": "timestamp", "samples": 3}
    seen(lambda: api.call("events.scalar_metrics_iter_histogram", {"task": task}).get("loss", {}).get("v", {}).get("x"))
    curve = api.call("events.scalar_metrics_iter_histogram", asked)["loss"]["v"]
    assert curve["x"] == [NOW, NOW + 2, NOW + 4]
    assert curve["y"] == pytest.approx([0.05, 0.25, 0.45])
    several = api.call("events.multi_task_scalar_metrics_iter_histogram", {"tasks": [task]})["metrics"]
    assert several["loss"]["v"][task]["x"] == [0, 1, 2, 3, 4, 5]


def test_single_values_are_on_no_curve(api: Session) -> None:
    task, other = new(api), new(api)
    report(api, scalar(task, 1.5, -(2**31), "single"), scalar(task, 1.0, 0))
    asked = {"tasks": [task, other]}
    rows = seen(lambda: api.call("events.get_task_single_value_metrics", asked)["tasks"])
    assert [row["task"] for row in rows] == [task], "tasks without single values are left out"
    assert [(one["metric"], one["value"]) for one in rows[0]["values"]] == [("single", 1.5)]
    assert "single" not in api.call("events.scalar_metrics_iter_histogram", {"task": task})


def test_plots_and_images_by_iteration(api: Session) -> None:
    task = new(api)
    plots = [
        {"type": "plot", "task": task, "timestamp": NOW, "iter": n, "metric": "p", "variant": "v", "plot_str": "{}"}
        for n in range(3)
    ]
    images = [
        {
            "type": "training_debug_image",
            "task": task,
            "timestamp": NOW,
            "iter": n,
            "metric": "i",
            "variant": "v",
            "url": f"u{n}",
        }
        for n in range(3)
    ]
    report(api, *plots, *images)
    seen(lambda: len(api.call("events.get_task_plots", {"task": task, "iters": 5})["plots"]) == 3)
    latest = api.call("events.get_task_plots", {"task": task})["plots"]
    assert [(plot["iter"], plot["plot_len"], plot["worker"]) for plot in latest] == [(2, 2, "<unknown>")]
    nested = api.call("events.get_multi_task_plots", {"tasks": [task]})["plots"]
    assert list(nested["p"]["v"][task]) == ["2"]

    page = api.call("events.debug_images", {"metrics": [{"task": task}], "iters": 2})
    assert [row["iter"] for row in page["metrics"][0]["iterations"]] == [2, 1]
    earlier = {"metrics": [{"task": task}], "iters": 2, "scroll_id": page["scroll_id"]}
    assert [row["iter"] for row in api.call("events.debug_images", earlier)["metrics"][0]["iterations"]] == [0]
    sample = api.call("events.get_debug_image_sample", {"task": task, "metric": "i", "variant": "v", "iteration": 1})
    assert (sample["event"]["url"], sample["min_iteration"], sample["max_iteration"]) == ("u1", 0, 2)
    assert api.call("events.get_debug_image_sample", {"task": task, "metric": "no", "variant": "v"})["event"] is None
    assert len(api.call("events.get_plot_sample", {"task": task, "metric": "p", "iteration": 1})["events"]) == 1

    first = api.call("events.get_task_events", {"task": task, "event_type": "training_debug_image", "batch_size": 2})
    assert ([event["iter"] for event in first["events"]], first["total"]) == ([0, 1], 3)
    asked = {"task": task, "event_type": "training_debug_image", "batch_size": 2, "scroll_id": first["scroll_id"]}
    assert [event["iter"] for event in api.call("events.get_task_events", asked)["events"]] == [2]
    metrics = api.call("events.get_task_metrics", {"tasks": [task], "event_type": "plot"})["metrics"]
    assert metrics == [{"task": task, "metrics": ["p"]}]


def test_vectors(api: Session) -> None:
    task = new(api)
    vector = {"type": "training_stats_vector", "task": task, "timestamp": NOW, "iter": 1, "metric": "m", "variant": "v"}
    report(api, {**vector, "values": [1, 2]})
    asked = {"task": task, "metric": "m", "variant": "v"}
    found = seen(lambda: api.call("events.vector_metrics_iter_histogram", asked)["vectors"] and asked)
    assert api.call("events.vector_metrics_iter_histogram", found)["vectors"] == [[1, 2]]
    assert api.call("events.vector_metrics_iter_histogram", found)["iterations"] == [1]


def test_deleted_events_are_gone(api: Session) -> None:
    task = new(api)
    report(api, log(task, "one"), scalar(task, 1.0, 0))
    seen(lambda: api.call("events.get_task_log", {"task": task})["total"] == 1)
    assert api.call("events.delete_for_task", {"task": task})["deleted"]
    assert seen(lambda: api.call("events.get_task_log", {"task": task})["total"] == 0)
    assert json.dumps(api.call("events.scalar_metrics_iter_histogram", {"task": task})) == "{}"
