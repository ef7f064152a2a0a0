"""The pod's side: claim the task, prepare repository and environment, run it, watch it, report it.

`lifecycle.py` is the table of contents of one run. Nothing here knows Kubernetes or the controller; what both sides
must agree on stands in protocol/.
"""
