"""`podstrap bootstrap`: read the variables, set up the parts, claim, and hand over to the run.

Before the claim there is no task to report to: what goes wrong there is on standard error and in the termination
message, from which the controller learns it. An unreachable server is the infrastructure's fault (exit 75: another
pod tries again); refused credentials are not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bootstrap.settings import PodSettings, read
from bootstrap.signals import ClaimPause, TakenAway, Termination, Wake
from protocol import exit_codes
from protocol.errors import PodstrapError
from protocol.termination import Outcome

if TYPE_CHECKING:
    from bootstrap.claim import Claimed
    from bootstrap.last_words import LastWords
    from bootstrap.outcome import Ending
    from bootstrap.timeline import Timeline
    from clearml_api.configuration import Configuration
    from clearml_api.session import Session
    from protocol.claim import Claim

_CALL_SECONDS = 120.0
"""How long a call after the claim is tried, where it does not say otherwise."""
_LONGEST_PAUSE_SECONDS = 2.0
"""Between two tries of the claim: a sidecar that is ready a little later is met soon."""
_CLAIM_GRACE = 0.5
"""After SIGTERM, the part of the grace time in which a request of the claim may still be answered."""
_FORWARDED = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


def main(environ: Mapping[str, str] | None = None) -> int:
    """The whole life of a task's pod; its exit code."""
    env = dict(os.environ if environ is None else environ)
    terminated, wake = Termination(), Wake()

    def on_term(*_: object) -> None:
        terminated.set()
        wake.set()
        signal.setitimer(signal.ITIMER_REAL, terminated.grace_seconds * _CLAIM_GRACE)

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        settings = read(env)
    except PodstrapError as error:
        _complain(str(error))
        return exit_codes.USAGE
    terminated.grace_seconds = settings.grace_seconds
    try:
        return _with_settings(settings, env, terminated, wake)
    finally:
        _be_deaf()
        if settings.sidecar_quit_url:
            from bootstrap import sidecar

            sidecar.tell_to_quit(settings.sidecar_quit_url)


