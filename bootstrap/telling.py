"""What a run tells: its story in the console, its facts and final status on the server, its last word in the pod."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from bootstrap import abort, disk, outcome
from bootstrap.claim import Claimed
from bootstrap.errors import SetupError
from bootstrap.outcome import Ending
from bootstrap.pod import Pod
from bootstrap.prepared import Checkout, TaskEnvironment
from bootstrap.process import TaskProcess
from bootstrap.summary import LargestChild, Summary, peak_property
from bootstrap.timeline import FIRST_LINE
from clearml_api import tasks, workers
from clearml_api.errors import ApiError
from clearml_api.session import ONCE, Bounds
from protocol.errors import PodstrapError
from protocol.termination import Outcome
from protocol.timeline import TIMELINE

if TYPE_CHECKING:
    from bootstrap.monitor.sampler import Sampler

_SOON = Bounds(total_seconds=10.0)
_GOODBYE = Bounds(connect_seconds=1, read_seconds=2, total_seconds=0)
_ASK = Bounds(connect_seconds=2, read_seconds=3, total_seconds=0)
_ONE_STATUS = Bounds(connect_seconds=3, read_seconds=10, total_seconds=0)


class Telling:
    """One run's voice."""

    def __init__(self, pod: Pod, claimed: Claimed) -> None:
        self._pod = pod
        self._task = claimed.task
        self._claim = claimed.claim
        self._sampler: Sampler | None = None
        self._facts: dict[str, str] = {}
        self._process: TaskProcess | None = None
        self._started_at = 0.0
        """When the task's process was started: seconds since the epoch."""
        self._largest: LargestChild | None = None
        self._peak_told = 0

    def setup_failed(self, error: PodstrapError) -> Ending:
        """The task could not be started: show why, with the failing command's last lines."""
        pod = self._pod
        ending = outcome.of_error(error)
        pod.console.tell(f"{ending.phase} failed: {error}")
        if isinstance(error, SetupError):
            for line in error.last_lines:
                pod.console.tell(f"  {line}")
        return ending

    def broke(self, bug: Exception) -> Ending:
        """An error that is none of ours to expect: show it whole. A disk that refuses is none of ours."""
        import traceback

        if self._process is None and (refused := disk.as_setup_error(bug, self._pod.settings.work)):
            return self.setup_failed(refused)
        for line in traceback.format_exception(bug):
            self._pod.console.tell(line.rstrip())
        return outcome.of_bug(f"{type(bug).__name__}: {bug}", "setup" if self._sampler is None else "run")

    def first_output(self, at: float) -> None:
        """The task printed its first line (seconds since the epoch): the start-up timeline is complete."""
        pod = self._pod
        seconds = pod.timeline.first_line(at)
        pod.console.tell(f"first line after {seconds:.2f} s ({pod.timeline.sentence()})")
        self._facts.update({FIRST_LINE: f"{seconds:.3f}", TIMELINE: pod.timeline.as_json()})
        self._report_facts()

    def _report_facts(self) -> None:
        """User properties. Sent twice: now for those who watch, and at the end, since an SDK that connects its
        parameters in between writes the whole section anew."""
        pod, facts = self._pod, dict(self._facts)
        pod.reporter.soon(
            "user properties", lambda: tasks.set_properties(pod.session, self._task.id, facts, bounds=ONCE)
        )

    def resolved(self, checkout: Checkout, environment: TaskEnvironment) -> None:
        """Write back what was really used, so that the task can be reproduced; in the background."""
        pod, script = self._pod, self._task.script
        if checkout.commit and checkout.commit != script.commit:
            pod.reporter.soon(
                "the commit", lambda: tasks.set_commit(pod.session, self._task.id, checkout.commit, bounds=_SOON)
            )
        if environment.installed:
            original = script.requirements.get("org_pip") or script.requirements.get("pip") or ""
            if environment.installed.strip() != str(script.requirements.get("pip") or "").strip():
                pod.reporter.soon(
                    "the installed packages",
                    lambda: tasks.set_requirements(
                        pod.session, self._task.id, environment.installed, original, bounds=_SOON
                    ),
                )

    def started(self, process: TaskProcess) -> None:
        """The task's process runs: machine use from now on."""
        from bootstrap.monitor.sampler import Sampler

        pod = self._pod
        self._process, self._started_at, self._largest = process, time.time(), LargestChild()
        self._sampler = Sampler(
            pod.session,
            task=self._task.id,
            queue=pod.settings.queue,
            worker=pod.settings.worker,
            seconds=pod.settings.sample_seconds,
            work=pod.settings.work,
            tell=pod.console.tell,
        )
        self._sampler.on_peak = self._note_peak
        self._sampler.start()

    def _note_peak(self, memory_bytes: int) -> None:
        """A checkpoint in the pod's last words, and on the task whenever it grew by a tenth: the kernel may take the
        whole pod at any moment."""
        pod = self._pod
        pod.words.peak(memory_bytes)
        if memory_bytes > 1.1 * self._peak_told:
            self._peak_told = memory_bytes
            self._facts.update(peak_property(memory_bytes))
            self._report_facts()

    def end(self, ending: Ending, seconds: float, seconds_left: Callable[[], float]) -> int:
        """Flush the console, set the status, leave the last word; the pod's exit code.

        `seconds` is how long the run took, `seconds_left()` how long the telling may take from now.
        """
        pod = self._pod
        ended_at = time.time()
        if self._sampler:
            self._sampler.stop()
        ending = self._as_seen(self._with_causes(ending)).masked(pod.mask)
        if ending.outcome is Outcome.CLAIM_LOST:
            pod.reporter.task_gone()
            pod.words.end(ending, reported=True)
            return ending.pod_exit_code
        summary = self._summary(ended_at, ending)
        pod.console.tell(f"{ending.outcome.value} after {seconds:.1f} s: {ending.reason}")
        pod.console.tell(summary.sentence())
        pod.words.end(ending, reported=False)
        self._facts.update(summary.properties())
        self._report_facts()
        if ending.outcome is Outcome.FAILED and pod.settings.retries_left > 0:
            pod.console.tell("its queue tries failed tasks again: the controller puts it back (retryOwnFailures)")
        flushed = pod.reporter.finish(seconds_left)
        again = ending.outcome is Outcome.FAILED and pod.settings.retries_left > 0
        left = again or ending.outcome is Outcome.DISRUPTED  # to the controller, or to the Job's next pod
        told = ending if left else self._set_status(ending, seconds_left)
        ending = told or ending
        pod.words.end(ending, reported=told is not None and flushed and not again)
        self._say_goodbye()
        return ending.pod_exit_code

    def _as_seen(self, ending: Ending) -> Ending:
        """A failure may be an abort that no poll has seen yet. Not asked when the pod goes: it was asked then."""
        if ending.outcome is not Outcome.FAILED or self._process is None or self._pod.terminated.is_set():
            return ending
        try:
            return outcome.as_seen(ending, abort.ask(self._pod.session, self._task.id, self._claim, bounds=_ASK))
        except PodstrapError:
            return ending  # asked again when the status is set

    def _with_causes(self, ending: Ending) -> Ending:
        """What the machine says about a failure belongs to its reason: a full disk, errors of the GPUs' driver."""
        if ending.outcome is not Outcome.FAILED:
            return ending
        causes = [disk.full(self._pod.settings.work), *(self._sampler.gpu_errors[-5:] if self._sampler else ())]
        new = [cause for cause in causes if cause and cause not in ending.message]
        return replace(ending, message="\n".join((ending.message, *new))) if new else ending

    @property
    def peak_memory_bytes(self) -> int:
        """The most that the task's tree was seen to hold; 0 before the first sample."""
        return self._sampler.peak_memory_bytes if self._sampler else 0

    def _summary(self, ended_at: float, ending: Ending) -> Summary:
        sampler, began = self._sampler, self._started_at
        return Summary(
            attempt=self._claim.attempt,
            setup_seconds=(began or ended_at) - self._pod.timeline.started,
            run_seconds=ended_at - began if began else None,
            return_code=self._process.poll() if self._process else ending.exit_code,
            peak_memory_bytes=max(self.peak_memory_bytes, self._largest.peak_bytes() if self._largest else 0),
            peak_gpu_memory_mib=sampler.peak_gpu_memory_mb if sampler else 0.0,
            gpu_errors=len(sampler.gpu_errors) if sampler else 0,
        )

    def _set_status(self, ending: Ending, seconds_left: Callable[[], float]) -> Ending | None:
        """Tried until it is done or the time is over, which SIGTERM may shorten meanwhile; None: not done."""
        pod = self._pod
        pause = 0.5
        while True:
            try:
                return outcome.report(pod.session, self._task.id, self._claim, ending, bounds=_ONE_STATUS)
            except PodstrapError as error:
                refused = isinstance(error, ApiError) and error.code < 500
                if refused or seconds_left() <= pause:
                    pod.console.tell(f"the final status could not be reported, the controller will: {error}")
                    return None
            pod.wake.wait(pause)
            pause = min(2 * pause, 10.0, max(0.5, seconds_left() / 2))

    def _say_goodbye(self) -> None:
        pod = self._pod
        try:
            workers.unregister(pod.session, pod.settings.worker, bounds=_GOODBYE)
        except PodstrapError:
            return  # never registered, or nobody there: the worker's entry runs out by itself
