"""Repository and environment, prepared side by side; whoever fails first decides.

The environment often needs nothing of the repository (its requirements stand in the task); where it does, it waits
for the checkout. Both run on threads of their own so that the main thread stays free for signals and aborts.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from bootstrap.commands import Programs
from bootstrap.errors import Cancelled
from bootstrap.prepared import Checkout, TaskEnvironment, Tell
from bootstrap.settings import OWN_ENGINE, PodSettings
from bootstrap.timeline import Timeline
from clearml_api.configuration import Configuration
from clearml_api.models import Task

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
    ) -> None:
        def setup() -> None:
            from bootstrap import task_environ
            from bootstrap.setup_script import run

            run(
                task.container.setup_shell_script,
                work=settings.work,
                environ=task_environ.for_its_script(environ),
                programs=programs,
                tell=tell,
            )

        def repository() -> Checkout:
            self._after_setup()
            if by_agent:
                return Checkout(settings.work)
            from bootstrap.repository import prepare

            return prepare(
                task.script,
                work=settings.work,
                cache=settings.cache,
                configuration=configuration,
                environ=environ,
                programs=programs,
                tell=tell,
            )

        def environment() -> TaskEnvironment:
            self._after_setup()
            if by_agent:
                return TaskEnvironment(Path(sys.executable))
            from bootstrap.environment.build import Place, prepare

            return prepare(
                task.script,
                checkout=self._repository.result,
                place=Place(
                    settings.work,
                    settings.cache,
                    settings.resolve_after_seconds,
                    settings.cache_max_bytes,
                    settings.cache_max_seconds,
                ),
                configuration=configuration,
                environ=environ,
                package_manager=settings.package_manager,
                programs=programs,
                tell=tell,
            )

        by_agent = settings.engine != OWN_ENGINE  # it does all of this itself
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

    def _after_setup(self) -> None:
        if self._setup:
            self._setup.result()

    def done(self) -> bool:
        """Whether both ended, or one failed and the other was stopped."""
        works = (self._repository, self._environment)
        if any(not work.is_alive() and work.error for work in works):
            self._programs.stop()
        return not any(work.is_alive() for work in works)

    def results(self, timeline: Timeline) -> tuple[Checkout, TaskEnvironment]:
        """Both results. Raises the first real error: not the Cancelled that it caused in the other."""
        timeline.phase("repository", self._repository.seconds)
        timeline.phase("environment", self._environment.seconds)
        errors = [work.error for work in (self._repository, self._environment) if work.error]
        for error in sorted(errors, key=lambda one: isinstance(one, Cancelled)):
            raise error
        return self._repository.result(), self._environment.result()
