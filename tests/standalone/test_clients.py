"""Real clients against the server: the clearml SDK, clearml-task, clearml-agent, ClearML's own Kubernetes glue.

Each runs as a process of its own with an empty home. With CLEARML_API_HOST and keys in the environment the same
clients talk to that server.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import uuid
from pathlib import Path

import pytest

from clearml_api import queues, tasks
from clearml_api.session import Session
from tests import support

pytestmark = pytest.mark.xdist_group("clients")


def script(environ: dict[str, str], code: str, folder: Path, **more: str) -> str:
    """Run a Python script as a person would; its output. Ends the test with the whole output when it fails."""
    file = folder / f"script_{uuid.uuid4().hex[:6]}.py"
    file.write_text(textwrap.dedent(code))
    return command([sys.executable, str(file)], {**environ, **more}, folder)


def command(words: list[str], environ: dict[str, str], folder: Path, seconds: float = 120) -> str:
    done = subprocess.run(words, env=environ, cwd=folder, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout + done.stderr


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text[-4000:]
    return match[1]


def test_a_local_run_reports_everything_and_reads_it_back(client_environ, tmp_path, api: Session) -> None:
    output = script(
        client_environ,
        """
        import numpy as np
        from clearml import OutputModel, Task
        task = Task.init(project_name="clients/local", task_name="local run", output_uri=True)
        print("hello from print", flush=True)
        task.flush()  # the SDK's capture of stdout is shared by its threads: alone, before they have anything to say
        params = task.connect({"rate": 0.1, "layers": 3}, name="model")
        task.connect_configuration({"deep": {"er": 1}}, name="setup")
        task.set_parameter("General/extra", "yes")
        task.add_tags(["mine"])
        log = task.get_logger()
        for n in range(5):
            log.report_scalar("loss", "train", value=1.0 / (n + 1), iteration=n)
        log.report_histogram("weights", "first", values=[1, 2, 3], iteration=0)
        log.report_table("table", "rows", iteration=0, table_plot=[["a", "b"], [1, 2]])
        log.report_text("hello from the logger")
        log.report_single_value("best", 0.9)
        task.upload_artifact("numbers", np.arange(4), wait_on_upload=True)
        task.upload_artifact("words", {"a": 1}, wait_on_upload=True)
        open("weights.bin", "wb").write(b"0123456789")
        model = OutputModel(task=task, name="the model", framework="custom")
        model.update_weights("weights.bin", auto_delete_file=False)
        task.flush(wait_for_uploads=True)
        print("TASK", task.id)
        task.close()
        """,
        tmp_path,
    )
    task = found(r"TASK (\w+)", output)
    read = script(
        client_environ,
        f"""
        import json
        from clearml import Task
        task = Task.get_task("{task}")
        scalars = task.get_reported_scalars()
        print(json.dumps({{
            "status": task.status,
            "rate": task.get_parameter("model/rate"),
            "extra": task.get_parameter("General/extra"),
            "setup": task.get_configuration_object_as_dict("setup"),
            "tags": task.get_tags(),
            "loss": scalars["loss"]["train"]["y"],
            "last": task.get_last_scalar_metrics()["loss"]["train"]["last"],
            "single": task.get_reported_single_value("best"),
            "plots": sorted(plot["metric"] for plot in task.get_reported_plots()),
            "numbers": task.artifacts["numbers"].get().tolist(),
            "words": task.artifacts["words"].get(),
            "model": open(task.models["output"][-1].get_local_copy(), "rb").read().decode(),
            "console": "".join(task.get_reported_console_output(number_of_reports=50)),
        }}))
        """,
        tmp_path,
    )
    facts = json.loads(found(r"(?m)^(\{.*\})$", read))
    console = facts.pop("console")
    assert "hello from print" in console
    assert "hello from the logger" in console
    assert facts.pop("loss")[:2] == [1.0, 0.5]
    assert facts.pop("plots") == ["table", "weights"]
    assert facts == {
        "status": "completed",
        "rate": "0.1",
        "extra": "yes",
        "setup": {"deep": {"er": 1}},
        "tags": ["mine"],
        "last": pytest.approx(0.2),
        "single": pytest.approx(0.9),
        "numbers": [0, 1, 2, 3],
        "words": {"a": 1},
        "model": "0123456789",
    }


def test_create_enqueue_clone_and_query(client_environ, tmp_path, api: Session) -> None:
    queue = f"clients-{uuid.uuid4().hex[:8]}"
    queues.create(api, queue)
    output = script(
        client_environ,
        f"""
        from clearml import Task
        made = Task.create(project_name="clients/made", task_name="made one", script=__file__, packages=["six"])
        Task.enqueue(made, queue_name="{queue}")
        copy = Task.clone(made, name="the copy", parent=made.id)
        copy.set_parameters({{"Args/x": 7}})
        copy.set_script(entry_point="other.py")
        print("MADE", made.id)
        print("COPY", copy.id)
        names = [t.name for t in Task.get_tasks(project_name="clients/made", allow_archived=False)]
        print("NAMES", sorted(names))
        again = Task.get_task(project_name="clients/made", task_name="the copy")
        print("STATUS", Task.get_task(made.id).status, again.id)
        Task.dequeue(made)
        print("DEQUEUED", Task.get_task(made.id).status)
        copy.delete(raise_on_error=True)
        """,
        tmp_path,
    )
    assert "NAMES ['made one', 'the copy']" in output
    copy = found(r"COPY (\w+)", output)
    assert f"STATUS queued {copy}" in output
    assert "DEQUEUED created" in output
    assert tasks.get(api, copy) is None


def test_a_remote_run_takes_overridden_parameters(client_environ, tmp_path, api: Session) -> None:
    code = """
        import argparse
        from clearml import Task
        parser = argparse.ArgumentParser()
        parser.add_argument("--epochs", type=int, default=1)
        task = Task.init(project_name="clients/remote", task_name="remote run")
        options = parser.parse_args()
        params = task.connect({"rate": 0.1})
        print("EPOCHS", options.epochs, "RATE", params["rate"], "REMOTE", not Task.running_locally())
        print("TASK", task.id)
        """
    first = script(client_environ, code, tmp_path)
    assert "EPOCHS 1 RATE 0.1 REMOTE False" in first
    clone = api.call("tasks.clone", {"task": found(r"TASK (\w+)", first)})["id"]
    rows = [
        {"section": "Args", "name": "epochs", "value": "5"},
        {"section": "General", "name": "rate", "value": "0.5"},
    ]
    api.call("tasks.edit_hyper_params", {"task": clone, "hyperparams": rows})
    tasks.started(api, clone)
    second = script(client_environ, code, tmp_path, CLEARML_TASK_ID=clone, CLEARML_LOG_TASK_TO_BACKEND="0")
    assert "EPOCHS 5 RATE 0.5 REMOTE True" in second


def test_execute_remotely_leaves_the_task_in_the_queue(client_environ, tmp_path, api: Session) -> None:
    queue = f"remote-{uuid.uuid4().hex[:8]}"
    identity = queues.create(api, queue)
    output = script(
        client_environ,
        f"""
        from clearml import Task
        task = Task.init(project_name="clients/remote", task_name="goes away")
        print("TASK", task.id, flush=True)
        task.execute_remotely(queue_name="{queue}", exit_process=True)
        print("NEVER")
        """,
        tmp_path,
    )
    task = found(r"TASK (\w+)", output)
    assert "NEVER" not in output
    waiting = next(iter(queues.get_all(api, [identity], max_entries=5))).entries
    assert [entry.task for entry in waiting] == [task]
    assert support.task(api, task).status == "queued"


def test_clearml_task_creates_and_enqueues(client_environ, tmp_path, api: Session) -> None:
    support.repository(tmp_path / "repo", {"app.py": "print('hello')\n", "requirements.txt": "six\n"})
    queue = f"command-{uuid.uuid4().hex[:8]}"
    identity = queues.create(api, queue)
    words = [
        "clearml-task",
        "--project",
        "clients/command",
        "--name",
        "by command",
        "--repo",
        f"file://{tmp_path}/repo",
    ]
    words += ["--branch", "main", "--script", "app.py", "--args", "x=1", "--queue", queue]
    task = found(r"created id=(\w+)", command(words, client_environ, tmp_path))
    assert [entry.task for entry in next(iter(queues.get_all(api, [identity], max_entries=5))).entries] == [task]
    made = support.task(api, task)
    assert (made.status, made.script.repository, made.script.entry_point) == (
        "queued",
        f"file://{tmp_path}/repo",
        "app.py",
    )
    assert made.hyperparams["Args"]["x"]["value"] == "1"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_clearml_agent_runs_a_task_to_its_end(client_environ, tmp_path, api: Session) -> None:
    commit = support.repository(tmp_path / "repo", {"app.py": "import six\nprint('ran with six', six.__version__)\n"})
    script_ = {
        "repository": f"file://{tmp_path}/repo",
        "version_num": commit,
        "branch": "main",
        "entry_point": "app.py",
    }
    task = support.create_task(api, "by the agent", **script_, requirements={"pip": "six==1.16.0"})
    tasks.enqueue(api, task, queues.create(api, f"agent-{uuid.uuid4().hex[:8]}"))
    words = ["clearml-agent", "execute", "--id", task, "--full-monitoring", "--require-queue"]
    command(words, {**client_environ, "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE": "pip"}, tmp_path, 220)
    assert support.task(api, task).status == "completed"
    assert "ran with six 1.16.0" in support.console(api, task)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_pipeline_steps_go_through_a_queue(client_environ, tmp_path, api: Session) -> None:
    """A PipelineController with two steps; a worker of this test pops the queue and runs each step's script."""
    queue = f"steps-{uuid.uuid4().hex[:8]}"
    identity = queues.create(api, queue)
    step = tmp_path / "step.py"
    step.write_text(
        "from clearml import Task\n"
        "task = Task.init(project_name='clients/pipeline', task_name='step')\n"
        "value = task.connect({'value': 1})\n"
        "task.get_logger().report_single_value('value', int(value['value']))\n"
        "print('STEP', value['value'])\n"
    )
    command([sys.executable, str(step)], client_environ, tmp_path)
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.2):
            entry = api.call("queues.get_next_task", {"queue": identity}).get("entry")
            if entry:
                tasks.started(api, entry["task"])
                environ = {**client_environ, "CLEARML_TASK_ID": entry["task"], "CLEARML_LOG_TASK_TO_BACKEND": "0"}
                command([sys.executable, str(step)], environ, tmp_path)
                if support.task(api, entry["task"]).status == "in_progress":
                    tasks.completed(api, entry["task"])

    worker = support.InBackground(work)
    worker.start()
    try:
        output = script(
            client_environ,
            f"""
            from clearml import PipelineController
            pipe = PipelineController(name="pipe", project="clients/pipeline", version="1.0", add_pipeline_tags=False,
                                      pool_frequency=0.01)
            pipe.add_parameter("start", 3)
            base = dict(base_task_project="clients/pipeline", base_task_name="step", execution_queue="{queue}")
            pipe.add_step(name="one", parameter_override={{"General/value": "${{pipeline.start}}"}}, **base)
            pipe.add_step(name="two", parents=["one"], parameter_override={{"General/value": 5}}, **base)
            pipe.start_locally(run_pipeline_steps_locally=False)
            nodes = list(pipe.get_processed_nodes().values())
            print("NODES", sorted(node.name for node in nodes), [node.job.task.status for node in nodes])
            print("VALUES", [node.job.task.get_parameter("General/value") for node in nodes])
            """,
            tmp_path,
        )
    finally:
        done.set()
        worker.check()
    assert "NODES ['one', 'two'] ['completed', 'completed']" in output
    assert "VALUES ['3', '5']" in output


