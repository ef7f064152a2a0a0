"""A whole run under trouble: taken away, aborted, reset, deleted, and a server that comes and goes."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
from urllib.parse import urlsplit

import pytest

from clearml_api import tasks
from protocol.termination import Outcome
from tests import support

ENDLESS = """
import pathlib, signal, sys, time
def bye(number, frame):
    print("saved at signal", number, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
print("running", flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("running", flush=True)
time.sleep(600)
"""


def running(api, task: str, pod) -> None:
    support.until(lambda: "running" in support.console(api, task), 30, pod.output)


@pytest.mark.parametrize("code", [ENDLESS, STUBBORN], ids=["polite", "stubborn"])
def test_a_pod_that_is_taken_away_leaves_75_and_the_task_to_the_next_pod(api, queued, start, code) -> None:
    task = queued(code)
    pod = start(task, job="the-job")
    running(api, task, pod)
    pod.process.send_signal(signal.SIGTERM)
    assert pod.wait(15) == 75
    found = support.task(api, task)
    assert found.status == "in_progress"
    assert found.claim is not None and found.claim.job_uid == "the-job"
    assert pod.message().outcome is Outcome.DISRUPTED
    text = support.console(api, task)
    assert "being taken away on node node-0" in text
    assert ("saved at signal 15" in text) == (code == ENDLESS)


def test_no_signal_replaces_the_exit_code_while_the_interpreter_ends(api, queued, start, tmp_path) -> None:
    """Seen as exit code -14: the alarm that SIGTERM sets went off when its handler was already gone."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, signal\n"
        "def tell():\n"
        "    numbers = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)\n"
        "    print('TIMER', signal.getitimer(signal.ITIMER_REAL)[0], [signal.getsignal(n).name for n in numbers])\n"
        "atexit.register(tell)\n"
    )
    task = queued(ENDLESS)
    pod = start(task, PYTHONPATH=f"{tmp_path}:{support.REPOSITORY_ROOT}", PODSTRAP_GRACE_SECONDS="60")
    running(api, task, pod)
    pod.process.send_signal(signal.SIGTERM)
    assert pod.wait(20) == 75
    assert "TIMER 0.0 ['SIG_IGN', 'SIG_IGN', 'SIG_IGN', 'SIG_IGN']" in pod.output()


def test_a_queue_may_choose_to_fail_instead(api, queued, start) -> None:
    task = queued(ENDLESS)
    pod = start(task, PODSTRAP_ON_DISRUPTION="fail")
    running(api, task, pod)
    pod.process.send_signal(signal.SIGTERM)
    assert pod.wait(15) == 1
    found = support.task(api, task)
    assert (found.status, found.status_reason) == ("failed", "disrupted")
    assert "taken away on node node-0" in found.status_message


def test_an_abort_is_noticed_and_the_callback_waited_for(api, queued, start) -> None:
    task = queued(ENDLESS)
    pod = start(task)
    running(api, task, pod)

    def is_a_worker() -> bool:
        return any((one.get("task") or {}).get("id") == task for one in api.call("workers.get_all")["workers"])

    support.until(is_a_worker, 20, pod.output)

    def as_the_sdk(**keys: str) -> None:  # it writes the whole dictionary, without edit_runtime's escaping
        runtime = {**support.task(api, task).runtime, **keys}
        api.call("tasks.edit", {"task": task, "runtime": runtime, "force": True})

    as_the_sdk(_abort_callback_timeout="30", _abort_poll_freq="1")
    api.call("tasks.stop", {"task": task})
    support.until(lambda: "aborted:" in support.console(api, task), 10, pod.output)
    assert pod.process.poll() is None, f"the callback has its time\n{pod.output()}"
    as_the_sdk(_abort_callback_completed="1")
    assert pod.wait(15) == 0
    assert support.task(api, task).status == "stopped"
    assert pod.message().outcome is Outcome.STOPPED


def test_an_abort_is_noticed_within_five_seconds_at_the_default_interval(api, queued, start) -> None:
    task = queued(ENDLESS)
    pod = start(task, PODSTRAP_POLL_SECONDS="")
    running(api, task, pod)
    support.until(lambda: support.task(api, task).last_worker, 20, pod.output)
    api.call("tasks.stop", {"task": task})
    support.until(lambda: "aborted:" in pod.output(), 5, pod.output)
    assert pod.wait(15) == 0


def test_a_task_that_is_archived_while_it_runs_is_stopped(api, queued, start) -> None:
    task = queued(ENDLESS)
    pod = start(task)
    running(api, task, pod)
    api.call("tasks.archive", {"tasks": [task]})
    assert pod.wait(15) == 0
    found = support.task(api, task)
    assert found.status == "stopped" and "archived" in found.system_tags
    console = support.console(api, task)
    assert "saved at signal 15" in console and "the task was archived" in console


def test_docker_arguments_without_effect_are_told_in_the_console(api, queued, start) -> None:
    task = queued("print('ran')")
    pod = start(task, PODSTRAP_DOCKER_NOTES="--rm: it goes by itself\n--ulimit: no such field")
    assert pod.process.wait(60) == 0, pod.output()
    console = support.console(api, task)
    assert "docker argument without effect: --rm: it goes by itself" in console
    assert "docker argument without effect: --ulimit: no such field" in console and "ran" in console


def test_signals_reach_the_task(api, queued, start) -> None:
    names = ("SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP")
    task = queued(
        "import signal, time\n"
        "def told(number, frame): print('told', signal.Signals(number).name, flush=True)\n"
        f"for name in {names!r}: signal.signal(getattr(signal, name), told)\n"
        "print('running', flush=True)\n"
        "time.sleep(600)\n"
    )
    pod = start(task)
    running(api, task, pod)
    for name in names:
        pod.process.send_signal(getattr(signal, name))
        support.until(lambda name=name: f"told {name}" in pod.output(), 10, pod.output)
    assert pod.process.poll() is None


@pytest.mark.parametrize("how", ["reset", "deleted", "claimed by another"])
def test_a_task_that_is_not_ours_any_more_is_left_alone(api, queued, start, how) -> None:
    from protocol.claim import RUNTIME_KEY, Claim

    task = queued(STUBBORN)
    pod = start(task)
    running(api, task, pod)
    if how == "reset":
        api.call("tasks.reset", {"task": task})
    elif how == "deleted":
        api.call("tasks.delete", {"task": task, "force": True})
    else:
        tasks.edit_runtime(api, task, {RUNTIME_KEY: Claim("another", 1, "p").to_text()})
    assert pod.wait(15) == 0
    assert pod.message().outcome is Outcome.CLAIM_LOST
    if how == "reset":
        assert support.task(api, task).status == "created"
    if how == "claimed by another":
        assert support.task(api, task).status == "in_progress"


def test_the_task_may_end_itself_through_the_sdk(api, queued, start) -> None:
    code = (
        "import json, os, urllib.request, base64\n"
        "host, key, secret = (os.environ['CLEARML_API_' + n] for n in ('HOST', 'ACCESS_KEY', 'SECRET_KEY'))\n"
        "basic = base64.b64encode(f'{key}:{secret}'.encode()).decode()\n"
        "def call(name, payload, auth):\n"
        "    headers = {'Authorization': auth, 'Content-Type': 'application/json'}\n"
        "    request = urllib.request.Request(f'{host}/{name}', json.dumps(payload).encode(), headers)\n"
        "    return json.load(urllib.request.urlopen(request))['data']\n"
        "token = call('auth.login', {}, 'Basic ' + basic)['token']\n"
        "call('tasks.failed', {'task': os.environ['CLEARML_TASK_ID'], 'status_reason': 'mine'}, 'Bearer ' + token)\n"
    )
    task = queued(code)
    assert start(task).wait() == 0
    found = support.task(api, task)
    assert (found.status, found.status_reason) == ("failed", "mine")


class Proxy:
    """Passes bytes to the real server, unless it is `down` (refuses) or `silent` (accepts and says nothing)."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.down = threading.Event()
        self.deaf = threading.Event()
        self.swallowed = 0
        self.met = 0
        """Connections so far, refused ones included."""
        self.paths: list[str] = []
        """What was asked for, in order."""
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow_answers(self) -> None:
        """From now on the server gets everything and its answers get lost."""
        self.deaf.set()

    def cut(self) -> None:
        """Refuse from now on and cut what is open, in the middle of whatever it is."""
        self.down.set()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # close() alone does not wake who reads from it
            one.close()
        self._open.clear()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            self.met += 1
            if self.down.is_set():
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for source, sink, answers in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if answers and self.deaf.is_set():
                    self.swallowed += 1
                    return
                if not answers and data.startswith(b"POST /"):
                    self.paths.append(data.split(b" ", 2)[1].decode().strip("/"))
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


def test_no_line_is_lost_through_an_outage(api, server_environ, queued, start, tmp_path) -> None:
    code = f"""
import pathlib, time
go = pathlib.Path({str(tmp_path)!r}) / "go"
for n in range(300):
    print("before", n, flush=True)
print("running", flush=True)
while not go.exists():
    time.sleep(0.01)
for n in range(300):
    print("during", n, flush=True)
(go.parent / "said").touch()
while not (go.parent / "end").exists():
    time.sleep(0.01)
print("after", flush=True)
"""
    proxy = Proxy(server_environ["CLEARML_API_HOST"])
    task = queued(code)
    pod = start(task, api_host=proxy.address)
    running(api, task, pod)
    proxy.cut()
    (tmp_path / "go").touch()
    support.until((tmp_path / "said").exists, 20, pod.output)
    assert "during 0" not in support.console(api, task)
    proxy.down.clear()
    (tmp_path / "end").touch()
    assert pod.wait(60) == 0
    lines = support.console(api, task).splitlines()
    said = [line for line in lines if line.split()[0] in ("before", "during", "after")]
    wanted = [f"before {n}" for n in range(300)] + [f"during {n}" for n in range(300)] + ["after"]
    assert said == wanted, "lost, doubled or out of order"
    assert support.task(api, task).status == "completed"


def test_a_batch_whose_answer_was_lost_is_not_doubled(api, server_environ, queued, start, tmp_path) -> None:
    code = f"""
import pathlib, time
go = pathlib.Path({str(tmp_path)!r}) / "go"
print("running", flush=True)
while not go.exists():
    time.sleep(0.01)
for n in range(50):
    print("line", n, flush=True)
while not (go.parent / "end").exists():
    time.sleep(0.01)
"""
    proxy = Proxy(server_environ["CLEARML_API_HOST"])
    task = queued(code)
    pod = start(task, api_host=proxy.address)
    running(api, task, pod)
    proxy.swallow_answers()
    (tmp_path / "go").touch()
    support.until(lambda: proxy.swallowed >= 3, 30, pod.output)
    proxy.deaf.clear()
    (tmp_path / "end").touch()
    assert pod.wait(60) == 0
    lines = support.console(api, task).splitlines()
    assert [line for line in lines if line.startswith("line ")] == [f"line {n}" for n in range(50)]
    assert support.task(api, task).status == "completed"


def test_a_server_that_is_gone_at_the_end_leaves_the_outcome_to_the_controller(
    api, server_environ, queued, start
) -> None:
    proxy = Proxy(server_environ["CLEARML_API_HOST"])
    task = queued(ENDLESS.replace("sys.exit(0)", "sys.exit(7)"))
    pod = start(task, api_host=proxy.address, PODSTRAP_ON_DISRUPTION="fail", PODSTRAP_GRACE_SECONDS="3")
    running(api, task, pod)
    proxy.cut()
    pod.process.send_signal(signal.SIGTERM)
    assert pod.wait(20) == 1
    message = pod.message()
    assert (message.outcome, message.reported) == (Outcome.FAILED, False)
    assert "taken away" in message.reason


def test_sigterm_shortens_a_report_that_is_being_tried(api, server_environ, queued, start, tmp_path) -> None:
    code = f"""
import pathlib, sys, time
print("running", flush=True)
while not pathlib.Path({str(tmp_path)!r}, "go").exists():
    time.sleep(0.01)
sys.exit(7)
"""
    proxy = Proxy(server_environ["CLEARML_API_HOST"])
    task = queued(code)
    pod = start(task, api_host=proxy.address, PODSTRAP_GRACE_SECONDS="3")
    running(api, task, pod)
    proxy.cut()
    (tmp_path / "go").touch()
    support.until(lambda: "exit code 7" in pod.output(), 20, pod.output)
    pod.process.send_signal(signal.SIGTERM)
    assert pod.wait(4) == 7, "within its grace time, with the task's own code"
    assert (pod.message().outcome, pod.message().reported) == (Outcome.FAILED, False)
    assert pod.message().exit_code == 7


@pytest.mark.parametrize("how", ["refuses", "says nothing"])
def test_sigterm_before_the_claim_is_no_failure_of_the_task(api, server_environ, queued, start, how) -> None:
    proxy = Proxy(server_environ["CLEARML_API_HOST"])
    if how == "refuses":
        proxy.down.set()
    else:
        proxy.deaf.set()
    task = queued(ENDLESS)
    pod = start(task, api_host=proxy.address)
    support.until(lambda: proxy.met, 20, pod.output)
    pod.process.send_signal(signal.SIGTERM)
    assert pod.wait(6) == 75
    assert pod.message().outcome is Outcome.DISRUPTED
    assert support.task(api, task).status == "queued"


@pytest.mark.parametrize("how", ["stop", "reset"])
def test_a_task_that_ends_because_of_its_abort_is_stopped_not_failed(api, queued, start, tmp_path, how) -> None:
    """It ended before the next poll saw why: neither the task nor the pod's Job has failed."""
    code = f"""
import pathlib, sys, time
print("running", flush=True)
while not pathlib.Path({str(tmp_path)!r}, "go").exists():
    time.sleep(0.01)
sys.exit("ended by its own callback")
"""
    task = queued(code)
    pod = start(task, PODSTRAP_POLL_SECONDS="600")
    running(api, task, pod)
    support.until(lambda: support.task(api, task).last_worker, 20, pod.output)
    api.call(f"tasks.{how}", {"task": task})
    (tmp_path / "go").touch()
    assert pod.wait(20) == 0
    assert support.task(api, task).status == {"stop": "stopped", "reset": "created"}[how]
    assert pod.message().outcome is {"stop": Outcome.STOPPED, "reset": Outcome.CLAIM_LOST}[how]
    if how == "stop":
        assert "podstrap: stopped after" in support.console(api, task)
        assert "exit code 1" in support.console(api, task).splitlines()[-1]


def properties(api, task: str) -> dict[str, str]:
    answer = api.call("tasks.get_by_id", {"task": task})["task"]
    return {name: row["value"] for name, row in answer["hyperparams"].get("properties", {}).items()}


def test_the_run_in_figures_stands_at_the_end_of_the_console_and_on_the_task(api, queued, start) -> None:
    # More than the process that runs these tests ever held: Linux hands that figure on through fork and exec.
    task = queued("import os\nx = bytearray(700 << 20)\nos.kill(os.getpid(), 11)")
    assert start(task, PODSTRAP_SAMPLE_SECONDS="600").wait(30) == 139
    last = support.console(api, task).splitlines()[-1]
    found = re.fullmatch(
        r"podstrap: setup (\S+) s, run (\S+) s, exit code 139 \(SIGSEGV\), peak memory (\d+) MiB", last
    )
    assert found, last
    assert 700 <= int(found[3]) < 760
    told = properties(api, task)
    assert float(told["podstrap_setup_seconds"]) == float(found[1]) > 0
    assert float(told["podstrap_run_seconds"]) == float(found[2]) > 0
    assert (told["podstrap_exit_code"], told["podstrap_signal"], told["podstrap_attempt"]) == ("139", "SIGSEGV", "1")
    assert told["podstrap_peak_memory_mib"] == found[3]


def test_the_peak_is_on_the_task_before_the_end(api, queued, start) -> None:
    """The kernel may take the whole pod at once: what it held must be known by then."""
    task = queued("import time\nx = bytearray(200 << 20)\nprint('running', flush=True)\ntime.sleep(600)")
    pod = start(task, PODSTRAP_SAMPLE_SECONDS="0.3")
    support.until(lambda: int(properties(api, task).get("podstrap_peak_memory_mib", 0)) >= 200, 20, pod.output)
    pod.process.kill()
    pod.wait()
    assert pod.message().outcome is Outcome.RUNNING
    assert (pod.message().peak_memory_bytes or 0) >= 200 << 20


def test_the_claim_is_five_requests(api, server_environ, queued, start) -> None:
    proxy = Proxy(server_environ["CLEARML_API_HOST"])
    task = queued("print('running')")
    pod = start(task, api_host=proxy.address)
    assert pod.wait(30) == 0
    assert proxy.paths[:5] == [
        "auth.login", "queues.remove_task", "tasks.edit_runtime", "tasks.get_by_id", "tasks.started",
    ]  # fmt: skip


def test_the_task_sees_where_it_runs_and_nothing_else_of_podstraps(api, queued, start) -> None:
    """The pod's uid stays on every process of it, by which the local cluster finds them when all above was killed."""
    task = queued("import os\nprint(sorted(n for n in os.environ if n.startswith('PODSTRAP_')))")
    assert start(task, PODSTRAP_POD_UID="the-uid").wait() == 0
    wanted = ["PODSTRAP_NODE_NAME", "PODSTRAP_POD_NAME", "PODSTRAP_POD_UID"]
    assert str(wanted) in support.console(api, task)


def test_secrets_do_not_reach_the_console_or_the_tasks_eyes(api, server_environ, queued, start) -> None:
    code = (
        "import os\n"
        "for name in ('CLEARML_API_SECRET_KEY', 'HF_TOKEN', 'WANDB_API_KEY'):\n"
        "    print(os.environ[name])\n"
        "print(sorted(n for n in os.environ if 'GIT' in n))\n"
        "raise SystemExit('cannot log in with ' + os.environ['HF_TOKEN'])\n"
    )
    task = queued(code, container={"image": "i", "arguments": "-e WANDB_API_KEY=wandb-key-of-the-task"})
    hidden = {
        "CLEARML_AGENT_GIT_PASS": "git-pass-123",
        "CLEARML_AGENT__agent__git_pass": "git-pass-123",
        "HF_TOKEN": "hf_abcdefgh12345",
    }
    pod = start(task, **hidden)
    assert pod.wait() == 1
    found = support.task(api, task)
    assert "cannot log in with ********" in found.status_message
    text = support.console(api, task) + found.status_message + found.status_reason + pod.output()
    text += pod.message().to_text()
    assert "hf_abcdefgh12345" not in text
    assert "wandb-key-of-the-task" not in text
    assert server_environ["CLEARML_API_SECRET_KEY"] not in text
    assert "********" in text
    assert "git-pass-123" not in text
    assert "GIT_PASS" not in text


@pytest.mark.parametrize(
    "broken", ["bootstrap.watch.ask", "bootstrap.reporter.events.encode", "bootstrap.task_environ.build"]
)
def test_a_bug_of_ours_ends_the_run_loudly(api, queued, start, broken, tmp_path) -> None:
    """A deaf watch or a dead sender must not look like a healthy run."""
    task = queued(ENDLESS)
    module, _, name = broken.rpartition(".")
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib, sys\n"
        f"sys.path.insert(0, {str(support.REPOSITORY_ROOT)!r})\n"
        f"target = {module!r}.split('.')\n"
        "owner = importlib.import_module('.'.join(target[:2]))\n"
        "for part in target[2:]:\n"
        "    owner = getattr(owner, part)\n"
        "def broken(*_, **__):\n"
        "    raise ZeroDivisionError('a bug of ours')\n"
        f"setattr(owner, {name!r}, broken)\n"
    )
    pod = start(task, PYTHONPATH=f"{tmp_path}:{support.REPOSITORY_ROOT}", PODSTRAP_SAMPLE_SECONDS="600")
    assert pod.wait(40) == 1
    assert "a bug of ours" in pod.output()
    assert pod.message().outcome is Outcome.FAILED
    assert "a bug of ours" in pod.message().reason


def test_the_setup_script_does_not_see_the_git_credentials(api, queued, start) -> None:
    task = queued(
        "print('ran')", container={"setup_shell_script": "env | grep -c GIT_PASS; echo seen $CLEARML_API_HOST"}
    )
    assert start(task, CLEARML_AGENT_GIT_PASS="git-pass-123").wait() == 0
    lines = support.console(api, task).splitlines()
    assert "podstrap: 0" in lines
    assert any("seen http" in line for line in lines)
