"""The one room that speaks HTTP to a ClearML server.

`configuration` reads what clearml-agent's users have today (clearml.conf and CLEARML_* variables), `session` logs in
and carries one request at a time with bounds that the caller chooses, `models` are frozen views of what comes back,
and `tasks`, `queues`, `events`, `workers` are the calls by name.
"""
