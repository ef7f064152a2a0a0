"""Which fields a document of each kind has. A list that asks for another one is refused, as the real server does: a
mistyped `only_fields` would else look like a field that nobody has set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from standalone.wire import Refusal

_COMMON = (
    "id name company company_origin user created tags system_tags last_update last_change last_changed_by metadata"
)
_OF = {
    "task": "type status comment report report_assets started completed active_duration parent project output "
    "execution container models status_changed status_message status_reason script last_worker last_worker_report "
    "last_iteration last_metrics unique_metrics metric_stats hyperparams configuration runtime published "
    "enqueue_status duration",
    "queue": "entries display_name",
    "project": "description basename default_output_destination featured parent path logo",
    "model": "comment design framework labels parent project ready task uri ui_cache last_iteration last_metrics "
    "unique_metrics",
}
FIELDS = {kind: frozenset(f"{_COMMON} {own}".split()) for kind, own in _OF.items()}


def check(kind: str, fields: Iterable[str], references: Mapping[str, str], *, follow: bool) -> None:
    """Raises Refusal 14. `follow`: a reference's own fields may be named (`project.name`), as in `get_all_ex`."""
    for field in fields:
        plain = field.lstrip("-")
        first = plain.partition(".")[0]
        reference = next((path for path in references if plain.startswith(path + ".")), None)
        wrong = first if first not in FIELDS[kind] else ""
        if reference and not follow:
            wrong = plain[len(reference) + 1 :]
        if wrong:
            text = "Lookup error (probably an invalid field name or unsupported nested field)"
            raise Refusal(400, 14, text, err=f'Cannot resolve field "{wrong}"')
