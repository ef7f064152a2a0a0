"""Every end in words a person can act on; and which verdict the server's answer is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import outcome
from bootstrap.abort import Verdict, callback_seconds, judge
from bootstrap.errors import EnvironmentBuildError, RepositoryError
from bootstrap.masking import secrets_of
from bootstrap.monitor import cgroup
from bootstrap.settings import read
from bootstrap.summary import Summary
from bootstrap.task_environ import of_docker_arguments
from clearml_api.models import Task
from protocol.claim import RUNTIME_KEY, Claim
from protocol.errors import ConfigError, PodstrapError
from protocol.termination import Outcome

MINE = Claim("uid", 1, "pod")


@pytest.mark.parametrize(
    ("code", "kind", "words", "pod"),
    [
        (0, Outcome.COMPLETED, "completed", 0),
        (3, Outcome.FAILED, "exit code 3", 3),
        (75, Outcome.FAILED, "exit code 75", 1),
        (-9, Outcome.FAILED, "signal 9 (SIGKILL)", 137),
        (-11, Outcome.FAILED, "signal 11 (SIGSEGV)", 139),
    ],
)
def test_return_codes(code, kind, words, pod) -> None:
    ending = outcome.of_return_code(code, ["Traceback", "ValueError: no"])
    assert (ending.outcome, ending.pod_exit_code) == (kind, pod)
    assert words in ending.reason
    assert code == 0 or "ValueError: no" in ending.message


def test_what_the_kernel_killed_for_memory_is_told_with_limit_and_peak(tmp_path: Path) -> None:
    """Both hierarchies, files as the kernel's documentation shows them."""
    two, one = tmp_path / "two", tmp_path / "one"
    for folder in (two, one / "memory"):
        folder.mkdir(parents=True)
    (two / "cgroup.controllers").write_text("cpu memory pids\n")
    (two / "memory.max").write_text("8589934592\n")
    (two / "memory.peak").write_text("8568459264\n")
    (one / "memory" / "memory.limit_in_bytes").write_text("8589934592\n")
    (one / "memory" / "memory.max_usage_in_bytes").write_text("8568459264\n")

    def kills(count: int) -> None:
        (two / "memory.events").write_text(f"low 0\nhigh 0\nmax 81\noom {count}\noom_kill {count}\n")
        (one / "memory" / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n")

    for root in (two, one):
        kills(1)  # an earlier one is not this run's
        before = cgroup.read(root)
        assert cgroup.out_of_memory(before, cgroup.read(root)) == ""
        kills(2)
        said = cgroup.out_of_memory(before, cgroup.read(root))
        assert said == "limit 8.00 GiB, peak 7.98 GiB"
        ending = outcome.of_return_code(-9, [], said)
        assert ending.reason == "OOMKilled: limit 8.00 GiB, peak 7.98 GiB"
        assert ending.pod_exit_code == 137
    assert "a process of its own was killed" in outcome.of_return_code(1, ["BrokenPool"], said).message
    assert outcome.of_return_code(0, [], said).outcome is Outcome.COMPLETED


def test_guessed_secrets_are_no_ordinary_words() -> None:
    environ = {
        "HF_TOKEN": "hf_12345678", "DB_PASSWORD": "correct horse", "TOKENIZERS_PARALLELISM": "falsefalse",
        "AWS_SECRET_ACCESS_KEY": "aws-secret-1", "MY_PASS": "short", "SECRET_FILE": "/run/secrets/x",
        "TOKEN_URL": "https://example.org/token",
    }  # fmt: skip
    assert secrets_of(environ) == ["hf_12345678", "correct horse", "aws-secret-1"]


@pytest.mark.parametrize("error", [RepositoryError("no such repo", hint="look"), EnvironmentBuildError("no six")])
def test_setup_errors_name_their_phase(error: PodstrapError) -> None:
    ending = outcome.of_error(error)
    assert ending.reason.startswith(f"{error.phase} failed: ")  # type: ignore[attr-defined]
    assert error.message in ending.reason
    assert ending.pod_exit_code == 1


def task(status: str = "in_progress", claim: Claim | None = MINE, **fields: object) -> Task:
    runtime = {RUNTIME_KEY: claim.to_text()} if claim else {}
    return Task(id="t", status=status, runtime={**runtime, **fields.pop("runtime", {})}, **fields)  # type: ignore[dict-item,arg-type]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (task(), Verdict.GO_ON),
        (None, Verdict.LEAVE),
        (task(claim=None), Verdict.LEAVE),
        (task(claim=Claim("other", 1, "pod")), Verdict.LEAVE),
        (task(claim=Claim("uid", 2, "pod")), Verdict.LEAVE),
        (task(claim=Claim("uid", 1, "pod", requeued=True)), Verdict.LEAVE),
        (task("created"), Verdict.LEAVE),
        (task("queued"), Verdict.LEAVE),
        (task("stopped"), Verdict.ABORT),
        (task(status_message="stopping"), Verdict.ABORT),
        (task(system_tags=("archived",)), Verdict.ABORT),
        (task("completed", system_tags=("archived",)), Verdict.GO_ON),
        (task("completed"), Verdict.GO_ON),
        (task("failed"), Verdict.GO_ON),
    ],
)
def test_verdicts(found, verdict) -> None:
    assert judge(found, MINE).verdict is verdict


