"""docker arguments: mapped, ignored with a note, or refused with a reason; hostile text is only ever read."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controller.docker_args import Allowed, parse
from controller.docker_args_page import page
from controller.docker_args_table import FLAGS
from tests.support import REPOSITORY_ROOT

CORPUS = [
    pytest.param(entry, id=f"{file.stem}-{number}")
    for file in sorted((Path(__file__).parent / "docker_args").glob("*.yaml"))
    for number, entry in enumerate(yaml.safe_load(file.read_text()))
]
PATHS = Allowed(host_paths=("/data", "/models:ro"), own_paths=("/podstrap/work", "/podstrap/cache"))
OPEN = Allowed(host_paths=("/data", "/models:ro"), privileged=True, own_paths=("/podstrap/work", "/podstrap/cache"))


@pytest.mark.parametrize("entry", CORPUS)
def test_the_corpus(entry: dict[str, Any]) -> None:
    """Real strings and hostile ones: tests/controller/docker_args."""
    wanted = {key: value for key, value in entry.items() if key not in ("why", "allow")}
    mapped = parse(entry["arguments"], OPEN if entry.get("allow") else PATHS)
    found = asdict(mapped)
    assert not (set(wanted) - {"arguments"} - set(found)), "a key that nobody looks at"
    for key in ("pod", "container", "limits"):
        assert found[key] == wanted.get(key, {})
    assert list(mapped.variables) == wanted.get("variables", [])
    for key in ("notes", "refusals"):
        told, expected = found[key], wanted.get(key, [])
        assert len(told) == len(expected) and all(map(str.startswith, told, expected)), told


def test_the_page_says_what_the_code_does() -> None:
    text = (REPOSITORY_ROOT / "docs" / "docker-arguments.md").read_text()
    assert text == page(), "stale: python -m controller.docker_args_page > docs/docker-arguments.md"
    for flag in FLAGS.values():
        assert flag.told, flag.name


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_each_flag_does_what_the_page_says(name: str) -> None:
    """A flag of each kind does that with every usual value, and both spellings are one."""
    flag = FLAGS[name]
    values = ["host", "8g", "1", "/data:/x", "NAME=value", "1.1.1.1", "a:10.0.0.1", "always",
              "type=bind,source=/data,target=/x",
              "no-new-privileges", "ALL", "/x", "x", ""]  # fmt: skip
    if not flag.takes_value:
        values = [""]
    for value in values:
        plain = f"--{name} {shlex.quote(value)}" if flag.takes_value else f"--{name}"
        mapped = parse(plain, OPEN)
        if flag.takes_value:
            assert parse(f"--{name}={shlex.quote(value)}", OPEN) == mapped
        does = bool(mapped.pod or mapped.container or mapped.limits or mapped.variables)
        assert flag.kind == "mapped" or not does
        assert flag.kind != "refused" or mapped.refusals
        assert does or mapped.notes or mapped.refusals, f"{plain}: without a word"
        closed = parse(plain, replace(OPEN, privileged=False, host_paths=()))
        if flag.needs and does:
            assert closed.refusals or closed != mapped, f"{plain} is allowed by {flag.needs}"
    if flag.kind == "mapped":
        assert any(
            not parse(f"--{name}={value}" if flag.takes_value else f"--{name}", OPEN).refusals for value in values
        )


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        ("--memory 8g", {"memory": "8Gi"}),
        ("--memory=512m", {"memory": "512Mi"}),
        ("-m 1.5G", {"memory": "1.5Gi"}),
        ("-m2048", {"memory": "2048"}),
        ("--cpus 4", {"cpu": "4"}),
        ("--cpus=0.5", {"cpu": "0.5"}),
        ("--gpus 2", {"nvidia.com/gpu": "2"}),
        ("--gpus count=2,capabilities=utility", {"nvidia.com/gpu": "2"}),
        ("--memory 0 --cpus 0", {}),
        ("--gpus all", {}),
        ("--gpus 'device=0,1'", {}),
    ],
)
def test_resources(arguments: str, limits: dict[str, str]) -> None:
    mapped = parse(arguments)
    assert (dict(mapped.limits), mapped.refusals) == (limits, ())


@pytest.mark.parametrize(
    ("arguments", "container"),
    [
        ("--user 1000:100", {"securityContext": {"runAsUser": 1000, "runAsGroup": 100}}),
        ("-u0", {"securityContext": {"runAsUser": 0}}),
        ("--workdir /app", {"workingDir": "/app"}),
        ("-w=/app", {"workingDir": "/app"}),
        ("--pull always", {"imagePullPolicy": "Always"}),
        ("--read-only", {"securityContext": {"readOnlyRootFilesystem": True}}),
        ("--cap-drop all --cap-drop ALL", {"securityContext": {"capabilities": {"drop": ["ALL"]}}}),
        ("--security-opt no-new-privileges", {"securityContext": {"allowPrivilegeEscalation": False}}),
        ("--privileged=false", {}),
    ],
)
def test_the_container(arguments: str, container: dict[str, Any]) -> None:
    mapped = parse(arguments)
    assert (mapped.container, mapped.refusals) == (container, ())


def test_the_pod() -> None:
    mapped = parse("--hostname box --add-host a:10.0.0.1 --add-host=b=10.0.0.1 --add-host c:[::1] --dns 1.1.1.1")
    assert mapped.pod == {
        "hostname": "box",
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}, {"ip": "::1", "hostnames": ["c"]}],
        "dnsConfig": {"nameservers": ["1.1.1.1"]},
    }


def test_shared_memory_is_a_volume_and_host_ipc_asks_for_the_same() -> None:
    sized, host = parse("--shm-size 8g"), parse("--ipc=host")
    assert sized.pod["volumes"] == [{"name": "podstrap-docker-0", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}]
    assert sized.container["volumeMounts"] == [{"name": "podstrap-docker-0", "mountPath": "/dev/shm"}]
    assert host.pod["volumes"] == [{"name": "podstrap-docker-0", "emptyDir": {"medium": "Memory"}}]
    assert parse("--ipc=host", OPEN).pod == {"hostIPC": True}
    both = parse("--ipc=host --shm-size 8g")
    assert len(both.container["volumeMounts"]) == 1  # Kubernetes refuses two mounts at one path


def test_values_of_variables_are_not_kept() -> None:
    mapped = parse("-e A=secret1 -eB=secret2 --env C=secret3 --env=D=secret4 -e E")
    assert mapped.variables == ("A", "B", "C", "D", "E")
    assert "secret" not in repr(mapped)


@pytest.mark.parametrize(
    "arguments",
    [
        "-e A=one secretword",
        "-e 'A=one --secret-word=1",
        "-e",
        "-e A=1 --secretwordsecretwordsecretwordsecretword",
        "-e 1secretword=x",
        "--env-file secretword",
    ],
)
def test_refusals_repeat_nothing_that_could_be_a_secret(arguments: str) -> None:
    mapped = parse(arguments)
    assert mapped.refusals
    assert "secretword" not in repr(mapped)


def test_host_paths_are_the_operators() -> None:
    mapped = parse("-v /data/sets:/sets -v /models/big:/models --volume=/data:/d:ro", OPEN)
    assert mapped.refusals == ()
    assert [v["hostPath"]["path"] for v in mapped.pod["volumes"]] == ["/data/sets", "/models/big", "/data"]
    assert [m.get("readOnly", False) for m in mapped.container["volumeMounts"]] == [False, True, True]


@pytest.mark.parametrize(
    "volume",
    [
        "/etc:/etc", "/:/host", "/data/../etc:/x", "/database:/x", "//etc:/x", "data:/x", "/data", "/data:relative",
        "/data:/x/../podstrap/work", "/data:/podstrap/cache", "/data:/podstrap/work/repo", "/data:/podstrap",
        "/data:///podstrap/./cache",
    ],
)  # fmt: skip
def test_other_host_paths_and_our_own_folders_are_refused(volume: str) -> None:
    mapped = parse(f"-v {volume}", OPEN)
    assert len(mapped.refusals) == 1
    assert mapped.pod.get("volumes", []) == []


@pytest.mark.parametrize(
    "arguments",
    ["--privileged", "--cap-add SYS_ADMIN", "--network host", "--net=host", "--pid=host", "-v /data:/data",
     "--security-opt seccomp=unconfined"],
)  # fmt: skip
def test_what_opens_the_host_needs_the_operator(arguments: str) -> None:
    (refusal,) = parse(arguments).refusals
    assert "the operator would have to set" in refusal
    assert parse(arguments, OPEN).refusals == ()


@pytest.mark.parametrize(
    "arguments",
    ["--frobnicate", "--frobnicate 3", "-z", "--entrypoint start", "--device /dev/x", "--mount type=bind", "--user me",
     "--memory lots", "--memory ٣g", "--cpus many", "--hostname UP_PER", "--add-host a:host-gateway", "--cpus",
     "--workdir ../x", "word", "'unclosed", "--sysctl a=b", "--cap-add '; rm -rf /'", "--"],
)  # fmt: skip
def test_refused_with_a_reason(arguments: str) -> None:
    mapped = parse(arguments, OPEN)
    assert len(mapped.refusals) == 1
    assert (mapped.pod, mapped.container, mapped.limits) == ({}, {}, {})


def test_all_refusals_are_told_at_once() -> None:
    assert len(parse("--privileged --entrypoint start -v /etc:/etc --memory 8g").refusals) == 3


def test_harmless_flags_are_noted() -> None:
    mapped = parse("--rm -itd --name x --ulimit memlock=-1 --restart=always -p 80:80 --label a=b --init")
    assert mapped.refusals == ()
    assert [note.partition(":")[0] for note in mapped.notes] == [
        "--rm", "--interactive", "--tty", "--detach", "--name", "--ulimit", "--restart", "--publish", "--label",
        "--init",
    ]  # fmt: skip


@given(st.text(max_size=80))
def test_any_text_is_read_and_never_raises(text: str) -> None:
    parse(text)


_word = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(st.sampled_from(sorted(FLAGS)), _word), max_size=4))
def test_no_flag_reaches_the_host_without_the_operator(flags: list[tuple[str, str]]) -> None:
    mapped = parse(" ".join(f"--{name}={shlex.quote(value)}" for name, value in flags))
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(mapped.pod)
    assert all("hostPath" not in volume for volume in mapped.pod.get("volumes", []))
    context = mapped.container.get("securityContext", {})
    assert "privileged" not in context
    assert "add" not in context.get("capabilities", {})
