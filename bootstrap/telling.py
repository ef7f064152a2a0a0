"""What a run tells: its story in the console, its facts and final status on the server, its last word in the pod."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bootstrap import outcome
from bootstrap.claim import Claimed
from bootstrap.errors import SetupError
from bootstrap.outcome import Ending
from bootstrap.pod import Pod
from bootstrap.prepared import Checkout, TaskEnvironment
from bootstrap.timeline import FIRST_LINE, TIMELINE
from clearml_api import tasks, workers
from clearml_api.errors import ApiError
from clearml_api.session import ONCE, Bounds
from protocol.errors import PodstrapError
from protocol.termination import Outcome

if TYPE_CHECKING:
    from bootstrap.monitor.sampler import Sampler

_SOON = Bounds(total_seconds=10.0)
_GOODBYE = Bounds(connect_seconds=1, read_seconds=2, total_seconds=0)
_ONE_STATUS = Bounds(connect_seconds=3, read_seconds=10, total_seconds=0)


class Telling:
    """One run's voice."""

    def __init__(self, pod: Pod, claimed: Claimed) -> None:
        self._pod = pod
        self._task = claimed.task
        self._claim = claimed.claim
        self._sampler: Sampler | None = None
        self._facts: dict[str, str] = {}

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
        """An error that is none of ours to expect: show it whole."""
        import traceback

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

    def start_sampling(self) -> None:
        """Machine use, from now on."""
        from bootstrap.monitor.sampler import Sampler

        pod = self._pod
        self._sampler = Sampler(
            pod.session,
            task=self._task.id,
            queue=pod.settings.queue,
            worker=pod.settings.worker,
            seconds=pod.settings.sample_seconds,
            work=pod.settings.work,
            tell=pod.console.tell,
        )
        self._sampler.on_peak = pod.words.peak
        self._sampler.start()

    def end(self, ending: Ending, seconds: float, seconds_left: Callable[[], float]) -> int:
        """Flush the console, set the status, leave the last word; the pod's exit code.

        `seconds` is how long the run took, `seconds_left()` how long the telling may take from now.
        """
        pod = self._pod
        ending = ending.masked(pod.mask)
        sampler = self._sampler
        if sampler:
            sampler.stop()
        if ending.outcome is Outcome.CLAIM_LOST:
            pod.words.end(ending, reported=True)
            return ending.pod_exit_code
        peak = f", peak memory {self.peak_memory_bytes / 2**20:.0f} MiB" if sampler else ""
        pod.console.tell(f"{ending.outcome.value} after {seconds:.1f} s: {ending.reason}{peak}")
        pod.words.end(ending, reported=False)
        self._facts.update(self._summary(ending, seconds))
        self._report_facts()
        flushed = pod.reporter.finish(seconds_left)
        reported = ending.outcome is Outcome.DISRUPTED or self._set_status(ending, seconds_left)
        pod.words.end(ending, reported=reported and flushed)
        self._say_goodbye()
        return ending.pod_exit_code

    @property
    def peak_memory_bytes(self) -> int:
        """The most that the task's tree was seen to hold; 0 before the first sample."""
        return self._sampler.peak_memory_bytes if self._sampler else 0

    def _summary(self, ending: Ending, seconds: float) -> dict[str, str]:
        """The run in a few figures, for the task's user properties."""
        found = {"podstrap_run_seconds": f"{seconds:.1f}", "podstrap_attempt": str(self._claim.attempt)}
        if ending.exit_code is not None:
            found["podstrap_exit_code"] = str(ending.exit_code)
        if self.peak_memory_bytes:
            found["podstrap_peak_memory_mib"] = f"{self.peak_memory_bytes / 2**20:.0f}"
        if self._sampler and self._sampler.peak_gpu_memory_mb:
            found["podstrap_peak_gpu_memory_mib"] = f"{self._sampler.peak_gpu_memory_mb:.0f}"
        return found

    def _set_status(self, ending: Ending, seconds_left: Callable[[], float]) -> bool:
        """Tried until it is done or the time is over, which SIGTERM may shorten meanwhile."""
        pod = self._pod
        pause = 0.5
        while True:
            try:
                outcome.report(pod.session, self._task.id, self._claim, ending, bounds=_ONE_STATUS)
                return True
            except PodstrapError as error:
                refused = isinstance(error, ApiError) and error.code < 500
                if refused or seconds_left() <= pause:
                    pod.console.tell(f"the final status could not be reported, the controller will: {error}")
                    return False
            pod.wake.wait(pause)
            pause = min(2 * pause, 10.0, max(0.5, seconds_left() / 2))

    def _say_goodbye(self) -> None:
        pod = self._pod
        try:
            workers.unregister(pod.session, pod.settings.worker, bounds=_GOODBYE)
        except PodstrapError:
            return  # never registered, or nobody there: the worker's entry runs out by itself
