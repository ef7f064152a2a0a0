"""One run of one task, from claim to last word. Reads like its table of contents: see `Run.whole`.

The main thread decides; threads of their own prepare, read pipes, send, sample and watch. Whatever may change the
course (SIGTERM, a verdict of the server, a dead thread, the end of the process) sets one event, and the main thread
looks at what is.
"""

from __future__ import annotations

import threading
import time

from bootstrap import abort, left_out, outcome
from bootstrap.abort import Verdict
from bootstrap.claim import Claimed
from bootstrap.monitor import cgroup
from bootstrap.outcome import Ending
from bootstrap.pod import Pod
from bootstrap.preparation import Preparation
from bootstrap.prepared import Checkout, Launch, TaskEnvironment
from bootstrap.process import TaskProcess
from bootstrap.settings import OWN_ENGINE
from bootstrap.telling import Telling
from bootstrap.watch import Watch
from clearml_api.session import ONCE, Bounds
from protocol.errors import PodstrapError
from protocol.termination import Outcome

_ASK_BEFORE_GOING = Bounds(connect_seconds=2, read_seconds=3, total_seconds=2)
_RESERVE = 0.25
"""The part of the grace time that is kept for flushing the console and the last word."""


class Run:
    """The run of a task that is ours."""

    def __init__(self, pod: Pod, claimed: Claimed) -> None:
        self._pod = pod
        self._task = claimed.task
        self._claim = claimed.claim
        self._telling = Telling(pod, claimed)
        self._process: TaskProcess | None = None
        self._memory_before = cgroup.Usage()
        self._report_until = 0.0
        """Monotonic."""
        self._watch = Watch(
            pod.session,
            self._task.id,
            self._claim,
            seconds=pod.settings.poll_seconds,
            wake=pod.wake.set,
        )

    def whole(self) -> int:
        """Prepare, run, end, report; the pod's exit code."""
        self._watch.start()
        began = time.monotonic()
        ending = self._interruption()
        if ending is None:
            try:
                ending = self._prepare_and_run()
            except PodstrapError as error:
                ending = self._interruption() or self._telling.setup_failed(error)
            except Exception as bug:  # ours: the task must not be left running nowhere because of it
                ending = self._telling.broke(bug)
                self._end_process(self._task_grace())
        self._watch.stop()
        self._report_until = time.monotonic() + self._pod.settings.final_seconds
        return self._telling.end(ending, time.monotonic() - began, self._seconds_to_report)

    def forward(self, number: int) -> None:
        """Pass a signal on to the task's process group."""
        if self._process is not None:
            self._process.signal(number)

    # -- the happy path

    def _prepare_and_run(self) -> Ending:
        pod = self._pod
        pod.words.phase("environment", self._claim.attempt)
        if pod.settings.engine == OWN_ENGINE:
            for line in left_out.met(pod.environ, pod.configuration):
                pod.console.tell(line)
        for line in pod.settings.docker_notes:
            pod.console.tell(f"docker argument without effect: {line}")
        preparation = Preparation(
            self._task,
            pod.settings,
            pod.configuration,
            pod.environ,
            pod.programs,
            pod.console.tell,
            pod.wake.set,
            pod.hide,
        )
        preparation.start()
        while not preparation.done():
            self._sleep()
            if interruption := self._interruption():
                pod.programs.stop()
                return interruption
        checkout, environment = preparation.results(pod.timeline)
        self._start(preparation, checkout, environment)
        return self._until_the_end()

    def _start(self, preparation: Preparation, checkout: Checkout, environment: TaskEnvironment) -> None:
        pod = self._pod
        launch, environ = self._launch(preparation, checkout, environment)
        pod.timeline.lap("prepare")
        pod.words.phase("run", self._claim.attempt)
        pod.console.on_first_output = self._telling.first_output
        self._memory_before = cgroup.read()
        self._process = TaskProcess(launch, environ, pod.console)
        threading.Thread(target=self._announce_end, args=(self._process,), name="wait", daemon=True).start()
        self._telling.resolved(checkout, environment)
        self._telling.started(self._process)

    def _launch(
        self, preparation: Preparation, checkout: Checkout, environment: TaskEnvironment
    ) -> tuple[Launch, dict[str, str]]:
        pod, now = self._pod, preparation.environ()
        if pod.settings.engine != OWN_ENGINE:
            from bootstrap import clearml_engine

            launch = clearml_engine.launch(self._task, pod.settings, now)
            return launch, clearml_engine.variables(self._task, pod.settings, pod.configuration, now)
        from bootstrap import task_environ
        from bootstrap.entry_point import FORCE_EXEC_SCRIPT, resolve

        script = preparation.script()
        if script is not self._task.script:
            pod.console.tell(f"{FORCE_EXEC_SCRIPT}: {script.entry_point!r} in {script.working_dir!r} runs instead")
        own = task_environ.build(now, self._task, pod.configuration, environment, pod.settings.work)
        launch = resolve(script, checkout, environment, environ=own, configuration=pod.configuration)
        return launch, task_environ.for_the_process(own, launch)

    def _until_the_end(self) -> Ending:
        process = self._process
        if process is None:
            raise AssertionError("the process was started above")
        while (code := process.poll()) is None:
            self._sleep()
            if interruption := self._interruption():
                return interruption
        process.finish_output()
        killed = cgroup.out_of_memory(self._memory_before, cgroup.read(), self._telling.peak_memory_bytes)
        return outcome.of_return_code(code, self._pod.console.last_errors(), killed)

    # -- interruptions

    def _interruption(self) -> Ending | None:
        """What ends the run from outside, acted on; None while nothing does."""
        pod = self._pod
        answer = self._watch.answer
        if answer is None and pod.terminated.is_set():
            answer = self._watch.now(_ASK_BEFORE_GOING)
            if answer is None or answer.verdict is Verdict.GO_ON:
                return self._disrupted()
        if answer is not None and answer.verdict is Verdict.LEAVE:
            return self._leave(answer.why)
        if answer is not None and answer.verdict is Verdict.ABORT:
            return self._abort(answer)
        if pod.died:
            self._end_process(self._task_grace())
            return outcome.of_bug(pod.died)
        return None

    def _disrupted(self) -> Ending:
        pod = self._pod
        where = f" on node {pod.settings.node}" if pod.settings.node else ""
        pod.console.tell(f"the pod is being taken away{where} (SIGTERM): the task has {self._task_grace():.0f} s")
        self._end_process(self._task_grace())
        if pod.settings.on_disruption == "fail":
            text = (
                f"the pod was taken away{where} in attempt {self._claim.attempt}; the queue's policy is not to restart"
            )
            return Ending(Outcome.FAILED, "disrupted", text, 1)
        pod.console.tell(f"attempt {self._claim.attempt} ends here; another pod goes on")
        return Ending(Outcome.DISRUPTED, "disrupted", f"attempt {self._claim.attempt} was taken away{where}")

    def _leave(self, why: str) -> Ending:
        self._pod.reporter.task_gone()
        self._end_process(0.0)
        return Ending(Outcome.CLAIM_LOST, "claim lost", why)

    def _abort(self, answer: abort.Answer) -> Ending:
        self._pod.console.tell(f"aborted: {answer.why}")
        self._wait_for_callback(answer)
        self._end_process(self._task_grace())
        return Ending(Outcome.STOPPED, answer.why, f"aborted: {answer.why}")

    def _wait_for_callback(self, answer: abort.Answer) -> None:
        """The SDK's abort callback runs inside the task's process: give it the time that it asked for."""
        if answer.task is None or self._process is None:
            return
        end = time.monotonic() + abort.callback_seconds(answer.task)
        while time.monotonic() < end and self._process.wait(1.0) is None:
            if self._pod.terminated.is_set() and self._task_grace() <= self._pod.settings.grace_seconds / 2:
                return  # the pod goes: what is left is for SIGTERM and the report
            latest = self._watch.now(ONCE)
            if latest and (latest.task is None or abort.callback_completed(latest.task)):
                return

    def _end_process(self, grace_seconds: float) -> None:
        self._pod.programs.stop()
        if self._process is not None:
            self._process.terminate(grace_seconds)
            self._process.finish_output()

    def _task_grace(self) -> float:
        """Seconds that the task gets between SIGTERM and SIGKILL: the pod's grace less what reporting needs."""
        whole = self._pod.settings.grace_seconds
        left = self._pod.terminated.seconds_left()
        left = whole if left is None else left
        return max(0.0, left - max(1.0, whole * _RESERVE))

    # -- small things

    def _seconds_to_report(self) -> float:
        """How long the telling may still take: until shortly before SIGKILL, else as long as the settings say."""
        left = self._pod.terminated.seconds_left()
        if left is None:
            return max(0.0, self._report_until - time.monotonic())
        return max(0.0, left - 0.5)

    def _sleep(self) -> None:
        self._pod.wake.wait(0.5)

    def _announce_end(self, process: TaskProcess) -> None:
        process.wait()
        self._pod.wake.set()
