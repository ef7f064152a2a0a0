"""The table of reasons' words in docs/troubleshooting.md: each with what it means and which part of the page has it."""

from __future__ import annotations

from controller.reasons import REASONS, Stage

BEGIN = "<!-- words: written by `make docs` -->\n"
END = "<!-- end of words -->"
_SECTIONS = {
    **dict.fromkeys((Stage.QUEUE, Stage.LIMITS, Stage.ADMISSION, Stage.SCHEDULER), "A task stays queued"),
    Stage.TEMPLATE: "Settings and templates",
    Stage.IMAGE: "The pod does not start",
    Stage.CONTAINER: "The pod does not start",
    Stage.CLAIM: "The pod starts and does not run the task",
    Stage.RUN: "The task ran and failed",
    Stage.SETUP: "The environment",
    Stage.CLUSTER: "The pod was taken away",
}


def with_words(page: str) -> str:
    """The page with its table written anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = ["| word | what | look at |", "|---|---|---|"]
    for word, about in REASONS.items():
        section = _SECTIONS[about.stage]
        rows.append(f"| `{word.value}` | {about.summary} | [{section}](#{section.lower().replace(' ', '-')}) |")
    return f"{before}{BEGIN}\n" + "\n".join(rows) + f"\n\n{END}{after}"
