"""The page in a real browser, against the embedded server: what a person sees, and that hostile text runs nothing."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clearml_api.session import Session
from tests import support
from tests.standalone.browser import Browser, Page

pytestmark = pytest.mark.xdist_group("page")  # one browser and one server for all of this file

FAST = "const wait = setTimeout; window.setTimeout = (run, ms = 0) => wait(run, ms / 10);"
"""The page's two seconds between polls become 0.2."""
HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.Server]:
    server = support.Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def session(server: support.Server) -> Session:
    return support.session_of(server.environ)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def open_page(server: support.Server, browser: Browser) -> Iterator[Open]:
    """Opens `#/…` of the page; every tab is closed at the end, and none may have run hostile text."""
    opened: list[Page] = []

    def open_page(place: str = "#/", script: str = "") -> Page:
        page = browser.open(f"{server.environ['CLEARML_API_HOST']}/{place}", script=FAST + script)
        opened.append(page)
        page.until("document.querySelector('.health.good') || document.querySelector('form')")
        return page

    yield open_page
    for page in opened:
        assert page.evaluate("window.hit") is None, "text of a task ran in the page"
        page.close()


def create(session: Session, name: str, **fields: Any) -> str:
    return str(session.call("tasks.create", {"name": name, "type": "training", **fields})["id"])


def running(session: Session, name: str) -> str:
    task = create(session, name)
    session.call("tasks.started", {"task": task})
    return task


def send(session: Session, events: list[dict[str, Any]]) -> None:
    lines = "\n".join(json.dumps(event) for event in events).encode()
    assert session.send_lines("events.add_batch", lines)["added"] == len(events)


def log_event(task: str, message: str, timestamp: int, level: str = "info") -> dict[str, Any]:
    return {"type": "log", "task": task, "worker": "w", "timestamp": timestamp, "level": level, "msg": message}


def scalar(task: str, metric: str, variant: str, iteration: int, value: float) -> dict[str, Any]:
    event = {"type": "training_stats_scalar", "task": task, "worker": "w", "timestamp": now() + iteration * 1000}
    return {**event, "iter": iteration, "metric": metric, "variant": variant, "value": value}


def now() -> int:
    return int(time.time() * 1000)


def shown_lines(page: Page) -> list[str]:
    return list(page.evaluate("[...document.querySelectorAll('.console .line')].map(line => line.textContent)"))


# The list


def test_queue_with_its_waiting_task_appears(session: Session, open_page: Open) -> None:
    page = open_page()
    queue = str(session.call("queues.create", {"name": "page-queue"})["id"])
    for name in ("first in line", "second in line"):
        session.call("tasks.enqueue", {"task": create(session, name), "queue": queue})
    page.until_text("#queues", "page-queue")
    page.until_text("#queues", "second in line")
    place = "[...document.querySelectorAll('.queue')].find(queue => queue.innerText.includes('page-queue'))"
    page.until(f"{place}.querySelector('.count').textContent === '2'")
    assert page.evaluate(f"[...{place}.querySelectorAll('li .name')].map(name => name.textContent)") == [
        "first in line",
        "second in line",
    ]
    page.until("[...document.querySelectorAll('tbody .s-queued')].length >= 2")


def test_task_is_listed_with_project_and_status_and_opens(session: Session, open_page: Open) -> None:
    project = session.call("projects.create", {"name": "page project", "description": ""})["id"]
    task = create(session, "listed task", project=project)
    page = open_page()
    row = f"[...document.querySelectorAll('tbody tr')].find(row => row.dataset.key === '{task}')"
    page.until(f"{row}?.innerText.includes('page project') && {row}.innerText.includes('created')")
    session.call("tasks.started", {"task": task})
    page.until(f"{row}.innerText.includes('running')")
    page.evaluate(f"{row}.querySelector('a').click()")
    page.until_text("h1", "listed task")
    assert page.evaluate("location.hash") == f"#/task/{task}"
    page.until("document.title.startsWith('listed task')")


def test_status_chips_and_the_filter_narrow_the_list(session: Session, open_page: Open) -> None:
    create(session, "needle in the list")
    running(session, "needle that runs")
    page = open_page()
    page.until_text("tbody", "needle in the list")
    page.evaluate("document.querySelector('.chip[data-status=in_progress]').click()")
    page.until("!document.querySelector('tbody').innerText.includes('needle in the list')")
    filter_box = "document.querySelector('.tasks input')"
    page.evaluate(f"{filter_box}.value = 'needle', {filter_box}.dispatchEvent(new Event('input'))")
    page.until("document.querySelectorAll('tbody tr').length === 1")
    assert "needle that runs" in page.text("tbody")