@pytest.mark.timeout(180)
def test_clearmls_own_kubernetes_glue_dispatches(client_environ, tmp_path, api: Session) -> None:
    """The glue pops a task and renders a pod; kubectl is a recorder in this one test."""
    queue = f"glue-{uuid.uuid4().hex[:8]}"
    identity = queues.create(api, queue)
    task = support.create_task(api, "for the glue", "print(1)")
    tasks.enqueue(api, task, identity)
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys, time, json\n"
        f"folder = pathlib.Path({str(recorded)!r})\n"
        "words = sys.argv[1:]\n"
        "for n, word in enumerate(words):\n"
        "    if word == '-f':\n"
        "        (folder / f'{time.monotonic_ns()}.yaml').write_text(open(words[n + 1]).read())\n"
        "print(json.dumps({'items': []}) if 'get' in words else 'pod/x created')\n"
    )
    kubectl.chmod(0o755)
    template = tmp_path / "pod.yaml"
    template.write_text("apiVersion: v1\nkind: Pod\nmetadata: {}\nspec:\n  containers:\n  - resources: {}\n")
    glue = tmp_path / "glue.py"
    glue.write_text(
        "from clearml_agent.glue.k8s import K8sIntegration\n"
        f"K8sIntegration(template_yaml={str(template)!r}).k8s_daemon({queue!r})\n"
    )
    environ = {**client_environ, "PATH": f"{kubectl.parent}{os.pathsep}{client_environ['PATH']}"}
    log = tmp_path / "glue.log"
    with log.open("w") as opened:
        process = subprocess.Popen([sys.executable, str(glue)], env=environ, cwd=tmp_path, stdout=opened, stderr=opened)
    try:
        support.until(lambda: list(recorded.glob("*.yaml")), 90, log.read_text)
        manifest = next(iter(recorded.glob("*.yaml"))).read_text()
        assert task in manifest
        assert next(iter(queues.get_all(api, [identity], max_entries=5))).entries == ()
    finally:
        process.kill()
        process.wait()