def _be_deaf() -> None:
    """The exit code is decided: nothing may replace it while the interpreter ends, which gives handled signals their
    default action back (ignored ones stay ignored)."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGTERM, signal.SIGALRM, *_FORWARDED):
        signal.signal(number, signal.SIG_IGN)


def _with_settings(settings: PodSettings, env: Mapping[str, str], terminated: Termination, wake: Wake) -> int:
    from bootstrap.claim import TooManyAttempts, claim
    from bootstrap.errors import ClaimLost
    from bootstrap.last_words import LastWords
    from bootstrap.outcome import Ending
    from bootstrap.timeline import Timeline
    from clearml_api import configuration
    from clearml_api.errors import ApiUnreachable
    from clearml_api.session import Bounds, Session

    timeline = Timeline(settings)
    words = LastWords(settings)
    pause = ClaimPause(terminated, wake)
    signal.signal(signal.SIGALRM, lambda *_: pause.check())
    try:
        config = configuration.load(env)
        bounds = Bounds(total_seconds=settings.connect_seconds, longest_pause_seconds=_LONGEST_PAUSE_SECONDS)
        session = Session(config, worker=settings.worker, bounds=bounds, sleep=pause)
        pause.check()
        claimed = claim(session, settings)
        pause.claiming = False
        session.bounds = Bounds(total_seconds=_CALL_SECONDS)
    except ClaimLost as lost:
        _complain(f"nothing to do: {lost}")
        words.end(Ending(Outcome.CLAIM_LOST, "claim lost", str(lost), phase="claim"), reported=True)
        return exit_codes.OK
    except TooManyAttempts as enough:
        ending = Ending(Outcome.FAILED, enough.headline, str(enough), exit_codes.FAILED, "claim")
        return _end_unrun(session, settings, enough.claim, ending, words)
    except (ApiUnreachable, TakenAway) as error:
        _complain(str(error))
        reason = "disrupted" if isinstance(error, TakenAway) else "no server"
        words.end(Ending(Outcome.DISRUPTED, reason, str(error), phase="claim"), reported=False)
        return exit_codes.DISRUPTED
    except PodstrapError as error:
        _complain(str(error))
        words.end(Ending(Outcome.FAILED, "no claim", str(error), exit_codes.FAILED, "claim"), reported=False)
        return exit_codes.FAILED
    if claimed.claim.attempt > settings.attempt:
        timeline.not_the_first_pod()
    timeline.lap("claim")
    words.phase("prepare", claimed.claim.attempt)
    return _run(settings, env, config, session, claimed, words, timeline, terminated, wake)


def _run(
    settings: PodSettings,
    env: Mapping[str, str],
    config: Configuration,
    session: Session,
    claimed: Claimed,
    words: LastWords,
    timeline: Timeline,
    terminated: Termination,
    wake: Wake,
) -> int:
    from bootstrap import disk, task_environ
    from bootstrap.commands import Programs
    from bootstrap.console import Console
    from bootstrap.lifecycle import Run
    from bootstrap.masking import SHORTEST_GUESSED, Masker, in_addresses, secrets_of
    from bootstrap.outcome import Ending
    from bootstrap.pod import Pod
    from bootstrap.reporter import Reporter
    from bootstrap.spool import Spool

    masker = Masker(config.secrets())
    masker.add(secrets_of(env))
    masker.add(secrets_of(task_environ.of_the_task(claimed.task, config)))
    masker.add(in_addresses([claimed.task.script.repository], shortest_user=SHORTEST_GUESSED))
    masker.add(in_addresses(_addresses(claimed, config)))
    masker.add(in_addresses(env.values(), SHORTEST_GUESSED))
    try:
        spool = Spool(settings.work / "spool")
    except OSError as error:
        text = f"the work folder {settings.work} cannot be used: {disk.why(error, settings.work)}"
        ending = Ending(Outcome.FAILED, "no work folder", text, exit_codes.FAILED, "setup")
        return _end_unrun(session, settings, claimed.claim, ending, words)
    console = Console(spool, masker, strip_ansi=settings.ansi == "strip")
    died = _watch_over_threads(wake)
    reporter = Reporter(session, claimed.task.id, settings.worker, spool, console.tell)
    pod = Pod(
        settings=settings,
        configuration=config,
        environ=env,
        session=session,
        console=console,
        reporter=reporter,
        programs=Programs(masker.text),
        mask=masker.text,
        hide=masker.add,
        words=words,
        timeline=timeline,
        terminated=terminated,
        wake=wake,
        died=died,
    )
    where = f" on {settings.node}" if settings.node else ""
    console.tell(f"pod {settings.pod}{where}, attempt {claimed.claim.attempt} of {settings.max_attempts}")
    if settings.injection_note:
        console.tell(f"podstrap was copied into this image, the node mounts no image volume: {settings.injection_note}")
    for line in claimed.claim.history:
        console.tell(f"before: {line}")
    run = Run(pod, claimed)
    for number in _FORWARDED:
        signal.signal(number, lambda received, _frame: run.forward(received))
    reporter.start()
    return run.whole()


def _addresses(claimed: Claimed, config: Configuration) -> list[str]:
    """The texts in which addresses with a password may stand: repositories, indexes, proxies."""
    script = claimed.task.script
    return [
        script.repository,
        *(str(section) for section in script.requirements.values()),
        str(config.get("agent.package_manager.extra_index_url") or ""),
        str(config.get("agent.package_manager.extra_pip_install_flags") or ""),
    ]


def _watch_over_threads(wake: Wake) -> list[str]:
    """A thread of ours that dies by an error of ours ends the run: a frozen console or a deaf watch would be worse."""
    died: list[str] = []

    def on_death(dead: threading.ExceptHookArgs) -> None:
        name = dead.thread.name if dead.thread else "unknown"
        died.append(f"thread {name}: {dead.exc_type.__name__}: {dead.exc_value}")
        threading.__excepthook__(dead)
        wake.set()

    threading.excepthook = on_death
    return died


def _end_unrun(session: Session, settings: PodSettings, mine: Claim, ending: Ending, words: LastWords) -> int:
    """The task is ours and nothing of it was run: tell why on the task and in the last words."""
    from bootstrap import outcome

    _complain(ending.message)
    reported = False
    with contextlib.suppress(PodstrapError):
        ending = outcome.report(session, settings.task, mine, ending, bounds=session.bounds)
        reported = True
    words.end(ending, reported=reported)
    return ending.pod_exit_code


def _complain(text: str) -> None:
    sys.stderr.write(f"podstrap: {text}\n")
    sys.stderr.flush()
