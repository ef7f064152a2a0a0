"""The task's Python environment: which interpreter, which requirements, from the store when it is there.

`build.prepare` is the way in; `store` keeps finished environments for all tasks, `thin` makes the private one of a
single task, `installers` fill a new one, `requirements` and `interpreter` read what the task asks for.
"""
