"""Repository and environment, prepared side by side; whoever fails first decides.

The environment often needs nothing of the repository (its requirements stand in the task); where it does, it waits
for the checkout. Both run on threads of their own so that the main thread stays free for signals and aborts.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from bootstrap.commands import Programs
from bootstrap.errors import Cancelled
from bootstrap.extra_packages import FORCE_TASK_INIT
from bootstrap.masking import secrets_of
from bootstrap.prepared import Checkout, TaskEnvironment, Tell
from bootstrap.settings import OWN_ENGINE, PodSettings
from bootstrap.timeline import Timeline
from clearml_api.configuration import Configuration, is_on
from clearml_api.models import Script, Task

T = TypeVar("T")


class _Work(threading.Thread, Generic[T]):
    """One piece of work with its result or its error, and its seconds."""

    def __init__(self, name: str, work: Callable[[], T], done: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._done = done
        self._value: list[T] = []
        self.error: BaseException | None = None
        self.seconds = 0.0

    def run(self) -> None:
        began = time.monotonic()
        try:
            self._value.append(self._work())
        except BaseException as error:  # raised again by result(), on the thread that asks
            self.error = error
        self.seconds = time.monotonic() - began
        self._done()

    def result(self) -> T:
        self.join()
        if self.error:
            raise self.error
        return self._value[0]


class Preparation:
    """Both pieces of work; `wake` is called whenever one is done."""

    def __init__(
        self,
        task: Task,
        settings: PodSettings,
        configuration: Configuration,
        environ: Mapping[str, str],
        programs: Programs,
        tell: Tell,
        wake: Callable[[], None],
        hide: Callable[[Iterable[str]], None],
    ) -> None:
        def setup() -> dict[str, str | None]:
            from bootstrap import task_environ
            from bootstrap.setup_script import run

            return run(
                task.container.setup_shell_script,
                work=settings.work,
                environ=task_environ.for_its_script(environ),
                programs=programs,
                tell=tell,
            )

        def repository() -> Checkout:
            now = self.environ()
            if by_agent:
                return Checkout(settings.work)
            from bootstrap.repository import prepare

            script = self.script()
            checkout = prepare(
                script,
                work=settings.work,
                cache=settings.cache,
                configuration=configuration,
                environ=now,
                programs=programs,
                tell=tell,
            )
            _with_task_init(script, checkout, now, tell)
            return checkout

        def environment() -> TaskEnvironment:
            now = self.environ()
            if by_agent:
                return TaskEnvironment(Path(sys.executable))
            from bootstrap.environment.build import Place, prepare

            return prepare(
                self.script(),
                checkout=self._repository.result,
                place=Place(
                    settings.work,
                    settings.cache,
                    settings.resolve_after_seconds,
                    settings.cache_max_bytes,
                    settings.cache_max_seconds,
                ),
                configuration=configuration,
                environ=now,
                package_manager=settings.package_manager,
                programs=programs,
                tell=tell,
            )

        by_agent = settings.engine != OWN_ENGINE  # it does all of this itself
        self._task = task
        self._environ = environ
        self._hide = hide
        self._programs = programs
        wanted = bool(task.container.setup_shell_script.strip())
        self._setup = _Work("setup", setup, wake) if wanted else None
        self._repository = _Work("repository", repository, wake)
        self._environment = _Work("environment", environment, wake)

    def start(self) -> None:
        """Begin both; the task's setup script, where it has one, comes before them."""
        if self._setup:
            self._setup.start()
        self._repository.start()
        self._environment.start()

    def environ(self) -> Mapping[str, str]:
        """The pod's variables with what the setup script exported; waits for it, raises what it raises."""
        if not self._setup:
            return self._environ
        changed = self._setup.result()
        found = {**self._environ, **{name: value for name, value in changed.items() if value is not None}}
        for name in (name for name, value in changed.items() if value is None):
            found.pop(name, None)
        self._hide(secrets_of(found))
        return found

    def script(self) -> Script:
        """What to run: the task's own, or what the operator forces."""
        from bootstrap.entry_point import forced

        return forced(self._task.script, self.environ())

    def done(self) -> bool:
        """Whether both ended, or one failed and the other was stopped."""
        works = (self._repository, self._environment)
        if any(not work.is_alive() and work.error for work in works):
            self._programs.stop()
        return not any(work.is_alive() for work in works)

    def results(self, timeline: Timeline) -> tuple[Checkout, TaskEnvironment]:
        """Both results. Raises the first real error: not the Cancelled that it caused in the other."""
        timeline.side_by_side({"repository": self._repository.seconds, "environment": self._environment.seconds})
        errors = [work.error for work in (self._repository, self._environment) if work.error]
        for error in sorted(errors, key=lambda one: isinstance(one, Cancelled)):
            raise error
        return self._repository.result(), self._environment.result()


def _with_task_init(script: Script, checkout: Checkout, environ: Mapping[str, str], tell: Tell) -> None:
    """Task.init in the entry point's file: forced by the operator, or put by `clearml-task` where Python forbids it."""
    forced = is_on(environ, FORCE_TASK_INIT)
    if not forced and "Task.init" not in script.diff:
        return
    from bootstrap import entry_point, task_init
    from bootstrap.errors import EntryPointError

    try:
        file = entry_point.file_of(script, checkout)
    except EntryPointError:
        return  # told when it is to be run
    if file:
        task_init.below_future(file)
        if forced:
            task_init.add(file, tell)
