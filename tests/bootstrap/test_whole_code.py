"""Whole pods: a notebook, a private repository opened by the setup script, what the operator forces."""

from __future__ import annotations

import json

from tests import support


def notebook(*cells: str) -> str:
    made = [
        {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": cell} for cell in cells
    ]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


def test_a_notebook_stored_in_the_task_shows_its_output_and_keeps_its_exit_code(api, queued, start) -> None:
    code = notebook("%timeit -n1 -r1 1 + 1\n!echo from the shell", "import sys\nprint('in python')", "sys.exit(5)")
    task = queued(code, entry_point="study.ipynb", requirements={"pip": ""})
    code = start(task).wait(120)
    text = support.console(api, task)
    assert code == 5, text
    for line in ("loop each", "from the shell", "in python"):
        assert line in text, text
    assert "exit code 5" in support.task(api, task).status_message


def test_the_setup_script_opens_a_private_repository_and_exports_to_the_task(api, queued, start, http, head) -> None:
    who = f"export CLEARML_AGENT_GIT_USER={http.user}\nexport CLEARML_AGENT_GIT_PASS='{http.password}'\n"
    code = "import os; print(os.environ['COLOUR'], 'CLEARML_AGENT_GIT_PASS' in os.environ, 'XX' + os.environ['P'])"
    task = queued(
        repository=http.url("private/closed.git"),
        branch="main",
        entry_point=f'-c "{code}"',
        container={"setup_shell_script": who + "export COLOUR=blue\n", "arguments": f"-e 'P={http.password}'"},
    )
    assert start(task).wait() == 0
    text = support.console(api, task)
    assert "blue False XX********" in text
    assert http.password not in text
    assert support.task(api, task).script.commit == head


def test_what_the_operator_forces_and_what_has_no_effect(api, queued, start, tmp_path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "mine.py").write_text("import sys; print('forced', sys.argv[1:])\n")
    task = queued(repository="https://none.invalid/x.git", branch="main", entry_point="other.py", working_dir="none")
    pod = start(
        task,
        CLEARML_AGENT_FORCE_CODE_DIR=str(tmp_path / "given"),
        CLEARML_AGENT_FORCE_EXEC_SCRIPT="mine.py --a",
        CLEARML_AGENT_EXEC_USER="nobody",
    )
    assert pod.wait() == 0
    text = support.console(api, task)
    assert "forced ['--a']" in text
    assert "CLEARML_AGENT_EXEC_USER has no effect here: the pod's securityContext" in text