# How a task ended


def test_failed_task_shows_its_reason_in_the_list_and_in_full(session: Session, open_page: Open) -> None:
    task = running(session, "out of memory")
    message = "The kernel ended the container.\n  try: a larger limit"
    reason = "OOMKilled: limit 8Gi, peak 7.98Gi"
    session.call("tasks.failed", {"task": task, "status_reason": reason, "status_message": message})
    open_page().until(
        f"document.querySelector('tbody [data-key=\"{task}\"] .why.bad')?.textContent.includes({json.dumps(reason)})"
    )
    page = open_page(f"#/task/{task}")
    page.until_text(".reason.bad strong", reason)
    assert page.text(".reason pre") == message
    assert page.text(".title .status") == "failed"


def test_unknown_task_says_so(open_page: Open) -> None:
    open_page(f"#/task/{'0' * 32}").until_text("h1", "does not exist")


def test_abort_button_stops_a_queued_task(session: Session, open_page: Open) -> None:
    task = create(session, "to be aborted")
    session.call("tasks.enqueue", {"task": task, "queue_name": "page-abort"})
    page = open_page(f"#/task/{task}")
    page.until_text(".actions", "Abort")
    page.evaluate("document.querySelector('.actions button').click()")
    page.until_text(".title .status", "stopped")
    assert support.task(session, task).status == "stopped"


def test_enqueue_button_puts_a_task_into_the_chosen_queue(session: Session, open_page: Open) -> None:
    queue = support.queue_id(session, "page-enqueue")
    task = create(session, "to be enqueued")
    page = open_page(f"#/task/{task}")
    page.until_text(".actions", "Enqueue")
    page.evaluate(f"document.querySelector('.actions select').value = '{queue}'")
    page.evaluate("document.querySelector('.actions button').click()")
    page.until_text(".title .status", "queued")
    page.until_text("#queues", "to be enqueued")


# The console


def test_console_grows_while_lines_come_in(session: Session, open_page: Open) -> None:
    task = running(session, "talks")
    page = open_page(f"#/task/{task}")
    page.until_text("#console", "Nothing has been printed")
    start = now()
    send(session, [log_event(task, f"line {number}", start + number) for number in range(5)])
    page.until_text("#console", "line 4")
    send(session, [log_event(task, f"line {number}\nand more", start + number) for number in range(5, 9)])
    page.until_text("#console", "13 lines")
    texts = [text for text in shown_lines(page) if "line" in text]
    assert texts == [f"line {number}" for number in range(9)]


def test_line_that_comes_late_is_shown_once_and_in_its_place(session: Session, open_page: Open) -> None:
    task = running(session, "two writers")
    start = now()
    send(session, [log_event(task, text, start + at) for at, text in ((0, "one"), (500, "three"), (500, "four"))])
    page = open_page(f"#/task/{task}")
    page.until_text("#console", "four")
    send(session, [log_event(task, text, start + at) for at, text in ((250, "two"), (750, "five"))])
    page.until_text("#console", "5 lines")
    assert shown_lines(page) == ["one", "two", "three", "four", "five"]


def test_selected_text_stays_selected_while_lines_come_in(session: Session, open_page: Open) -> None:
    task = running(session, "is being copied")
    start = now()
    send(session, [log_event(task, f"line {number}", start + number) for number in range(5)])
    page = open_page(f"#/task/{task}")
    page.until_text("#console", "5 lines")
    page.evaluate("getSelection().selectAllChildren(document.querySelectorAll('.console .line')[2])")
    send(session, [log_event(task, "line 5", start + 5)])
    page.until_text("#console", "6 lines")
    assert page.evaluate("getSelection().toString()") == "line 2"


def test_hundred_thousand_lines_cost_a_screenful_of_elements_and_follow_the_tail(
    session: Session, open_page: Open
) -> None:
    task = running(session, "talks a lot")
    start = now()
    text = "\n".join(f"step {number} of a long training run" for number in range(500))
    for first in range(0, 200, 50):
        send(session, [log_event(task, text, start + number) for number in range(first, first + 50)])
    page = open_page(f"#/task/{task}")
    page.until_text("#console", "100,000 lines")
    scroll = "document.querySelector('.console')"
    at_end = f"{scroll}.scrollTop + {scroll}.clientHeight >= {scroll}.scrollHeight - 2"
    page.until(f"{at_end} && {scroll}.innerText.includes('step 499 ')")
    assert page.evaluate(f"{scroll}.querySelectorAll('.line').length") < 300

    page.evaluate(f"{scroll}.scrollTop = 50000 * 18")
    page.until("!document.querySelector('.follow').hidden")
    send(session, [log_event(task, "the last line", start + 1000)])
    page.until_text("#console", "100,001 lines")
    assert page.evaluate(f"{scroll}.scrollTop") == 50000 * 18, "reading is not disturbed by what comes in"
    page.evaluate("document.querySelector('.follow').click()")
    page.until_text(".console", "the last line")