def test_a_failure_is_seen_in_the_light_of_what_the_server_says() -> None:
    failed = outcome.of_return_code(-15, ["bye"])
    assert outcome.as_seen(failed, judge(task(), MINE)) == failed
    stopped = outcome.as_seen(failed, judge(task(status_message="stopping"), MINE))
    assert (stopped.outcome, stopped.pod_exit_code, stopped.exit_code) == (Outcome.STOPPED, 0, 143)
    assert "stopped by a user" in stopped.reason and "bye" in stopped.message
    lost = outcome.as_seen(failed, judge(task(claim=None), MINE))
    assert (lost.outcome, lost.pod_exit_code) == (Outcome.CLAIM_LOST, 0)
    done = outcome.of_return_code(0, [])
    assert outcome.as_seen(done, judge(task("stopped"), MINE)) == done


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        (Summary(1, 0.5), "setup 0.50 s"),
        (Summary(2, 0.5, 3.0, 0), "setup 0.50 s, run 3.00 s, exit code 0"),
        (
            Summary(1, 1, 2, -9, 5 << 20, 1024.0, 2),
            "setup 1.00 s, run 2.00 s, exit code 137 (SIGKILL), peak memory 5 MiB, peak GPU memory 1024 MiB, "
            "2 GPU errors",
        ),
    ],
)
def test_the_summary_tells_what_there_is(figures: Summary, sentence: str) -> None:
    assert figures.sentence() == sentence
    assert figures.properties()["podstrap_attempt"] == str(figures.attempt)


def test_abort_callback_waits_as_long_as_the_sdk_asks_but_not_for_ever() -> None:
    assert callback_seconds(task()) == 0
    assert callback_seconds(task(runtime={"_abort_callback_timeout": "20", "_abort_poll_freq": 5})) == 25
    assert callback_seconds(task(runtime={"_abort_callback_timeout": "1e9"})) == 1800
    assert callback_seconds(task(runtime={"_abort_callback_timeout": "soon"})) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-e A=1 --env B=two --env=C=3 -eD=4", {"A": "1", "B": "two", "C": "3", "D": "4"}),
        ("-e 'A=with space' --memory 8g", {"A": "with space"}),
        ("-e NAME", {}),
        ("-e PODSTRAP_TASK_ID=evil", {}),
        ("-e A=$(touch /tmp/x);`id`", {"A": "$(touch"}),
        ("--ipc=host --entrypoint x", {}),
        ("unbalanced 'quote", {}),
    ],
)
def test_a_tasks_own_variables_are_read_from_its_docker_arguments(arguments, expected) -> None:
    assert of_docker_arguments(arguments) == expected


def test_wrong_variables_are_all_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read({"PODSTRAP_ATTEMPT": "x", "PODSTRAP_ON_DISRUPTION": "maybe", "PODSTRAP_POLL_SECONDS": "-1"})
    for word in ("PODSTRAP_TASK_ID and PODSTRAP_QUEUE_ID", "'x' is no number", "maybe", "POLL_SECONDS"):
        assert word in str(caught.value)
