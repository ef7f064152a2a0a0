"""The controller's own lines in a task's console: why it waits, once for each change.

What was said stands in the console itself, so it is read before it is written: a controller that was killed after a
line does not say it again, and a sentence in which only numbers changed is no news.
"""

from __future__ import annotations

import logging
import time

from clearml_api import events
from clearml_api.errors import ApiError
from clearml_api.session import Bounds, Session
from controller.notes import shape

log = logging.getLogger("podstrap.controller")

WORKER = "podstrap:controller"
"""By which our lines are known; pods are `podstrap:POD`."""
_PREFIX = "podstrap: "
"""As bootstrap's own story begins."""


def in_console(session: Session, task: str, text: str, *, bounds: Bounds | None = None) -> bool:
    """Say it, unless it is the last that we said. Whether it was sent. A task that takes no events is no error."""
    line = _PREFIX + text
    try:
        said = events.last_lines(session, task, WORKER, bounds=bounds)
        if said and shape(said[-1]) == shape(line):
            return False
        millis = round(time.time() * 1000)
        answer = events.add_batch(session, [events.log_event(task, WORKER, millis, line)], bounds=bounds)
    except ApiError as error:
        log.debug("not-told task=%s error=%r", task, str(error))
        return False
    return answer.added > 0
