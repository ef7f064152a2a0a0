"""The task's Python environment: which interpreter, which requirements, from the store when it is there.

`build.prepare` is the way in. On every start: `options` (clearml.conf), `requirements` (which text counts),
`interpreter`, `store` (finished environments for all tasks), `thin` (the private one of a single task). Only when
something is missing: `fill` with `lines`, `recipe`, `locks`, `installers`, `index`; `care` looks after the store.
"""