def test_scrolling_up_reads_earlier_lines_without_a_gap(session: Session, open_page: Open) -> None:
    task = running(session, "long history")
    start = now()
    send(session, [log_event(task, f"line {number}", start + number // 3) for number in range(2500)])
    page = open_page(f"#/task/{task}")
    page.until_text("#console", "last 1,00")
    up = "(document.querySelector('.console').scrollTop = 0, document.querySelector('#console').innerText)"
    page.until(f"{up}.includes('2,500 lines') && {up}.includes('line 0\\n')")
    wanted = "document.querySelector('#console input')"
    page.evaluate(f"{wanted}.value = 'line 1234', {wanted}.dispatchEvent(new Event('input'))")
    page.until_text("#console", "1 of 2,500 lines")


def test_colours_progress_bars_and_errors_are_shown_as_a_terminal_would(session: Session, open_page: Open) -> None:
    task = running(session, "colourful")
    start = now()
    texts = [
        "\x1b[1;32mgreen\x1b[0m plain \x1b[38;2;1;2;3mrgb\x1b[0m",
        "10%\r50%\r100% done",
        "\x1b]0;title\x07\x1b[2Kcleared",
    ]
    send(session, [log_event(task, text, start + at) for at, text in enumerate(texts)])
    send(session, [log_event(task, "Traceback", start + 9, level="error")])
    page = open_page(f"#/task/{task}")
    page.until_text("#console", "4 lines")
    assert shown_lines(page) == ["green plain rgb", "100% done", "cleared", "Traceback"]
    assert page.text(".console .fg-green.bold") == "green"
    assert page.evaluate("document.querySelectorAll('.line .time ~ span')[1].style.color") == "rgb(1, 2, 3)"
    assert page.text(".console .line.stderr") == "Traceback"


# Charts and start-up


def test_scalars_are_drawn_one_chart_per_metric_and_one_series_per_variant(session: Session, open_page: Open) -> None:
    task = running(session, "learns")
    values = [("loss", "train", 1.0), ("loss", "validation", 2.0), ("accuracy", "validation", 0.5)]
    send(session, [scalar(task, m, v, i, y / (i + 1)) for m, v, y in values for i in range(20)])
    page = open_page(f"#/task/{task}")
    page.until("document.querySelectorAll('#scalars canvas').length === 2")
    assert legends(page, "#scalars") == {"accuracy": ["validation"], "loss": ["train", "validation"]}
    page.until("document.querySelector('#scalars').innerText.includes('0.05')")
    drawn = colours_drawn(page, '#scalars [data-key="loss"] canvas', ["--series-0", "--series-1", "--series-2"])
    assert drawn == [True, True, False]

    send(session, [scalar(task, "loss", "train", 30, 0.0123)])
    page.until_text('#scalars [data-key="loss"] .legend', "0.0123")
    assert page.evaluate("document.querySelector('#machine').hidden")


def test_machine_use_has_a_section_of_its_own_grouped_by_quantity(session: Session, open_page: Open) -> None:
    task = running(session, "uses the machine")
    names = [(":monitor:machine", "cpu_usage"), (":monitor:machine", "memory_used_gb")]
    names += [(":monitor:machine", "memory_free_gb"), (":monitor:gpu", "gpu_0_utilization")]
    names += [(":monitor:machine", "disk_free_gb")]
    send(session, [scalar(task, metric, name, i, 40 + i) for metric, name in names for i in range(5)])
    page = open_page(f"#/task/{task}")
    page.until("document.querySelectorAll('#machine canvas').length === 4")
    assert legends(page, "#machine") == {
        "gpu · use, %": ["gpu_0_utilization"],
        "machine · disk, GB": ["disk_free_gb"],
        "machine · memory, GB": ["memory_free_gb", "memory_used_gb"],
        "machine · use, %": ["cpu_usage"],
    }
    assert page.evaluate("document.querySelector('#scalars').hidden")


def test_start_up_phases_are_a_bar_with_seconds(session: Session, open_page: Open) -> None:
    task = create(session, "starts up")
    phases = {"queued": 1.5, "claim": 0.05, "repository": 0.1, "environment": 0.5, "first line": 0.05}
    item = {"section": "properties", "name": "podstrap_timeline", "value": json.dumps(phases)}
    session.call("tasks.edit_hyper_params", {"task": task, "hyperparams": [item]})
    page = open_page(f"#/task/{task}")
    page.until_text("#timeline", "claim")
    for tag, wanted in (("span", list(phases)), ("b", ["1.5 s", "50 ms", "100 ms", "500 ms", "50 ms"])):
        assert page.evaluate(f"[...document.querySelectorAll('.phase {tag}')].map(one => one.innerText)") == wanted
    assert "2.1 s to the first line" in page.text("#timeline"), "what ran side by side counts once"
    widths = page.evaluate("[...document.querySelectorAll('.part')].map(part => part.clientWidth)")
    assert len(widths) == 4 and 2.8 < widths[0] / widths[2] < 3.2
    lanes = page.evaluate("[...document.querySelectorAll('.part')[2].children].map(lane => lane.clientWidth)")
    assert 4.5 < lanes[1] / lanes[0] < 5.5


def legends(page: Page, section: str) -> dict[str, list[str]]:
    """Chart title -> its series' names."""
    found = page.evaluate(
        f"[...document.querySelectorAll('{section} .chart')].map(chart => [chart.querySelector('figcaption').innerText,"
        " [...chart.querySelectorAll('.entry .name')].map(name => name.innerText)])"
    )
    return dict(found)


def colours_drawn(page: Page, canvas: str, variables: list[str]) -> list[bool]:
    """For each colour variable whether the canvas holds pixels of that very colour."""
    return list(
        page.evaluate(f"""(() => {{
          const canvas = document.querySelector({json.dumps(canvas)});
          const {{ data }} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          const seen = new Set();
          for (let at = 0; at < data.length; at += 4) {{
            if (data[at + 3] === 255) seen.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
          }}
          const root = getComputedStyle(document.documentElement);
          const colour = (name) => parseInt(root.getPropertyValue(name).trim().slice(1), 16);
          return {json.dumps(variables)}.map((name) => seen.has(colour(name)));
        }})()""")
    )


# What a task is made of, and hostile text


def test_configuration_source_and_artifacts_are_shown(session: Session, open_page: Open) -> None:
    script = {"repository": "https://example.org/iris.git", "entry_point": "train.py", "diff": "--- a\n+++ b\n"}
    arguments = {"Args": {"lr": {"section": "Args", "name": "lr", "value": "0.003"}}}
    found = [
        {"key": "model", "type": "custom", "mode": "output", "uri": "https://example.org/model.bin"},
        {"key": "trap", "type": "custom", "mode": "output", "uri": "javascript:window.hit=1"},
    ]
    task = create(session, "made of", script=script, hyperparams=arguments, execution={"artifacts": found})
    page = open_page(f"#/task/{task}")
    page.until_text(".details", "0.003")
    assert "https://example.org/iris.git" in page.text(".details") and "+++ b" in page.text(".details pre")
    links = page.evaluate("[...document.querySelectorAll('.details a')].map(link => link.href)")
    assert links == ["https://example.org/model.bin"], "only web addresses become links"
    assert "javascript:window.hit=1" in page.text(".details")


def test_artifact_of_this_server_is_fetched_with_the_session_and_saved(
    server: support.Server, session: Session, open_page: Open
) -> None:
    address = upload(server, "page project/made of.1/artifacts/model/weights.bin", b"0123456789")
    found = [{"key": "weights", "type": "custom", "mode": "output", "uri": address, "content_size": 10}]
    task = create(session, "has weights", execution={"artifacts": found})
    page = open_page(f"#/task/{task}", script="let saved; URL.createObjectURL = (blob) => ((saved = blob), 'blob:x');")
    page.until_text(".details", "weights.bin")
    page.evaluate("document.querySelector('.details a').click()")
    page.until("saved")
    assert page.evaluate("saved.text()") == "0123456789"


def upload(server: support.Server, path: str, content: bytes) -> str:
    """Put a file on the files server, as the SDK does; its address."""
    part = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{path}"\r\n\r\n'.encode()
    keys = server.environ["CLEARML_API_ACCESS_KEY"], server.environ["CLEARML_API_SECRET_KEY"]
    basic = base64.b64encode(":".join(keys).encode()).decode()
    request = urllib.request.Request(
        server.environ["CLEARML_FILES_HOST"],
        data=part + content + b"\r\n--edge--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=edge", "Authorization": f"Basic {basic}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def test_hostile_text_is_shown_as_text_and_runs_nothing(session: Session, open_page: Open) -> None:
    project = session.call("projects.create", {"name": f"{now()} {HOSTILE}", "description": ""})["id"]
    arguments = {HOSTILE: {HOSTILE: {"section": HOSTILE, "name": HOSTILE, "value": HOSTILE}}}
    task = create(session, HOSTILE, project=project, hyperparams=arguments)
    session.call("tasks.enqueue", {"task": task, "queue_name": HOSTILE})
    session.call("tasks.started", {"task": task})
    send(session, [log_event(task, f"\x1b[31m{HOSTILE}", now()), scalar(task, HOSTILE, HOSTILE, 1, 1.0)])
    session.call("tasks.failed", {"task": task, "status_reason": HOSTILE, "status_message": HOSTILE})
    overview = open_page()
    overview.until(f"document.querySelector('tbody [data-key=\"{task}\"] a').textContent === {json.dumps(HOSTILE)}")
    overview.until_text("#queues", "onerror")
    page = open_page(f"#/task/{task}")
    for place in ("h1", ".facts", "#reason", ".console .line", "#scalars figcaption", ".details"):
        page.until_text(place, "<img src=x onerror=")
    for tab in (overview, page):
        assert tab.evaluate("document.querySelectorAll('img, main script, nav script').length") == 0


def test_even_code_of_the_page_cannot_make_html_of_a_string(open_page: Open) -> None:
    page = open_page()
    attempt = "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'done'; } catch (e) { return e.name; } })()"
    assert page.evaluate(attempt) == "TypeError"


# Logging in, and who gets a session


def test_without_a_session_the_page_asks_for_the_keys(server: support.Server, open_page: Open) -> None:
    refuse = """const ask = fetch; window.fetch = (to, ...rest) =>
        String(to) === '/page/session' ? Promise.resolve(new Response('{}', { status: 403 })) : ask(to, ...rest);"""
    page = open_page(script=refuse)
    keys = (server.environ["CLEARML_API_ACCESS_KEY"], server.environ["CLEARML_API_SECRET_KEY"])
    log_in(page, keys[0], "wrong")
    page.until_text("form", "does not know these keys")
    log_in(page, *keys)
    page.until("document.querySelector('.health.good') && document.querySelector('.tasks')")


def log_in(page: Page, access: str, secret: str) -> None:
    page.until("document.querySelector('form.login')")
    for name, value in (("access", access), ("secret", secret)):
        page.evaluate(f"document.querySelector('[name={name}]').value = {json.dumps(value)}")
    page.evaluate("document.querySelector('form.login').requestSubmit()")


def test_session_is_for_this_user_on_this_machine(server: support.Server) -> None:
    assert get(server, "/page/session")[0] == 200
    assert get(server, "/page/session", Host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "podstrap.attacker.example"},
        {"Host": "127.0.0.1.attacker.example"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_session_is_refused_to_a_stranger(server: support.Server, headers: dict[str, str]) -> None:
    status, _, body = get(server, "/page/session", **headers)
    assert status == 403 and b"token" not in body


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/session", "/page/nothing"])
def test_every_answer_of_the_page_carries_the_policy(server: support.Server, path: str) -> None:
    _, headers, _ = get(server, path)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_hidden_page_asks_nothing(open_page: Open) -> None:
    script = """
        let asked = 0, covered = false;
        const ask = fetch;
        window.fetch = (...all) => { asked += 1; return ask(...all); };
        Object.defineProperty(document, 'hidden', { get: () => covered });
        const cover = (now) => { covered = now; document.dispatchEvent(new Event('visibilitychange')); };"""
    page = open_page(script=script)
    page.until("asked > 6")
    page.evaluate("cover(true)")
    page.evaluate("new Promise(done => wait(done, 500))")  # what was under way has come back; then ten polls long
    before = page.evaluate("asked")
    page.evaluate("new Promise(done => wait(done, 700))")
    assert page.evaluate("asked") == before
    page.evaluate("cover(false)")
    page.until(f"asked > {before}")


def test_server_that_does_not_answer_is_said_and_found_again(open_page: Open) -> None:
    script = """
        let down = false;
        const ask = fetch;
        window.fetch = (...all) => (down ? Promise.reject(new TypeError('Failed to fetch')) : ask(...all));"""
    page = open_page(script=script)
    page.evaluate("down = true")
    page.until_text("#health", "the server does not answer")
    page.evaluate("down = false")
    page.until_text("#health", "live")


def get(server: support.Server, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(server.environ["CLEARML_API_HOST"] + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


def test_without_a_browser_these_tests_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match="apt-get install chromium"):
        Browser(tmp_path)
